/** One simulated deployment: the limits of a real one, its latency and its faults. */
import {
  Deployment, limitHeaders, refusalHeaders, weigh,
  type DeploymentLimits, type Dialect, type LimiterKind, type Refusal, type TokenCost, type WindowMs,
} from '../../examples/demo/simulator/deployment.js'
import type { Utilization } from '../../examples/demo/simulator/limits.js'
import type { Answer, HeaderValues } from './contract.js'
import { drawOf } from './random.js'
import type { Arrival, MeanShape } from './workload.js'

export interface BackendSpec {
  readonly name: string
  readonly priority: number
  readonly kind: 'ptu' | 'payg'
  readonly dialect: Dialect
  /** Nominal capacity in requests per second, for the mean request. */
  readonly rps: number
  readonly ttfbMs: number
  readonly sigma?: number
  readonly perTokenMs: number
  readonly rttMs: number
  readonly depthMs?: number
  readonly tpmSlack?: number
  readonly rpmSlack?: number
  readonly tpmKind?: LimiterKind
  readonly rpmKind?: LimiterKind
  readonly rpmSliceMs?: WindowMs
  readonly burstFraction?: number
  /** Rejected requests use up quota too. */
  readonly countRejected?: boolean
  readonly noUtilHeader?: boolean
  readonly secondsOnly?: boolean
}

interface Span { readonly backend: number | readonly number[]; readonly from: number; readonly to: number }
export type Fault =
  | Span & { readonly kind: 'dead'; readonly timeoutMs?: number }
  | Span & { readonly kind: 'dns'; readonly periodMs: number }
  | Span & { readonly kind: '5xx'; readonly p: number; readonly retryAfter?: number }
  | Span & { readonly kind: 'peak'; readonly p: number }
  | Span & { readonly kind: 'brownout'; readonly factor: number }
  | Span & { readonly kind: 'no-headers' }
  | Span & { readonly kind: 'no-retry-after' }

export class SimulatedBackend {
  readonly index: number
  readonly spec: BackendSpec
  readonly limits: { readonly rpm: number; readonly tpm: number } | undefined
  readonly faults: Fault[] = []
  readonly #deployment: Deployment
  readonly #seed: number

  constructor(index: number, spec: BackendSpec, mean: MeanShape, seed: number) {
    this.index = index
    this.spec = spec
    this.#seed = seed
    const limits = deriveLimits(spec, mean, drawOf(seed, index, 77) * 60000)
    if (limits.kind === 'standard') this.limits = { tpm: limits.tokensPerMinute, rpm: limits.requestsPerMinute }
    this.#deployment = new Deployment(limits)
  }

  /** Of a provisioned deployment. */
  get utilization(): Utilization | undefined {
    return this.#deployment.utilization
  }

