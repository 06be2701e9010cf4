/**
 * One rate-limited deployment: which limits it has, whether it takes one more request, and in which headers it says so.
 * Like its limiters it is told the time, in milliseconds.
 */
import { FixedWindow, SlidingWindow, TokenBucket, Utilization, type Limiter } from './limits.js'

export type LimiterKind = 'fixed' | 'sliding' | 'bucket'

/** A pay-as-you-go deployment, or a model of OpenAI. What is left out is unlimited. */
export interface StandardLimits {
  readonly kind: 'standard'
  /** Estimated when a request is admitted: characters / 4 + max_tokens. */
  readonly tokensPerMinute?: number | undefined
  readonly requestsPerMinute?: number | undefined
  /** Default `fixed`, as Azure counts. */
  readonly tokenLimiter?: LimiterKind | undefined
  readonly requestLimiter?: LimiterKind | undefined
  /** Default a minute. */
  readonly tokenWindowMs?: WindowMs | undefined
  /** Default ten seconds. */
  readonly requestWindowMs?: WindowMs | undefined
  /** Where fixed windows begin. Default 0. */
  readonly phaseMs?: number | undefined
  /** What a bucket holds, as a part of a minute's worth. Default 1. */
  readonly burstFraction?: number | undefined
  /** Requests that were refused count too, as OpenAI does it. Default false. */
  readonly countsRefused?: boolean | undefined
}

/** The windows that Azure uses: 1 or 10 s for requests, a minute for tokens. */
export type WindowMs = 1_000 | 10_000 | 60_000

/** A provisioned deployment (PTU). */
export interface ProvisionedLimits {
  readonly kind: 'provisioned'
  /** What drains; an output token counts `OUTPUT_WEIGHT` times. */
  readonly tokensPerSecond: number
  /** How much may come at once, as the time in which it drains. Default 10,000. */
  readonly depthMs?: number | undefined
}

export type DeploymentLimits = StandardLimits | ProvisionedLimits

/** What a request costs, as far as can be known before it is answered, or what it cost in the end. */
export interface TokenCost {
  readonly promptTokens: number
  readonly outputTokens: number
}

export interface Refusal {
  readonly reason: 'requests' | 'tokens' | 'utilization'
  readonly waitMs: number
}

/** For gpt-4o a PTU gives 2,500 input or 833 output tokens per minute (Azure OpenAI: provisioned throughput): one to three. */
export const OUTPUT_WEIGHT = 3

/** A request in the currency of provisioned throughput. */
export function weigh(cost: TokenCost): number {
  return cost.promptTokens + OUTPUT_WEIGHT * cost.outputTokens
}

const MINUTE_MS = 60_000

/** What it has been asked for so far, and whether it takes more. */
export class Deployment {
  readonly limits: DeploymentLimits | undefined
  readonly requests: Limiter | undefined
  readonly tokens: Limiter | undefined
  readonly utilization: Utilization | undefined

  constructor(limits: DeploymentLimits | undefined) {
    this.limits = limits
    if (limits?.kind === 'provisioned') {
      this.utilization = new Utilization({ ratePerMs: limits.tokensPerSecond / 1000, depthMs: limits.depthMs ?? 10_000 })
    } else if (limits !== undefined) {
      this.requests = createLimiter(limits, limits.requestsPerMinute, limits.requestLimiter, limits.requestWindowMs ?? 10_000)
      this.tokens = createLimiter(limits, limits.tokensPerMinute, limits.tokenLimiter, limits.tokenWindowMs ?? MINUTE_MS)
    }
  }

  /** Why it would refuse a request now, and for how long; `undefined`: it would take it. Books nothing. */
  judge(now: number, estimate: TokenCost): Refusal | undefined {
    if (this.utilization !== undefined) {
      const waitMs = this.utilization.waitFor(now)
      return waitMs > 0 ? { reason: 'utilization', waitMs } : undefined
    }
    const requestsWaitMs = this.requests?.waitFor(now, 1) ?? 0
    const tokensWaitMs = this.tokens?.waitFor(now, estimate.promptTokens + estimate.outputTokens) ?? 0
    if (requestsWaitMs <= 0 && tokensWaitMs <= 0) return undefined
    return { reason: requestsWaitMs >= tokensWaitMs ? 'requests' : 'tokens', waitMs: Math.max(requestsWaitMs, tokensWaitMs) }
  }

