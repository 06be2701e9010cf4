import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { backend, MOST_WAITERS, PoolKit, TestRequest } from '../support/pool-kit.js'

const WAIT_MS = 10_000

const kitOf = (count = 1, more = {}): PoolKit =>
  new PoolKit(Array.from({ length: count }, (_, i) => backend('abc'.charAt(i), i + 1)), { maxWaitMs: WAIT_MS, ...more })

describe('the patience of a request', () => {
  test('is one for all its waits together', () => {
    const kit = kitOf(1, { maxAttempts: 10 })
    const request = new TestRequest()
    const refuse = (waitMs: number) => {
      kit.answer(kit.send(request), 429, { 'retry-after-ms': String(waitMs) })
      return kit.acquire(request).kind
    }
    assert.equal(refuse(3_000), 'wait')
    kit.system.advance(3_500)
    assert.equal(refuse(3_000), 'wait')
    kit.system.advance(3_500)
    // Seven of ten seconds have passed.
    assert.equal(refuse(3_001), 'reject')
    assert.equal(kit.pool.status(kit.now).waiting, 0)
  })

  test('that has run out is told as being throttled, and nothing of the request is left behind', () => {
    const kit = kitOf()
    const late = kit.send()
    kit.throttle('', 2_000)
    const request = new TestRequest()
    const told: string[] = []
    request.onWake = () => { told.push(kit.acquire(request).kind) }
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.answer(late, 429, { 'retry-after': '40' })
    kit.listener.take()
    kit.system.advance(1)
    assert.deepEqual(told, ['reject'])
    assert.match(kit.listener.take().join(), /^exhausted \d+ throttled$/)
    assert.equal(kit.pool.status(kit.now).waiting, 0)
    kit.system.advance(60_000)
    assert.equal(request.wakes, 1)
  })

  test('is not wasted on going back at once to a backend that failed it: that is open again when its backoff is over', () => {
    const kit = kitOf(2)
    const late = kit.send(new TestRequest())
    const request = new TestRequest()
    kit.answer(kit.send(request), 500)
    kit.answer(kit.send(request), 429, { 'retry-after': '2' })
    const told: string[] = []
    request.onWake = () => { told.push(kit.acquire(request).kind) }
    assert.equal(kit.acquire(request).kind, 'wait')
    // Asked again for no reason: a is free, but not for this request.
    assert.equal(kit.acquire(request).kind, 'wait')
    assert.equal(kit.statusOf('a').state, 'available')
    kit.answer(late, 200)
    kit.system.advance(249)
    assert.deepEqual(told, [])
    kit.system.advance(2)
    assert.deepEqual(told, ['send'])
    assert.equal(kit.statusOf('a').attempts, 3)
  })
})

describe('the patience that a request has said itself', () => {
  test('counts instead of the option, be it more or less', () => {
    for (const [ofAll, ofOne, waitMs, expected] of [
      [0, 5_000, 4_000, 'wait'], [0, 5_000, 6_000, 'reject'], [WAIT_MS, 1_000, 2_000, 'reject'], [WAIT_MS, 20_000, 15_000, 'wait'], [WAIT_MS, 0, 1, 'reject'],
    ] as const) {
      const kit = kitOf(1, { maxWaitMs: ofAll })
      kit.throttle('', waitMs)
      assert.equal(kit.acquire(new TestRequest({ maxWaitMs: ofOne })).kind, expected, `${ofOne} of ${ofAll}, ${waitMs}`)
      assert.equal(kit.acquire(new TestRequest()).kind, waitMs <= ofAll ? 'wait' : 'reject')
    }
  })

  test('runs out for itself alone, in one queue with others', () => {
    const kit = kitOf()
    const late = kit.send()
    kit.throttle('', 1_000)
    const [patient, other] = [new TestRequest(), new TestRequest({ maxWaitMs: 1_500 })]
    const told: string[] = []
    for (const request of [patient, other]) {
      request.onWake = () => { told.push(kit.acquire(request).kind) }
      assert.equal(kit.acquire(request).kind, 'wait')
    }
    kit.answer(late, 429, { 'retry-after': '8' })
    kit.system.advance(1)
    assert.deepEqual(told, ['reject'])
    kit.system.advance(7_998)
    assert.equal(kit.pool.status(kit.now).waiting, 1)
    kit.system.advance(2)
    assert.deepEqual(told, ['reject', 'send'])
  })

  test('decides on the number of its attempts as the option would: with waits twice the backends, and at least four', () => {
    const attemptsOf = (ofAll: number, ofOne: number | undefined, more = {}): number => {
      const kit = kitOf(1, { maxWaitMs: ofAll, ...more })
      const request = new TestRequest({ maxWaitMs: ofOne })
      for (;;) {
        const next = kit.acquire(request)
        if (next.kind === 'send') kit.answer(next, 429, { 'retry-after-ms': '100' })
        else if (next.kind === 'wait') kit.system.advance(101)
        else return request.attempts
      }
    }
    assert.deepEqual([attemptsOf(0, undefined), attemptsOf(0, WAIT_MS), attemptsOf(WAIT_MS, undefined), attemptsOf(WAIT_MS, 0)], [1, 4, 4, 1])
    assert.deepEqual([attemptsOf(0, WAIT_MS, { maxAttempts: 2 }), attemptsOf(WAIT_MS, 0, { maxAttempts: 2 })], [2, 1])
  })
})

