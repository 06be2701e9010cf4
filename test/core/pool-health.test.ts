// What a failure says, and of whom: of the host, of a deployment on it, of the request, of the caller's patience, or of no one.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Attempt } from '../../src/core/request.js'
import type { AttemptEnd } from '../../src/core/types.js'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

const two = (more = {}): PoolKit => new PoolKit([backend('a', 1), backend('b', 2)], more)
const three = (more = {}): PoolKit => new PoolKit([backend('a', 1), backend('b', 2), backend('c', 3)], more)

type How = number | AttemptEnd

function end(kit: PoolKit, attempt: Attempt, how: How): void {
  if (typeof how === 'number') kit.answer(attempt, how)
  else kit.settle(attempt, how)
}

/** One request that ends so on one backend after the other. @returns where it went. */
function play(kit: PoolKit, scope: string, ...hows: readonly How[]): string {
  const request = new TestRequest({ scope })
  return hows.map((how) => {
    const attempt = kit.send(request)
    end(kit, attempt, how)
    return attempt.backend.name
  }).join('')
}

const stateOf = (kit: PoolKit, name: string, scope?: string): string | undefined => {
  const status = kit.statusOf(name)
  return scope === undefined ? status.state : status.scopes.find((one) => one.scope === scope)?.state
}

describe('a failure of a deployment', () => {
  for (const how of [500, 408, 'timeout'] as const) {
    test(`(${how}) takes out the scope at the second in a row, and what else the backend has stays in`, () => {
      const kit = two()
      assert.equal(play(kit, 'm', how), 'a')
      assert.equal(play(kit, 'm', how), 'a')
      assert.deepEqual([stateOf(kit, 'a'), stateOf(kit, 'a', 'm')], ['available', 'ejected'])
      assert.equal(play(kit, 'm', 200), 'b')
      assert.equal(play(kit, 'other', 200), 'a')
    })
  }

  test('and one of another are two, and the third in a row is the backend\'s', () => {
    const kit = two()
    assert.equal(play(kit, 'x', 503) + play(kit, 'y', 503), 'aa')
    assert.equal(stateOf(kit, 'a'), 'available')
    assert.equal(play(kit, 'z', 503), 'a')
    assert.equal(stateOf(kit, 'a'), 'ejected')
    assert.deepEqual([stateOf(kit, 'a', 'x'), stateOf(kit, 'a', 'y'), stateOf(kit, 'a', 'z')], ['available', 'available', 'available'])
    assert.equal(play(kit, 'other', 200), 'b')
  })

  test('three in a row from one scope are not the backend\'s', () => {
    const kit = two()
    const attempts = [1, 2, 3, 4].map(() => kit.send(new TestRequest({ scope: 'm' })))
    for (const attempt of attempts) kit.answer(attempt, 503)
    assert.deepEqual([stateOf(kit, 'a'), stateOf(kit, 'a', 'm')], ['available', 'ejected'])
  })

  test('three with a success of any scope between are not the backend\'s', () => {
    const kit = two()
    assert.equal(play(kit, 'x', 503) + play(kit, 'y', 503) + play(kit, 'good', 200) + play(kit, 'z', 503), 'aaaa')
    assert.equal(stateOf(kit, 'a'), 'available')
  })

  test('that is the host\'s is found out once: 503 to twenty models asked in turn for ten minutes', () => {
    const kit = two()
    let failed = 0
    for (let second = 0; second < 600; second++) {
      const request = new TestRequest({ scope: `m${second % 20}` })
      const attempt = kit.send(request)
      if (attempt.backend.name === 'a') {
        failed++
        kit.answer(attempt, 503)
        kit.answer(kit.send(request), 200)
      } else kit.answer(attempt, 200)
      kit.system.advance(1_000)
    }
    assert.ok(failed <= 37, `${failed} failed attempts`)
  })

  test('is probed by one request at a time, and never by one that has failed already, while another backend is available', () => {
    const kit = three()
    play(kit, 'm', 503)
    play(kit, 'm', 503)
    play(kit, 'm', 502)
    kit.system.advance(1_000)
    // b has failed once, c not: a request that failed on b goes on to c although the probe of a is due.
    kit.update([backend('b', 1), backend('a', 2), backend('c', 3)])
    assert.equal(play(kit, 'm', 500, 200), 'bc')
    kit.update([backend('a', 1), backend('b', 2), backend('c', 3)])
    const [probe, next] = [kit.send(new TestRequest({ scope: 'm' })), kit.send(new TestRequest({ scope: 'm' }))]
    assert.deepEqual([probe.backend.name, stateOf(kit, 'a', 'm'), next.backend.name === 'a'], ['a', 'probing', false])
    kit.answer(probe, 200)
    assert.equal(stateOf(kit, 'a', 'm'), 'available')
  })
})

