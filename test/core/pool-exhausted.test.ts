import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { AttemptEnd } from '../../src/core/types.js'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

const three = (more = {}): PoolKit => new PoolKit([backend('a', 1), backend('b', 2), backend('c', 3)], more)

describe('nothing available', () => {
  test('all throttled: a 429 with the soonest of all waits, with nothing sent', () => {
    const kit = three()
    kit.throttle('', 30_000, 5_000, 20_000)
    kit.setChance(0)
    kit.listener.take()
    const rejected = kit.acquire()
    assert.ok(rejected.kind === 'reject' && rejected.retryAfterMs >= 5_000 && rejected.retryAfterMs <= 5_005, JSON.stringify(rejected))
    assert.deepEqual(kit.listener.take(), [`exhausted ${Math.round(rejected.retryAfterMs)} throttled`])
    assert.deepEqual(['a', 'b', 'c'].map((name) => kit.statusOf(name).attempts), [1, 1, 1])
  })

  test('the same for a request whose own attempts were all throttled', () => {
    const kit = three()
    const request = new TestRequest()
    for (const wait of ['3', '2', '4']) kit.answer(kit.send(request), 429, { 'retry-after': wait })
    const rejected = kit.acquire(request)
    assert.ok(rejected.kind === 'reject' && rejected.retryAfterMs >= 2_000 && rejected.retryAfterMs <= 2_200)
  })

  test('a backend that asked for no wait at all makes for the shortest one there is', () => {
    const kit = new PoolKit([backend('a')])
    kit.setChance(0)
    const request = new TestRequest()
    kit.answer(kit.send(request), 429, { 'retry-after-ms': '10' })
    kit.system.advance(10)
    assert.deepEqual(kit.acquire(request), { kind: 'reject', retryAfterMs: 1 })
  })

  test('one failed and the other throttled: a 429 that says when the first of both may be back', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], { maxAttempts: 3 })
    const request = new TestRequest()
    kit.answer(kit.send(request), 429, { 'retry-after': '3' })
    kit.settle(kit.send(request), 'connection')
    const rejected = kit.acquire(request)
    assert.ok(rejected.kind === 'reject' && rejected.retryAfterMs <= 525, JSON.stringify(rejected))
  })

  describe('where the others are full, and one that failed is out for more than a second', () => {
    /** `a` hung for 8 s and is out for 24, `b` is full for 30. */
    function hung(more: Parameters<PoolKit['update']>[1] = {}): PoolKit {
      const kit = new PoolKit([backend('a', 1), backend('b', 2)])
      kit.setChance(0)
      const attempt = kit.send()
      kit.system.advance(8_000)
      kit.settle(attempt, 'connection')
      kit.throttle('', 30_000)
      kit.update(kit.config.backends, more)
      return kit
    }

    test('it is tried before its time in the place of a 429 of ours, by one request at a time', () => {
      const kit = hung()
      const first = kit.send()
      assert.equal(first.backend.name, 'a')
      assert.equal(kit.acquire().kind, 'reject')
      kit.answer(first, 200)
      assert.equal(kit.statusOf('a').state, 'available')
      assert.equal(kit.send().backend.name, 'a')
    })

    test('also for a model that it was never asked for, but not where it is back within a second', () => {
      const kit = new PoolKit([backend('a', 1), backend('b', 2)])
      kit.setChance(0)
      const other = kit.send(new TestRequest({ scope: 'other' }))
      kit.settle(other, 'connection')
      kit.throttle('', 30_000)
      const told = kit.acquire()
      assert.ok(told.kind === 'reject' && told.retryAfterMs <= 255, JSON.stringify(told))
      kit.system.advance(250)
      const attempt = kit.send(new TestRequest({ scope: 'other' }))
      kit.system.advance(8_000)
      kit.settle(attempt, 'connection')
      assert.equal(kit.send().backend.name, 'a')
    })

    test('a request that has failed there is told when to come back', () => {
      const kit = hung()
      const request = new TestRequest()
      kit.settle(kit.send(request), 'connection')
      assert.equal(kit.acquire(request).kind, 'reject')
    })

    test('a request that can wait does so first', () => {
      const kit = hung({ maxWaitMs: 25_000 })
      const request = new TestRequest()
      assert.equal(kit.acquire(request).kind, 'wait')
      kit.system.advance(24_001)
      assert.equal(request.wakes, 1)
      assert.equal(kit.send(request).backend.name, 'a')
    })

    test('but not one whose credential is refused, nor one that is cooling down as well', () => {
      const wrong = new PoolKit([backend('a', 1, { ownsCredential: true }), backend('b', 2)])
      const request = new TestRequest()
      wrong.answer(wrong.send(request), 401)
      wrong.answer(wrong.send(request), 429, { 'retry-after': '30' })
      assert.equal(wrong.acquire().kind, 'reject')
      const cooling = hung()
      cooling.coolHome(40_000)
      assert.equal(cooling.acquire().kind, 'reject')
    })
  })

  test('attempts used up by a failure while another is merely throttled: a 429 too, but for a credential of ours', () => {
    for (const [status, expected] of [[500, 'reject'], [401, 'surface']] as const) {
      const kit = new PoolKit([backend('a', 1), backend('b', 2, { ownsCredential: true })], { maxAttempts: 2 })
      kit.setChance(0)
      const request = new TestRequest()
      kit.answer(kit.send(request), 429, { 'retry-after-ms': '500' })
      kit.answer(kit.send(request), status)
      const told = kit.acquire(request)
      assert.equal(told.kind, expected)
      if (told.kind === 'reject') assert.ok(told.retryAfterMs >= 500 && told.retryAfterMs <= 505, String(told.retryAfterMs))
    }
  })

  test('the soonest within the patience of the request: it waits, and not for a moment longer', () => {
    for (const [waitMs, expected] of [[500, 'wait'], [501, 'reject']] as const) {
      const kit = three({ maxWaitMs: 500 })
      kit.setChance(0)
      kit.throttle('', 30_000, waitMs, 20_000)
      assert.equal(kit.acquire().kind, expected)
    }
  })

  test('all failed it, and none is throttled: a patient request is held until its backoff is over, and tries again', () => {
    const kit = three({ maxWaitMs: 10_000 })
    const request = new TestRequest()
    for (let i = 0; i < 3; i++) kit.answer(kit.send(request), 500)
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.system.advance(249)
    assert.equal(request.wakes, 0)
    kit.system.advance(2)
    assert.equal(request.wakes, 1)
    assert.equal(kit.send(request).backend.name, 'a')
  })

  test('all are out and none has said that it is full: a patient request waits for a probe, and at its end the least bad is tried', () => {
    const kit = three({ maxWaitMs: 300 })
    // Each is out for half a second.
    kit.setChance(1 - 2 ** -53)
    for (let i = 0; i < 3; i++) kit.settle(kit.send(new TestRequest({ scope: 'other' })), 'connection')
    const request = new TestRequest()
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.system.advance(299)
    assert.equal(request.wakes, 0)
    kit.system.advance(2)
    assert.equal(request.wakes, 1)
    assert.equal(kit.send(request).backend.name, 'a')
    assert.equal(kit.pool.status(kit.now).waiting, 0)
  })

  test('all have failed it when its patience is over: the last real error', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], { maxWaitMs: 100 })
    const request = new TestRequest()
    for (let i = 0; i < 2; i++) kit.answer(kit.send(request), 500)
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.system.advance(101)
    assert.equal(request.wakes, 1)
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'no-backend' })
    assert.equal(kit.pool.status(kit.now).waiting, 0)
  })

  test('attempts used up while others are free: the last real answer', () => {
    const kit = three({ maxAttempts: 2 })
    const request = new TestRequest()
    kit.answer(kit.send(request), 429)
    kit.answer(kit.send(request), 429)
    kit.listener.take()
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'attempts' })
    assert.deepEqual(kit.listener.take(), ['answered b 429 0', 'exhausted - attempts'])
  })

  test('all failed: the last real error', () => {
    const kit = three()
    const request = new TestRequest()
    for (let i = 0; i < 3; i++) kit.settle(kit.send(request), 'connection')
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'attempts' })
  })

  test('a request never goes twice to one backend', () => {
    const kit = new PoolKit([backend('a'), backend('b'), backend('c')], { maxAttempts: 10 })
    const request = new TestRequest()
    const seen = new Set<string>()
    for (let i = 0; i < 3; i++) {
      const attempt = kit.send(request)
      seen.add(attempt.backend.name)
      assert.equal(attempt.number, i + 1)
      kit.answer(attempt, 500)
    }
    assert.equal(seen.size, 3)
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'no-backend' })
  })
})

