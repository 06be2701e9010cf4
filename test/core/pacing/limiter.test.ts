import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { Limiter } from '../../../src/core/pacing/limiter.js'

/** Sends as soon as the limiter lets it, and tells how often it did in so many milliseconds. */
function countSends(limiter: Limiter, cost: number, from: number, forMs: number): number {
  let sends = 0
  for (let now = from; now < from + forMs; now += 1) {
    if (limiter.waitMs(cost, now) > 0) continue
    limiter.sent(cost, now, 0)
    sends++
  }
  return sends
}

/** Eleven requests in ten seconds, the last of which is refused: one a second is our share. */
function refusedOnce(): Limiter {
  const limiter = new Limiter()
  for (let i = 0; i < 10; i++) limiter.sent(1, i * 1_000, 0)
  limiter.sent(1, 9_000, 0)
  limiter.refused(1, 1_000, 9_000, 9_000, 0)
  return limiter
}

describe('before a backend has spoken of limits', () => {
  test('nothing waits and the headroom is whole, whatever is sent', () => {
    const limiter = new Limiter()
    for (let i = 0; i < 1_000; i++) limiter.sent(1, i, 0.5)
    assert.equal(limiter.waitMs(1, 1_000), 0)
    assert.equal(limiter.headroom(1_000), 1)
    assert.ok(Number.isNaN(limiter.perSecond))
    assert.equal(limiter.sentCost, 1_000)
  })

  test('what is undone does not count, and sets no pace', () => {
    const limiter = new Limiter()
    limiter.sent(3, 0, 0)
    limiter.undo(3)
    assert.equal(limiter.sentCost, 0)
    assert.equal(limiter.waitMs(3, 0), 0)
  })
})

