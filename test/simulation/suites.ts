/** Which scenarios are run for whom. A job is plain data, so that it can be handed to another process. */
import type { Policy } from './contract.js'
import { BASELINES, COLD_BASELINES } from './baselines.js'
import { COLD_TOPOLOGIES, coldScenario, STARTS } from './cold.js'
import type { Metrics } from './metrics.js'
import { impatientOracle, oracle, patientOracle } from './oracle.js'
import { createPolicy } from './policy.js'
import { FAULTS, TOPOLOGIES } from './scenarios.js'
import { runScenario } from './world.js'
import type { Arrivals } from './workload.js'

export type SuiteName = 'cold' | 'matrix' | 'faults' | 'sensitivity'
export const SUITES: readonly SuiteName[] = ['cold', 'matrix', 'faults', 'sensitivity']

export interface Job {
  readonly topology: string
  readonly fault: string
  readonly arrivals: Arrivals
  readonly load: number
  readonly clients: number
  readonly shared: boolean
  readonly policy: string
  readonly seed: number
  /** How a cold start begins; none where a run is measured after a warm-up. */
  readonly start?: string
}

export interface Run {
  readonly job: Job
  readonly metrics: Metrics
}

export const REFERENCE = oracle.name
export const OURS = 'balancer'

const POLICIES: readonly Policy[] = [
  oracle, patientOracle, ...BASELINES,
  createPolicy(OURS), createPolicy('balancer, no pacing', { pacing: false }), createPolicy('balancer, no waiting', { maxWaitMs: 0 }),
]

/** First those who do not let a call wait, then those who may for ten seconds. */
const COLD_POLICIES: readonly Policy[] = [
  impatientOracle, createPolicy('balancer, no waiting', { maxWaitMs: 0 }), createPolicy('balancer, no waiting, no pacing', { maxWaitMs: 0, pacing: false }), ...COLD_BASELINES,
  patientOracle, createPolicy(OURS), createPolicy('balancer, no pacing', { pacing: false }),
]

/** One process, whatever the cell: they see everything, or are no balancer at all. */
function isAlone(policy: Policy): boolean {
  return policy.clairvoyant === true || policy.name.startsWith('single')
}

/** @param only part of a policy's name; the reference always runs. @param clients how many processes, of cold starts. */
export function listJobs(suite: SuiteName, seeds: number, only = '', clients: readonly number[] = [1]): Job[] {
  const jobs: Job[] = []
  const add = (cell: Omit<Job, 'policy' | 'seed'>, isWanted: (policy: Policy) => boolean): void => {
    for (const policy of POLICIES) {
      if (!isWanted(policy) || !(policy === oracle || policy.name.includes(only))) continue
      for (let seed = 1; seed <= seeds; seed++) jobs.push({ ...cell, policy: policy.name, seed })
    }
  }
  const plain = { topology: 'STD', fault: 'none', arrivals: 'poisson', shared: false } as const
  if (suite === 'cold') return listColdJobs(seeds, only, clients)
  if (suite === 'matrix') {
    for (const arrivals of ['poisson', 'mmpp'] as const) {
      for (const load of [0.5, 0.8, 1, 1.2, 2]) {
        add({ ...plain, arrivals, load, clients: 1 }, () => true)
        for (const many of [4, 16]) {
          for (const shared of [false, true]) add({ ...plain, arrivals, load, clients: many, shared }, (policy) => !isAlone(policy))
        }
      }
    }
  } else if (suite === 'faults') {
    for (const fault of Object.keys(FAULTS)) add({ ...plain, fault, load: 0.7, clients: 4 }, (policy) => policy.name !== 'litellm-usage')
  } else {
    for (const topology of Object.keys(TOPOLOGIES).filter((name) => name !== 'STD')) {
      for (const load of [0.8, 1.2]) add({ ...plain, topology, load, clients: 4 }, (policy) => !/litellm|single/.test(policy.name))
    }
  }
  return jobs
}

function listColdJobs(seeds: number, only: string, processes: readonly number[]): Job[] {
  const cells = Object.keys(COLD_TOPOLOGIES).flatMap((topology) => Object.keys(STARTS).flatMap((start) => [0.8, 1].flatMap((load) => processes.map((clients) => ({
    topology, start, load, clients, fault: 'none', arrivals: 'poisson' as const, shared: false,
  })))))
  const policies = COLD_POLICIES.filter(({ name }) => name.includes(only))
  return cells.flatMap((cell) => policies.flatMap(({ name }) => Array.from({ length: seeds }, (_, i) => ({ ...cell, policy: name, seed: i + 1 }))))
}

export function runJob(job: Job): Run {
  const policy = [...POLICIES, ...COLD_POLICIES].find(({ name }) => name === job.policy)
  if (policy !== undefined && job.start !== undefined) {
    const { load, clients } = job
    return { job, metrics: runScenario({ ...coldScenario(job.topology, job.start), load, clients }, policy, job.seed) }
  }
  const backends = TOPOLOGIES[job.topology]
  const faults = FAULTS[job.fault]
  if (policy === undefined || backends === undefined || faults === undefined) throw new RangeError(`unknown job ${JSON.stringify(job)}`)
  const { arrivals, load, clients, shared, seed } = job
  return { job, metrics: runScenario({ backends, faults, arrivals, load, clients, shared }, policy, seed) }
}