test('a request that waits is not turned away because for the moment no backend is even throttled', () => {
  const kit = kitOf(2)
  const other = new TestRequest({ scope: 'other' })
  kit.answer(kit.send(other), 429)
  const beside = kit.send(other)
  const request = new TestRequest()
  kit.answer(kit.send(request), 500)
  kit.answer(kit.send(request), 429, { 'retry-after': '2' })
  assert.equal(kit.acquire(request).kind, 'wait')
  kit.settle(beside, 'connection')
  assert.deepEqual([kit.statusOf('a').state, kit.statusOf('b').state], ['available', 'ejected'])
  assert.equal(kit.acquire(request).kind, 'wait')
  kit.system.advance(260)
  assert.equal(request.wakes, 1)
  assert.equal(kit.send(request).backend.name, 'a')
})

test('a request waits for its pace too, where a backend has told its level and never refused anything', () => {
  const kit = kitOf(1, { pacing: true })
  // A request a second, all of it our own.
  for (const left of [2, 1, 0]) {
    kit.answer(kit.send(), 200, {
      'x-ratelimit-limit-requests': '60', 'x-ratelimit-remaining-requests': String(left), 'x-ratelimit-reset-requests': `${60 - left}s`,
    })
  }
  const request = new TestRequest()
  assert.equal(kit.acquire(request).kind, 'wait')
  kit.system.advance(1_039)
  assert.equal(request.wakes, 0)
  kit.system.advance(2)
  assert.equal(request.wakes, 1)
  assert.equal(kit.send(request).backend.name, 'a')
})

describe('requests that wait are looked at', () => {
  test('when a response begins, not only when its body has ended', () => {
    const kit = kitOf(2)
    const old = kit.send()
    kit.settle(kit.send(), 'connection')
    kit.throttle('', 9_000)
    const request = new TestRequest()
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.headers(old, 200)
    kit.system.advance(1)
    assert.equal(request.wakes, 1)
    assert.equal(kit.send(request).backend.name, 'a')
  })

  test('when an attempt ends without an answer: an aborted probe leaves its slot to the next', () => {
    const kit = kitOf(2)
    kit.settle(kit.send(), 'connection')
    kit.throttle('', 9_000)
    kit.system.advance(1_000)
    const probe = kit.send()
    assert.equal(probe.backend.name, 'a')
    const request = new TestRequest()
    assert.equal(kit.acquire(request).kind, 'wait')
    // One that had waited for longer would have failed.
    kit.system.advance(249)
    assert.equal(request.wakes, 0)
    kit.settle(probe, 'aborted')
    kit.system.advance(1)
    assert.equal(request.wakes, 1)
    assert.equal(kit.send(request).backend.name, 'a')
  })
})

test('a request whose turn another one took is woken again when the next comes, not only when its wait is over', () => {
  const kit = kitOf(2)
  kit.settle(kit.send(), 'connection')
  kit.throttle('', 8_000)
  const request = new TestRequest()
  assert.equal(kit.acquire(request).kind, 'wait')
  kit.system.advance(600)
  assert.equal(request.wakes, 1)
  // The one probe goes to somebody with another deployment.
  assert.equal(kit.send(new TestRequest({ scope: 'other' })).backend.name, 'a')
  assert.equal(kit.acquire(request).kind, 'wait')
  kit.system.advance(8_500)
  assert.equal(request.wakes, 2)
  assert.equal(kit.send(request).backend.name, 'b')
})

test('a full queue keeps no request from a backend that is free', () => {
  const kit = kitOf(2)
  kit.throttle('chat', 5_000, 5_000)
  for (let i = 0; i < MOST_WAITERS; i++) assert.equal(kit.acquire(new TestRequest({ scope: 'chat' })).kind, 'wait')
  const request = new TestRequest({ scope: 'embeddings' })
  kit.answer(kit.send(request), 429)
  assert.equal(kit.send(request).backend.name, 'b')
})