/** One attempt that does not work. @returns who was asked. */
function fail(kit: PoolKit, request: TestRequest, how: number | AttemptEnd): string {
  const attempt = kit.send(request)
  if (typeof how === 'number') kit.answer(attempt, how)
  else kit.settle(attempt, how)
  return attempt.backend.name
}

describe('the retry budget of a pool', () => {
  const none = { retryBudget: { ratio: 0, minPerSecond: 0 } }

  test('used up, a second failure reaches the caller although others are free: the way to a backend that is available is free once', () => {
    for (const [first, second] of [[500, 503], [503, 408], [408, 'reset'], ['timeout', 500], ['reset', 'timeout']] as const) {
      const kit = three(none)
      const request = new TestRequest()
      fail(kit, request, first)
      assert.equal(fail(kit, request, second), 'b')
      assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'budget' })
      assert.equal(kit.listener.take().at(-1), 'exhausted - budget')
    }
  })

  test('used up, a failure reaches the caller where only what is out is left', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], none)
    kit.settle(kit.send(), 'connection')
    kit.settle(kit.send(), 'connection')
    const request = new TestRequest()
    kit.answer(kit.send(request), 500)
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'budget' })
  })

  test('used up, a failure reaches the caller where the next has this very scope out, and is free for others', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], none)
    for (let i = 0; i < 2; i++) kit.answer(kit.send(), 500)
    for (let i = 0; i < 2; i++) kit.answer(kit.send(), 503)
    assert.deepEqual(['a', 'b'].map((name) => [kit.statusOf(name).state, kit.statusOf(name).scopes[0]?.state]), [['available', 'ejected'], ['available', 'ejected']])
    const request = new TestRequest()
    kit.answer(kit.send(request), 500)
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'budget' })
  })

  test('used up, a request still goes past all that cannot be reached: that burdens no one', () => {
    for (const end of ['connection', 'resolver', 'local'] as const) {
      const kit = three(none)
      const request = new TestRequest()
      assert.equal(fail(kit, request, end), 'a')
      assert.equal(fail(kit, request, end), 'b')
      assert.equal(kit.send(request).backend.name, 'c')
    }
  })

  test('throttled and misconfigured requests are no charge on it', () => {
    const kit = new PoolKit([backend('a', 1, { ownsCredential: true }), backend('b', 2), backend('c', 3)], none)
    const request = new TestRequest()
    kit.answer(kit.send(request), 401)
    kit.answer(kit.send(request), 429)
    assert.equal(kit.send(request).backend.name, 'c')
  })

  test('grows with the traffic', () => {
    const kit = three({ retryBudget: { ratio: 0.5, minPerSecond: 0 } })
    const requests = [new TestRequest(), new TestRequest(), new TestRequest(), new TestRequest()]
    for (const attempt of requests.map((request) => kit.send(request))) kit.answer(attempt, 500)
    for (const attempt of requests.map((request) => kit.send(request))) kit.answer(attempt, 503)
    assert.deepEqual(requests.map((request) => kit.acquire(request).kind), ['send', 'send', 'surface', 'surface'])
  })

  test('is drawn on before a wait as well, and not again after it', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], { maxWaitMs: 10_000, retryBudget: { ratio: 1, minPerSecond: 0 } })
    kit.throttle('', 100)
    const [first, second] = [new TestRequest(), new TestRequest()]
    const attempts = [kit.send(first), kit.send(second)]
    for (const attempt of attempts) kit.settle(attempt, 'connection')
    // Three requests came in, so three retries are there: two are taken by requests that wait.
    assert.equal(kit.acquire(first).kind, 'wait')
    assert.equal(kit.acquire(second).kind, 'wait')
    kit.system.advance(200)
    kit.answer(kit.send(first), 200)
    kit.answer(kit.send(second), 200)
    const third = new TestRequest()
    kit.settle(kit.send(third), 'connection')
    assert.notEqual(kit.acquire(third).kind, 'surface')
  })
})

test('beyond all places that are known callers are told the longest promise, also where a backend may be asked at once', () => {
  const kit = new PoolKit([backend('a')])
  kit.setChance(0)
  const told: number[] = []
  for (let caller = 0; caller < 800; caller++) {
    const request = new TestRequest()
    kit.answer(kit.send(request), 429, { 'retry-after-ms': '10' })
    kit.system.advance(10)
    const refused = kit.acquire(request)
    told.push(refused.kind === 'reject' ? refused.retryAfterMs : NaN)
  }
  // One place after the other, 100 ms apart, up to 15 s from now.
  assert.deepEqual([told[0], told.at(-1)], [1, 15_000])
  assert.deepEqual(told, [...told].sort((a, b) => a - b))
})
