/** Topologies and faults. */
import type { BackendSpec, Fault } from './simulated-backend.js'

const ptu: BackendSpec = {
  name: 'ptu', priority: 1, kind: 'ptu', dialect: 'ptu', rps: 8, depthMs: 10000, ttfbMs: 250, sigma: 0.3, perTokenMs: 12, rttMs: 35,
}
/** Bound by tokens: a counter that starts anew each minute; the requests (in slices of 10 s) do not bind. */
const paygA: BackendSpec = {
  name: 'paygA', priority: 2, kind: 'payg', dialect: 'azure', rps: 5, tpmSlack: 1, rpmSlack: 4, tpmKind: 'fixed', rpmKind: 'fixed',
  rpmSliceMs: 10000, ttfbMs: 450, sigma: 0.5, perTokenMs: 18, rttMs: 35,
}
/** Bound by requests, in slices of 1 s; tokens slide over 60 s, as in microsoft/aoai-api-simulator. */
const paygB: BackendSpec = {
  name: 'paygB', priority: 2, kind: 'payg', dialect: 'azure', rps: 5, tpmSlack: 1.5, rpmSlack: 1, tpmKind: 'sliding', rpmKind: 'fixed',
  rpmSliceMs: 1000, ttfbMs: 500, sigma: 0.5, perTokenMs: 18, rttMs: 50,
}
/** Buckets that are refilled all the time, every x-ratelimit header, and rejected requests count. */
const openai: BackendSpec = {
  name: 'openai', priority: 3, kind: 'payg', dialect: 'openai', rps: 4, tpmSlack: 1, rpmSlack: 3, tpmKind: 'bucket', rpmKind: 'bucket',
  countRejected: true, ttfbMs: 600, sigma: 0.6, perTokenMs: 20, rttMs: 60,
}

export const STD: readonly BackendSpec[] = [ptu, paygA, paygB, openai]

/** Several provisioned deployments and one pay-as-you-go behind them. */
const PTUS: readonly BackendSpec[] = [
  { ...ptu, name: 'ptu1', rps: 5 }, { ...ptu, name: 'ptu2', rps: 5 }, { ...ptu, name: 'ptu3', priority: 2, rps: 5 },
  { ...paygA, name: 'payg', priority: 3, rps: 7 },
]

export const TOPOLOGIES: Readonly<Record<string, readonly BackendSpec[]>> = {
  STD,
  PTUS,
  'STD depth2s': STD.map((b) => (b.kind === 'ptu' ? { ...b, depthMs: 2000 } : b)),
  'STD x5': STD.map((b) => ({ ...b, rps: b.rps * 5 })),
  'STD no-util-header': STD.map((b) => ({ ...b, noUtilHeader: true })),
  'STD seconds-only': STD.map((b) => ({ ...b, secondsOnly: true, noUtilHeader: true })),
}

const MIN = 60_000

export const FAULTS: Readonly<Record<string, readonly Fault[]>> = {
  none: [],
  '5xx-burst': [
    { kind: '5xx', backend: 1, p: 0.6, from: 4 * MIN, to: 6 * MIN },
    { kind: '5xx', backend: 0, p: 0.5, from: 8 * MIN, to: 9 * MIN },
  ],
  brownout: [{ kind: 'brownout', backend: 0, factor: 10, from: 4 * MIN, to: 8 * MIN }],
  'dead-ptu': [{ kind: 'dead', backend: 0, from: 4 * MIN, to: 8 * MIN }],
  'dead-payg': [{ kind: 'dead', backend: 1, from: 4 * MIN, to: 8 * MIN }],
  /** SYNs vanish: undici's connect timeout. */
  'blackhole-ptu': [{ kind: 'dead', backend: 0, timeoutMs: 10000, from: 4 * MIN, to: 8 * MIN }],
  'dns-flap': [{ kind: 'dns', backend: 1, periodMs: 3000, from: 4 * MIN, to: 9 * MIN }],
  'no-retry-after': [{ kind: 'no-retry-after', backend: [0, 1, 2, 3], from: 0, to: Infinity }],
  'no-headers': [{ kind: 'no-headers', backend: [0, 1, 2, 3], from: 0, to: Infinity }],
  'peak-429': [{ kind: 'peak', backend: [1, 2], p: 0.1, from: 3 * MIN, to: 10 * MIN }],
}