describe('the same failure of a second backend for the same request', () => {
  for (const how of [500, 503, 'timeout', 'reset'] as const) {
    test(`(${how}) is the request's fault: ten of them take no one out`, () => {
      const kit = two()
      for (let i = 0; i < 10; i++) assert.equal(play(kit, 'm', how, how), 'ab')
      assert.deepEqual(['a', 'b'].map((name) => [stateOf(kit, name), stateOf(kit, name, 'm')]), [['available', 'available'], ['available', 'available']])
      assert.equal(kit.listener.take().filter((line) => line === `suspect-request b ${how}`).length, 10)
    })
  }

  test('ends the ejection that rested on the first', () => {
    const kit = two()
    play(kit, 'm', 500)
    const request = new TestRequest({ scope: 'm' })
    kit.answer(kit.send(request), 500)
    assert.equal(stateOf(kit, 'a', 'm'), 'ejected')
    kit.listener.take()
    kit.answer(kit.send(request), 500)
    assert.equal(stateOf(kit, 'a', 'm'), 'available')
    assert.ok(kit.listener.take().includes('readmitted a m ejected'))
    // What was no suspect still counts.
    play(kit, 'm', 500)
    assert.equal(stateOf(kit, 'a', 'm'), 'ejected')
  })

  test('ends one that rested on a reset, but not where another request was reset as well', () => {
    for (const others of [0, 1]) {
      const kit = two()
      const request = new TestRequest()
      const attempts = [kit.send(request), ...Array.from({ length: others }, () => kit.send())]
      for (const attempt of attempts) kit.settle(attempt, 'reset')
      kit.settle(kit.send(request), 'reset')
      assert.equal(stateOf(kit, 'a'), others === 0 ? 'available' : 'ejected')
    }
  })

  test('ends an ejection of the host that rested on it', () => {
    const kit = two()
    play(kit, 'x', 503)
    play(kit, 'y', 503)
    assert.equal(play(kit, 'z', 503, 503), 'ab')
    assert.equal(stateOf(kit, 'a'), 'available')
    play(kit, 'z', 503)
    assert.equal(stateOf(kit, 'a'), 'ejected')
  })

  test('takes the first back from where it was counted: not where a success has come since', () => {
    const kit = two()
    const request = new TestRequest({ scope: 'm' })
    kit.answer(kit.send(request), 500)
    play(kit, 'm', 200)
    play(kit, 'm', 500)
    kit.answer(kit.send(request), 500)
    play(kit, 'm', 500)
    assert.equal(stateOf(kit, 'a', 'm'), 'ejected')
  })

  test('gives a probe its slot back, and prolongs no ejection', () => {
    const kit = two()
    kit.setChance(0)
    play(kit, 'm', 503)
    play(kit, 'm', 503)
    kit.system.advance(250)
    assert.equal(play(kit, 'm', 500, 500), 'ab')
    assert.deepEqual([stateOf(kit, 'a', 'm'), kit.statusOf('a').scopes[0]?.cooldownMs], ['ejected', 0])
    play(kit, 'm', 503)
    assert.equal(kit.statusOf('a').scopes[0]?.cooldownMs, 500)
  })

  test('counts after all, for both, when a third answers the request', () => {
    const kit = three()
    for (let i = 0; i < 2; i++) assert.equal(play(kit, 'm', 500, 500, 200), 'abc')
    assert.deepEqual(['a', 'b', 'c'].map((name) => stateOf(kit, name, 'm')), ['ejected', 'ejected', 'available'])
  })

  test('does not count after all when the third says that it is the caller\'s mistake', () => {
    const kit = three()
    for (let i = 0; i < 5; i++) assert.equal(play(kit, 'm', 500, 500, 400), 'abc')
    assert.deepEqual(['a', 'b'].map((name) => stateOf(kit, name, 'm')), ['available', 'available'])
  })

  test('is told once for a request, and a third of the kind counts for no one either', () => {
    const kit = three()
    for (let i = 0; i < 3; i++) assert.equal(play(kit, 'm', 500, 500, 500), 'abc')
    assert.deepEqual(['a', 'b', 'c'].map((name) => stateOf(kit, name, 'm')), ['available', 'available', 'available'])
    assert.equal(kit.listener.take().filter((line) => line.startsWith('suspect-request')).length, 3)
  })

  test('is another one where the second fails in another way', () => {
    const kit = two()
    for (let i = 0; i < 2; i++) play(kit, 'm', 500, 503)
    assert.deepEqual(['a', 'b'].map((name) => stateOf(kit, name, 'm')), ['ejected', 'ejected'])
  })

  test('cannot empty a pool: 10 such a second beside 40 good ones, and every good one is answered by the first', () => {
    const kit = three()
    for (let i = 0; i < 3_000; i++) {
      if (i % 5 === 0) play(kit, 'm', 500, 500, 500)
      else assert.equal(play(kit, 'm', 200), 'a')
      kit.system.advance(20)
    }
    assert.ok(!kit.listener.take().some((line) => line.startsWith('ejected')))
  })
})