  /** Takes a request and books its estimated cost, or says why not. */
  admit(now: number, estimate: TokenCost): Refusal | undefined {
    const refusal = this.judge(now, estimate)
    if (refusal === undefined) {
      this.utilization?.take(now, weigh(estimate))
      this.requests?.take(now, 1)
      this.tokens?.take(now, estimate.promptTokens + estimate.outputTokens)
    } else if (this.limits?.kind === 'standard' && this.limits.countsRefused === true) {
      this.requests?.take(now, 1)
    }
    return refusal
  }

  /** The answer is complete. Only provisioned deployments give back what was estimated too high. */
  complete(now: number, estimate: TokenCost, real: TokenCost): void {
    this.utilization?.correct(now, weigh(real) - weigh(estimate))
  }
}

function createLimiter(
  { phaseMs, burstFraction = 1 }: StandardLimits, perMinute: number | undefined, kind: LimiterKind | undefined, windowMs: WindowMs,
): Limiter | undefined {
  if (perMinute === undefined) return undefined
  if (kind === 'bucket') return new TokenBucket({ ratePerMs: perMinute / MINUTE_MS, burst: perMinute * burstFraction })
  const limit = Math.max(1, Math.round((perMinute * windowMs) / MINUTE_MS))
  return kind === 'sliding' ? new SlidingWindow({ limit, windowMs }) : new FixedWindow({ limit, windowMs, phase: phaseMs })
}

/**
 * Who says what: `azure` (pay-as-you-go) what remains, and on a refusal when to come back, in whole seconds; `openai` all
 * of its limits on every answer, and milliseconds; `ptu` its utilization, and milliseconds.
 */
export type Dialect = 'azure' | 'openai' | 'ptu'

/** The headers in which a refusal can say when to come back. */
export type RetryHeader = 'retry-after' | 'retry-after-ms' | 'x-ms-retry-after-ms'

/** What is said of the limits on every answer. */
export function limitHeaders(deployment: Deployment, dialect: Dialect, now: number): Record<string, string> {
  const { utilization, limits } = deployment
  if (utilization !== undefined) return { 'azure-openai-deployment-utilization': `${utilization.percent(now).toFixed(1)}%` }
  const headers: Record<string, string> = {}
  for (const dimension of ['requests', 'tokens'] as const) {
    const limiter = deployment[dimension]
    if (limiter === undefined || limits?.kind !== 'standard') continue
    headers[`x-ratelimit-remaining-${dimension}`] = String(Math.floor(limiter.remaining(now)))
    if (dialect !== 'openai') continue
    headers[`x-ratelimit-limit-${dimension}`] = String(limits[`${dimension}PerMinute`])
    headers[`x-ratelimit-reset-${dimension}`] = formatGoDuration(limiter.resetMs(now))
  }
  return headers
}

/** What a refusal says on top of that. `names`: which headers say when to come back, if not the dialect's own. */
export function refusalHeaders(dialect: Dialect, { reason, waitMs }: Refusal, names = usualRetryHeaders(dialect)): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const name of names) headers[name] = name === 'retry-after' ? formatSeconds(waitMs) : String(Math.ceil(waitMs))
  if (dialect === 'azure') headers[`x-ratelimit-reset-${reason}`] = formatSeconds(waitMs)
  return headers
}

function usualRetryHeaders(dialect: Dialect): readonly RetryHeader[] {
  return dialect === 'azure' ? ['retry-after'] : ['retry-after-ms', 'retry-after']
}

/** Rounded up, and at least one: a service never invites back at once. */
export function formatSeconds(ms: number): string {
  return String(Math.max(1, Math.ceil(ms / 1000)))
}

/** As Go prints durations, and OpenAI its resets: `0s`, `17ms`, `1.5s`, `6m0s`. */
export function formatGoDuration(ms: number): string {
  const whole = Math.ceil(ms)
  if (whole > 0 && whole < 1000) return `${whole}ms`
  const minutes = Math.floor(whole / MINUTE_MS)
  const seconds = `${(whole - minutes * MINUTE_MS) / 1000}s`
  return minutes === 0 ? seconds : `${minutes}m${seconds}`
}
