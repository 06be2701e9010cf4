// A limit that the service reports: what its level is between two reports, and which share of its rate is our own.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Depth, Level } from '../../../src/core/pacing/level.js'

/** The margin that is kept at first, in milliseconds. */
const MARGIN_MS = 40

/** A bucket that takes ten seconds to drain, and what we send to it. */
class Bench {
  readonly level = new Level()
  sent = 0
  chance = 0

  send(cost: number, now: number): void {
    this.level.send(cost, () => this.chance, now)
    this.sent += cost
  }

  /** The service's word, which is here at once: what it would take to drain what is above (below: negative) the limit. */
  report(backlogMs: number, now: number, { at = now, sent = this.sent, fitMs = 0 } = {}): void {
    this.level.synchronize(at, sent, this.sent, backlogMs, 10_000, fitMs, now)
  }

  /** Two reports between which so much went out, at so many units per second of drain. */
  learn(perSecond: number, now: number): this {
    this.report(-5_000, now)
    this.send(perSecond * 4, now)
    // Four seconds' worth went in; nothing has drained yet.
    this.report(-1_000, now)
    return this
  }
}

describe('a level', () => {
  test('is unknown until a rate is: then nothing is held', () => {
    const bench = new Bench()
    assert.equal(bench.level.isKnown, false)
    bench.report(3_000, 0)
    assert.equal(bench.level.isKnown, false)
    assert.equal(bench.level.waitMs(5, 0), 0)
    assert.equal(bench.level.room(0), 1)
    bench.level.undo(5)
    assert.ok(Number.isNaN(bench.level.perSecond))
  })

  test('learns its rate as what was sent between two reports over the time by which it moved', () => {
    const bench = new Bench().learn(50, 0)
    assert.equal(bench.level.perSecond, 50)
    // Two seconds later 75 more were sent, of which half a second is left of the room.
    bench.send(75, 2_000)
    bench.report(-1_500, 2_000)
    const keep = Math.exp(-1_500 / 30_000)
    assert.ok(Math.abs(bench.level.perSecond - ((200 * keep + 75) / (4 * keep + 1.5))) < 1e-9)
  })

  test('is what it was told until something is sent', () => {
    const { level } = new Bench().learn(50, 0)
    assert.equal(level.waitMs(1, 0), 0)
    assert.ok(Math.abs(level.room(0) - (1_000 - MARGIN_MS) / 10_000) < 1e-9)
  })

  test('rises by cost over rate with what is sent, falls as time passes, and waits until a margin below the limit', () => {
    const bench = new Bench().learn(50, 0)
    bench.send(100, 0)
    assert.ok(Math.abs(bench.level.waitMs(1, 0) - (1_000 + MARGIN_MS)) < 1e-9)
    assert.equal(bench.level.room(0), 0)
    assert.ok(Math.abs(bench.level.waitMs(1, 600) - (400 + MARGIN_MS)) < 1e-9)
    assert.equal(bench.level.waitMs(1, 1_000 + MARGIN_MS), 0)
    bench.level.undo(100)
    assert.equal(bench.level.waitMs(1, 0), 0)
  })

  test('is never saved up beyond the bucket', () => {
    const bench = new Bench().learn(50, 0)
    bench.send(50, 100_000)
    assert.ok(Math.abs(bench.level.room(100_000) - (9_000 - MARGIN_MS) / 10_000) < 1e-9)
  })

  test('makes a request that must fit as a whole wait for its own cost, and for a minute at most', () => {
    const bench = new Bench().learn(50, 0)
    bench.report(-1_000, 0, { fitMs: 20 })
    assert.equal(bench.level.waitMs(40, 0), 0)
    assert.ok(Math.abs(bench.level.waitMs(100, 0) - (1_000 + MARGIN_MS)) < 1e-9)
    assert.ok(Math.abs(bench.level.waitMs(1e9, 0) - (59_000 + MARGIN_MS)) < 1e-9)
  })
})

