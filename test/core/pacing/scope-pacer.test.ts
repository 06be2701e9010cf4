/** What the pacing of one scope makes of each thing that a backend can say or do. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { PacedAttempt } from '../../../src/core/pacing/pacer.js'
import { ScopePacer } from '../../../src/core/pacing/scope-pacer.js'
import type { AttemptEnd, OutcomeClass } from '../../../src/core/types.js'

const BODY = 2_000
const RATE_HEADERS = { requests: { 'x-ratelimit-reset-requests': '1' }, tokens: { 'x-ratelimit-reset-tokens': '1' } }
const DIMENSIONS = ['requests', 'tokens'] as const
type Dimension = (typeof DIMENSIONS)[number]

class Sent implements PacedAttempt {
  cost = 0
  sentRequests = 0
  sentTokens = 0
  constructor (readonly startedAt: number) {}
}

/** A pacer whose chance is the test's. */
class Kit {
  draw = 0
  readonly pacer = new ScopePacer({ random: () => this.draw })

  send (now: number, bodyBytes = BODY): Sent {
    const attempt = new Sent(now)
    this.pacer.sent(attempt, bodyBytes, now)
    return attempt
  }

  succeed (now: number, headers: Record<string, string> = {}): void {
    const attempt = this.send(now)
    this.pacer.observe(attempt, 'success', 200, headers, undefined, now)
    this.pacer.finished(attempt, 'completed', true)
  }

  refuse (now: number, headers: Record<string, string>, retryAfterMs: number | undefined): void {
    const attempt = this.send(now)
    this.pacer.observe(attempt, 'throttled', 429, headers, retryAfterMs, now)
    this.pacer.finished(attempt, 'completed', true)
  }

  waitMs (now: number): number {
    return this.pacer.waitMs(BODY, now)
  }

  waitOf (dimension: Dimension, now: number): number {
    return this.pacer.pace(now).find((pace) => pace.dimension === dimension)?.waitMs ?? 0
  }
}

/** Fifty requests in five seconds, then a refusal: ten a second is the pace, and at 7 s a request may go at once. */
function paced (dimension: Dimension): Kit {
  const kit = new Kit()
  for (let i = 0; i < 50; i++) kit.succeed(i * 100)
  kit.refuse(5_000, RATE_HEADERS[dimension], 1_000)
  assert.equal(kit.waitMs(7_000), 0)
  return kit
}

