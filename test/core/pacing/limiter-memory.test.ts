/** What a limiter keeps of the past, and what it leaves out. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Limiter } from '../../../src/core/pacing/limiter.js'

/** Sends whenever the limiter lets it; when the last of them went. */
function sendAll(limiter: Limiter, from: number, to: number, stepMs = 10): number {
  let last = NaN
  for (let now = from; now < to; now += stepMs) {
    if (limiter.waitMs(1, now) > 0) continue
    limiter.sent(1, now, 0)
    last = now
  }
  return last
}

/** A hundred requests in ten seconds, then a refusal: ten a second. */
function refusedAt10s(waitMs: number): Limiter {
  const limiter = new Limiter()
  for (let i = 0; i < 100; i++) limiter.sent(1, i * 100, 0)
  limiter.sent(1, 10_000, 0)
  limiter.refused(1, waitMs, 10_000, 10_000, 0)
  return limiter
}

describe('a limiter that only hears refusals', () => {
  test('makes no slow pace of a time in which nothing was asked for', () => {
    const limiter = refusedAt10s(1_000)
    const before = limiter.perSecond
    const last = sendAll(limiter, 600_000, 620_000)
    limiter.refused(1, 500, last, last, 0)
    assert.ok(Math.abs(limiter.perSecond / before - 1) < 0.15, `${limiter.perSecond} after ${before}`)
  })

  test('does not take what was saved up in a quiet time for a higher pace either', () => {
    const limiter = refusedAt10s(20_000)
    const before = limiter.perSecond
    const last = sendAll(limiter, 600_000, 640_000)
    limiter.refused(1, 20, last, last, 0)
    assert.ok(limiter.perSecond < 1.3 * before, `${limiter.perSecond} after ${before}`)
  })

  test('does not grow a pace that nobody uses', () => {
    const limiter = refusedAt10s(1_000)
    const before = limiter.perSecond
    for (let i = 1; i <= 100; i++) limiter.sent(1, 10_000 + i * 5_000, 0)
    assert.equal(limiter.perSecond, before)
  })

  test('of seldom requests grows by a quarter of a per cent with each at most, for the first minutes after it was refused often', () => {
    const limiter = new Limiter()
    let at = 0
    for (let i = 0; i < 30; i++, at += 10_000) limiter.sent(1, at, 0)
    for (let i = 0; i < 5; i++) {
      limiter.refused(1, 5_000, at, at, 0)
      at = sendAll(limiter, at, at + 60_000, 100)
    }
    limiter.refused(1, 5_000, at, at, 0)
    const [before, sent] = [limiter.perSecond, limiter.sentCost]
    sendAll(limiter, at, at + 120_000, 100)
    const requests = limiter.sentCost - sent
    assert.ok(requests > 5, `${requests}`)
    assert.ok(limiter.perSecond / before <= 1.0025 ** requests, `${limiter.perSecond / before} in ${requests}`)
  })

  test('grows by no more than e within the longest wait that a backend has asked for', () => {
    const limiter = refusedAt10s(20_000)
    for (let from = 30_000; from < 110_000; from += 20_000) {
      const before = limiter.perSecond
      sendAll(limiter, from, from + 20_000, 1)
      assert.ok(limiter.perSecond / before < 1.05 * Math.E, `${limiter.perSecond / before}`)
    }
  })

  test('forgets a single odd wait after some dozens of others', () => {
    const burst = (refusals: number): number => {
      const limiter = refusedAt10s(30_000)
      for (let i = 1; i <= refusals; i++) {
        const from = 40_000 + i * 5_000
        const at = sendAll(limiter, from, from + 4_000)
        limiter.refused(1, 500, at, at, 0)
      }
      const later = 700_000
      const before = limiter.sentCost
      while (limiter.waitMs(1, later) === 0 && limiter.sentCost - before < 1_000) limiter.sent(1, later, 0)
      return limiter.sentCost - before
    }
    // A tenth of the longest wait may be sent at once: at two a second six for 30 s, and one for 500 ms.
    assert.ok(burst(1) > 5, `${burst(1)}`)
    assert.ok(burst(100) < 4, `${burst(100)}`)
  })

  test('takes requests that were undone for no evidence', () => {
    const limiter = new Limiter()
    for (let i = 0; i < 20; i++) limiter.sent(1, i * 1_000, 0)
    for (let i = 0; i < 15; i++) limiter.undo(1)
    limiter.sent(1, 20_000, 0)
    limiter.refused(1, 1_000, 20_000, 20_000, 0)
    assert.equal(limiter.waitMs(1, 20_000), 0)
  })

  test('sends in whole seconds, the next to its pace, only where the backend\'s waits are a second', () => {
    const gapAfter = (waitMs: number): number => {
      const limiter = new Limiter()
      for (let i = 0; i < 21; i++) limiter.sent(1, i * 3_300, 0)
      limiter.refused(1, waitMs, 66_000, 66_000, 0)
      const at = 66_000 + limiter.waitMs(1, 66_000)
      limiter.sent(1, at, 0)
      return limiter.waitMs(1, at)
    }
    assert.equal(gapAfter(1_000), 3_000)
    assert.notEqual(gapAfter(43) % 1_000, 0)
    assert.ok(Math.abs(gapAfter(43) - 3_300) < 100, `${gapAfter(43)}`)
  })
})

describe('a limiter that is told the level', () => {
  const DEPTH = 10_000

  /** Ten requests a second for so long, while the level stays where it is. */
  function tell(limiter: Limiter, from: number, to: number, level = 0.9): void {
    for (let at = from; at < to; at += 100) {
      limiter.sent(1, at, 0)
      limiter.told(at, limiter.sentCost, (level - 1) * DEPTH, DEPTH, 0, at + 50)
    }
  }

  test('measures anew after a time in which the bucket was full', () => {
    const limiter = new Limiter()
    tell(limiter, 0, 60_000)
    limiter.told(300_000, limiter.sentCost, -DEPTH, DEPTH, 0, 300_000)
    tell(limiter, 300_100, 305_000, 0.03)
    assert.ok(Math.abs(limiter.perSecond - 10) < 1, `${limiter.perSecond}`)
  })

  test('of two answers on the same moment believes the later', () => {
    const limiter = new Limiter()
    tell(limiter, 0, 60_000)
    limiter.told(60_000, limiter.sentCost, -1_000, DEPTH, 0, 60_100)
    assert.equal(limiter.waitMs(1, 60_100), 0)
    limiter.told(60_000, limiter.sentCost, 2_000, DEPTH, 0, 60_200)
    assert.equal(limiter.waitMs(1, 60_200), 1_800)
  })

  test('keeps its level when a request is undone before there is a rate', () => {
    const limiter = new Limiter()
    limiter.sent(1, 0, 0)
    limiter.told(0, 1, 500, DEPTH, 0, 10)
    limiter.sent(1, 20, 0)
    limiter.undo(1)
    assert.equal(limiter.waitMs(1, 100), 400)
  })
})