describe('a caller that gives up', () => {
  /** What is usual: 50 ms, as ten answers say. */
  function usual(kit: PoolKit, ms = 50): void {
    for (let i = 0; i < 10; i++) {
      const attempt = kit.send()
      kit.system.advance(ms)
      kit.answer(attempt, 200)
    }
  }

  /** Attempts that begin together and are given up together. */
  function giveUp(kit: PoolKit, afterMs: number, count = 1): string {
    const attempts = Array.from({ length: count }, () => kit.send())
    kit.system.advance(afterMs)
    for (const attempt of attempts) kit.settle(attempt, 'aborted')
    return attempts.map((attempt) => attempt.backend.name).join('')
  }

  test('before 250 ms says nothing, however often', () => {
    const kit = two()
    for (let i = 0; i < 100; i++) assert.equal(giveUp(kit, 249), 'a')
  })

  test('after 250 ms says something the second time in a row: the scope is out for at least twice the time', () => {
    const kit = two()
    kit.setChance(0)
    assert.equal(giveUp(kit, 250) + giveUp(kit, 250), 'aa')
    const [scope] = kit.statusOf('a').scopes
    assert.deepEqual([scope?.state, scope?.reason], ['ejected', 'abandoned'])
    assert.ok(scope !== undefined && scope.cooldownMs >= 500)
    assert.equal(giveUp(kit, 250), 'b')
    assert.equal(stateOf(kit, 'a'), 'available')
  })

  test('of the request that tries the scope says so at once, and it is out for twice as long', () => {
    const kit = two()
    kit.setChance(0)
    giveUp(kit, 250)
    giveUp(kit, 250)
    const before = kit.statusOf('a').scopes[0]?.cooldownMs ?? assert.fail()
    kit.system.advance(before)
    assert.equal(giveUp(kit, 250), 'a')
    const [scope] = kit.statusOf('a').scopes
    assert.deepEqual([scope?.state, scope?.reason, scope?.cooldownMs], ['ejected', 'abandoned', 2 * before])
  })

  test('before four times what is usual says nothing', () => {
    const kit = two()
    usual(kit, 500)
    for (let i = 0; i < 10; i++) assert.equal(giveUp(kit, 1_999), 'a')
    assert.equal(giveUp(kit, 2_001) + giveUp(kit, 2_001) + giveUp(kit, 1), 'aab')
  })

  test('of a backend that is usually quick is heard after 250 ms', () => {
    const kit = two()
    usual(kit, 2)
    assert.equal(giveUp(kit, 250) + giveUp(kit, 250) + giveUp(kit, 1), 'aab')
  })

  test('on a batch says as much as on one', () => {
    const kit = two()
    assert.equal(giveUp(kit, 5_000, 12), 'a'.repeat(12))
    assert.equal(giveUp(kit, 249, 12), 'a'.repeat(12))
    assert.equal(giveUp(kit, 1), 'a')
  })

  test('on requests that began before the first was given up says nothing more', () => {
    const kit = two()
    const attempts = [0, 1, 2].map(() => {
      kit.system.advance(100)
      return kit.send()
    })
    kit.system.advance(300)
    for (const attempt of attempts) {
      kit.settle(attempt, 'aborted')
      kit.system.advance(100)
    }
    assert.equal(giveUp(kit, 1), 'a')
  })

  test('twice with an answer between, of whatever kind, says nothing', () => {
    for (const status of [200, 400, 429, 503]) {
      const kit = two()
      giveUp(kit, 5_000)
      play(kit, '', status)
      kit.system.advance(11_000)
      assert.equal(giveUp(kit, 5_000) + giveUp(kit, 1), 'aa')
    }
  })

  test('on a probe of that age has seen it fail; on a younger one it has not', () => {
    for (const [ms, state] of [[249, 0], [250, 1]] as const) {
      const kit = two()
      kit.setChance(0)
      kit.settle(kit.send(), 'connection')
      kit.system.advance(250)
      assert.equal(giveUp(kit, ms), 'a')
      assert.equal(kit.statusOf('a').state, 'ejected')
      assert.equal(kit.statusOf('a').cooldownMs > 0 ? 1 : 0, state)
    }
  })

  test('twice on one deployment says nothing of another', () => {
    const kit = two()
    giveUp(kit, 300)
    giveUp(kit, 300)
    assert.equal(play(kit, 'other', 200), 'a')
  })
})
