/** One simulated deployment: its limiters, the dialect of its headers, its latency and its faults. */
import type { Answer, HeaderValues } from './contract.js'
import { writeDuration } from './header-values.js'
import { drawOf } from './random.js'
import { FixedWindow, SlidingLog, TokenBucket, Utilization, type ServerLimiter } from './server-limiters.js'
import { OUTPUT_WEIGHT, type Arrival, type MeanShape } from './workload.js'

type LimiterKind = 'fixed' | 'sliding' | 'bucket'

export interface BackendSpec {
  readonly name: string
  readonly priority: number
  readonly kind: 'ptu' | 'payg'
  readonly dialect: 'ptu' | 'azure' | 'openai'
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
  readonly rpmSliceMs?: number
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

interface Quota { readonly tokens: ServerLimiter; readonly requests: ServerLimiter }

export class SimulatedBackend {
  readonly index: number
  readonly spec: BackendSpec
  readonly limits: { readonly rpm: number; readonly tpm: number } | undefined
  readonly utilization: Utilization | undefined
  readonly faults: Fault[] = []
  readonly #quota: Quota | undefined
  readonly #seed: number

  constructor(index: number, spec: BackendSpec, mean: MeanShape, seed: number) {
    this.index = index
    this.spec = spec
    this.#seed = seed
    if (spec.kind === 'ptu') {
      this.utilization = new Utilization({ ratePerMs: (spec.rps * mean.ptuCost) / 1000, depthMs: spec.depthMs ?? 10000 })
      return
    }
    const tpm = Math.round(spec.rps * (spec.tpmSlack ?? 1) * 60 * mean.estTokens)
    const rpm = Math.round(spec.rps * (spec.rpmSlack ?? 1) * 60)
    const phase = drawOf(seed, index, 77) * 60000
    const slice = spec.rpmSliceMs ?? 10000
    this.limits = { tpm, rpm }
    this.#quota = {
      tokens: makeLimiter(spec.tpmKind ?? 'fixed', tpm, tpm, 60000, phase, spec.burstFraction ?? 1),
      requests: makeLimiter(spec.rpmKind ?? 'fixed', rpm, Math.max(1, Math.round((rpm * slice) / 60000)), slice, phase, spec.burstFraction ?? 1),
    }
  }

  #faultAt<K extends Fault['kind']>(now: number, kind: K): Extract<Fault, { kind: K }> | undefined {
    for (const fault of this.faults) {
      if (isKind(fault, kind) && now >= fault.from && now < fault.to) return fault
    }
    return undefined
  }

  /** What a request really cost, once it is over. */
  actualCost(r: Arrival): number {
    return this.utilization ? r.prompt + OUTPUT_WEIGHT * r.output : r.estTokens
  }

  #estimatedCost(r: Arrival): number {
    return this.utilization ? r.prompt + OUTPUT_WEIGHT * r.maxTokens : r.estTokens
  }

  /** Milliseconds until this request would be served. For the oracle. */
  waitFor(now: number, r: Arrival): number {
    const dead = this.#faultAt(now, 'dead')
    if (dead) return dead.to - now
    const dns = this.#faultAt(now, 'dns')
    if (dns && isDnsFailing(dns, now)) return nextDnsSuccess(dns, now) - now
    const broken = this.#faultAt(now, '5xx')
    if (broken) return broken.to - now
    return this.#limiterWait(now, r)
  }

  #limiterWait(now: number, r: Arrival): number {
    if (this.utilization) return this.utilization.waitFor(now)
    return this.#quota ? Math.max(this.#quota.tokens.waitFor(now, r.estTokens), this.#quota.requests.waitFor(now, 1)) : 0
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

    const wait = this.#limiterWait(now, r)
    if (wait > 0) {
      const requestsBind = this.#quota !== undefined && this.#quota.requests.waitFor(now, 1) >= this.#quota.tokens.waitFor(now, r.estTokens)
      if (spec.countRejected) this.#quota?.requests.take(now, 1)
      return shortAnswer(429, this.#headers(now, wait, requestsBind), rtt)
    }
    this.utilization?.take(now, this.#estimatedCost(r))
    this.#quota?.tokens.take(now, r.estTokens)
    this.#quota?.requests.take(now, 1)
    const slow = this.#faultAt(now, 'brownout')?.factor ?? 1
    const ttfb = slow * (spec.ttfbMs * Math.exp((spec.sigma ?? 0.4) * r.z) + 0.05 * r.prompt) + rtt
    const total = ttfb + slow * r.output * spec.perTokenMs
    return { status: 200, headers: this.#headers(now, 0, false), headersAfterMs: r.stream ? ttfb : total, totalAfterMs: total }
  }

  /** The response body ended: provisioned throughput corrects its estimate. */
  finish(now: number, r: Arrival): void {
    this.utilization?.correct(now, this.actualCost(r) - this.#estimatedCost(r))
  }

  #headers(now: number, wait: number, requestsBind: boolean): HeaderValues {
    const { dialect, noUtilHeader, secondsOnly } = this.spec
    const h: HeaderValues = {}
    const silent = this.#faultAt(now, 'no-headers') !== undefined
    if (this.utilization && !noUtilHeader && !silent) h['azure-openai-deployment-utilization'] = `${this.utilization.percent(now).toFixed(1)}%`
    if (this.#quota && this.limits && !silent) {
      h['x-ratelimit-remaining-requests'] = String(Math.floor(this.#quota.requests.remaining(now)))
      h['x-ratelimit-remaining-tokens'] = String(Math.floor(this.#quota.tokens.remaining(now)))
      if (dialect === 'openai') {
        h['x-ratelimit-limit-requests'] = String(this.limits.rpm)
        h['x-ratelimit-limit-tokens'] = String(this.limits.tpm)
        h['x-ratelimit-reset-requests'] = writeDuration(this.#quota.requests.resetMs(now))
        h['x-ratelimit-reset-tokens'] = writeDuration(this.#quota.tokens.resetMs(now))
      }
    }
    if (wait > 0 && !this.#faultAt(now, 'no-retry-after')) {
      const seconds = String(Math.max(1, Math.ceil(wait / 1000)))
      h['retry-after'] = seconds
      if (dialect !== 'azure' && !secondsOnly) h['retry-after-ms'] = String(Math.max(1, Math.ceil(wait)))
      if (dialect === 'azure') h[requestsBind ? 'x-ratelimit-reset-requests' : 'x-ratelimit-reset-tokens'] = seconds
    }
    return h
  }
}

/** `perMinute` is the quota; fixed and sliding limiters enforce `perWindow` in each window. */
function makeLimiter(kind: LimiterKind, perMinute: number, perWindow: number, windowMs: number, phase: number, burst: number): ServerLimiter {
  if (kind === 'bucket') return new TokenBucket({ ratePerMs: perMinute / 60000, burst: perMinute * burst })
  if (kind === 'sliding') return new SlidingLog({ limit: perWindow, windowMs })
  return new FixedWindow({ limit: perWindow, windowMs, phase })
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