for (const dimension of DIMENSIONS) {
  describe(`a pace of ${dimension}`, () => {
    test('is kept for at least as long as the refusal asked for', () => {
      const kit = new Kit()
      for (let i = 0; i < 50; i++) kit.succeed(i * 100)
      kit.refuse(5_000, RATE_HEADERS[dimension], 1_000)
      assert.ok(kit.waitMs(5_900) > 0)
    })

    test('is used up by what is under way', () => {
      const kit = paced(dimension)
      for (let i = 0; i < 20; i++) kit.send(7_000)
      assert.ok(kit.waitMs(7_000) > 1_000)
    })

    const ends: readonly [what: string, end: (kit: Kit, attempt: Sent) => void, isCharged: boolean][] = [
      ['that never arrived, for there was no connection', (kit, attempt) => { kit.pacer.finished(attempt, 'connection', false) }, false],
      ['that was never sent, for want of a credential', (kit, attempt) => { kit.pacer.finished(attempt, 'credential', false) }, false],
      ['that the backend failed at', (kit, attempt) => { kit.pacer.observe(attempt, 'failed', 500, {}, undefined, 7_000) }, false],
      ['that an overloaded backend put off', (kit, attempt) => { kit.pacer.observe(attempt, 'throttled', 503, {}, 1_000, 7_000) }, false],
      ['that timed out, for it may have been admitted', (kit, attempt) => { kit.pacer.finished(attempt, 'timeout', false) }, true],
      ['that was aborted', (kit, attempt) => { kit.pacer.finished(attempt, 'aborted', false) }, true],
      ['whose answer broke off', (kit, attempt) => { kit.pacer.finished(attempt, 'connection' satisfies AttemptEnd, true) }, true],
      ['that was answered as the caller\'s mistake', (kit, attempt) => { kit.pacer.observe(attempt, 'answered' satisfies OutcomeClass, 400, {}, undefined, 7_000) }, true],
    ]
    for (const [what, end, isCharged] of ends) {
      test(`${isCharged ? 'counts' : 'does not count'} a request ${what}`, () => {
        const kit = paced(dimension)
        const attempts = Array.from({ length: 20 }, () => kit.send(7_000))
        for (const attempt of attempts) end(kit, attempt)
        if (isCharged) assert.ok(kit.waitMs(7_000) > 1_000)
        else assert.equal(kit.waitMs(7_000), 0)
      })
    }

    test('does not count a request that the other limit has refused', () => {
      const kit = paced(dimension)
      const other = dimension === 'requests' ? 'tokens' : 'requests'
      for (let i = 0; i < 20; i++) kit.refuse(7_000, RATE_HEADERS[other], 1_000)
      assert.equal(kit.waitOf(dimension, 7_000), 0)
    })

    test('comes back sooner after a refusal when a request was admitted in between', () => {
      const wait = (isAdmitted: boolean): number => {
        const kit = paced(dimension)
        kit.draw = 0.9
        for (let i = 0; i < 4; i++) kit.refuse(8_000 + i * 5_000, RATE_HEADERS[dimension], 900)
        if (isAdmitted) kit.succeed(30_000)
        else kit.send(30_000)
        kit.refuse(30_000, RATE_HEADERS[dimension], 900)
        return kit.waitMs(30_000)
      }
      assert.ok(wait(true) < wait(false), `${wait(true)}, ${wait(false)}`)
    })
  })

  describe(`limit, remaining and reset of ${dimension}`, () => {
    /** Of 1,000 that are refilled within a minute. */
    const level = (remaining: number, resetMs = (1_000 - remaining) * 60): Record<string, string> => ({
      [`x-ratelimit-limit-${dimension}`]: '1000', [`x-ratelimit-remaining-${dimension}`]: String(remaining), [`x-ratelimit-reset-${dimension}`]: `${resetMs}ms`,
    })

    test('tell the room that is left from the first answer on', () => {
      const kit = new Kit()
      kit.succeed(0, level(100))
      assert.ok(Math.abs(kit.pacer.headroom(0) - 0.2) < 1e-9, 'a tenth of the bucket: a fifth of what counts as plenty')
      kit.succeed(1_000, level(800))
      assert.equal(kit.pacer.headroom(1_000), 1)
    })

    test('tell also that nothing is used at all', () => {
      const kit = new Kit()
      kit.succeed(0, level(100))
      kit.succeed(1_000, level(1_000, 0))
      assert.equal(kit.pacer.headroom(1_000), 1)
    })

    test('are believed although other answers lacked one of them', () => {
      for (const missing of Object.keys(level(0))) {
        const kit = new Kit()
        const { [missing]: _, ...others } = level(500)
        kit.succeed(0, others)
        assert.equal(kit.pacer.headroom(0), 1, missing)
        kit.succeed(1_000, level(100))
        assert.ok(kit.pacer.headroom(1_000) < 0.5, missing)
      }
    })

    test('are kept over an answer that lacks one of them', () => {
      for (const missing of Object.keys(level(0))) {
        const kit = new Kit()
        kit.succeed(0, level(100))
        const { [missing]: _, ...others } = level(900)
        kit.succeed(1_000, others)
        assert.ok(kit.pacer.headroom(1_000) < 0.5, missing)
      }
    })

    test('are not missed: refusals make a pace also where an answer said that hardly anything was used', () => {
      const kit = new Kit()
      for (let i = 0; i < 50; i++) kit.succeed(i * 100, i === 10 ? level(999) : {})
      kit.refuse(5_000, RATE_HEADERS[dimension], 1_000)
      assert.ok(kit.waitMs(5_000) >= 1_000)
    })

    test('of a refusal are the levels without the request that was refused', () => {
      const kit = new Kit()
      // By the other limit: of this one there is plenty left.
      const refusal = dimension === 'requests' ? { 'x-ratelimit-reset-tokens': '1' } : { 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '1' }
      kit.succeed(0, level(985))
      for (let i = 1; i <= 20; i++) kit.succeed(i * 100)
      // Twenty requests in two seconds, in which the bucket has lost what takes 0.9 s to refill.
      const attempt = kit.send(2_000)
      kit.pacer.observe(attempt, 'throttled', 429, { ...level(970), ...refusal }, 1_000, 2_000)
      const pace = kit.pacer.pace(2_000).find((one) => one.dimension === dimension)
      const units = dimension === 'requests' ? 1 : attempt.cost
      assert.ok(Math.abs((pace?.perSecond ?? NaN) / units - 20 / 2.9) < 1e-6, `${pace?.perSecond}`)
    })

    test('are no word on the limit as long as hardly anything was used: a refusal is then obeyed, and nothing more', () => {
      const kit = new Kit()
      kit.succeed(0, level(999))
      for (let i = 1; i < 5; i++) kit.send(i * 10)
      kit.refuse(100, RATE_HEADERS[dimension], 1_000)
      assert.equal(kit.waitMs(100), 0)
    })
  })
}