describe('a report', () => {
  test('that is older than the last one is no news', () => {
    const bench = new Bench().learn(50, 1_000)
    bench.report(9_000, 1_001, { at: 999 })
    assert.equal(bench.level.waitMs(1, 1_001), 0)
  })

  test('takes into account what was sent after the moment that it speaks of', () => {
    const bench = new Bench().learn(50, 0)
    bench.send(200, 100)
    bench.report(-1_000, 101, { at: 101, sent: bench.sent - 200 })
    assert.ok(Math.abs(bench.level.waitMs(1, 101) - (3_000 + MARGIN_MS)) < 10)
  })

  test('counts less the longer the answer took', () => {
    const fresh = new Bench().learn(50, 0)
    fresh.report(4_000, 10)
    const stale = new Bench().learn(50, 0)
    stale.report(4_000, 8_010, { at: 10 })
    assert.ok(fresh.level.waitMs(1, 10) > 4_000)
    // From a second below the limit to four above it is 5 s, of which e^-2 is believed.
    assert.ok(stale.level.waitMs(1, 10) < 100, String(stale.level.waitMs(1, 10)))
  })

  test('of a bucket that is nearly full, or that fell by itself, begins the measure anew', () => {
    const bench = new Bench().learn(50, 0)
    bench.report(-9_900, 20_000)
    bench.report(-9_900, 40_000)
    bench.send(200, 40_000)
    bench.report(-5_900, 40_000)
    assert.equal(Math.round(bench.level.perSecond), 50)
    bench.report(-8_000, 40_001)
    bench.send(100, 40_001)
    bench.report(-6_000, 40_001)
    assert.equal(Math.round(bench.level.perSecond), 50)
  })

  test('within a second and a half of the last one, or with nothing sent between, tells no rate', () => {
    const bench = new Bench()
    bench.report(-5_000, 0)
    bench.send(50, 0)
    bench.report(-4_000, 0)
    bench.report(-3_000, 0, { sent: 0 })
    assert.equal(bench.level.isKnown, false)
  })
})

test('the margin grows with each refusal up to a quarter of the bucket, and is forgotten slowly', () => {
  const bench = new Bench().learn(50, 0)
  bench.report(0, 0)
  const marginMs = (): number => Math.round(bench.level.waitMs(1, 0))
  assert.equal(marginMs(), MARGIN_MS)
  bench.level.refused()
  assert.equal(marginMs(), 80)
  for (let i = 0; i < 20; i++) bench.level.refused()
  assert.equal(marginMs(), 2_500)
  for (let i = 0; i < 231; i++) bench.level.admitted()
  assert.ok(Math.abs(marginMs() - 1_250) < 10, String(marginMs()))
  for (let i = 0; i < 5_000; i++) bench.level.admitted()
  assert.equal(marginMs(), MARGIN_MS)
})

test('places come free one by one, as fast as the level drains', () => {
  const bench = new Bench().learn(50, 0)
  bench.report(1_000, 0)
  assert.deepEqual([1_000, 1_040, 1_999, 2_040, 5_040].map((at) => bench.level.placesBy(50, at)), [0, 1, 1, 2, 5])
})

describe('the size of a bucket', () => {
  test('is assumed until it was told once', () => {
    const depth = new Depth(10_000)
    assert.equal(depth.ms, 10_000)
    depth.learn(100, 0.001)
    depth.learn(NaN, 0.5)
    assert.equal(depth.ms, 10_000)
    depth.learn(100, 0.05)
    assert.equal(Math.round(depth.ms), 2_000)
  })

  test('is a ratio of sums, of which the last ten or so count', () => {
    const depth = new Depth(10_000)
    for (let i = 0; i < 50; i++) depth.learn(200, 0.02)
    for (let i = 0; i < 50; i++) depth.learn(30, 0.006)
    assert.ok(Math.abs(depth.ms - 5_000) < 200, String(depth.ms))
  })
})
