// The requests that waited for a cooldown to end do not all go at once: one at first, half a one more with each that was not refused.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Attempt } from '../../src/core/request.js'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

/** A request that was not refused in three of a refusal's usual round trips was let in; one is taken to be 50 ms until one was seen. */
const REFUSAL_MS = 50
const DECISION_MS = 3 * REFUSAL_MS

/** A crowd that waits at a backend, whose one refusal took so long, for the cooldown's end; time 0 is that end. */
class Crowd {
  readonly kit: PoolKit
  /** Who went, and when. */
  readonly sent: { readonly attempt: Attempt; readonly at: number }[] = []
  onSend: ((attempt: Attempt, at: number) => void) | undefined = undefined
  readonly #begun: number

  constructor(callers: number, pacing: boolean, refusalMs = REFUSAL_MS) {
    // Refusals that say no time are no evidence of a window, which would hold the crowd as well.
    this.kit = new PoolKit([backend('a')], { pacing, maxWaitMs: 60_000, cooldownMs: 100 })
    this.kit.setChance(0)
    this.refuse(refusalMs)
    this.#begun = this.kit.now + 100
    for (let i = 0; i < callers; i++) {
      const request = new TestRequest()
      request.onWake = () => { this.#ask(request) }
      assert.equal(this.kit.acquire(request).kind, 'wait')
    }
  }

  get now(): number {
    return this.kit.now - this.#begun
  }

  runUntil(ms: number): void {
    this.kit.system.advance(ms - this.now)
  }

  refuse(refusalMs: number): void {
    const attempt = this.kit.send(new TestRequest({ pinned: true }))
    this.kit.system.advance(refusalMs)
    this.kit.answer(attempt, 429)
  }

  admit(attempt: Attempt): void {
    this.kit.answer(attempt, 200)
  }

  /** How many went at which time, those of one time together. */
  get departures(): Map<number, number> {
    const counts = new Map<number, number>()
    for (const { at } of this.sent) counts.set(at, (counts.get(at) ?? 0) + 1)
    return counts
  }

  #ask(request: TestRequest): void {
    const acquired = this.kit.acquire(request)
    if (acquired.kind !== 'send') return
    // The clock adds up fractions.
    const at = Math.round(this.now * 1_000) / 1_000
    this.sent.push({ attempt: acquired, at })
    this.onSend?.(acquired, at)
  }
}

/** How many are out of which it is not known whether they were let in, by when they went. */
const outAtOnce = (admitted: number): number => Math.floor(1 + admitted / 2)

for (const pacing of [true, false]) {
  describe(`after a cooldown, ${pacing ? 'with' : 'without'} pacing`, () => {
    test('one goes, and half a one more for each that was not refused in three round trips', () => {
      const crowd = new Crowd(10, pacing, 50)
      crowd.runUntil(1_000)
      // One; 1.5 are still one; two; of these the first makes 2.5, the second three; then 3.5, 4, 4.5.
      assert.deepEqual([...crowd.departures], [[0, 1], [DECISION_MS, 1], [2 * DECISION_MS, 2], [3 * DECISION_MS, 3], [4 * DECISION_MS, 3]])
    })

    test('or at once with each that is answered', () => {
      const crowd = new Crowd(40, pacing)
      let admitted = 0
      crowd.runUntil(0)
      for (let next = crowd.sent[0]; next !== undefined; next = crowd.sent[admitted]) {
        assert.ok(crowd.sent.length - admitted <= outAtOnce(admitted), `${crowd.sent.length} of whom ${admitted} are known`)
        crowd.admit(next.attempt)
        admitted++
        crowd.runUntil(crowd.now + 1)
      }
      assert.equal(crowd.sent.length, 40)
      assert.ok(crowd.now < 60)
    })

    test('until there may be 64: then they are not counted any more', () => {
      const crowd = new Crowd(500, pacing)
      crowd.runUntil(0)
      for (let k = 0; k < 126; k++) {
        crowd.admit(crowd.sent[k]?.attempt ?? assert.fail(String(k)))
        crowd.runUntil(crowd.now + 0.1)
      }
      assert.ok(crowd.sent.length < 500)
      crowd.admit(crowd.sent[126]?.attempt ?? assert.fail())
      crowd.runUntil(crowd.now + 1)
      assert.equal(crowd.sent.length, 500)
    })

    test('a refusal begins it anew', () => {
      const crowd = new Crowd(20, pacing)
      crowd.runUntil(3 * DECISION_MS)
      const before = crowd.sent.length
      crowd.refuse(0)
      crowd.runUntil(3_000)
      const [next] = crowd.sent.slice(before)
      assert.ok(next !== undefined && next.at >= 3 * DECISION_MS + 100)
      // Three would go without it; so many are let in by the three that are out.
      assert.equal(crowd.departures.get(next.at), 2)
    })

    test('an attempt that fails or is given up makes room, and counts for nothing', () => {
      const crowd = new Crowd(3, pacing)
      crowd.runUntil(0)
      crowd.kit.settle(crowd.sent[0]?.attempt ?? assert.fail(), 'aborted')
      crowd.runUntil(1)
      assert.equal(crowd.sent.length, 2)
      crowd.kit.answer(crowd.sent[1]?.attempt ?? assert.fail(), 500)
      crowd.runUntil(2)
      assert.equal(crowd.sent.length, 3)
    })
  })
}

test('refusals that take longer are waited for longer, those that take no time for 5 ms', () => {
  for (const [refusalMs, decisionMs] of [[550, 3 * 150], [0, 3 * 40]] as const) {
    const crowd = new Crowd(2, true, refusalMs)
    crowd.runUntil(5_000)
    assert.deepEqual([...crowd.departures.keys()], [0, decisionMs])
  }
  const crowd = new Crowd(2, true, 0)
  for (let i = 0; i < 30; i++) crowd.refuse(0)
  crowd.runUntil(5_000)
  const [first = NaN, second = NaN] = crowd.departures.keys()
  assert.equal(second - first, 5)
})

test('a caller that may not wait is not held back by it', () => {
  const crowd = new Crowd(1, true)
  crowd.runUntil(0)
  crowd.kit.update([backend('a')])
  assert.equal(crowd.kit.send(new TestRequest()).backend.name, 'a')
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

  test('is let go one by one without pacing, too', () => {
    assert.ok(burst(20, 4, false).refused < 40)
  })
})
