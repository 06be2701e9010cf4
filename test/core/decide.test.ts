import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { decide, type Situation } from '../../src/core/decide.js'

const situation = (more: Partial<Situation>): Situation => ({
  attempts: 1, maxAttempts: 3, lastOutcome: 'throttled', isFree: false, throttledMs: Infinity, patienceMs: 0, ...more,
})

describe('what becomes of a request', () => {
  test('it goes on while somebody is free and it has attempts left', () => {
    assert.equal(decide(situation({ isFree: true })), 'send')
    assert.equal(decide(situation({ isFree: true, attempts: 0, lastOutcome: undefined })), 'send')
  })

  test('with its attempts used up it gets the last answer while others are free', () => {
    assert.equal(decide(situation({ isFree: true, attempts: 3 })), 'attempts')
  })

  test('with its attempts used up and everybody throttled it is told when to come back', () => {
    assert.equal(decide(situation({ attempts: 3, throttledMs: 500, patienceMs: 10_000 })), 'reject')
  })

  test('with its attempts used up after a failure it gets that failure, unless somebody is merely throttled', () => {
    assert.equal(decide(situation({ attempts: 3, throttledMs: 500, lastOutcome: 'failed' })), 'reject')
    assert.equal(decide(situation({ attempts: 3, throttledMs: Infinity, lastOutcome: 'failed' })), 'attempts')
    assert.equal(decide(situation({ attempts: 3, throttledMs: 500, lastOutcome: 'misconfigured' })), 'attempts')
    assert.equal(decide(situation({ attempts: 3, throttledMs: Infinity })), 'attempts')
  })

  test('it waits when the soonest comes within its patience, and not a moment longer', () => {
    assert.equal(decide(situation({ throttledMs: 500, patienceMs: 500 })), 'wait')
    assert.equal(decide(situation({ throttledMs: 501, patienceMs: 500 })), 'reject')
    assert.equal(decide(situation({ throttledMs: 500 })), 'reject')
  })

  test('where nobody is even throttled it gets the last answer or error', () => {
    assert.equal(decide(situation({ patienceMs: 10_000, lastOutcome: 'failed' })), 'no-backend')
  })
})
