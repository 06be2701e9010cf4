import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ScopeState } from '../../src/core/backend.js'

const half = () => 0.5

describe('the cooldown of a scope', () => {
  const cooled = (forMs: number): ScopeState => {
    const state = new ScopeState('m', undefined, 0)
    assert.equal(state.coolDown(forMs, half, 0), true)
    return state
  }

  test('has up to 10 % of jitter, and a second of it at most', () => {
    assert.deepEqual([100, 1_000, 10_000, 60_000].map((ms) => cooled(ms).cooldownUntil), [105, 1_050, 10_500, 60_500])
  })

  test('of nothing is none', () => {
    const state = new ScopeState('m', undefined, 0)
    assert.equal(state.coolDown(0, half, 0), false)
    assert.equal(state.noticeEnd(1), false)
  })

  test('is news when it begins, again after it has ended, and when it grows by more than any jitter', () => {
    const state = cooled(1_000)
    assert.equal(state.coolDown(1_000, half, 0), false)
    assert.equal(state.coolDown(1_000, half, 10), false)
    assert.equal(state.cooldownUntil, 1_060)
    // 2,050 is a second after the end that was told, 2,051 is more.
    assert.equal(state.coolDown(2_000, () => 0, 50), false)
    assert.equal(state.coolDown(2_000, () => 0, 51), true)
    assert.equal(state.cooldownUntil, 2_051)
    // Over at that very moment, so this is a new one.
    assert.equal(state.coolDown(100, half, 2_051), true)
  })

  test('ends once, at its very end', () => {
    const state = cooled(1_000)
    assert.equal(state.noticeEnd(1_049.9), false)
    assert.equal(state.noticeEnd(1_050), true)
    assert.equal(state.noticeEnd(1_050), false)
  })

  test('makes the scope used', () => {
    const state = new ScopeState('m', undefined, 0)
    state.coolDown(100, half, 77)
    assert.equal(state.usedAt, 77)
  })
})
