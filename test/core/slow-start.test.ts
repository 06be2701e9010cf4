import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Reopening } from '../../src/core/slow-start.js'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

describe('after a cooldown', () => {
  test('one goes, and the next when no refusal has come in twice the time that the last one took', () => {
    const reopening = new Reopening(40, 0)
    assert.equal(reopening.waitMs(1_000), 0)
    reopening.sent(1_000)
    assert.deepEqual([1_000, 1_050, 1_080].map((now) => reopening.waitMs(now)), [80, 30, 0])
  })

  test('or as soon as it is known to be admitted', () => {
    const reopening = new Reopening(40, 0)
    reopening.sent(1_000)
    reopening.admitted(0)
    assert.equal(reopening.waitMs(1_001), 0)
  })

  test('then more and more at a time', () => {
    const reopening = new Reopening(40, 0)
    let now = 0
    const sizes = Array.from({ length: 6 }, () => {
      let size = 0
      for (; reopening.waitMs(now) === 0; size++) reopening.sent(now)
      now += 80
      return size
    })
    assert.deepEqual(sizes, [1, 1, 2, 4, 8, 16])
  })

  test('also where each round is known to be admitted before its time is over', () => {
    const reopening = new Reopening(40, 0)
    const sizes = Array.from({ length: 8 }, (_, round) => {
      let size = 0
      for (; reopening.waitMs(round) === 0; size++) reopening.sent(round)
      for (let i = 0; i < size; i++) reopening.admitted(0)
      return size
    })
    assert.deepEqual(sizes, [1, 1, 2, 4, 8, 16, 32, 64])
  })

  test('a round is over when all that are out were admitted, and what was admitted before it counts for nothing', () => {
    const reopening = new Reopening(40, 0)
    reopening.admitted(0)
    for (const now of [0, 80, 160, 160]) reopening.sent(now)
    assert.equal(reopening.waitMs(160), 80)
    reopening.admitted(0)
    assert.equal(reopening.waitMs(160), 0, 'one of two')
    reopening.sent(160)
    assert.equal(reopening.waitMs(160), 80)
  })

  test('a round is over so long after its first request, whatever answers come and whoever goes in their place', () => {
    const reopening = new Reopening(40, 0)
    let now = 0
    for (let i = 0; i < 3; i++, now += 80) reopening.sent(now) // rounds of one, one, and two of which one is out
    reopening.sent(160)
    for (now = 170; now < 240; now += 10) {
      reopening.admitted(160)
      reopening.sent(now)
      assert.equal(reopening.waitMs(now), 240 - now)
    }
    assert.equal(reopening.waitMs(240), 0)
  })

  test('who was sent before the refusal tells nothing of what came after it', () => {
    const reopening = new Reopening(40, 1_000)
    reopening.sent(1_100)
    reopening.admitted(999)
    assert.equal(reopening.waitMs(1_100), 80)
    reopening.admitted(1_100)
    assert.equal(reopening.waitMs(1_100), 0)
  })

  test('a refusal that took long keeps nobody for more than a second', () => {
    const reopening = new Reopening(6_000, 0)
    reopening.sent(0)
    assert.equal(reopening.waitMs(0), 1_000)
  })

  test('a refusal that took no time does not let all go at once', () => {
    const reopening = new Reopening(0, 0)
    reopening.sent(0)
    assert.equal(reopening.waitMs(0), 5)
  })
})

test('whoever has not waited is not held back by those who have', () => {
  const kit = new PoolKit([backend('first'), backend('second', 2)], { pacing: true, maxWaitMs: 10_000 })
  const waiter = new TestRequest()
  for (const retryAfterMs of ['120', '50']) {
    const attempt = kit.send(waiter)
    kit.system.advance(40)
    kit.answer(attempt, 429, { 'retry-after-ms': retryAfterMs })
  }
  assert.equal(kit.acquire(waiter).kind, 'wait')
  kit.system.advance(60)
  assert.equal(kit.send(waiter).backend.name, 'second')
  kit.system.advance(50) // its round is not over: the refusal took 40 ms
  const other = new TestRequest()
  const attempt = kit.send(other)
  assert.equal(attempt.backend.name, 'first')
  kit.answer(attempt, 500)
  assert.equal(kit.send(other).backend.name, 'second')
})

/** A backend that drains `perSecond` and holds two; its refusals take 40 ms, its answers 400. Everybody comes at once. */
function burst(callers: number, perSecond: number, pacing = true) {
  const kit = new PoolKit([backend('a')], { pacing, maxWaitMs: 10_000 })
  const told = { served: 0, refused: 0, turnedAway: 0 }
  let level = 0
  let levelAt = kit.now
  const waitOf = (now: number): number => {
    level = Math.max(0, level - (now - levelAt) * perSecond / 1_000)
    levelAt = now
    if (level >= 2) return Math.ceil((level - 2) * 1_000 / perSecond) + 1
    level++
    return 0
  }
  const ask = (request: TestRequest): void => {
    const acquired = kit.acquire(request)
    if (acquired.kind === 'reject') told.turnedAway++
    if (acquired.kind !== 'send') return
    const waitMs = waitOf(kit.now)
    kit.system.setTimer(() => {
      if (waitMs === 0) {
        told.served++
        kit.answer(acquired, 200)
      } else {
        told.refused++
        kit.answer(acquired, 429, { 'retry-after-ms': String(waitMs) })
        ask(request)
      }
    }, waitMs === 0 ? 400 : 40)
  }
  for (let i = 0; i < callers; i++) {
    const request = new TestRequest({ bodyBytes: 200 })
    request.onWake = () => { ask(request) }
    ask(request)
    kit.system.advance(0.1)
  }
  kit.system.advance(20_000)
  return told
}

describe('a crowd at a backend of which nothing is known yet', () => {
  test('is served to the last, and few are refused again after the first time', () => {
    for (const callers of [5, 8, 20, 30]) {
      const { served, refused, turnedAway } = burst(callers, 4)
      assert.deepEqual({ served, turnedAway }, { served: callers, turnedAway: 0 })
      assert.ok(refused - (callers - 2) <= 8, `${callers}: ${refused} refused`)
    }
  })

  test('loses nothing of a large backend for a single refusal', () => {
    const kit = new PoolKit([backend('a')], { pacing: true, maxWaitMs: 2_000 })
    let served = 0
    let isRefused = false
    const ask = (request: TestRequest): void => {
      const acquired = kit.acquire(request)
      if (acquired.kind !== 'send') return
      if (kit.now > 6_000 && !isRefused) {
        isRefused = true
        kit.system.setTimer(() => {
          kit.answer(acquired, 429, { 'retry-after-ms': '300' })
          ask(request)
        }, 300)
      } else {
        kit.system.setTimer(() => {
          served++
          kit.answer(acquired, 200)
        }, 50 + 900 * kit.system.random())
      }
    }
    for (let i = 0; i < 50 * 60; i++) {
      const request = new TestRequest({ bodyBytes: 200 })
      request.onWake = () => { ask(request) }
      ask(request)
      kit.system.advance(20)
    }
    kit.system.advance(5_000)
    assert.ok(isRefused && served > 2_900, `${served} of 3,000`)
  })

  test('is let go at once without pacing: then only cooldowns keep requests away', () => {
    assert.ok(burst(20, 4, false).refused > 30)
  })
})
