// What is known of one scope on one backend: what it told may refuse, what is felt only orders and holds.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Pacer, type PacedAttempt } from '../../../src/core/pacing/pacer.js'
import type { ResponseHeaders } from '../../../src/core/types.js'

class Sent implements PacedAttempt {
  cost = 0
  sentRequests = 0
  sentTokens = 0
  felt: PacedAttempt['felt'] = undefined
  readonly startedAt: number

  constructor(startedAt: number) {
    this.startedAt = startedAt
  }
}

/** A pacer with its clock. Bodies have 400 bytes: with as much again for the output that is 200 tokens. */
class Bench {
  readonly pacer = new Pacer(() => 0)
  now = 0

  at(now: number): this {
    this.now = now
    return this
  }

  send(bytes = 400): Sent {
    const attempt = new Sent(this.now)
    this.pacer.sent(attempt, bytes, this.now)
    return attempt
  }

  answer(headers: ResponseHeaders, attempt = this.send()): Sent {
    this.pacer.admitted(attempt)
    this.pacer.synchronize(attempt, headers, this.now, this.now)
    return attempt
  }

  refuse(headers: ResponseHeaders, waitMs: number | undefined, attempt = this.send()): Sent {
    this.pacer.refused(attempt, headers, waitMs, this.now, this.now)
    return attempt
  }

  toldMs(bytes = 400): number {
    return this.pacer.toldMs(bytes, this.now)
  }

  feltMs(bytes = 400): number {
    return this.pacer.feltMs(bytes, this.now)
  }
}

const OF_REQUESTS = { 'x-ratelimit-reset-requests': '10' }
const used = (percent: number): ResponseHeaders => ({ 'azure-openai-deployment-utilization': `${percent}%` })

/** A bucket of 60 a minute. */
const bucket = (dimension: 'requests' | 'tokens', limit: number, left: number): ResponseHeaders => ({
  [`x-ratelimit-limit-${dimension}`]: String(limit), [`x-ratelimit-remaining-${dimension}`]: String(left),
  [`x-ratelimit-reset-${dimension}`]: `${(60 * (limit - left)) / limit}s`,
})

