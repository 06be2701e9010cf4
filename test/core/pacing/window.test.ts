// A limit that is only felt: what a window makes of what was sent, refused and admitted.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { History, REQUESTS, TOKENS, Window, type Dimension } from '../../../src/core/pacing/window.js'

/** A window is counted for a five hundredth longer than it is. */
const kept = (lengthMs: number): number => lengthMs * 1.002

/** A window with its clock; time 0 is its beginning. */
class Bench {
  readonly history = new History()
  readonly window: Window
  now = 0

  constructor(dimension: Dimension = REQUESTS) {
    this.window = new Window(this.history, dimension)
  }

  at(now: number): this {
    this.now = now
    return this
  }

  send(count = 1, tokens = 1): this {
    for (let i = 0; i < count; i++) this.history.send(tokens, this.now)
    return this
  }

  /** A request that went out just now is refused. */
  refuse(waitMs: number, { cost = 1, wentFull = false, sentAt = this.now } = {}): this {
    this.window.refused(cost, waitMs, sentAt, wentFull, this.now)
    return this
  }

  waitMs(cost = 1): number {
    return this.window.waitMs(cost, this.now)
  }
}

describe('a window', () => {
  test('is unknown until a refusal: there is room for all', () => {
    const bench = new Bench().send(1_000)
    assert.equal(bench.window.isKnown, false)
    assert.equal(bench.waitMs(), 0)
    assert.equal(bench.window.room(0), 1)
    assert.equal(bench.window.count(0), 0)
    assert.equal(bench.window.placesBy(1, 1_000), 0)
    bench.window.admitted(5, 0, true)
    assert.equal(bench.window.isKnown, false)
  })

  test('has the shortest of the lengths that services use that explains the wait, 5 % over', () => {
    for (const [waitMs, lengthMs] of [[1, 1_000], [1_050, 1_000], [1_051, 10_000], [10_500, 10_000], [10_501, 60_000], [63_000, 60_000], [600_000, 60_000]] as const) {
      assert.equal(new Bench().send().refuse(waitMs).window.lengthMs, lengthMs, `${waitMs}`)
    }
  })

  test('forgets a long wait slowly: 3 % at each refusal', () => {
    const bench = new Bench().send(10).refuse(1_300)
    let refusals = 1
    for (; bench.window.lengthMs === 10_000; refusals++) bench.refuse(100)
    // 1,300 times 0.97 to the seventh is 1,050.
    assert.equal(refusals, 9)
  })

  test('takes the count at the refusal for its limit', () => {
    const bench = new Bench().at(0).send(3).at(500).send(4).refuse(1_000)
    assert.equal(bench.window.limit, 7)
    assert.equal(bench.window.room(500), 0)
  })

  test('counts over the new length when that changes', () => {
    const bench = new Bench().at(0).send(20).at(5_000).send(5).refuse(1_000)
    assert.equal(bench.window.limit, 5)
    bench.at(8_000).send(1).refuse(9_000)
    assert.equal(bench.window.lengthMs, 10_000)
    assert.equal(bench.window.limit, 26)
  })

  test('is never smaller than the refused request itself', () => {
    assert.equal(new Bench(TOKENS).refuse(20_000, { cost: 900 }).window.limit, 900)
  })

  test('has room again when what is in the way has left, one after the other', () => {
    const bench = new Bench().at(0).send().at(2_000).send().at(5_000).send().refuse(4_000)
    const first = kept(10_000)
    assert.equal(bench.waitMs(), first - 5_000)
    bench.at(first - 1)
    assert.equal(bench.waitMs(), 1)
    bench.at(first)
    assert.equal(bench.waitMs(), 0)
    bench.send()
    assert.equal(bench.waitMs(), 2_000)
    assert.equal(bench.window.room(first), 0)
    assert.ok(Math.abs(bench.at(first + 2_000).window.room(first + 2_000) - 1 / 3) < 1e-9)
  })

  test('of tokens lets a small request pass where a large one waits', () => {
    const bench = new Bench(TOKENS).at(0).send(1, 600).at(30_000).send(1, 400).refuse(30_000)
    bench.at(kept(60_000))
    assert.equal(bench.waitMs(600), 0)
    assert.equal(bench.waitMs(601), 30_000)
  })

  test('that is empty takes any request', () => {
    const bench = new Bench(TOKENS).send(1, 100).refuse(20_000)
    assert.ok(bench.waitMs(5_000) > 0)
    assert.equal(bench.at(kept(60_000)).waitMs(5_000), 0)
  })

  test('does not count what was taken back', () => {
    const bench = new Bench().at(0).send(3).at(4_000).send(2).refuse(5_000)
    bench.history.undo(1, 0, bench.now)
    assert.equal(bench.waitMs(), 0)
    // What has left already cannot be taken back.
    bench.at(11_000).history.undo(1, 0, bench.now)
    assert.equal(bench.window.count(bench.now), 2)
    bench.at(kept(14_000)).history.undo(1, 4_000, bench.now)
    assert.equal(bench.window.count(bench.now), 0)
  })

  test('keeps constant memory: what goes out within 1/63 of a window leaves together, with the last of it', () => {
    const bench = new Bench().refuse(10_000)
    for (let i = 0; i < 100_000; i++) bench.at(i * 0.5).send()
    const { window, now } = bench
    // 20,000 are in the last ten seconds; up to 1/63 more are counted.
    const count = window.count(now)
    assert.ok(count >= 20_000 && count <= kept(20_000) * (1 + 1 / 63) + 1, String(count))
    assert.equal(bench.at(now + kept(10_001)).window.count(now + kept(10_001)), 0)
  })

  test('comes back to nothing after many fractions', () => {
    const bench = new Bench(TOKENS)
    bench.send(1, 0.1).refuse(1_000)
    for (let i = 0; i < 1_000; i++) bench.at(i * 3).send(1, 0.1 + (i % 7) / 3)
    assert.equal(bench.at(10_000).window.count(10_000), 0)
    assert.equal(bench.window.room(10_000), 1)
  })
})

