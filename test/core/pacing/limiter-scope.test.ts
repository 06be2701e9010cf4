/** The pacing of one scope, against servers whose limits the test knows. */
import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { PacedAttempt } from '../../../src/core/pacing/pacer.js'
import { ScopePacer } from '../../../src/core/pacing/scope-pacer.js'
import type { OutcomeClass } from '../../../src/core/types.js'
import { FixedWindow, TokenBucket } from '../../../examples/demo/simulator/limits.js'
import { SEED } from '../../support/core-arbitraries.js'
import { VirtualSystem } from '../../support/virtual-system.js'

const BODY = 2_000

class Sent implements PacedAttempt {
  cost = 0
  sentRequests = 0
  sentTokens = 0
  constructor(readonly startedAt: number) {}
}

function send(pacer: ScopePacer, now: number, bodyBytes = BODY): Sent {
  const attempt = new Sent(now)
  pacer.sent(attempt, bodyBytes, now)
  return attempt
}

const succeed = (pacer: ScopePacer, attempt: Sent, headers: Record<string, string>, now: number): void => {
  pacer.observe(attempt, 'success', 200, headers, undefined, now)
  pacer.finished(attempt, 'completed', true)
}

const refuse = (pacer: ScopePacer, attempt: Sent, headers: Record<string, string>, retryAfterMs: number | undefined, now: number): void => {
  pacer.observe(attempt, 'throttled', 429, headers, retryAfterMs, now)
  pacer.finished(attempt, 'completed', true)
}

const create = (): ScopePacer => new ScopePacer(new VirtualSystem(1))

interface Served { admitted: number; refused: number }

/** A caller who always has a request in hand, for so long; what the server did with them. */
function drive(pacer: ScopePacer, limiter: { waitFor(now: number): number; take(now: number): void }, from: number, forMs: number): Served {
  const served = { admitted: 0, refused: 0 }
  for (let now = from; now < from + forMs; now += 10) {
    if (pacer.waitMs(BODY, now) > 0) continue
    const attempt = send(pacer, now)
    const wait = limiter.waitFor(now)
    if (wait > 0) {
      served.refused++
      const ms = Math.ceil(wait / 1_000) * 1_000
      refuse(pacer, attempt, { 'x-ratelimit-reset-requests': String(ms / 1_000) }, ms, now)
    } else {
      served.admitted++
      limiter.take(now)
      succeed(pacer, attempt, {}, now)
    }
  }
  return served
}

/** So many requests in each second, like Azure's slices. */
function slices(perSecond: number) {
  const window = new FixedWindow({ limit: perSecond, windowMs: 1_000, phase: 333 })
  return { waitFor: (now: number) => window.waitFor(now), take: (now: number) => window.take(now, 1) }
}

const MINUTES = 60_000

describe('a backend that only says when to come back', () => {
  test('is used to 90 % of its limit, with at most 5 refusals a minute', () => {
    const pacer = create()
    const server = slices(5)
    drive(pacer, server, 0, 2 * MINUTES)
    const { admitted, refused } = drive(pacer, server, 2 * MINUTES, 10 * MINUTES)
    assert.ok(admitted >= 0.9 * 5 * 600, `${admitted} of 3000`)
    assert.ok(refused <= 50, `${refused}`)
  })

  test('whose limit doubles is found out within four minutes', () => {
    const pacer = create()
    drive(pacer, slices(5), 0, 10 * MINUTES)
    const server = slices(10)
    drive(pacer, server, 10 * MINUTES, 4 * MINUTES)
    const { admitted } = drive(pacer, server, 14 * MINUTES, 2 * MINUTES)
    assert.ok(admitted >= 0.85 * 10 * 120, `${admitted} of 1200`)
  })

  test('whose limit halves costs at most 40 refusals until the pace fits, and 5 a minute from then on', () => {
    const pacer = create()
    drive(pacer, slices(10), 0, 10 * MINUTES)
    const server = slices(5)
    const first = drive(pacer, server, 10 * MINUTES, 2 * MINUTES)
    const later = drive(pacer, server, 12 * MINUTES, 5 * MINUTES)
    assert.ok(first.refused <= 40, `${first.refused}`)
    assert.ok(later.refused <= 25, `${later.refused}`)
    assert.ok(later.admitted >= 0.85 * 5 * 300, `${later.admitted} of 1500`)
  })

  test('that refuses everything for ten minutes is in use again two minutes after it admits', () => {
    const pacer = create()
    drive(pacer, slices(5), 0, 5 * MINUTES)
    drive(pacer, { waitFor: () => 20_000, take: () => {} }, 5 * MINUTES, 10 * MINUTES)
    const { admitted } = drive(pacer, slices(5), 15 * MINUTES, 2 * MINUTES)
    assert.ok(admitted >= 1, `${admitted}`)
  })
})

