import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { RetryBudget } from '../../src/core/retry-budget.js'
import { SEED } from '../support/seed.js'

const drain = (budget: RetryBudget, now: number): number => {
  let taken = 0
  while (taken < 10_000 && budget.withdraw(now)) taken++
  return taken
}

describe('the retry budget', () => {
  test('starts with ten seconds of its minimum, and gets it back at that pace', () => {
    const budget = new RetryBudget(0, 10, 0)
    assert.equal(drain(budget, 0), 100)
    assert.equal(drain(budget, 500), 5)
    assert.equal(drain(budget, 60_000), 100)
  })

  test('adds a share of the requests', () => {
    const budget = new RetryBudget(0.25, 0, 0)
    assert.equal(drain(budget, 0), 0)
    for (let i = 0; i < 50; i++) budget.deposit(1)
    assert.equal(drain(budget, 1), 12)
  })

  test('forgets what was earned more than twenty seconds ago', () => {
    const earn = () => {
      const budget = new RetryBudget(1, 0, 0)
      for (let i = 0; i < 5; i++) budget.deposit(9_999)
      return budget
    }
    assert.equal(drain(earn(), 10_000), 5)
    assert.equal(drain(earn(), 19_999), 5)
    assert.equal(drain(earn(), 20_000), 0)
    const touched = earn()
    assert.equal(touched.withdraw(10_000), true)
    assert.equal(drain(touched, 20_000), 0, 'what is taken of it makes the rest no younger')
    const old = earn()
    old.deposit(30_000)
    assert.equal(drain(old, 30_000), 1)
  })

  test('takes the older earnings first, and adds up fractions of both', () => {
    const budget = new RetryBudget(0.5, 0, 0)
    for (let i = 0; i < 3; i++) budget.deposit(0)
    for (let i = 0; i < 3; i++) budget.deposit(10_000)
    assert.equal(drain(budget, 10_000), 3)
    const halves = new RetryBudget(0.5, 0, 0)
    halves.deposit(9_999)
    halves.deposit(10_000)
    assert.equal(drain(halves, 10_000), 1)
  })

  test('ages at the very end of each ten seconds, whether requests or retries come first', () => {
    const age = (touch: (budget: RetryBudget) => unknown): number => {
      const budget = new RetryBudget(1, 0, 0)
      budget.deposit(0)
      touch(budget)
      return drain(budget, 20_000)
    }
    assert.equal(age((budget) => budget.deposit(10_000)), 1)
    const kept = new RetryBudget(1, 0, 0)
    kept.deposit(0)
    assert.equal(kept.withdraw(10_000), true)
    assert.equal(kept.withdraw(10_000), false)
    // Older than twenty seconds, in one step or in two.
    assert.equal(age(() => undefined), 0)
    assert.equal(age((budget) => { budget.deposit(9_999) }), 0)
  })

  test('never lets more retries through than its share and its minimum allow', () => {
    const steps = fc.array(fc.tuple(fc.nat(3_000), fc.boolean()), { maxLength: 300 })
    fc.assert(fc.property(steps, fc.double({ min: 0, max: 2, noNaN: true }), fc.nat(20), (steps, ratio, minPerSecond) => {
      const budget = new RetryBudget(ratio, minPerSecond, 0)
      let now = 0
      let requests = 0
      let retries = 0
      for (const [passed, isRetry] of steps) {
        now += passed
        if (!isRetry) {
          budget.deposit(now)
          requests++
        } else if (budget.withdraw(now)) retries++
        assert.ok(retries <= ratio * requests + minPerSecond * (10 + now / 1_000) + 1e-6)
      }
    }), { seed: SEED })
  })
})
