// Our own process stood still (a busy loop, a frozen container): nobody who waited is at fault, and nobody is refused for it.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Pool } from '../../src/core/pool.js'
import type { Timer } from '../../src/core/types.js'
import { backend, poolConfig, RecordingListener, TestRequest } from '../support/pool-kit.js'

/** A clock that can jump: timers that fell due meanwhile fire afterwards, all late. */
class FreezingSystem {
  time = 1_000
  readonly #timers = new Set<{ readonly at: number, readonly callback: () => void }>()

  now = (): number => this.time
  wallNow = (): number => this.time
  random = (): number => 0
  nextTurn = (callback: () => void): void => { callback() }

  setTimer = (callback: () => void, delayMs: number): Timer => {
    const timer = { at: this.time + delayMs, callback }
    this.#timers.add(timer)
    return { cancel: () => void this.#timers.delete(timer) }
  }

  freeze(ms: number): void {
    this.time += ms
    for (const timer of [...this.#timers]) {
      if (timer.at > this.time || !this.#timers.delete(timer)) continue
      timer.callback()
    }
  }
}

describe('after a standstill of eight seconds while ten requests wait', () => {
  for (const pacing of [true, false]) {
    test(`all are tried once more before any is refused, ${pacing ? 'with' : 'without'} pacing`, () => {
      const system = new FreezingSystem()
      const pool = new Pool(poolConfig([backend('a'), backend('b', 2)], { maxWaitMs: 5_000, pacing }), system, new RecordingListener())
      const first = new TestRequest()
      for (let i = 0; i < 2; i++) {
        const attempt = pool.acquire(first, system.now())
        assert.ok(attempt.kind === 'send')
        pool.conclude(attempt, pool.headers(attempt, 429, { 'retry-after': '2' }, system.now()), system.now())
        pool.settle(attempt, 'completed', system.now())
      }
      const told: string[] = []
      for (let i = 0; i < 10; i++) {
        const request = new TestRequest()
        request.onWake = () => { told.push(pool.acquire(request, system.now()).kind) }
        assert.equal(pool.acquire(request, system.now()).kind, 'wait')
      }
      system.freeze(8_000)
      assert.deepEqual(told, Array.from({ length: 10 }, () => 'send'))
    })
  }

  test('those for whom a backend still says that it is full are refused then', () => {
    const system = new FreezingSystem()
    const pool = new Pool(poolConfig([backend('a')], { maxWaitMs: 5_000 }), system, new RecordingListener())
    const attempts = [new TestRequest(), new TestRequest()].map((request) => pool.acquire(request, system.now()))
    const [first, second] = attempts
    assert.ok(first?.kind === 'send' && second?.kind === 'send')
    pool.conclude(first, pool.headers(first, 429, { 'retry-after': '4' }, system.now()), system.now())
    const request = new TestRequest()
    const told: string[] = []
    request.onWake = () => { told.push(pool.acquire(request, system.now()).kind) }
    assert.equal(pool.acquire(request, system.now()).kind, 'wait')
    system.time += 3_000
    pool.conclude(second, pool.headers(second, 429, { 'retry-after': '30' }, system.now()), system.now())
    system.freeze(5_000)
    assert.deepEqual(told, ['reject'])
  })
})