test('the lesser headroom of both limits counts, whichever that is', () => {
  for (const dimension of DIMENSIONS) {
    const kit = new Kit()
    const level = (of: Dimension, remaining: number): Record<string, string> => ({
      [`x-ratelimit-limit-${of}`]: '1000', [`x-ratelimit-remaining-${of}`]: String(remaining), [`x-ratelimit-reset-${of}`]: `${(1_000 - remaining) * 60}ms`,
    })
    const other = dimension === 'requests' ? 'tokens' : 'requests'
    kit.succeed(0, { ...level(dimension, 100), ...level(other, 900) })
    assert.ok(Math.abs(kit.pacer.headroom(0) - 0.2) < 1e-9, dimension)
  }
})

test('bodies of one size cost the same, however many there were', () => {
  const kit = new Kit()
  const first = kit.send(0).cost
  for (let i = 0; i < 200; i++) assert.ok(Math.abs(kit.send(i).cost - first) < 1e-9)
})

test('a 429 that says nothing of our quota, from a backend whose other answers do, is not counted', () => {
  const kit = paced('tokens')
  kit.succeed(6_900, { 'x-ratelimit-remaining-tokens': '5000' })
  const before = kit.waitMs(7_000)
  for (let i = 0; i < 20; i++) kit.refuse(7_000, { 'retry-after': '6' }, 6_000)
  assert.ok(Math.abs(kit.waitMs(7_000) - before) < 1e-6)
})

describe('the utilization of provisioned throughput', () => {
  const utilization = (percent: number): Record<string, string> => ({ 'azure-openai-deployment-utilization': `${percent.toFixed(1)}%` })

  /** Refused at 101 % with 100 ms to wait: the bucket is 10 s deep. */
  function known (before: (kit: Kit) => void = () => {}): Kit {
    const kit = new Kit()
    for (let i = 0; i < 100; i++) kit.send(i * 100)
    before(kit)
    kit.refuse(10_000, utilization(101), 100)
    return kit
  }

  test('is believed also at 0', () => {
    const kit = known()
    kit.succeed(11_000, utilization(99.9))
    assert.ok(kit.pacer.headroom(11_000) < 0.1)
    kit.succeed(11_100, utilization(0))
    assert.equal(kit.pacer.headroom(11_100), 1)
  })

  test('is not forgotten over an answer that says nothing of it', () => {
    const kit = known()
    kit.succeed(11_000, utilization(99.9))
    kit.succeed(11_000, { 'x-ratelimit-remaining-tokens': '5000' })
    assert.ok(kit.pacer.headroom(11_000) < 0.1)
  })

  const odd: readonly [what: string, headers: Record<string, string>, retryAfterMs: number | undefined][] = [
    ['did not say when to come back', utilization(103), undefined],
    ['did not tell it', { 'x-ratelimit-reset-tokens': '1' }, 1_000],
    ['was hardly above 100 %', utilization(100.1), 30],
  ]
  for (const [what, headers, retryAfterMs] of odd) {
    test(`is understood although a refusal before ${what}`, () => {
      const kit = known((it) => { it.refuse(9_900, headers, retryAfterMs) })
      kit.succeed(11_000, utilization(40))
      assert.equal(kit.pacer.headroom(11_000), 1)
      kit.succeed(11_100, utilization(99))
      // A hundredth of a bucket whose half is plenty, less the margin that refusals have taught.
      assert.ok(kit.pacer.headroom(11_100) <= 0.02)
    })
  }

  test('tells nothing of the bucket by a refusal that was hardly above 100 %', () => {
    const kit = new Kit()
    kit.refuse(0, utilization(100.1), 30)
    kit.succeed(1_000, utilization(99.9))
    assert.equal(kit.pacer.headroom(1_000), 1)
  })
})