describe('what was admitted proves', () => {
  test('that the limit is no lower than the count with which it went out', () => {
    const bench = new Bench().send(5).refuse(1_000)
    bench.window.admitted(7, 0, true)
    assert.equal(bench.window.limit, 7)
    bench.window.admitted(6, 0, true)
    assert.equal(bench.window.limit, 7)
  })

  test('nothing where it went out when another length was believed', () => {
    const bench = new Bench().at(0).send(5).refuse(1_000).at(100).send(1).refuse(9_000)
    assert.equal(bench.window.limit, 6)
    bench.window.admitted(40, 50, false)
    assert.equal(bench.window.limit, 6)
    bench.window.admitted(40, 100, false)
    assert.equal(bench.window.limit, 40)
  })
})

describe('a refusal', () => {
  test('at less than the limit means that others use the window, too: that is the limit then', () => {
    const bench = new Bench().at(0).send(10).refuse(1_000)
    bench.at(5_000).send(4).refuse(1_000)
    assert.equal(bench.window.limit, 4)
    bench.at(10_000).send(9).refuse(1_000)
    assert.equal(bench.window.limit, 9)
  })

  test('of what was sent before the last refusal came is the same lesson: only a lower count is news', () => {
    const bench = new Bench().at(0).send(10).at(20).refuse(1_000, { sentAt: 0 })
    bench.at(900).send(5).at(910).refuse(1_000, { sentAt: 10 })
    assert.equal(bench.window.limit, 10)
    for (let i = 0; i < 5; i++) bench.history.undo(1, 0, bench.now)
    for (let i = 0; i < 3; i++) bench.history.undo(1, 900, bench.now)
    bench.refuse(1_000, { sentAt: 10 })
    assert.equal(bench.window.limit, 7)
  })
})

