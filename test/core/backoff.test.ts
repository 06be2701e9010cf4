import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backoffMs } from '../../src/core/backoff.js'

test('the backoff of a failed backend doubles its bound from 500 ms up to 15 s', () => {
  const bounds = [1, 2, 3, 4, 5, 6, 7, 100, 5_000].map((ejections) => backoffMs(ejections, 1))
  assert.deepEqual(bounds, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000, 15_000])
})

test('the backoff has full jitter: anything from nothing to its bound', () => {
  assert.equal(backoffMs(3, 0), 0)
  assert.equal(backoffMs(3, 0.25), 500)
})