describe('OpenAI\'s limit, remaining and reset', () => {
  test('keep us below the limit without any refusal, once they are known', () => {
    const pacer = create()
    const bucket = new TokenBucket({ ratePerMs: 0.005, burst: 300 }) // 300 a minute
    let refused = 0
    let admitted = 0
    for (let now = 0; now < 10 * MINUTES; now += 10) {
      if (pacer.waitMs(BODY, now) > 0) continue
      const attempt = send(pacer, now)
      const wait = bucket.waitFor(now, 1)
      if (wait === 0) bucket.take(now, 1)
      const headers = {
        'x-ratelimit-limit-requests': '300', 'x-ratelimit-remaining-requests': String(Math.floor(bucket.remaining(now))),
        'x-ratelimit-reset-requests': `${Math.ceil(bucket.resetMs(now))}ms`,
      }
      if (wait > 0) {
        refused++
        refuse(pacer, attempt, headers, Math.ceil(wait), now)
      } else {
        admitted++
        succeed(pacer, attempt, headers, now)
      }
    }
    assert.ok(refused <= 5, `${refused}`)
    assert.ok(admitted >= 0.97 * (300 + 300 * 10), `${admitted}`)
  })

  test('are of no use without a reset, or when hardly anything was used', () => {
    const pacer = create()
    const limits = { 'x-ratelimit-limit-requests': '1000', 'x-ratelimit-remaining-requests': '999' }
    succeed(pacer, send(pacer, 0), limits, 10)
    succeed(pacer, send(pacer, 20), { ...limits, 'x-ratelimit-reset-requests': '60ms' }, 30)
    assert.deepEqual(pacer.pace(40), [])
    assert.equal(pacer.waitMs(BODY, 40), 0)
  })
})

describe('utilization of provisioned throughput', () => {
  /** Refused at 101 % with 100 ms to wait: the bucket is 10 s deep. */
  function withKnownDepth(): ScopePacer {
    const pacer = create()
    for (let i = 0; i < 100; i++) send(pacer, i * 100)
    refuse(pacer, send(pacer, 10_000), { 'azure-openai-deployment-utilization': '101.0%' }, 100, 10_050)
    return pacer
  }

  test('tells the room that is left, as soon as a refusal has shown how fast it drains', () => {
    const pacer = withKnownDepth()
    assert.ok(pacer.waitMs(BODY, 10_050) > 0)
    const attempt = send(pacer, 10_500)
    succeed(pacer, attempt, { 'azure-openai-deployment-utilization': '40.0%' }, 10_600)
    assert.equal(pacer.waitMs(BODY, 10_600), 0)
    assert.equal(pacer.headroom(10_600), 1)
    succeed(pacer, send(pacer, 10_700), { 'azure-openai-deployment-utilization': '99.9%' }, 10_800)
    assert.ok(pacer.headroom(10_800) < 0.1)
  })

  test('is not believed before, nor is one that is hardly above 100 %', () => {
    const pacer = create()
    succeed(pacer, send(pacer, 0), { 'azure-openai-deployment-utilization': '99.9%' }, 10)
    assert.equal(pacer.headroom(10), 1)
    refuse(pacer, send(pacer, 20), { 'azure-openai-deployment-utilization': '100.1%' }, 30, 40)
    succeed(pacer, send(pacer, 200), { 'azure-openai-deployment-utilization': '50%' }, 300)
    const [pace] = pacer.pace(300)
    assert.equal(pace?.dimension, 'tokens')
  })
})

