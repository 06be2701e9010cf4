import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { backend, MOST_WAITERS, PoolKit, TestRequest } from '../support/pool-kit.js'

const WAIT_MS = 10_000

const kitOf = (count = 1, more = {}): PoolKit =>
  new PoolKit(Array.from({ length: count }, (_, i) => backend('abcdef'.charAt(i), i + 1)), { maxWaitMs: WAIT_MS, ...more })

/** A request that asks again whenever it is woken, and writes down what it is told. */
class Caller extends TestRequest {
  readonly told: string[] = []
  sentAt = NaN
  readonly #kit: PoolKit
  readonly #status: number

  constructor(kit: PoolKit, scope = '', status = 200) {
    super({ scope })
    this.#kit = kit
    this.#status = status
    this.onWake = () => this.ask()
  }

  ask(): this {
    const acquired = this.#kit.acquire(this)
    this.told.push(acquired.kind)
    if (acquired.kind === 'send') {
      this.sentAt = this.#kit.now
      this.#kit.answer(acquired, this.#status)
    }
    return this
  }
}

describe('a request that finds all backends throttled', () => {
  test('is held until the soonest is back, and then sent', () => {
    const kit = kitOf(2)
    kit.throttle('', 3_000, 1_000)
    const { cooldownMs } = kit.statusOf('b')
    const start = kit.now
    kit.listener.take()
    const caller = new Caller(kit).ask()
    assert.equal(kit.pool.status(kit.now).waiting, 1)
    kit.system.advance(cooldownMs + 2)
    assert.deepEqual(caller.told, ['wait', 'send'])
    assert.ok(caller.sentAt - start >= cooldownMs && caller.sentAt - start <= cooldownMs + 1)
    const lines = kit.listener.take()
    assert.deepEqual([lines[0], lines[2], lines[3]], ['waiting 1', 'readmitted b  cooldown', 'picked b 1'])
    assert.match(lines[1] ?? '', /^waited 1\d{3} 0$/)
    assert.equal(kit.system.pending, 0)
  })

  test('is answered at once when the soonest comes later than it may wait', () => {
    const kit = kitOf()
    kit.throttle('', 30_000)
    const rejected = kit.acquire()
    assert.ok(rejected.kind === 'reject' && rejected.retryAfterMs >= 30_000)
    assert.equal(kit.system.pending, 0)
  })

  test('is held after its own attempts were throttled, and may then go where it was before', () => {
    const kit = kitOf(2)
    const request = new TestRequest()
    kit.answer(kit.send(request), 429, { 'retry-after': '2' })
    kit.answer(kit.send(request), 429, { 'retry-after': '1' })
    kit.listener.take()
    assert.equal(kit.acquire(request).kind, 'wait')
    assert.deepEqual(kit.listener.take(), ['failover b throttled -', 'waiting 1'])
    assert.equal(request.waitingSince, kit.now)
    kit.system.advance(1_200)
    assert.equal(request.wakes, 1)
    assert.equal(kit.send(request).backend.name, 'b')
    assert.equal(request.attempts, 3)
  })

  for (const [backends, attempts] of [[1, 4], [2, 4], [3, 6]] as const) {
    test(`makes at most ${attempts} attempts in all with ${backends} backends`, () => {
      const kit = kitOf(backends)
      const request = new TestRequest()
      let acquired = kit.acquire(request)
      while (acquired.kind !== 'reject') {
        if (acquired.kind === 'send') kit.answer(acquired, 429, { 'retry-after-ms': '100' })
        else kit.system.advance(200)
        acquired = kit.acquire(request)
      }
      assert.equal(request.attempts, attempts)
      assert.equal(kit.statusOf('a').attempts, attempts / backends)
    })
  }

  test('goes back to a backend that failed it when its backoff is over, and not before it waits', () => {
    const kit = kitOf(2)
    const request = new TestRequest()
    kit.answer(kit.send(request), 500)
    kit.answer(kit.send(request), 429, { 'retry-after': '1' })
    request.onWake = () => undefined
    assert.equal(kit.acquire(request).kind, 'wait')
    // Backend a is free for others, and everything that happens makes the pool look again.
    kit.answer(kit.send(new TestRequest({ scope: 'x' })), 200)
    kit.system.advance(249)
    assert.equal(request.wakes, 0)
    kit.system.advance(2)
    assert.equal(request.wakes, 1)
    assert.equal(kit.send(request).backend.name, 'a')
  })

  test('goes to another backend as soon as one recovers', () => {
    const kit = kitOf(2)
    const old = kit.send()
    kit.settle(kit.send(), 'connection')
    kit.throttle('', 9_000)
    const caller = new Caller(kit).ask()
    assert.deepEqual(caller.told, ['wait'])
    kit.answer(old, 200)
    kit.system.advance(1)
    assert.deepEqual(caller.told, ['wait', 'send'])
  })

  test('becomes the probe when an ejection ends before any cooldown', () => {
    const kit = kitOf(2)
    kit.settle(kit.send(), 'connection')
    kit.throttle('', 9_000)
    const caller = new Caller(kit).ask()
    kit.system.advance(501)
    assert.deepEqual(caller.told, ['wait', 'send'])
    assert.equal(kit.statusOf('a').state, 'available')
  })

  test('is let go at once when a longer cooldown makes its wait hopeless', () => {
    const kit = kitOf()
    const late = kit.send()
    kit.throttle('', 2_000)
    const caller = new Caller(kit).ask()
    kit.answer(late, 429, { 'retry-after': '40' })
    kit.system.advance(1)
    assert.deepEqual(caller.told, ['wait', 'reject'])
    assert.equal(kit.system.pending, 0)
  })

  test('is answered when its wait is over', () => {
    const kit = kitOf()
    kit.throttle('', 1_000)
    const crowd = Array.from({ length: 3 }, () => new Caller(kit, '', 429))
    for (const caller of crowd) caller.ask()
    assert.deepEqual(crowd.map(({ told }) => told), [['wait'], ['wait'], ['wait']])
    // The first to go is refused for 10 s, so nobody behind it will be served in time.
    kit.system.advance(2_000)
    assert.deepEqual(crowd.map(({ told }) => told.at(-1)), ['send', 'reject', 'reject'])
  })
})

