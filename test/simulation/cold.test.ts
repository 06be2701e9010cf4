/**
 * Cold starts in the simulator: calls answered from the first request on. A few of the cells of `npm run bench:routing -- cold`,
 * one seed each; the bounds leave room for another order of random draws, not for a step back.
 */
import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { COLD_BASELINES } from './baselines.js'
import { coldScenario } from './cold.js'
import type { Policy } from './contract.js'
import { impatientOracle, patientOracle } from './oracle.js'
import { createPolicy } from './policy.js'
import { runScenario } from './world.js'

const SEED = 1

function run(policy: Policy, topology: string, start: string, load: number, clients = 1): { served: number; waste: number } {
  const { failed, late, waste } = runScenario({ ...coldScenario(topology, start), load, clients }, policy, SEED)
  return { served: 1 - failed - late, waste }
}

const waiting = createPolicy('balancer')
const impatient = createPolicy('balancer', { maxWaitMs: 0 })
const python = COLD_BASELINES.find(({ name }) => name === 'seed(py)') ?? assert.fail()

describe('no caller is refused on an estimate', () => {
  for (const topology of ['requests, sliding 10 s, 12', 'requests, fixed 1 s, 5', 'requests, sliding 10 s, 100']) {
    test(`${topology}: a tenth of the load and then all of it, at the capacity`, () => {
      const ours = run(impatient, topology, 'a tenth, then all', 1)
      const theirs = run(python, topology, 'a tenth, then all', 1)
      assert.ok(ours.served >= theirs.served - 0.008, `${ours.served}, the Python package ${theirs.served}`)
      const clairvoyant = run(impatientOracle, topology, 'a tenth, then all', 1)
      assert.ok(ours.served >= 0.97 * clairvoyant.served, `${ours.served} of ${clairvoyant.served}`)
    })

    test(`${topology}: the same with waits of 10 s`, () => {
      const ours = run(waiting, topology, 'a tenth, then all', 1)
      assert.ok(ours.served >= 0.955, `${ours.served}`)
      assert.ok(ours.waste <= 0.3, `${ours.waste} 429s per success`)
    })
  }
})

describe('below the capacity nearly all are answered, from the first request on', () => {
  for (const [topology, start, clients] of [
    ['requests, fixed 10 s, 12', 'burst of 40', 1], ['tokens, sliding 60 s', 'a tenth, then all', 4], ['a mixture', 'burst of 60 after an idle minute', 1],
    ['two tiers, sliding 10 s', 'steady', 4], ['PTUS', 'burst of 60 after an idle minute', 1],
  ] as const) {
    test(`${topology}; ${start}; ${clients} processes`, () => {
      for (const [policy, oracle] of [[impatient, impatientOracle], [waiting, patientOracle]] as const) {
        const ours = run(policy, topology, start, 0.8, clients)
        const clairvoyant = run(oracle, topology, start, 0.8)
        assert.ok(ours.served >= 0.99 * clairvoyant.served, `${ours.served} of ${clairvoyant.served}`)
      }
    })
  }
})

describe('after an outage', () => {
  for (const start of ['all out for 20 s', 'all hang for 20 s']) {
    test(`${start}: no more calls are lost than with the Python package`, () => {
      for (const topology of ['requests, fixed 10 s, 12', 'tokens, sliding 60 s']) {
        for (const policy of [impatient, waiting]) {
          const ours = run(policy, topology, start, 0.8)
          const theirs = run(python, topology, start, 0.8)
          assert.ok(ours.served >= theirs.served - 0.03, `${topology}: ${ours.served}, the Python package ${theirs.served}`)
        }
      }
    })
  }
})

test('after a cooldown those who wait do not storm the backend, also without pacing', () => {
  const unpaced = run(createPolicy('balancer', { pacing: false }), 'requests, fixed 1 s, 5', 'steady', 1)
  assert.ok(unpaced.waste <= 1, `${unpaced.waste} 429s per success`)
  assert.ok(unpaced.served >= 0.95, `${unpaced.served}`)
})