describe('what is not learned from', () => {
  test('a 429 that says nothing of our quota, from a backend whose other answers do', () => {
    const pacer = create()
    for (let i = 0; i < 20; i++) succeed(pacer, send(pacer, i * 100), { 'x-ratelimit-remaining-tokens': '5000' }, i * 100 + 50)
    refuse(pacer, send(pacer, 2_000), { 'retry-after': '6' }, 6_000, 2_050)
    assert.deepEqual(pacer.pace(2_050), [])
    assert.equal(pacer.waitMs(BODY, 2_050), 0, 'the cooldown sees to it')
  })
})

describe('cost', () => {
  test('goes by the size of the body and a mean for what is not seen; without any size all cost the same', () => {
    const pacer = create()
    assert.equal(send(pacer, 0, 0).cost, 1)
    assert.equal(send(pacer, 1, 4_000).cost, 2_000)
    assert.equal(send(pacer, 2, 0).cost, 2_000)
    const large = send(pacer, 3, 40_000).cost
    assert.ok(large > 10_000 && large < 12_000)
  })

  test('a refusal for requests paces requests, one for tokens paces tokens', () => {
    const dimensionAfter = (headers: Record<string, string>): string | undefined => {
      const pacer = create()
      for (let i = 0; i < 20; i++) succeed(pacer, send(pacer, i * 100), {}, i * 100 + 50)
      refuse(pacer, send(pacer, 2_000), headers, 1_000, 2_050)
      const pace = pacer.pace(2_050)
      assert.equal(pace.length, 1)
      return pace[0]?.dimension
    }
    assert.equal(dimensionAfter({ 'x-ratelimit-reset-requests': '1' }), 'requests')
    assert.equal(dimensionAfter({ 'x-ratelimit-reset-tokens': '1' }), 'tokens')
  })
})

describe('whatever happens', () => {
  const number = fc.oneof(fc.nat(200).map(String), fc.nat(1e9).map(String), fc.constantFrom('0', '-1', '', 'x', '0.1', '99.9', '1e5'))
  const headers = fc.record({
    'azure-openai-deployment-utilization': number.map((n) => `${n}%`),
    'x-ratelimit-limit-requests': number, 'x-ratelimit-remaining-requests': number, 'x-ratelimit-reset-requests': number,
    'x-ratelimit-limit-tokens': number, 'x-ratelimit-remaining-tokens': number, 'x-ratelimit-reset-tokens': number.map((n) => `${n}ms`),
  }, { requiredKeys: [] })
  const step = fc.record({
    afterMs: fc.oneof(fc.nat(50), fc.nat(5_000), fc.nat(10_000_000)),
    bytes: fc.oneof(fc.constant(0), fc.nat(5_000), fc.nat(20_000_000)),
    answer: fc.constantFrom('none', 'success', 'throttled', 'failed', 'connection', 'timeout'),
    retryAfterMs: fc.option(fc.oneof(fc.nat(2_000), fc.nat(60_000)), { nil: undefined }),
    lateMs: fc.oneof(fc.nat(500), fc.nat(60_000)),
    headers,
  })

  test('no wait is NaN, negative or longer than two and a half minutes, and after these the next request goes', () => {
    fc.assert(fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), fc.nat(1e6), (steps, seed) => {
      const pacer = new ScopePacer(new VirtualSystem(seed))
      let now = 0
      for (const { afterMs, bytes, answer, retryAfterMs, lateMs, headers: given } of steps) {
        now += afterMs
        const attempt = send(pacer, Math.max(0, now - lateMs), bytes)
        if (answer === 'success') succeed(pacer, attempt, given, now)
        else if (answer === 'throttled') refuse(pacer, attempt, given, retryAfterMs, now)
        else if (answer === 'failed') pacer.observe(attempt, answer satisfies OutcomeClass, 500, given, undefined, now)
        else if (answer !== 'none') pacer.finished(attempt, answer as 'connection' | 'timeout', false)
        for (const size of [0, bytes, 1e9]) {
          const wait = pacer.waitMs(size, now)
          assert.ok(wait >= 0 && wait <= 150_000, `waits ${wait}`)
          assert.equal(pacer.waitMs(size, now + 150_000), 0)
        }
        const headroom = pacer.headroom(now)
        assert.ok(headroom >= 0 && headroom <= 1, `headroom ${headroom}`)
        for (const { perSecond, waitMs } of pacer.pace(now)) assert.ok(perSecond > 0 && perSecond < Infinity && waitMs >= 0)
      }
    }), { seed: SEED, numRuns: 2_000 })
  })
})