describe('the queue', () => {
  test('newcomers go behind those that wait, even when a backend has just become free', () => {
    const kit = kitOf()
    kit.throttle('', 1_000)
    const first = new TestRequest()
    kit.acquire(first)
    kit.update([backend('a', 1), backend('new', 1)], { maxWaitMs: WAIT_MS })
    const second = new TestRequest()
    assert.equal(kit.acquire(second).kind, 'wait')
    kit.system.advance(1)
    assert.deepEqual([first.wakes, second.wakes], [1, 1])
    assert.equal(kit.send(first).backend.name, 'new')
    assert.equal(kit.send(second).backend.name, 'new')
    assert.equal(kit.system.pending, 0)
  })

  test('of one scope does not hold up another', () => {
    const kit = kitOf()
    kit.throttle('chat', 5_000)
    for (let i = 0; i < 30; i++) assert.equal(kit.acquire(new TestRequest({ scope: 'chat' })).kind, 'wait')
    assert.equal(kit.acquire(new TestRequest({ scope: 'embeddings' })).kind, 'send')
  })

  test('an aborted waiter leaves at once, from wherever it stands', () => {
    const kit = kitOf()
    kit.throttle('', 1_000)
    const crowd = Array.from({ length: 5 }, () => new Caller(kit).ask())
    for (const at of [2, 0, 4]) {
      const aborted = crowd[at]
      if (aborted !== undefined) kit.pool.leave(aborted, kit.now)
    }
    assert.equal(kit.pool.status(kit.now).waiting, 2)
    kit.system.advance(2_000)
    assert.deepEqual(crowd.map(({ told }) => told.length), [1, 2, 1, 2, 1])
    assert.equal(kit.system.pending, 0)
  })

  test('no timer is left when the last one leaves, and leaving twice or without waiting does no harm', () => {
    const kit = kitOf()
    kit.throttle('', 1_000)
    const request = new TestRequest()
    kit.acquire(request)
    assert.equal(kit.system.pending, 1)
    kit.pool.leave(request, kit.now)
    kit.pool.leave(request, kit.now)
    kit.pool.leave(new TestRequest(), kit.now)
    assert.equal(kit.system.pending, 0)
    assert.equal(kit.pool.status(kit.now).waiting, 0)
  })

  test('there is one timer, however many wait', () => {
    const kit = kitOf(2)
    kit.throttle('x', 1_000, 1_500)
    kit.throttle('y', 3_000, 2_000)
    for (let i = 0; i < 40; i++) kit.acquire(new TestRequest({ scope: i % 2 === 0 ? 'x' : 'y' }))
    assert.equal(kit.system.pending, 1)
    kit.system.advance(20_000)
    assert.equal(kit.system.pending, 0)
  })

  test('is bounded: past it the answer is a 429 at once', () => {
    const kit = kitOf()
    kit.throttle('', 1_000)
    for (let i = 0; i < MOST_WAITERS; i++) assert.equal(kit.acquire().kind, 'wait')
    kit.listener.take()
    const rejected = kit.acquire()
    assert.ok(rejected.kind === 'reject' && rejected.retryAfterMs >= 1_000)
    assert.match(kit.listener.take().join(), /^exhausted 15\d{3} queue-full$/)
  })

  test('a request that was woken and does not ask is not woken again, and is no reason for timers', () => {
    const kit = kitOf()
    kit.throttle('', 100)
    const request = new TestRequest()
    kit.acquire(request)
    kit.system.advance(60_000)
    assert.equal(request.wakes, 1)
    assert.equal(kit.system.pending, 0)
    assert.equal(kit.acquire(request).kind, 'send')
  })

  test('a request that was woken too late for its turn waits on, in its place', () => {
    const kit = kitOf()
    kit.throttle('', 100)
    const [first, second] = [new TestRequest(), new TestRequest()]
    kit.acquire(first)
    kit.acquire(second)
    kit.system.advance(200)
    assert.deepEqual([first.wakes, second.wakes], [1, 1])
    // Meanwhile somebody was refused.
    kit.answer(kit.send(new TestRequest({ pinned: true })), 429, { 'retry-after-ms': '100' })
    assert.equal(kit.acquire(first).kind, 'wait')
    assert.equal(kit.acquire(second).kind, 'wait')
    kit.system.advance(200)
    assert.deepEqual([first.wakes, second.wakes], [2, 2])
    assert.equal(kit.acquire(first).kind, 'send')
  })

  test('waits are counted from the first one on', () => {
    const kit = kitOf(1, { maxAttempts: 10 })
    const request = new TestRequest()
    const start = kit.now
    kit.answer(kit.send(request), 429, { 'retry-after': '6' })
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.system.advance(7_000)
    kit.answer(kit.send(request), 429, { 'retry-after': '6' })
    assert.equal(kit.acquire(request).kind, 'reject')
    assert.equal(request.waitingSince, start)
  })
})

