// A backend that has become slow, without an error: what counts as slow, and where requests go meanwhile.
import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

const BACKENDS = [backend('fast'), backend('other', 2)]

const guarded = (): PoolKit => new PoolKit(BACKENDS, { latencyGuard: true })

/** So many answers of the first backend, whatever is thought of it; one begins each second, or as often as is said. */
function answer(kit: PoolKit, latencyMs: number | (() => number), count: number, everyMs = 1_000): void {
  for (let i = 0; i < count; i++) {
    const attempt = kit.send(new TestRequest({ pinned: true }))
    kit.system.setTimer(() => { kit.answer(attempt, 200) }, typeof latencyMs === 'number' ? latencyMs : latencyMs())
    kit.system.advance(everyMs)
  }
}

/** The same, until the last has come. */
function answerAll(kit: PoolKit, latencyMs: number, count: number): void {
  answer(kit, latencyMs, count)
  kit.system.advance(latencyMs)
}

/** Whether a second request at the same time goes elsewhere. Both are given up, which says nothing of the time that answers take. */
function isSlow(kit: PoolKit): boolean {
  const [first, second] = [kit.send(), kit.send()]
  assert.ok(kit.statusOf('fast').inFlight >= 1)
  for (const attempt of [first, second]) kit.settle(attempt, 'aborted')
  return second.backend.name === 'other'
}

describe('a backend is slow', () => {
  test('when its recent answers take more than four times as long as usual', () => {
    const kit = guarded()
    answerAll(kit, 500, 100)
    assert.equal(isSlow(kit), false)
    answerAll(kit, 5_000, 12)
    assert.equal(isSlow(kit), true)
  })

  test('never for one answer, nor for three times as long', () => {
    const kit = guarded()
    answerAll(kit, 500, 100)
    answerAll(kit, 60_000, 1)
    assert.equal(isSlow(kit), false)
    answerAll(kit, 1_500, 50)
    assert.equal(isSlow(kit), false)
  })

  test('not as long as it answers within 400 ms: a busy machine is no brownout', () => {
    const kit = guarded()
    answerAll(kit, 2, 100)
    answerAll(kit, 390, 50)
    assert.equal(isSlow(kit), false)
    answerAll(kit, 1_000, 12)
    assert.equal(isSlow(kit), true)
  })

  test('not before there is a usual time', () => {
    const kit = guarded()
    answerAll(kit, 100, 15)
    answerAll(kit, 10_000, 14)
    assert.equal(isSlow(kit), false)
  })

  test('until its recent answers take less than twice as long as usual', () => {
    const kit = guarded()
    answerAll(kit, 500, 300)
    answerAll(kit, 5_000, 20)
    let answers = 0
    for (; isSlow(kit); answers++) answerAll(kit, 500, 1)
    assert.ok(answers >= 5 && answers <= 12, `${answers}`)
  })

  test('for half an hour at most: what lasts is the new usual', () => {
    const kit = guarded()
    answerAll(kit, 500, 600)
    answerAll(kit, 5_000, 1_800)
    assert.equal(isSlow(kit), false)
  })

  test('for half an hour at most also where many answers came before and few come now: time forgets, not their number', () => {
    const kit = guarded()
    answer(kit, 500, 20_000, 10)
    answer(kit, 5_000, 30, 10_000)
    assert.equal(isSlow(kit), true)
    answer(kit, 5_000, 150, 10_000)
    assert.equal(isSlow(kit), false)
  })

  test('not because streamed and unstreamed answers differ tenfold', () => {
    const kit = new PoolKit(BACKENDS, { latencyGuard: true }, 7)
    for (let i = 0; i < 20_000; i++) {
      answer(kit, () => (kit.system.random() < 0.5 ? 300 : 3_000) * (0.5 + kit.system.random()), 1, 200)
      assert.equal(isSlow(kit), false)
    }
  })
})

describe('while a backend is slow', () => {
  /** A hundred quick answers of the first backend, then a dozen slow ones. */
  function slowed(latencyGuard: boolean, more: Parameters<PoolKit['update']>[1] = {}): PoolKit {
    const kit = new PoolKit(BACKENDS, { latencyGuard, ...more })
    for (let i = 0; i < 112; i++) {
      const attempt = kit.send()
      assert.equal(attempt.backend.name, 'fast')
      kit.system.advance(i < 100 ? 200 : 4_000)
      kit.answer(attempt, 200)
    }
    return kit
  }

  test('all but one request go to the next priority', () => {
    const kit = slowed(true)
    const names = [1, 2, 3].map(() => kit.send().backend.name)
    assert.deepEqual(names, ['fast', 'other', 'other'])
  })

  test('the one that stays tells when it is over: then all go there again', () => {
    const kit = slowed(true)
    for (let i = 0; i < 30; i++) {
      const attempt = kit.send()
      kit.system.advance(200)
      kit.answer(attempt, 200)
    }
    assert.deepEqual([1, 2, 3].map(() => kit.send().backend.name), ['fast', 'fast', 'fast'])
  })

  test('it is asked again as soon as nothing is under way there, without anything else having changed', () => {
    const kit = slowed(true)
    const one = kit.send()
    assert.deepEqual(kit.count(10), { other: 10 })
    kit.settle(one, 'aborted')
    assert.deepEqual(kit.count(10), { fast: 10 })
  })

  test('it is better than none', () => {
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
    kit.update(BACKENDS, { latencyGuard: false })
    kit.answer(kit.send(), 200)
    assert.deepEqual([1, 2, 3].map(() => kit.send().backend.name), ['fast', 'fast', 'fast'])
  })

  test('latencyGuard: false keeps strict priority', () => {
    const kit = slowed(false)
    assert.deepEqual([1, 2, 3].map(() => kit.send().backend.name), ['fast', 'fast', 'fast'])
  })
})
