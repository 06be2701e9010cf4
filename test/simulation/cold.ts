/**
 * Cold starts: what users live by is how many of their calls are answered, from the first request on, before anything was
 * learned; with limits that are windows, bursts, steps in the load, and outages. Nothing is left out of the measure.
 */
import type { BackendSpec, Fault } from './simulated-backend.js'
import { STD, TOPOLOGIES } from './scenarios.js'
import type { Scenario } from './world.js'

/** Limits of requests alone, unless said: that of tokens is out of the way. */
function deployment(name: string, more: Partial<BackendSpec>): BackendSpec {
  return {
    name, priority: 1, kind: 'payg', dialect: 'azure', rps: 1.2, tpmSlack: 3, rpmSlack: 1, tpmKind: 'sliding', rpmKind: 'sliding',
    rpmSliceMs: 10_000, ttfbMs: 300, sigma: 0.4, perTokenMs: 4, rttMs: 5, ...more,
  }
}

const three = (more: Partial<BackendSpec>): BackendSpec[] => ['a', 'b', 'c'].map((name) => deployment(name, more))

const second = { rpmKind: 'fixed', rpmSliceMs: 1_000 } as const
const tokens = { rpmSlack: 4, tpmSlack: 1 } as const

export const COLD_TOPOLOGIES: Readonly<Record<string, readonly BackendSpec[]>> = {
  'requests, sliding 10 s, 12': three({}),
  'requests, sliding 10 s, 100': three({ rps: 10 }),
  'requests, fixed 10 s, 12': three({ rpmKind: 'fixed' }),
  'requests, fixed 1 s, 5': three({ rps: 5, ...second }),
  'requests, fixed 1 s, 40': three({ rps: 40, ...second }),
  'requests, fixed 60 s, 72': three({ rpmKind: 'fixed', rpmSliceMs: 60_000 }),
  'tokens, sliding 60 s': three({ rps: 4, ...tokens }),
  'tokens, fixed 60 s': three({ rps: 4, ...tokens, tpmKind: 'fixed' }),
  'one backend, fixed 1 s, 10': [deployment('a', { rps: 10, ...second })],
  'two tiers, sliding 10 s': [deployment('a', { rps: 3 }), deployment('b', { rps: 6, priority: 2 })],
  'eight small, fixed 10 s': Array.from({ length: 8 }, (_, i) => deployment(`b${i}`, { rps: 1 + (i % 3), rpmKind: 'fixed' })),
  'a mixture': [deployment('a', { rps: 2, rpmKind: 'fixed', rpmSliceMs: 60_000 }), deployment('b', { rps: 6, ...second }), deployment('c', { rps: 4, ...tokens })],
  STD,
  PTUS: TOPOLOGIES['PTUS'] ?? [],
}

type Start = Pick<Scenario, 'burst' | 'quietUntilMs' | 'rampAtMs' | 'faults'>

/** All are out, from the 40th second to the 60th. */
function outage(backends: readonly BackendSpec[], more: { readonly timeoutMs?: number } = {}): Start {
  const fault: Fault = { kind: 'dead', backend: backends.map((_, i) => i), from: 40_000, to: 60_000, ...more }
  return { faults: [fault] }
}

export const STARTS: Readonly<Record<string, (backends: readonly BackendSpec[]) => Start>> = {
  'steady': () => ({}),
  'burst of 40': () => ({ burst: { at: 1_000, count: 40 } }),
  'burst of 60 after an idle minute': () => ({ burst: { at: 60_000, count: 60 }, quietUntilMs: 60_000 }),
  'a tenth, then all': () => ({ rampAtMs: 60_000 }),
  'all out for 20 s': (backends) => outage(backends),
  'all hang for 20 s': (backends) => outage(backends, { timeoutMs: 8_000 }),
}

export function coldScenario(topology: string, start: string): Pick<Scenario, 'backends'> & Partial<Scenario> {
  const backends = COLD_TOPOLOGIES[topology]
  const optionsOf = STARTS[start]
  if (backends === undefined || optionsOf === undefined) throw new RangeError(`no cold start "${start}" of "${topology}"`)
  return { backends, durationMs: 300_000, warmupMs: 0, tailMs: 0, ...optionsOf(backends) }
}