describe('tests of a limit', () => {
  /** So many tests are refused at the full count; says when the next may go. */
  function pauses(lengthWaitMs: number, tests: number): number[] {
    const bench = new Bench().send(10).refuse(lengthWaitMs)
    const list: number[] = []
    for (let i = 0; i < tests; i++) {
      bench.at(bench.now + 1_000_000).send(10).refuse(lengthWaitMs, { wentFull: true })
      list.push((bench.window.testAt - bench.now) / 1_000)
    }
    return list
  }

  test('may go at once after the first refusal', () => {
    const bench = new Bench().at(5).send(10).refuse(1_000)
    assert.ok(bench.window.testAt <= bench.now)
  })

  test('none follows a failed one for 10 s, doubled each time up to 16-fold', () => {
    assert.deepEqual(pauses(1_000, 7), [10, 20, 40, 80, 160, 160, 160])
  })

  test('nor for less than the length of the window', () => {
    assert.deepEqual(pauses(60_000, 3), [60, 120, 240])
  })

  test('one that is admitted ends that, one that was refused at a much lower count begins it anew', () => {
    const bench = new Bench().send(10).refuse(1_000)
    for (const at of [1_000_000, 2_000_000]) bench.at(at).send(10).refuse(1_000, { wentFull: true })
    assert.equal(bench.window.testAt, 2_020_000)
    bench.window.admitted(9, 2_000_000, true)
    assert.ok(bench.window.testAt < bench.now)
    for (const at of [3_000_000, 4_000_000]) bench.at(at).send(10).refuse(1_000, { wentFull: true })
    bench.at(5_000_000).send(6).refuse(1_000, { wentFull: true })
    assert.equal(bench.window.testAt, 5_010_000)
  })

  test('the admission of a request for which there was room ends nothing, unless it proves more than was believed', () => {
    const bench = new Bench().send(10).refuse(1_000)
    bench.at(1_000_000).send(10).refuse(1_000, { wentFull: true })
    bench.window.admitted(3, bench.now, false)
    assert.equal(bench.window.testAt, 1_010_000)
    bench.window.admitted(11, bench.now, false)
    assert.ok(bench.window.testAt < bench.now)
    assert.equal(bench.window.limit, 11)
  })

  test('a refusal for which there seemed to be room says nothing of tests', () => {
    const bench = new Bench().send(10).refuse(1_000).at(1_000_000).send(9).refuse(1_000)
    assert.ok(bench.window.testAt <= bench.now)
  })
})

describe('places', () => {
  test('come free as what is in the window leaves', () => {
    const bench = new Bench().at(0).send(2).at(3_000).send(1).refuse(7_000)
    assert.deepEqual([3_000, 10_019, 10_020, 13_020, 80_000].map((at) => bench.window.placesBy(1, at)), [0, 0, 2, 3, 3])
  })

  test('an empty window has one for a request of any size', () => {
    const bench = new Bench(TOKENS).send(1, 100).refuse(20_000)
    assert.equal(bench.window.placesBy(5_000, 60_119), 0)
    assert.equal(bench.window.placesBy(5_000, 60_120), 1)
    assert.equal(bench.window.placesBy(30, 60_120), 3)
  })
})

test('what was sent while no window was read is in all of them, as if each request had been written down by itself', () => {
  const send = fc.record({ afterMs: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 40, noNaN: true }), fc.double({ min: 0, max: 2_000, noNaN: true })), isUndone: fc.boolean() })
  // Whole numbers of tokens, so that sums do not depend on their order.
  fc.assert(fc.property(fc.array(send, { maxLength: 60 }), fc.nat(70_000), (sends, laterMs) => {
    const [read, unread] = [new History(), new History()]
    let now = 0
    for (const [tokens, { afterMs, isUndone }] of sends.entries()) {
      now += afterMs
      read.send(tokens, now)
      unread.sendUnread(tokens, now)
      if (isUndone) for (const history of [read, unread]) history.undo(tokens, now, now)
    }
    for (const waitMs of [1_000, 10_000, 60_000]) {
      for (const dimension of [REQUESTS, TOKENS] as const) {
        const [expected, ring] = [read.ringFor(waitMs), unread.ringFor(waitMs)]
        assert.equal(ring.count(dimension, now), expected.count(dimension, now))
        assert.equal(ring.countBy(dimension, now + laterMs), expected.countBy(dimension, now + laterMs))
      }
    }
  }))
})
