import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { AttemptEnd, OutcomeClass } from '../../src/core/types.js'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

const two = (): PoolKit => new PoolKit([backend('a', 1), backend('b', 2)])

describe('an outcome', () => {
  const delivered: [number, OutcomeClass][] = [[200, 'success'], [204, 'success'], [307, 'success'], [400, 'answered'], [404, 'answered'], [401, 'answered']]
  for (const [status, outcome] of delivered) {
    test(`${status} is delivered and leaves the backend as it was`, () => {
      const kit = two()
      const request = new TestRequest()
      const attempt = kit.send(request)
      kit.system.advance(25)
      assert.equal(kit.answer(attempt, status), outcome)
      assert.deepEqual(kit.listener.take(), ['picked a 1', `answered a ${status} 25`])
      assert.equal(request.lastOutcome, outcome)
      assert.equal(request.tried, undefined)
      assert.equal(kit.statusOf('a').state, 'available')
    })
  }

  test('429 without any header cools the scope down for cooldownMs and moves on', () => {
    const kit = two()
    const request = new TestRequest({ scope: 'm' })
    assert.equal(kit.answer(kit.send(request), 429), 'throttled')
    assert.equal(kit.send(request).backend.name, 'b')
    const lines = kit.listener.take()
    assert.match(lines[1] ?? '', /^cooldown a m 1[01]\d{3} default 429$/)
    assert.deepEqual(lines.slice(2), ['failover a throttled b', 'picked b 2'])
  })

  test('a 5xx with a retry header is throttling: the scope cools down, the backend stays in', () => {
    const kit = two()
    for (let i = 0; i < 3; i++) {
      const request = new TestRequest({ scope: `m${i}` })
      assert.equal(kit.answer(kit.send(request), 503, [Buffer.from('Retry-After'), Buffer.from('2')]), 'throttled')
      assert.equal(kit.send(request).backend.name, 'b')
    }
    assert.equal(kit.statusOf('a').state, 'cooldown')
    assert.equal(kit.send(new TestRequest({ scope: 'other' })).backend.name, 'a')
  })

  for (const status of [408, 500, 502, 503, 504, 529]) {
    test(`${status} moves on, and the second in a row takes the scope out, and no other`, () => {
      const kit = two()
      for (const state of ['available', 'ejected']) {
        const request = new TestRequest({ scope: 'm' })
        assert.equal(kit.answer(kit.send(request), status), 'failed')
        assert.equal(kit.send(request).backend.name, 'b')
        assert.equal(kit.statusOf('a').scopes[0]?.state, state)
        assert.equal(kit.statusOf('a').state, 'available')
      }
      assert.equal(kit.listener.take().filter((line) => /^ejected a\/m \d+ failed$/.test(line)).length, 1)
      assert.equal(kit.send(new TestRequest({ scope: 'm' })).backend.name, 'b')
      assert.equal(kit.send(new TestRequest({ scope: 'other' })).backend.name, 'a')
    })
  }

  test('one bad request that fails everywhere does not bench the pool', () => {
    const kit = two()
    const request = new TestRequest()
    kit.answer(kit.send(request), 500)
    kit.answer(kit.send(request), 500)
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'attempts' })
    assert.deepEqual(['a', 'b'].map((name) => kit.statusOf(name).state), ['available', 'available'])
  })

  for (const [end, outcome, reason] of [
    ['connection', 'failed', 'unreachable'], ['reset', 'failed', 'unreachable'], ['resolver', 'failed', 'local'], ['credential', 'misconfigured', 'credential'],
  ] as const) {
    test(`a ${end} failure ejects the backend at once and moves on`, () => {
      const kit = two()
      const request = new TestRequest()
      kit.settle(kit.send(request), end)
      assert.equal(request.lastOutcome, outcome)
      assert.equal(kit.send(request).backend.name, 'b')
      assert.match(kit.listener.take()[1] ?? '', new RegExp(`^ejected a \\d+ ${reason}$`))
      const { failures, state, reason: told } = kit.statusOf('a')
      assert.deepEqual({ failures, state, told }, { failures: 1, state: 'ejected', told: reason })
    })
  }

  test('a timeout moves on, and the second in a row takes the scope out', () => {
    const kit = two()
    for (const state of ['available', 'ejected']) {
      const request = new TestRequest({ scope: 'm' })
      kit.settle(kit.send(request), 'timeout')
      assert.equal(kit.send(request).backend.name, 'b')
      assert.equal(kit.statusOf('a').scopes[0]?.state, state)
    }
    assert.equal(kit.statusOf('a').state, 'available')
  })

  test('what our own machine lacks is no backend\'s fault', () => {
    const kit = two()
    for (let i = 0; i < 5; i++) {
      const request = new TestRequest()
      kit.settle(kit.send(request), 'local')
      assert.equal(kit.send(request).backend.name, 'b')
    }
    assert.equal(kit.statusOf('a').state, 'available')
    assert.equal(kit.send().backend.name, 'a')
  })

  for (const status of [401, 403]) {
    test(`${status} to a credential of ours moves on, and the backend is out for a minute`, () => {
      const kit = new PoolKit([backend('a', 1, { ownsCredential: true }), backend('b', 2)])
      const request = new TestRequest()
      assert.equal(kit.answer(kit.send(request), status), 'misconfigured')
      assert.equal(kit.send(request).backend.name, 'b')
      assert.ok(kit.listener.take().includes('ejected a 60000 misconfigured'))
      kit.system.advance(59_999)
      assert.equal(kit.send().backend.name, 'b')
      kit.system.advance(1)
      assert.equal(kit.send().backend.name, 'a')
    })

    test(`${status} to our credential with no backend left is the caller's answer`, () => {
      const kit = new PoolKit([backend('a', 1, { ownsCredential: true })], { maxAttempts: 5 })
      const request = new TestRequest()
      kit.answer(kit.send(request), status)
      kit.listener.take()
      assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'no-backend' })
      assert.deepEqual(kit.listener.take(), [`answered a ${status} 0`, 'exhausted - no-backend'])
    })
  }

  test('an abort is no failure', () => {
    const kit = two()
    const request = new TestRequest()
    kit.settle(kit.send(request), 'aborted')
    assert.equal(request.lastOutcome, 'ignored')
    assert.equal(request.tried, undefined)
    const { failures, state, inFlight } = kit.statusOf('a')
    assert.deepEqual({ failures, state, inFlight }, { failures: 0, state: 'available', inFlight: 0 })
  })

  test('a response that breaks off after it has begun counts as a failure; the second in a row takes the scope out, whatever its beginning was', () => {
    const kit = two()
    const breakOff = (): void => {
      const attempt = kit.send()
      kit.headers(attempt, 200)
      kit.settle(attempt, 'broken')
    }
    breakOff()
    kit.answer(kit.send(), 200)
    breakOff()
    assert.equal(kit.statusOf('a').scopes[0]?.state, 'available', 'one that ended well lies between')
    kit.listener.take()
    breakOff()
    const { failures, successes, scopes: [scope] } = kit.statusOf('a')
    assert.deepEqual({ failures, successes, state: scope?.state, out: scope?.out?.reason }, { failures: 3, successes: 4, state: 'ejected', out: 'failed' })
    assert.deepEqual(kit.listener.take().slice(-2).map((line) => line.split(' ')[0]), ['ejected', 'broken'])
  })

  test('what is left of a swallowed response is not counted again, however it ends', () => {
    const kit = two()
    for (const end of ['broken', 'completed', 'aborted'] satisfies AttemptEnd[]) {
      const attempt = kit.send(new TestRequest({ scope: end }))
      kit.headers(attempt, 429)
      kit.settle(attempt, end)
    }
    const { failures, throttled, inFlight } = kit.statusOf('a')
    assert.deepEqual({ failures, throttled, inFlight }, { failures: 0, throttled: 3, inFlight: 0 })
    assert.deepEqual(kit.statusOf('a').scopes.map((scope) => scope.throttled), [1, 1, 1])
  })

  test('each attempt is settled once, and its headers count once', () => {
    const kit = two()
    const attempt = kit.send()
    assert.equal(kit.headers(attempt, 200), 'success')
    assert.equal(kit.headers(attempt, 500), 'success')
    kit.settle(attempt, 'completed')
    kit.settle(attempt, 'broken')
    const { successes, failures, inFlight } = kit.statusOf('a')
    assert.deepEqual({ successes, failures, inFlight }, { successes: 1, failures: 0, inFlight: 0 })
    const aborted = kit.send()
    kit.settle(aborted, 'aborted')
    assert.equal(kit.headers(aborted, 200), 'ignored')
    assert.equal(kit.statusOf('a').successes, 1)
  })

  test('an attempt that completes without headers says nothing', () => {
    const kit = two()
    kit.settle(kit.send(), 'completed')
    const { failures, successes, state } = kit.statusOf('a')
    assert.deepEqual({ failures, successes, state }, { failures: 0, successes: 0, state: 'available' })
  })

  test('in-flight ends when the body ends, not at the headers', () => {
    const kit = two()
    const attempt = kit.send()
    kit.headers(attempt, 200)
    assert.equal(kit.statusOf('a').inFlight, 1)
    kit.settle(attempt, 'completed')
    assert.equal(kit.statusOf('a').inFlight, 0)
  })
})

