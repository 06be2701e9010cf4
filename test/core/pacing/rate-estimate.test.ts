import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Share } from '../../../src/core/pacing/rate-estimate.js'

const SECOND = 1_000

/** Measured at 0 and a second later, with so much admitted in between. */
function measured(cost: number): Share {
  const share = new Share()
  share.restart(0, 0, 0)
  share.measure(SECOND, 0, cost)
  return share
}

describe('the measure of a share', () => {
  test('is what was admitted over the time passed and the growth of the backlog', () => {
    const share = new Share()
    share.restart(0, 500, 0)
    share.measure(3 * SECOND, 1_500, 8)
    assert.equal(share.rate, 8 / 4_000)
  })

  test('leaves out the time in which the bucket was full, once', () => {
    const share = new Share()
    share.restart(0, 0, 0)
    share.addIdle(6 * SECOND)
    share.addIdle(2 * SECOND)
    share.measure(10 * SECOND, 0, 8)
    assert.equal(share.rate, 8 / 2_000)
  })

  test('counts what was sent at one instant', () => {
    const share = new Share()
    share.restart(0, 0, 0)
    share.measure(0, 0, 5)
    share.measure(5 * SECOND, 0, 10)
    // Of the ten the first five are some seconds old already.
    assert.ok(share.rate > 9 / 5_000 && share.rate < 10 / 5_000)
  })

  test('is unknown as long as nothing was admitted, or it took less than a second', () => {
    assert.ok(Number.isNaN(measured(0).rate))
    const share = new Share()
    share.restart(0, 0, 0)
    share.measure(999, 0, 100)
    assert.ok(Number.isNaN(share.rate))
  })

  test('takes no word from the past: it counts from there on only', () => {
    const share = new Share()
    share.restart(0, 0, 0)
    share.measure(10 * SECOND, 0, 100)
    share.measure(9 * SECOND, 0, 99)
    assert.equal(share.rate, 0.01)
    share.measure(19 * SECOND, 0, 199)
    assert.ok(Math.abs(share.rate - 0.01) < 1e-9)
  })

  test('remembers for longer where requests are seldom', () => {
    const rateAfter = (gapMs: number): number => {
      const share = new Share()
      share.used(gapMs)
      share.restart(0, 0, 0)
      share.measure(100 * SECOND, 0, 100)
      share.measure(200 * SECOND, 0, 400)
      return share.rate * SECOND
    }
    // Of 1 a second and then 3: half a minute of memory, and five minutes.
    assert.ok(Math.abs(rateAfter(10) - 2.63) < 0.01, `${rateAfter(10)}`)
    assert.ok(Math.abs(rateAfter(10 * SECOND) - 2.14) < 0.01, `${rateAfter(10 * SECOND)}`)
  })

  test('is made of one refusal only where nothing else is known', () => {
    const share = measured(10)
    share.assume(1, 60 * SECOND)
    assert.equal(share.rate, 0.01)
    const unknown = new Share()
    unknown.assume(1, 2 * SECOND)
    assert.equal(unknown.rate, 1 / 2_000)
  })
})

describe('while nobody says no', () => {
  /** By how much the rate rises in so long when it is used up all the time. */
  function rise(share: Share, forMs: number, windowMs = SECOND): number {
    const before = share.rate
    for (let passed = 0; passed < forMs;) {
      const gapMs = share.gapMs(1)
      share.used(gapMs)
      share.grow(gapMs, windowMs)
      passed += gapMs
    }
    return share.rate / before
  }

  /** After so many refusals that growth is slow. */
  function refusedOften(cost: number, gapMs: number): Share {
    const share = measured(cost)
    share.used(gapMs)
    for (let i = 0; i < 10; i++) share.slowDown()
    return share
  }

  test('the rate rises slowly after many refusals, and faster from minute to minute', () => {
    const share = refusedOften(10, 100)
    const minutes = [1, 2].map(() => rise(share, 60 * SECOND))
    assert.ok((minutes[0] ?? 0) > 1.1 && (minutes[0] ?? 0) < 3, `${minutes.join()}`)
    assert.ok((minutes[1] ?? 0) > 1.1 * (minutes[0] ?? NaN), `${minutes.join()}`)
  })

  test('it rises by an eighth of a per cent with a request at most, after many refusals of seldom ones', () => {
    const share = refusedOften(0.1, 10 * SECOND)
    const before = share.rate
    share.grow(10 * SECOND, 60 * SECOND)
    const step = share.rate / before - 1
    assert.ok(step > 0 && step <= 0.00125, `${step}`)
  })

  test('it rises by no more than e within the longest wait that is known', () => {
    const share = measured(1)
    rise(share, 90 * SECOND, 30 * SECOND)
    assert.ok(rise(share, 30 * SECOND, 30 * SECOND) <= Math.E)
    const swift = measured(1)
    rise(swift, 60 * SECOND)
    assert.ok(rise(swift, 30 * SECOND) > 2 * Math.E, 'where the waits are short it is not held back')
  })
})