describe('a limiter that only hears refusals', () => {
  test('waits for as long as the refusal says', () => {
    const limiter = refusedOnce()
    assert.equal(limiter.waitMs(1, 9_000), 1_000)
    assert.equal(limiter.waitMs(1, 9_999), 1)
    assert.equal(limiter.waitMs(1, 10_000), 0)
  })

  test('comes back a little later than it has to, by chance, so that many do not at one instant', () => {
    const waits = [0, 0.5].map((draw) => {
      const limiter = refusedOnce()
      limiter.admitted()
      limiter.sent(1, 10_000, 0)
      limiter.refused(1, 500, 10_000, 10_000, draw)
      return limiter.waitMs(1, 10_000)
    })
    assert.equal(waits[0], 500)
    assert.ok(Math.abs((waits[1] ?? NaN) - 1_500) < 100, `${waits[1]}: half of two gaps of a second`)
  })

  test('measures its share between two moments at which the backlog is known: admitted cost over (time passed + growth of the backlog)', () => {
    const limiter = refusedOnce()
    assert.ok(Math.abs(limiter.perSecond - 10 / 10) < 1e-9, `${limiter.perSecond}`)
  })

  test('keeps that pace from then on', () => {
    const limiter = refusedOnce()
    const sends = countSends(limiter, 1, 10_000, 60_000)
    assert.ok(sends >= 60 && sends <= 75, `${sends}: it grows slowly`)
  })

  test('after idle time lets through a tenth of the longest wait at once, and no more', () => {
    const limiter = new Limiter()
    for (let i = 0; i < 100; i++) limiter.sent(1, i * 100, 0)
    limiter.refused(1, 20_000, 9_900, 9_950, 0)
    const pace = limiter.perSecond
    const burst = countSends(limiter, 1, 500_000, 1)
    assert.equal(burst, 1)
    let sends = burst
    while (limiter.waitMs(1, 500_001) === 0) {
      limiter.sent(1, 500_001, 0)
      sends++
    }
    assert.ok(Math.abs(sends - (2 * pace + 1)) <= 1, `${sends} at ${pace} a second`)
  })

  test('sends less than one a second in whole seconds, so that slots of a second settle', () => {
    const limiter = new Limiter()
    for (let i = 0; i < 11; i++) limiter.sent(1, i * 3_200, 0)
    limiter.refused(1, 1_000, 32_000, 32_000, 0)
    const at = 32_000 + limiter.waitMs(1, 32_000)
    limiter.sent(1, at, 0)
    assert.equal(limiter.waitMs(1, at) % 1_000, 0)
    assert.ok(limiter.waitMs(1, at) >= 3_000)
  })

  test('is moved on by whole seconds when it is refused there', () => {
    for (const draw of [0, 0.3, 0.6, 0.99]) {
      const limiter = new Limiter()
      for (let i = 0; i < 11; i++) limiter.sent(1, i * 3_200, 0)
      limiter.refused(1, 1_000, 32_000, 32_000, draw)
      const wait = limiter.waitMs(1, 32_000)
      assert.equal(wait % 1_000, 0)
      assert.ok(wait >= 1_000 && wait <= 5_000, `${wait}`)
    }
  })

  test('makes no pace of quiet hours: after them it goes by what the busy seconds have shown', () => {
    const limiter = new Limiter()
    for (let i = 0; i < 10; i++) limiter.sent(1, i * 60_000, 0)
    for (let i = 0; i < 6; i++) limiter.sent(1, 600_000 + i * 200, 0)
    limiter.refused(1, 43, 601_000, 601_000, 0)
    assert.ok(limiter.perSecond > 3, `${limiter.perSecond}`)
  })

  test('makes no pace of a handful of requests: a backend that is seldom asked is back when it said', () => {
    const limiter = new Limiter()
    for (let i = 0; i < 9; i++) {
      limiter.sent(1, i * 1_200, 0)
      limiter.refused(1, 1_000, i * 1_200, i * 1_200 + 50, 0.9)
      limiter.sent(1, i * 1_200 + 1_100, 0)
      assert.equal(limiter.waitMs(1, i * 1_200 + 1_100), 0)
    }
  })

  test('where ten went out in no time at all, and are to come back at once, starts from one request in the shortest wait', () => {
    const limiter = new Limiter()
    for (let i = 0; i < 11; i++) limiter.sent(1, 0, 0)
    limiter.refused(1, 0, 0, 0, 0)
    assert.equal(limiter.perSecond, 10)
    assert.equal(limiter.waitMs(1, 0), 0)
  })

  test('refusals of requests that were under way together are one lesson, later ones make it come back later and later', () => {
    const waitAfter = (...sentAt: readonly number[]): number => {
      const limiter = refusedOnce()
      for (const at of sentAt) limiter.sent(1, at, 0)
      for (const at of sentAt) limiter.refused(1, 1_500, at, 10_020, 0.5)
      return limiter.waitMs(1, 10_020)
    }
    assert.ok(waitAfter(10_000, 10_000, 10_000) <= waitAfter(10_000) + 500)
    assert.ok(waitAfter(10_000, 10_020) > waitAfter(10_000) + 500)
  })
})