describe('a success after a single failure', () => {
  test('is no return, for the backend was never out', () => {
    const kit = two()
    kit.answer(kit.send(), 500)
    kit.listener.take()
    kit.answer(kit.send(), 200)
    assert.deepEqual(kit.listener.take(), ['picked a 1', 'answered a 200 0'])
  })
})

test('a credential of ours that is refused counts as a failure', () => {
  const kit = new PoolKit([backend('a', 1, { ownsCredential: true }), backend('b', 2)])
  kit.answer(kit.send(new TestRequest({ scope: 'm' })), 401)
  assert.equal(kit.statusOf('a').failures, 1)
  assert.equal(kit.statusOf('a').scopes[0]?.failures, 1)
})

describe('a backend that is out', () => {
  const ejected = (): PoolKit => {
    const kit = two()
    kit.settle(kit.send(), 'connection')
    kit.system.advance(15_000)
    kit.listener.take()
    return kit
  }

  test('is probed by one request at a time', () => {
    const kit = ejected()
    assert.deepEqual([kit.send(), kit.send(), kit.send()].map((attempt) => attempt.backend.name), ['a', 'b', 'b'])
    assert.equal(kit.statusOf('a').state, 'probing')
  })

  test('is readmitted by a probe that succeeds', () => {
    const kit = ejected()
    kit.answer(kit.send(), 200)
    assert.deepEqual(kit.listener.take(), ['picked a 1', 'readmitted a * ejected', 'answered a 200 0'])
    assert.deepEqual([kit.send(), kit.send()].map((attempt) => attempt.backend.name), ['a', 'a'])
  })

  test('stays out for longer when the probe fails, by a 5xx or without an answer', () => {
    for (const fail of [(kit: PoolKit) => kit.answer(kit.send(), 500), (kit: PoolKit) => kit.settle(kit.send(), 'timeout')]) {
      const kit = ejected()
      fail(kit)
      assert.match(kit.listener.take()[1] ?? '', /^ejected a \d+ (failed|unreachable)$/)
      assert.equal(kit.send().backend.name, 'b')
    }
  })

  test('gets its probe slot back from a request that was aborted, throttled or answered 4xx', () => {
    for (const end of [
      (kit: PoolKit) => kit.settle(kit.send(), 'aborted'),
      (kit: PoolKit) => kit.answer(kit.send(new TestRequest({ scope: 'other' })), 429),
      (kit: PoolKit) => kit.answer(kit.send(), 400),
    ]) {
      const kit = ejected()
      end(kit)
      assert.equal(kit.statusOf('a').state, 'ejected')
      assert.equal(kit.statusOf('a').cooldownMs, 0)
      assert.ok(!kit.listener.take().some((line) => /^(ejected|readmitted)/.test(line)))
      assert.equal(kit.send().backend.name, 'a')
      assert.equal(kit.statusOf('a').state, 'probing')
    }
  })

  test('does not lose its probe slot to an older attempt that is aborted', () => {
    const kit = two()
    const old = kit.send()
    kit.settle(kit.send(), 'connection')
    kit.system.advance(15_000)
    kit.send()
    kit.settle(old, 'aborted')
    assert.equal(kit.statusOf('a').state, 'probing')
    assert.equal(kit.send().backend.name, 'b')
  })

  test('a probe that comes late, when the state has moved on, frees no slot but its own', () => {
    const kit = two()
    const witness = kit.send()
    kit.settle(kit.send(), 'connection')
    kit.system.advance(15_000)
    const first = kit.send()
    kit.answer(witness, 200)
    kit.settle(kit.send(), 'connection')
    kit.system.advance(15_000)
    const second = kit.send()
    assert.deepEqual([first.backend.name, second.backend.name], ['a', 'a'])
    kit.settle(first, 'aborted')
    assert.equal(kit.send().backend.name, 'b')
    kit.settle(second, 'aborted')
    assert.equal(kit.send().backend.name, 'a')
  })

  test('is readmitted by any success, of an older attempt too', () => {
    const kit = two()
    const old = kit.send()
    kit.settle(kit.send(), 'connection')
    kit.answer(old, 200)
    assert.equal(kit.statusOf('a').state, 'available')
  })
})