  #faultAt<K extends Fault['kind']>(now: number, kind: K): Extract<Fault, { kind: K }> | undefined {
    for (const fault of this.faults) {
      if (isKind(fault, kind) && now >= fault.from && now < fault.to) return fault
    }
    return undefined
  }

  /** What a request really cost, once it is over. */
  actualCost(r: Arrival): number {
    return this.utilization ? weigh(realCost(r)) : r.estTokens
  }

  /** A provisioned deployment knows the prompt; a pay-as-you-go one goes by its characters. */
  #estimate(r: Arrival): TokenCost {
    return { promptTokens: this.utilization ? r.prompt : r.estTokens - r.maxTokens, outputTokens: r.maxTokens }
  }

  /** Milliseconds until this request would be served. For the oracle. */
  waitFor(now: number, r: Arrival): number {
    const dead = this.#faultAt(now, 'dead')
    if (dead) return dead.to - now
    const dns = this.#faultAt(now, 'dns')
    if (dns && isDnsFailing(dns, now)) return nextDnsSuccess(dns, now) - now
    const broken = this.#faultAt(now, '5xx')
    if (broken) return broken.to - now
    return this.#deployment.judge(now, this.#estimate(r))?.waitMs ?? 0
  }

  /** The request reaches the server. `attempt` makes all luck a function of seed, request and attempt. */
  serve(now: number, r: Arrival, attempt: number): Answer {
    const { spec } = this
    const luck = (tag: number): number => drawOf(this.#seed, r.id, attempt, this.index, tag)
    const rtt = spec.rttMs * (0.7 + 0.6 * luck(1))
    const dead = this.#faultAt(now, 'dead')
    if (dead) return noAnswer(dead.timeoutMs === undefined ? 'ECONNREFUSED' : 'UND_ERR_CONNECT_TIMEOUT', dead.timeoutMs ?? 2)
    const dns = this.#faultAt(now, 'dns')
    if (dns && isDnsFailing(dns, now)) return noAnswer('ENOTFOUND', 15)
    const broken = this.#faultAt(now, '5xx')
    if (broken && luck(2) < broken.p) {
      const headers: HeaderValues = broken.retryAfter ? { 'retry-after': String(broken.retryAfter) } : {}
      return shortAnswer(luck(3) < 0.5 ? 500 : 503, headers, rtt + 30)
    }
    const peak = this.#faultAt(now, 'peak') // "system is experiencing high demand": not about our quota
    if (peak && luck(4) < peak.p) return shortAnswer(429, { 'retry-after': '6' }, rtt)

    const refusal = this.#deployment.admit(now, this.#estimate(r))
    if (refusal) return shortAnswer(429, this.#headers(now, refusal), rtt)
    const slow = this.#faultAt(now, 'brownout')?.factor ?? 1
    const ttfb = slow * (spec.ttfbMs * Math.exp((spec.sigma ?? 0.4) * r.z) + 0.05 * r.prompt) + rtt
    const total = ttfb + slow * r.output * spec.perTokenMs
    return { status: 200, headers: this.#headers(now, undefined), headersAfterMs: r.stream ? ttfb : total, totalAfterMs: total }
  }

  /** The response body ended: provisioned throughput corrects its estimate. */
  finish(now: number, r: Arrival): void {
    this.#deployment.complete(now, this.#estimate(r), realCost(r))
  }

  #headers(now: number, refusal: Refusal | undefined): HeaderValues {
    const { dialect, noUtilHeader, secondsOnly } = this.spec
    const isSilent = this.#faultAt(now, 'no-headers') !== undefined || (this.utilization !== undefined && noUtilHeader)
    return {
      ...(isSilent ? {} : limitHeaders(this.#deployment, dialect, now)),
      ...(refusal && !this.#faultAt(now, 'no-retry-after') ? refusalHeaders(dialect, refusal, secondsOnly ? ['retry-after'] : undefined) : {}),
    }
  }
}

/** Limits for so many mean requests per second. */
function deriveLimits(spec: BackendSpec, mean: MeanShape, phaseMs: number) {
  if (spec.kind === 'ptu') {
    return { kind: 'provisioned', tokensPerSecond: spec.rps * mean.ptuCost, depthMs: spec.depthMs } as const satisfies DeploymentLimits
  }
  return {
    kind: 'standard',
    tokensPerMinute: Math.round(spec.rps * (spec.tpmSlack ?? 1) * 60 * mean.estTokens),
    requestsPerMinute: Math.round(spec.rps * (spec.rpmSlack ?? 1) * 60),
    tokenLimiter: spec.tpmKind,
    requestLimiter: spec.rpmKind,
    requestWindowMs: spec.rpmSliceMs,
    phaseMs,
    burstFraction: spec.burstFraction,
    countsRefused: spec.countRejected,
  } as const satisfies DeploymentLimits
}

function realCost(r: Arrival): TokenCost {
  return { promptTokens: r.prompt, outputTokens: r.output }
}

function isKind<K extends Fault['kind']>(fault: Fault, kind: K): fault is Extract<Fault, { kind: K }> {
  return fault.kind === kind
}

function noAnswer(error: string, afterMs: number): Answer {
  return { error, headersAfterMs: afterMs, totalAfterMs: afterMs }
}

function shortAnswer(status: number, headers: HeaderValues, afterMs: number): Answer {
  return { status, headers, headersAfterMs: afterMs, totalAfterMs: afterMs }
}

function isDnsFailing(fault: { from: number; periodMs: number }, now: number): boolean {
  return Math.floor((now - fault.from) / fault.periodMs) % 2 === 0
}

function nextDnsSuccess(fault: { from: number; to: number; periodMs: number }, now: number): number {
  return Math.min(fault.to, fault.from + (Math.floor((now - fault.from) / fault.periodMs) + 1) * fault.periodMs)
}
