import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { LatencyGuard } from '../../src/core/latency.js'
import { VirtualSystem } from '../support/virtual-system.js'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

/** So many answers, one a second, from a second on. */
function observe(guard: LatencyGuard, latencyMs: number, answers: number, from = 0): number {
  for (let i = 0; i < answers; i++) guard.observe(latencyMs, from + i * 1_000)
  return from + answers * 1_000
}

describe('a backend is slow', () => {
  test('when its recent answers take more than four times as long as usual', () => {
    const guard = new LatencyGuard()
    const at = observe(guard, 500, 100)
    assert.equal(guard.isSlow, false)
    observe(guard, 5_000, 12, at)
    assert.equal(guard.isSlow, true)
  })

  test('never for one answer, nor for three times as long', () => {
    const guard = new LatencyGuard()
    const at = observe(guard, 500, 100)
    guard.observe(60_000, at)
    assert.equal(guard.isSlow, false)
    observe(guard, 1_500, 50, at)
    assert.equal(guard.isSlow, false)
  })

  test('not as long as it answers within 400 ms: a busy machine is no brownout', () => {
    const guard = new LatencyGuard()
    const at = observe(guard, 2, 100)
    const later = observe(guard, 390, 50, at)
    assert.equal(guard.isSlow, false)
    observe(guard, 1_000, 12, later)
    assert.equal(guard.isSlow, true)
  })

  test('not before there is a usual time', () => {
    const guard = new LatencyGuard()
    const at = observe(guard, 100, 15)
    observe(guard, 10_000, 14, at)
    assert.equal(guard.isSlow, false)
  })

  test('until its recent answers take less than twice as long as usual', () => {
    const guard = new LatencyGuard()
    let at = observe(guard, 500, 300)
    at = observe(guard, 5_000, 20, at)
    let answers = 0
    for (; guard.isSlow; answers++) at = observe(guard, 500, 1, at)
    assert.ok(answers >= 5 && answers <= 12, `${answers}`)
  })

  test('for half an hour at most: what lasts is the new usual', () => {
    const guard = new LatencyGuard()
    const at = observe(guard, 500, 600)
    observe(guard, 5_000, 1_800, at)
    assert.equal(guard.isSlow, false)
  })

  test('for half an hour at most also where many answers came before and few come now: time forgets, not their number', () => {
    const guard = new LatencyGuard()
    for (let i = 0; i < 20_000; i++) guard.observe(500, i * 10)
    for (let i = 0; i < 30; i++) guard.observe(5_000, 200_000 + i * 10_000)
    assert.equal(guard.isSlow, true)
    for (let i = 30; i < 180; i++) guard.observe(5_000, 200_000 + i * 10_000)
    assert.equal(guard.isSlow, false)
  })

  test('not because streamed and unstreamed answers differ tenfold', () => {
    const guard = new LatencyGuard()
    const system = new VirtualSystem(7)
    for (let i = 0; i < 20_000; i++) {
      guard.observe((system.random() < 0.5 ? 300 : 3_000) * (0.5 + system.random()), i * 200)
      assert.equal(guard.isSlow, false)
    }
  })
})

describe('in the pool', () => {
  const backends = [backend('fast'), backend('other', 2)]

  /** A hundred quick answers of the first backend, then a dozen slow ones. */
  function slowed(latencyGuard: boolean, more: Parameters<PoolKit['update']>[1] = {}): PoolKit {
    const kit = new PoolKit(backends, { latencyGuard, ...more })
    for (let i = 0; i < 112; i++) {
      const attempt = kit.send()
      assert.equal(attempt.backend.name, 'fast')
      kit.system.advance(i < 100 ? 200 : 4_000)
      kit.answer(attempt, 200)
    }
    return kit
  }

  test('all but one request go to the next priority while a backend is slow', () => {
    const kit = slowed(true)
    const names = [1, 2, 3].map(() => kit.send().backend.name)
    assert.deepEqual(names, ['fast', 'other', 'other'])
  })

  test('when it is quick again it takes all', () => {
    const kit = slowed(true)
    for (let i = 0; i < 30; i++) {
      const attempt = kit.send()
      kit.system.advance(200)
      kit.answer(attempt, 200)
    }
    assert.deepEqual([1, 2, 3].map(() => kit.send().backend.name), ['fast', 'fast', 'fast'])
  })

  test('a slow backend is better than none', () => {
    const kit = slowed(true)
    kit.send()
    kit.answer(kit.send(), 429, { 'retry-after': '30' })
    assert.equal(kit.send().backend.name, 'fast')
    assert.equal(kit.acquire(new TestRequest()).kind, 'send')
  })

  test('where all are slow the lowest priority number wins again', () => {
    const kit = slowed(true)
    kit.send()
    for (let i = 0; i < 112; i++) {
      const attempt = kit.send()
      assert.equal(attempt.backend.name, 'other')
      kit.system.advance(i < 100 ? 200 : 4_000)
      kit.answer(attempt, 200)
    }
    assert.deepEqual([1, 2, 3].map(() => kit.send().backend.name), ['other', 'fast', 'fast'])
  })

  test('switched off by an update, it is forgotten with the next success', () => {
    const kit = slowed(true)
    kit.update(backends, { latencyGuard: false })
    kit.answer(kit.send(), 200)
    assert.deepEqual([1, 2, 3].map(() => kit.send().backend.name), ['fast', 'fast', 'fast'])
  })

  test('latencyGuard: false keeps strict priority', () => {
    const kit = slowed(false)
    assert.deepEqual([1, 2, 3].map(() => kit.send().backend.name), ['fast', 'fast', 'fast'])
  })
})
