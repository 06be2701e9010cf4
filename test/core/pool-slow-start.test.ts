// The requests that waited for a cooldown to end do not all go at once: they go in rounds, until one is refused again.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Attempt } from '../../src/core/request.js'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

/** A round is over when no refusal has come in twice this time. */
const REFUSAL_MS = 40
const ROUND_MS = 2 * REFUSAL_MS

/** A crowd that waits at a backend, whose one refusal took so long, for the cooldown's end; time 0 is that end. */
class Crowd {
  readonly kit = new PoolKit([backend('a')], { pacing: true, maxWaitMs: 60_000 })
  /** Who went, and when. */
  readonly sent: { readonly attempt: Attempt; readonly at: number }[] = []
  onSend: ((attempt: Attempt, at: number) => void) | undefined = undefined
  readonly #begun: number

  constructor(callers: number, refusalMs = REFUSAL_MS) {
    this.kit.setChance(0)
    this.refuse(refusalMs, 100)
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

  refuse(refusalMs: number, retryAfterMs: number): void {
    const attempt = this.kit.send(new TestRequest({ pinned: true }))
    this.kit.system.advance(refusalMs)
    this.kit.answer(attempt, 429, { 'retry-after-ms': String(retryAfterMs) })
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

describe('after a cooldown', () => {
  test('one goes, and the next when no refusal has come in twice the time that the last one took, then more and more at a time', () => {
    const crowd = new Crowd(32)
    crowd.runUntil(1_000)
    assert.deepEqual([...crowd.departures], [[0, 1], [80, 1], [160, 2], [240, 4], [320, 8], [400, 16]])
  })

  test('or as soon as all of a round are known to be admitted', () => {
    const crowd = new Crowd(64)
    crowd.onSend = (attempt) => crowd.kit.system.setTimer(() => { crowd.admit(attempt) }, 10)
    crowd.runUntil(1_000)
    assert.deepEqual([...crowd.departures], [[0, 1], [10, 1], [20, 2], [30, 4], [40, 8], [50, 16], [60, 32]])
  })

  test('one of a round that is admitted makes room for one', () => {
    const crowd = new Crowd(10)
    crowd.runUntil(170)
    assert.equal(crowd.sent.length, 4)
    crowd.admit(crowd.sent[2]?.attempt ?? assert.fail())
    crowd.runUntil(239)
    assert.deepEqual([...crowd.departures], [[0, 1], [80, 1], [160, 2], [170, 1]])
  })

  test('a round is over so long after its first request, whatever answers come and however many go in their place', () => {
    const crowd = new Crowd(60)
    let firstOfRound = 0
    crowd.onSend = (attempt, at) => {
      // The first of each round is not answered, the others are after 10 ms.
      if (at >= firstOfRound) firstOfRound = at + ROUND_MS
      else crowd.kit.system.setTimer(() => { crowd.admit(attempt) }, 10)
    }
    crowd.runUntil(250)
    const steady = [170, 180, 190, 200, 210, 220, 230].map((at): [number, number] => [at, 1])
    assert.deepEqual([...crowd.departures].slice(0, 11), [[0, 1], [80, 1], [160, 2], ...steady, [240, 4]])
  })

  test('a request that was sent before a refusal tells nothing of what comes after it', () => {
    const crowd = new Crowd(3)
    crowd.runUntil(0)
    crowd.refuse(REFUSAL_MS, 100)
    crowd.runUntil(145)
    assert.deepEqual([...crowd.departures], [[0, 1], [140, 1]])
    const [before, after] = crowd.sent
    if (before === undefined || after === undefined) assert.fail()
    crowd.admit(before.attempt)
    crowd.runUntil(150)
    assert.equal(crowd.sent.length, 2)
    crowd.admit(after.attempt)
    crowd.runUntil(151)
    assert.deepEqual([...crowd.departures], [[0, 1], [140, 1], [150, 1]])
  })

  test('a refusal that took long keeps no request for more than a second', () => {
    const crowd = new Crowd(2, 6_000)
    crowd.runUntil(5_000)
    assert.deepEqual([...crowd.departures.keys()], [0, 1_000])
  })

  test('a refusal that took no time does not let all go at once', () => {
    const crowd = new Crowd(2, 0)
    crowd.runUntil(5_000)
    assert.deepEqual([...crowd.departures.keys()], [0, 5])
  })
})

test('a request that has not waited is not held back by those that have', () => {
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
