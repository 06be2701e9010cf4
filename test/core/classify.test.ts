import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { classify, isDelivered, mayBeThrottled } from '../../src/core/classify.js'
import type { RetryHint } from '../../src/core/retry-after.js'
import type { OutcomeClass } from '../../src/core/types.js'

const hint = { ms: 1_000, source: 'retry-after' } as const
const reset = { ms: 1_000, source: 'x-ratelimit-reset-tokens' } as const

const mean = (status: number, retry?: RetryHint, ownsCredential = false): OutcomeClass =>
  classify({ status, hint: retry, error: undefined, ownsCredential, isTooLarge: false, hasLarger: false })

describe('what a response means', () => {
  const plain: [OutcomeClass, number[]][] = [
    ['success', [101, 200, 201, 204, 206, 302, 304, 307]],
    ['answered', [400, 401, 403, 404, 405, 409, 410, 413, 418, 422, 424, 499]],
    ['throttled', [429]],
    ['failed', [408, 500, 501, 502, 503, 504, 520, 529, 599]],
  ]
  for (const [outcome, statuses] of plain) {
    test(`${statuses.join(', ')}: ${outcome}`, () => {
      for (const status of statuses) assert.equal(mean(status), outcome, String(status))
    })
  }

  test('any 5xx that says when to come back is throttled', () => {
    for (const status of [500, 502, 503, 529]) assert.equal(mean(status, hint), 'throttled')
  })

  test('a 5xx with nothing but a rate limit\'s reset is still a failure', () => {
    assert.equal(mean(503, reset), 'failed')
    assert.equal(mean(429, reset), 'throttled')
  })

  test('a 408 is a failure whatever its headers say, so they are not read', () => {
    assert.equal(mean(408, hint), 'failed')
    assert.equal(mayBeThrottled(408), false)
    assert.deepEqual([200, 400, 429, 500, 503].filter(mayBeThrottled), [429, 500, 503])
  })

  test('401 and 403 are ours to fix only when the credential is ours', () => {
    assert.equal(mean(401, undefined, true), 'misconfigured')
    assert.equal(mean(403, undefined, true), 'misconfigured')
    assert.equal(mean(404, undefined, true), 'answered')
  })

  test('success and answered are delivered, nothing else is', () => {
    const all: OutcomeClass[] = ['success', 'answered', 'throttled', 'failed', 'misconfigured', 'ignored']
    assert.deepEqual(all.filter(isDelivered), ['success', 'answered'])
  })
})