describe('what is felt', () => {
  test('is nothing before a refusal', () => {
    const bench = new Bench()
    for (let i = 0; i < 100; i++) bench.answer({})
    assert.deepEqual([bench.toldMs(), bench.feltMs(), bench.pacer.room(0), bench.pacer.hasPlaces], [0, 0, 1, false])
    assert.equal(bench.pacer.placesBy(400, 10), Infinity)
    assert.deepEqual(bench.pacer.pace(0), [])
  })

  test('is of requests where the refusal says so, else of tokens', () => {
    const ofRequests = new Bench()
    for (let i = 0; i < 3; i++) ofRequests.send()
    ofRequests.refuse(OF_REQUESTS, 10_000)
    // A request of any size waits.
    assert.ok(ofRequests.feltMs(0) > 9_000)
    const ofTokens = new Bench()
    for (let i = 0; i < 3; i++) ofTokens.send()
    ofTokens.refuse({}, 50_000)
    assert.ok(ofTokens.feltMs() > 50_000)
    assert.equal(ofTokens.toldMs(), 0)
    assert.deepEqual(ofTokens.pacer.pace(0).map(({ dimension, perSecond }) => [dimension, perSecond]), [['tokens', 10]])
    assert.deepEqual(ofRequests.pacer.pace(0).map(({ dimension, perSecond }) => [dimension, perSecond]), [['requests', 0.3]])
  })

  test('is not learned from a refusal that says no time, nor from one that speaks of something else than our quota', () => {
    const bench = new Bench()
    bench.send()
    bench.refuse({}, undefined)
    assert.equal(bench.feltMs(), 0)
    bench.answer({ 'x-ratelimit-remaining-requests': '50' })
    bench.refuse({}, 6_000)
    assert.equal(bench.feltMs(), 0)
    bench.refuse({ 'x-ratelimit-remaining-requests': '0' }, 6_000)
    assert.ok(bench.feltMs() > 0)
  })

  test('does not count what was refused or failed, but what was given up', () => {
    const bench = new Bench()
    const failed = bench.send()
    const abandoned = bench.send()
    bench.pacer.undone(failed, 0)
    bench.pacer.abandoned(abandoned)
    bench.refuse(OF_REQUESTS, 10_000)
    assert.deepEqual(bench.pacer.pace(0).map(({ perSecond }) => perSecond), [0.1])
  })

  test('may be tested by one at a time, until that is decided', () => {
    const bench = new Bench()
    bench.send()
    bench.refuse(OF_REQUESTS, 10_000)
    assert.equal(bench.pacer.testMs(0), 0)
    const first = bench.send()
    assert.equal(first.felt?.isTest, true)
    assert.equal(bench.pacer.testMs(0), Infinity)
    bench.pacer.abandoned(first)
    assert.equal(bench.pacer.testMs(0), 0)
    const second = bench.at(100).send()
    bench.refuse(OF_REQUESTS, 10_000, second)
    assert.equal(bench.pacer.testMs(100), 10_000)
  })

  test('a test that is admitted raises the limit to the count with which it went out, and the next may follow at once', () => {
    const bench = new Bench()
    bench.send()
    bench.refuse(OF_REQUESTS, 10_000)
    for (let i = 0; i < 5; i++) bench.pacer.admitted(bench.send())
    assert.equal(bench.pacer.testMs(0), 0)
    assert.deepEqual(bench.pacer.pace(0).map(({ perSecond }) => perSecond), [0.6])
  })

  test('what was refused since a request went out does not count with it', () => {
    const bench = new Bench()
    bench.send()
    bench.refuse(OF_REQUESTS, 10_000)
    const lost = [bench.send(), bench.send()]
    const last = bench.send()
    for (const attempt of lost) bench.pacer.undone(attempt, 0)
    bench.pacer.admitted(last)
    // One, and itself.
    assert.deepEqual(bench.pacer.pace(0).map(({ perSecond }) => perSecond), [0.2])
  })

  test('places come free by the window that is known, or by the later of both', () => {
    const ofTokens = new Bench()
    for (let i = 0; i < 3; i++) ofTokens.send()
    ofTokens.refuse({}, 50_000)
    assert.deepEqual([60_000, 60_120].map((at) => ofTokens.pacer.placesBy(400, at)), [0, 3])
    ofTokens.at(2_000).send()
    ofTokens.refuse(OF_REQUESTS, 10_000)
    // Four requests are the limit; of the tokens of three, one that came later is there still.
    assert.deepEqual([12_019, 60_120, 62_120].map((at) => ofTokens.pacer.placesBy(400, at)), [0, 2, 3])
  })

  test('a request whose size is unknown costs what others usually do', () => {
    const bench = new Bench()
    assert.equal(bench.pacer.costOf(0), 1)
    assert.equal(bench.pacer.costOf(400), 200)
    bench.send(400)
    assert.equal(bench.pacer.costOf(0), 200)
    assert.equal(bench.pacer.costOf(800), 300)
    bench.send(0)
    assert.equal(bench.pacer.costOf(0), 200)
  })
})

