import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { LimiterSignals } from '../../../src/core/pacing/rate-limit-headers.js'
import { asRaw, SEED } from '../../support/core-arbitraries.js'

const read = (headers: Record<string, string | string[]>) => new LimiterSignals().read(headers)

describe('utilization', () => {
  test('is read with and without its sign', () => {
    assert.equal(read({ 'azure-openai-deployment-utilization': '89.3%' }).utilization, 0.893)
    assert.equal(read({ 'azure-openai-deployment-utilization': '104' }).utilization, 1.04)
  })

  test('that makes no sense is absent', () => {
    for (const text of ['', '%', 'high', '-3%', '1e3%', '12%%', '5.%', '1.2.3', '9'.repeat(40)]) {
      const signals = read({ 'azure-openai-deployment-utilization': text })
      assert.ok(Number.isNaN(signals.utilization), text)
      assert.equal(signals.isQuota, false, text)
    }
  })
})

describe('buckets', () => {
  test('limit, remaining and reset of both dimensions, as OpenAI writes them', () => {
    const { requests, tokens, isQuota } = read({
      'x-ratelimit-limit-requests': '10000', 'x-ratelimit-remaining-requests': '9999', 'x-ratelimit-reset-requests': '6ms',
      'x-ratelimit-limit-tokens': '2000000', 'x-ratelimit-remaining-tokens': '500000', 'x-ratelimit-reset-tokens': '45s',
    })
    assert.deepEqual({ ...requests }, { limit: 10_000, remaining: 9_999, resetMs: 6 })
    assert.deepEqual({ ...tokens }, { limit: 2_000_000, remaining: 500_000, resetMs: 45_000 })
    assert.equal(tokens.used, 0.75)
    assert.equal(isQuota, true)
  })

  test('durations', () => {
    const durations = { '12ms': 12, '1.2s': 1_200, '6m0s': 360_000, '1h2m3.5s': 3_723_500, '7': 7_000, '0s': 0, '1m': 60_000, '5m10ms': 300_010 }
    for (const [text, ms] of Object.entries(durations)) assert.equal(read({ 'x-ratelimit-reset-tokens': text }).tokens.resetMs, ms, text)
  })

  test('what is no duration is absent', () => {
    for (const text of ['', 's', '1x', '1s2', 'ms', '1..2s', '-1s', '1d', '.5s', `${'9'.repeat(30)}s`]) {
      const resetMs = read({ 'x-ratelimit-reset-tokens': text }).tokens.resetMs
      assert.ok(Number.isNaN(resetMs), `${text}: ${resetMs}`)
    }
  })

  test('-1 stands for unknown', () => {
    const signals = read({ 'x-ratelimit-remaining-requests': '-1', 'x-ratelimit-remaining-tokens': '-1' })
    assert.ok(Number.isNaN(signals.requests.remaining))
    assert.equal(signals.isQuota, false)
  })

  test('each word of utilization, of what remains or of a reset is one of our quota, also 0; a limit alone is not', () => {
    for (const name of [
      'azure-openai-deployment-utilization', 'x-ratelimit-remaining-requests', 'x-ratelimit-remaining-tokens', 'x-ratelimit-reset-requests', 'x-ratelimit-reset-tokens',
    ]) {
      for (const value of ['0', '7']) assert.equal(read({ [name]: value }).isQuota, true, `${name}: ${value}`)
    }
    for (const name of ['x-ratelimit-limit-requests', 'x-ratelimit-limit-tokens']) assert.equal(read({ [name]: '7' }).isQuota, false, name)
  })

  test('of a repeated header the first counts, an empty list is absent', () => {
    assert.equal(read({ 'x-ratelimit-remaining-tokens': ['7', '9'] }).tokens.remaining, 7)
    assert.ok(Number.isNaN(read({ 'x-ratelimit-remaining-tokens': [] }).tokens.remaining))
    assert.equal(read({ 'x-ratelimit-reset-tokens': ['7s', '9s'] }).tokens.resetMs, 7_000)
    assert.ok(Number.isNaN(read({ 'x-ratelimit-reset-tokens': [] }).tokens.resetMs))
  })

  test('one answer leaves nothing behind for the next', () => {
    const signals = new LimiterSignals()
    signals.read({ 'azure-openai-deployment-utilization': '50%', 'x-ratelimit-remaining-tokens': '1' })
    signals.read({})
    assert.ok(Number.isNaN(signals.utilization))
    assert.ok(Number.isNaN(signals.tokens.remaining))
    assert.equal(signals.isQuota, false)
  })
})

