/**
 * The pool in short simulated runs, medians of three. The bounds leave room for another order of random draws, not for a step
 * back: each would be missed without pacing, and most of them with windows that are a tenth off.
 */
import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { oracle } from './oracle.js'
import * as balancer from './policy.js'
import { FAULTS, STD } from './scenarios.js'
import { runScenario, type Scenario } from './world.js'

const SEED = 1
const SEEDS = [1, 2, 3]
const short = { backends: STD, durationMs: 540_000 }

function compare(scenario: Omit<Scenario, 'backends'>, seed = SEED) {
  const reference = runScenario({ ...short, ...scenario, clients: 1 }, oracle, seed)
  const m = runScenario({ ...short, ...scenario }, balancer, seed)
  return {
    ...m, goodput: m.goodTps / reference.goodTps, capacity: m.capUsed / reference.capUsed, ptuShare: m.ptuCostPerSec / reference.ptuCostPerSec,
  }
}

/** Of three runs the middle one, measure by measure. */
function compareMedians(scenario: Omit<Scenario, 'backends'>) {
  const runs = SEEDS.map((seed) => compare(scenario, seed))
  const median = (of: (run: (typeof runs)[number]) => number): number => runs.map(of).sort((a, b) => a - b)[1] ?? NaN
  return {
    failed: median((run) => run.failed), goodput: median((run) => run.goodput), capacity: median((run) => run.capacity), waste: median((run) => run.waste),
    addedP99: median((run) => run.addedP99), ptuShare: median((run) => run.ptuShare), maxAttempts: median((run) => run.maxAttempts),
  }
}

describe('below capacity', () => {
  for (const [clients, waste] of [[1, 0.01], [4, 0.03], [16, 0.08]] as const) {
    test(`${clients} processes at 0.8x serve every call at once, with at most ${waste} 429s per success`, () => {
      const m = compareMedians({ load: 0.8, clients })
      assert.equal(m.failed, 0)
      assert.ok(m.goodput > 0.999, `goodput ${m.goodput}`)
      assert.ok(m.waste <= waste, `429s per success ${m.waste}`)
      assert.ok(m.addedP99 <= 100, `added p99 ${m.addedP99}`)
      assert.ok(m.ptuShare >= 0.985, `share of the provisioned throughput ${m.ptuShare}`)
    })
  }
})

describe('above capacity', () => {
  for (const [clients, waste, capacity, attempts] of [[1, 0.12, 0.96, 6], [4, 0.25, 0.98, 8], [16, 0.9, 0.98, 16]] as const) {
    test(`${clients} processes at 1.2x use at least ${capacity} of what the oracle uses, with at most ${waste} 429s per success`, () => {
      const m = compareMedians({ load: 1.2, clients })
      assert.ok(m.capacity >= capacity, `capacity ${m.capacity}`)
      assert.ok(m.waste <= waste, `429s per success ${m.waste}`)
      assert.ok(m.maxAttempts <= attempts, `most attempts ${m.maxAttempts}`)
      assert.ok(m.ptuShare >= 0.985, `share of the provisioned throughput ${m.ptuShare}`)
    })
  }

  test('without pacing the same load is refused many times as often', () => {
    const paced = compare({ load: 1.2, clients: 4 })
    const unpaced = runScenario({ ...short, load: 1.2, clients: 4 }, balancer.createPolicy('balancer', { pacing: false }), SEED)
    assert.ok(unpaced.waste > 10 * paced.waste, `${unpaced.waste} against ${paced.waste}`)
  })
})

describe('with faults', () => {
  test('no call fails while backends answer 5xx, die, flap or say nothing of limits', () => {
    for (const fault of ['5xx-burst', 'dead-payg', 'dns-flap', 'no-retry-after', 'no-headers', 'peak-429']) {
      const m = compare({ load: 0.7, clients: 4, faults: FAULTS[fault] ?? [] })
      assert.equal(m.failed, 0, fault)
      assert.ok(m.goodput > 0.995, `${fault}: goodput ${m.goodput}`)
    }
  })

  test('with its provisioned throughput dead for minutes a pool at its limit loses at most 4 % of the tokens', () => {
    const m = compare({ load: 0.7, clients: 4, faults: FAULTS['dead-ptu'] ?? [] })
    assert.ok(m.goodput >= 0.96, `goodput ${m.goodput}`)
  })
})