describe('a limiter that is told the level', () => {
  const DEPTH = 10_000

  /** Two minutes of ten requests a second, while the level stays at 90 %; the last of them at 9,900 ms. */
  function toldOften(): Limiter {
    const limiter = new Limiter()
    for (let at = -110_000; at < 10_000; at += 100) {
      limiter.sent(1, at, 0)
      limiter.told(at, limiter.sentCost, -0.1 * DEPTH, DEPTH, 0, at + 50)
    }
    return limiter
  }

  test('measures its share without any refusal', () => {
    const { perSecond } = toldOften()
    assert.ok(Math.abs(perSecond - 10) < 0.5, `${perSecond}`)
  })

  test('has as much headroom as the bucket has room, whole from half a bucket on', () => {
    const limiter = toldOften()
    assert.ok(Math.abs(limiter.headroom(9_900) - 0.2) < 0.01)
    assert.equal(limiter.headroom(9_900 + 4_000), 1)
  })

  test('lets through what fits below the limit, then keeps the pace', () => {
    const limiter = toldOften()
    const sends = countSends(limiter, 1, 9_950, 10_000)
    assert.ok(sends >= 107 && sends <= 113, `${sends}`)
  })

  test('an answer that took longer tells of an older state and changes nothing', () => {
    const limiter = toldOften()
    const before = limiter.headroom(10_000)
    limiter.told(5_000, limiter.sentCost - 50, 5_000, DEPTH, 0, 10_000)
    assert.equal(limiter.headroom(10_000), before)
  })

  test('counts what it has sent since the answer was true', () => {
    const limiter = toldOften()
    const mark = limiter.sentCost
    for (let i = 0; i < 20; i++) limiter.sent(1, 9_950, 0)
    limiter.told(9_950, mark, -1_000, DEPTH, 0, 10_000)
    const expected = 9_950 - 1_000 + (20 / limiter.perSecond) * 1_000 - 10_000
    assert.ok(Math.abs(limiter.waitMs(1, 10_000) - expected) < 1e-6)
  })

  test('each refusal widens the margin, to a quarter of the bucket at most', () => {
    const limiter = toldOften()
    let last = 0
    for (let i = 1; i <= 20; i++) {
      const at = 10_000 + i * 1_000
      limiter.sent(1, at, 0)
      limiter.refused(1, 10, at, at + 20, 0)
      limiter.told(at + 30, limiter.sentCost, 0, DEPTH, 0, at + 30)
      const margin = limiter.waitMs(1, at + 30)
      assert.ok(margin >= last - 1 && margin <= DEPTH / 4 + 1e-6, `${margin} after ${last}`)
      last = margin
    }
    assert.ok(last > DEPTH / 4 - 100)
  })

  test('the margin is forgotten, slowly', () => {
    const limiter = toldOften()
    limiter.sent(1, 10_000, 0)
    limiter.refused(1, 10, 10_000, 10_020, 0)
    limiter.told(10_030, limiter.sentCost, 0, DEPTH, 0, 10_030)
    const before = limiter.waitMs(1, 10_030)
    limiter.told(1_010_030, limiter.sentCost, 0, DEPTH, 0, 1_010_030)
    assert.ok(Math.abs(limiter.waitMs(1, 1_010_030) - before / 2) < 2)
  })

  test('processes that are told the same take turns: up to a gap later, by chance', () => {
    const early = toldOften()
    const late = toldOften()
    early.sent(1, 10_000, 0)
    late.sent(1, 10_000, 0.9)
    const at = 11_000
    early.told(at, early.sentCost, 0, DEPTH, 0, at)
    late.told(at, late.sentCost, 0, DEPTH, 0, at)
    assert.ok(Math.abs(late.waitMs(1, at) - early.waitMs(1, at) - 90) < 5, 'the gap is 100 ms')
  })

  test('where a request has to fit as a whole, a large one waits longer', () => {
    const limiter = new Limiter()
    limiter.sent(100, 0, 0)
    limiter.told(0, 100, 0, 60_000, 2, 10)
    assert.equal(limiter.waitMs(100, 10), 190)
    assert.equal(limiter.waitMs(1_000, 10), 1_990)
    assert.equal(limiter.waitMs(1e9, 10), 59_990, 'a request that never fits is not held for ever')
  })

  test('time in which the bucket was full tells nothing of the share', () => {
    const limiter = toldOften()
    const before = limiter.perSecond
    limiter.told(100_000, limiter.sentCost, -DEPTH, DEPTH, 0, 100_000)
    limiter.sent(1, 100_000, 0)
    limiter.told(200_000, limiter.sentCost, -DEPTH, DEPTH, 0, 200_000)
    assert.equal(limiter.perSecond, before)
  })
})

describe('never stuck', () => {
  test('whatever was sent, the next request waits for a minute at most unless the server asked for more', () => {
    const limiter = refusedOnce()
    for (let i = 0; i < 10_000; i++) limiter.sent(1, 9_500, 0)
    assert.equal(limiter.waitMs(1, 9_500), 60_000)
    limiter.refused(1, 300_000, 9_500, 9_600, 0.9)
    assert.equal(limiter.waitMs(1, 9_600), 300_000)
  })

  test('a pace of almost nothing still sends once a minute', () => {
    const limiter = new Limiter()
    for (let i = 0; i < 11; i++) limiter.sent(1, i, 0)
    limiter.refused(1, 3_600_000, 10, 10, 0)
    assert.ok(limiter.perSecond < 1 / 60)
    const sends = countSends(limiter, 1, 3_600_010, 300_000)
    assert.ok(sends >= 5 && sends <= 10, `${sends}`)
  })
})
