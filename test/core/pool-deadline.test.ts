import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { STANDSTILL_MS } from '../../src/core/types.js'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

/** A request whose time is over at a moment, in which it is also ended itself, or not. */
class TimedRequest extends TestRequest {
  readonly #deadlineAt: number
  readonly #endsAt: number

  constructor(deadlineAt: number, endsAt = deadlineAt) {
    super()
    this.#deadlineAt = deadlineAt
    this.#endsAt = endsAt
  }

  override get deadlineAt(): number {
    return this.#deadlineAt
  }

  override get endsAt(): number {
    return this.#endsAt
  }
}

const two = [backend('a', 1), backend('b', 2)]

describe('a request whose time is over', () => {
  test('makes no further attempt, although a backend is free', () => {
    const kit = new PoolKit(two)
    for (const [ms, kind] of [[499, 'send'], [500, 'surface'], [501, 'surface']] as const) {
      const request = new TimedRequest(kit.now + 500)
      const attempt = kit.send(request)
      kit.system.advance(ms)
      kit.answer(attempt, 503)
      const next = kit.acquire(request)
      assert.equal(next.kind, kind, `${ms} ms`)
      if (next.kind === 'surface') assert.equal(next.reason, 'deadline')
      kit.answer(kit.send(), 200)
    }
    assert.ok(kit.listener.lines.includes('exhausted - deadline'))
  })

  test('is sent once all the same: whatever came before was not its own doing', () => {
    const kit = new PoolKit(two, { maxWaitMs: 10_000 })
    assert.equal(kit.send(new TimedRequest(kit.now - 1)).backend.name, 'a')
  })

  test('waits no longer, and is told when to come back', () => {
    const kit = new PoolKit(two, { maxWaitMs: 10_000 })
    kit.throttle('', 3_000, 4_000)
    const [tooLong, longEnough] = [new TimedRequest(kit.now + 2_999), new TimedRequest(kit.now + 3_001)]
    const refused = kit.acquire(tooLong)
    assert.ok(refused.kind === 'reject' && refused.retryAfterMs >= 3_000)
    assert.equal(kit.acquire(longEnough).kind, 'wait')
  })

  test('gets its 429 at that moment where it waits for what has not said when it will be back', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: 10_000 })
    const failed = new TestRequest()
    kit.settle(kit.send(failed), 'connection')
    kit.system.advance(1_000)
    const probe = kit.send()
    const request = new TimedRequest(kit.now + 500)
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.system.advance(499)
    assert.equal(request.wakes, 0)
    kit.system.advance(1)
    assert.equal(request.wakes, 1)
    assert.equal(kit.acquire(request).kind, 'reject')
    assert.equal(kit.pool.status(kit.now).waiting, 0)
    kit.answer(probe, 200)
  })

  test('gets its 429 at that moment although a backend has come free just then: an attempt would end as it begins', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: 10_000 })
    kit.throttle('', 500)
    const request = new TimedRequest(kit.now + 500)
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.system.advance(500)
    assert.equal(kit.acquire(request).kind, 'reject')
  })

  test('is tried at the end of its wait where an attempt would not be ended', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: 10_000 })
    kit.throttle('', 500)
    const request = new TimedRequest(kit.now + 500, Infinity)
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.system.advance(500)
    assert.equal(kit.send(request).backend.name, 'a')
  })

  test('is tried once more where our own process has slept through that moment', () => {
    for (const [lateMs, kind] of [[STANDSTILL_MS, 'reject'], [STANDSTILL_MS + 1, 'send']] as const) {
      const kit = new PoolKit([backend('a')], { maxWaitMs: 10_000 })
      kit.throttle('', 500)
      const request = new TimedRequest(kit.now + 500)
      assert.equal(kit.acquire(request).kind, 'wait')
      kit.system.freeze(500 + lateMs)
      assert.equal(kit.acquire(request).kind, kind)
    }
  })

  test('is not made once more where it met a connection that was closed just then', () => {
    const kit = new PoolKit(two)
    const request = new TimedRequest(kit.now + 500)
    const attempt = kit.send(request)
    kit.system.advance(500)
    const next = kit.pool.repeat(attempt, kit.now)
    assert.deepEqual(next, { kind: 'surface', reason: 'deadline' })
  })
  test('nor is it where the balancer was closed meanwhile', () => {
    const kit = new PoolKit(two)
    const attempt = kit.send()
    kit.pool.close()
    assert.deepEqual(kit.pool.repeat(attempt, kit.now), { kind: 'closed' })
  })
})