describe('what is told', () => {
  /** A PTU of which all is our own work: 8 requests fill it by 40 %. */
  function ptu(): Bench {
    const bench = new Bench()
    bench.answer(used(40))
    for (let i = 0; i < 7; i++) bench.send()
    bench.answer(used(80))
    return bench
  }

  test('by a utilization may hold and refuse, as long as it is fresh', () => {
    const bench = ptu()
    assert.equal(bench.toldMs(), 0)
    for (let i = 0; i < 5; i++) bench.send()
    // 8 requests in 4 s of drain: 5 more are 2.5 s, of which 2 s are there.
    assert.ok(Math.abs(bench.toldMs() - 540) < 1, String(bench.toldMs()))
    assert.equal(bench.feltMs(), 0)
    assert.ok(bench.pacer.room(0) === 0)
    assert.deepEqual(bench.pacer.pace(0).map(({ dimension, perSecond }) => [dimension, Math.round(perSecond)]), [['tokens', 400]])
  })

  test('two seconds after the report it is an estimate like any other, and may be tested without a pause', () => {
    const bench = ptu()
    for (let i = 0; i < 20; i++) bench.send()
    assert.ok(bench.at(2_000).toldMs() > 0)
    bench.at(2_001)
    assert.equal(bench.toldMs(), 0)
    assert.ok(bench.feltMs() > 0)
    assert.equal(bench.pacer.testMs(bench.now), 0)
    const tested = bench.send()
    assert.equal(tested.felt?.isTest, true)
    bench.refuse({ ...used(101) as object, 'retry-after-ms': '100' }, 100, tested)
    assert.equal(bench.pacer.testMs(bench.now), 0)
  })

  test('by limit, remaining and reset is told for good', () => {
    for (const dimension of ['requests', 'tokens'] as const) {
      const bench = new Bench()
      bench.answer(bucket(dimension, 60, 4))
      for (const left of [3, 2, 1, 0]) bench.answer(bucket(dimension, 60, left))
      assert.ok(bench.at(500).toldMs() > 500, dimension)
      assert.equal(bench.feltMs(), 0)
      assert.equal(bench.pacer.hasPlaces, true)
      assert.ok(bench.pacer.placesBy(400, 500) === 0)
      assert.deepEqual(bench.pacer.pace(500).map((limit) => limit.dimension), [dimension])
      assert.ok(bench.at(100_000).toldMs(0) <= 60_000)
      assert.ok(bench.pacer.room(500) < 0.01)
    }
  })

  test('replaces the window of its dimension, and no other', () => {
    const bench = new Bench()
    for (let i = 0; i < 3; i++) bench.send()
    bench.refuse({}, 50_000)
    bench.refuse(OF_REQUESTS, 10_000)
    assert.ok(bench.feltMs() > 50_000)
    bench.answer(used(40))
    for (let i = 0; i < 7; i++) bench.send()
    bench.answer(used(80))
    const felt = bench.feltMs()
    assert.ok(felt > 0 && felt <= 10_020, String(felt))
    assert.ok(bench.pacer.placesBy(400, 100) < Infinity)
  })

  test('a refusal where a level is told makes the margin larger, and is no evidence of a window', () => {
    const bench = ptu()
    const before = bench.at(1).toldMs()
    assert.equal(before, 0)
    bench.refuse({ ...used(100) as object, 'retry-after-ms': '1' }, 1)
    assert.ok(bench.toldMs() > 1 + 40, String(bench.toldMs()))
    assert.equal(bench.at(5_000).feltMs(), 0)
    const full = new Bench()
    for (const left of [4, 3, 2, 1, 0]) full.answer(bucket('requests', 60, left))
    const waitMs = full.toldMs()
    full.refuse({ ...bucket('requests', 60, 0) as object }, 1_000)
    assert.ok(full.toldMs() > waitMs, `${full.toldMs()} after ${waitMs}`)
    const tokens = new Bench()
    for (const left of [4, 3, 2, 1, 0]) tokens.answer(bucket('tokens', 60, left))
    tokens.refuse({}, 1_000)
    assert.equal(tokens.feltMs(), 0)
  })

  test('what failed is taken out of the levels, too', () => {
    const bench = ptu()
    for (const left of [48, 46]) bench.answer({ ...bucket('requests', 60, left) as object, ...bucket('tokens', 60_000, 1_000 * left) as object })
    const room = bench.pacer.room(0)
    const attempt = bench.send()
    assert.ok(bench.pacer.room(0) < room)
    bench.pacer.undone(attempt, 0)
    assert.ok(Math.abs(bench.pacer.room(0) - room) < 1e-9)
  })

  test('the size of a PTU is learned from a refusal above 100 %', () => {
    const bench = new Bench()
    bench.send()
    bench.refuse({ ...used(105) as object }, 100)
    // 5 % take 100 ms: the whole takes 2 s, and 40 % of it 0.8.
    bench.answer(used(10))
    for (let i = 0; i < 15; i++) bench.send()
    bench.answer(used(90))
    const [pace] = bench.pacer.pace(0)
    assert.equal(Math.round(pace?.perSecond ?? NaN), 2_000)
  })
})