describe('which limit refused', () => {
  const isRequestsBound = (headers: Record<string, string>) => read(headers).isRequestsBound

  test('the one whose reset alone is told', () => {
    const remaining = { 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-remaining-tokens': '0' }
    assert.equal(isRequestsBound({ ...remaining, 'x-ratelimit-reset-requests': '1' }), true)
    // Even where that is over at once.
    assert.equal(isRequestsBound({ 'x-ratelimit-reset-requests': '0' }), true)
    assert.equal(isRequestsBound({ 'x-ratelimit-remaining-requests': '5', 'x-ratelimit-reset-tokens': '0' }), false)
  })

  test('the one whose reset alone is told, also where only one of the levels is known', () => {
    assert.equal(isRequestsBound({ 'x-ratelimit-limit-tokens': '1000', 'x-ratelimit-remaining-tokens': '500', 'x-ratelimit-reset-requests': '1' }), true)
    assert.equal(isRequestsBound({ 'x-ratelimit-limit-requests': '100', 'x-ratelimit-remaining-requests': '50', 'x-ratelimit-reset-tokens': '1' }), false)
  })

  test('that of requests where nothing is left of it', () => {
    assert.equal(isRequestsBound({ 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-remaining-tokens': '500' }), true)
    assert.equal(isRequestsBound({ 'x-ratelimit-limit-requests': '100', 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-tokens': '1' }), true)
  })

  test('else that of tokens, also when no header says', () => {
    const resets = { 'x-ratelimit-reset-requests': '1', 'x-ratelimit-reset-tokens': '1' }
    assert.equal(isRequestsBound({ ...resets, 'x-ratelimit-remaining-requests': '5', 'x-ratelimit-remaining-tokens': '0' }), false)
    assert.equal(isRequestsBound({ ...resets, 'x-ratelimit-remaining-requests': '1' }), false)
    assert.equal(isRequestsBound({ 'x-ratelimit-remaining-requests': '-1' }), false)
    assert.equal(isRequestsBound({}), false)
  })
})

test('a bucket is whole only with limit, remaining and reset together', () => {
  const whole = { 'x-ratelimit-limit-tokens': '1000', 'x-ratelimit-remaining-tokens': '400', 'x-ratelimit-reset-tokens': '36s' }
  assert.equal(read(whole).tokens.isWhole, true)
  for (const name of Object.keys(whole)) assert.equal(read({ ...whole, [name]: [] }).tokens.isWhole, false, name)
})

test('raw headers say the same as parsed ones, and nothing in either throws or is negative or infinite', () => {
  const names = [
    'azure-openai-deployment-utilization', 'x-ratelimit-limit-requests', 'x-ratelimit-remaining-requests', 'x-ratelimit-reset-requests',
    'x-ratelimit-limit-tokens', 'x-ratelimit-remaining-tokens', 'x-ratelimit-reset-tokens',
  ]
  const value = fc.oneof(
    fc.nat().map(String), fc.double({ noNaN: true, min: 0, max: 1e6 }).map((x) => x.toFixed(3)),
    fc.string({ unit: 'grapheme-ascii', maxLength: 30 }).map((text) => text.trim()),
    fc.tuple(fc.nat(500), fc.constantFrom('h', 'm', 's', 'ms', '%', 'd')).map(([n, unit]) => `${n}${unit}`),
  )
  fc.assert(fc.property(fc.dictionary(fc.constantFrom(...names), value), fc.constantFrom('buffers' as const, 'strings' as const), (headers, kind) => {
    const parsed = read(headers)
    const raw = new LimiterSignals().read(asRaw(headers, kind))
    for (const { utilization, requests, tokens } of [parsed, raw]) {
      const buckets = [requests, tokens].flatMap(({ limit, remaining, resetMs }) => [limit, remaining, resetMs])
      for (const x of [utilization, ...buckets]) {
        assert.ok(Number.isNaN(x) || (x >= 0 && x < Infinity), `${x}`)
      }
    }
    assert.deepEqual({ ...raw.requests }, { ...parsed.requests })
    assert.deepEqual({ ...raw.tokens }, { ...parsed.tokens })
    assert.equal(raw.utilization, parsed.utilization)
    assert.equal(raw.isQuota, parsed.isQuota)
  }), { seed: SEED, numRuns: 500 })
})