describe('closing', () => {
  test('wakes those who wait, and they and all others learn that it is closed', () => {
    const kit = kitOf()
    kit.throttle('', 1_000)
    const crowd = [new Caller(kit).ask(), new Caller(kit).ask()]
    kit.pool.close()
    assert.deepEqual(crowd.map(({ told }) => told), [['wait', 'closed'], ['wait', 'closed']])
    assert.equal(kit.acquire().kind, 'closed')
    assert.equal(kit.system.pending, 0)
    assert.equal(kit.pool.status(kit.now).waiting, 0)
  })

  test('lets attempts in flight end', () => {
    const kit = kitOf()
    const attempt = kit.send()
    kit.pool.close()
    assert.equal(kit.answer(attempt, 200), 'success')
    assert.equal(kit.statusOf('a').inFlight, 0)
  })
})

test('a request that had one reset on b and waits for a is served by b no later than its backoff, as newcomers are', () => {
  const kit = kitOf(2)
  kit.setChance(0)
  const request = new TestRequest()
  kit.throttle('', 3_300)
  const attempt = kit.send(request)
  assert.equal(attempt.backend.name, 'b')
  kit.settle(attempt, 'reset')
  assert.equal(kit.acquire(request).kind, 'wait')
  kit.system.advance(252)
  assert.equal(request.wakes, 1)
  assert.equal(kit.send(request).backend.name, 'b')
})