describe('panic mode', () => {
  test('when all are out the one that may be probed soonest is tried anyway', () => {
    const kit = new PoolKit([backend('a', 1, { ownsCredential: true }), backend('b', 2)])
    kit.answer(kit.send(), 401)
    kit.settle(kit.send(), 'connection')
    assert.equal(kit.send().backend.name, 'b')
    assert.equal(kit.statusOf('b').state, 'ejected')
  })

  test('of those that are equally bad the higher priority is tried', () => {
    const kit = new PoolKit([backend('a', 1, { ownsCredential: true }), backend('b', 2, { ownsCredential: true })])
    for (let i = 0; i < 2; i++) kit.answer(kit.send(), 401)
    assert.equal(kit.send().backend.name, 'a')
  })

  test('it tries each once, then the caller gets the last real error', () => {
    const kit = two()
    for (let i = 0; i < 2; i++) kit.settle(kit.send(), 'connection')
    const request = new TestRequest()
    const seen = []
    for (let i = 0; i < 2; i++) {
      const attempt = kit.send(request)
      seen.push(attempt.backend.name)
      kit.settle(attempt, 'connection')
    }
    assert.deepEqual(seen.sort(), ['a', 'b'])
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'attempts' })
  })

  test('a backend that is being probed comes after those that are not', () => {
    const kit = two()
    kit.settle(kit.send(), 'connection')
    kit.system.advance(15_000)
    kit.send()
    assert.equal(kit.statusOf('a').state, 'probing')
    kit.settle(kit.send(), 'connection')
    assert.equal(kit.send().backend.name, 'b')
    const alone = new PoolKit([backend('a')])
    alone.settle(alone.send(), 'connection')
    alone.system.advance(15_000)
    assert.deepEqual([alone.send(), alone.send()].map((attempt) => attempt.backend.name), ['a', 'a'])
  })

  test('a request that goes beside a probe is none: its failure ends nothing, and is not told as an ejection', () => {
    const kit = new PoolKit([backend('a')])
    kit.settle(kit.send(), 'connection')
    kit.system.advance(15_000)
    const [probe, beside] = [kit.send(), kit.send()]
    kit.listener.take()
    kit.settle(beside, 'connection')
    assert.equal(kit.statusOf('a').state, 'probing')
    assert.deepEqual(kit.listener.take(), [])
    kit.answer(probe, 200)
    assert.equal(kit.statusOf('a').state, 'available')
  })

  test('it is off while one is merely throttled', () => {
    const kit = two()
    kit.settle(kit.send(), 'connection')
    kit.throttle('', 30_000)
    const rejected = kit.acquire()
    assert.equal(rejected.kind, 'reject')
  })

  test('a success in it readmits', () => {
    const kit = new PoolKit([backend('a')])
    kit.settle(kit.send(), 'connection')
    kit.answer(kit.send(), 200)
    assert.equal(kit.statusOf('a').state, 'available')
  })
})
