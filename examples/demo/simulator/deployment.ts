import { BucketLimit, UtilizationLimit, WindowLimit, type Limit } from './limits.js'

/** A pay-as-you-go deployment (or, with `buckets`, a model of OpenAI). What is left out is unlimited. */
export interface StandardLimits {
  readonly kind: 'standard'
  /** Estimated when a request is admitted: characters / 4 + max_tokens. */
  readonly tokensPerMinute?: number
  readonly requestsPerMinute?: number
  /** Requests are counted in slices of so many milliseconds: 1,000 or 10,000. Default 10,000. */
  readonly requestSliceMs?: number
  /** Default 60,000. */
  readonly tokenWindowMs?: number
  /** OpenAI: continuously refilled buckets instead of windows, and requests that were refused count too. Default false. */
  readonly buckets?: boolean
}

/** A provisioned deployment (PTU). */
export interface ProvisionedLimits {
  readonly kind: 'provisioned'
  /** What leaks out; an output token counts `OUTPUT_WEIGHT` times. */
  readonly tokensPerSecond: number
  /** How much may come at once, as the time in which it leaks out. Default 10,000. */
  readonly depthMs?: number
}

export type DeploymentLimits = StandardLimits | ProvisionedLimits

/** What a request costs, as far as can be known before it is answered, and what it cost in the end. */
export interface TokenCost {
  readonly promptTokens: number
  readonly outputTokens: number
}

export type Admission =
  | { readonly admitted: true }
  | { readonly admitted: false, readonly reason: 'requests' | 'tokens' | 'utilization', readonly waitMs: number }

/** For gpt-4o a PTU gives 2,500 input or 833 output tokens per minute (Azure OpenAI: provisioned throughput): one to three. */
export const OUTPUT_WEIGHT = 3

/** One deployment: what it has been asked for so far, and whether it takes more. */
export class SimulatedDeployment {
  readonly name: string
  readonly requests: Limit | undefined
  readonly tokens: Limit | undefined
  readonly utilization: UtilizationLimit | undefined
  readonly #countsRefused: boolean

  constructor(name: string, limits: DeploymentLimits | undefined) {
    this.name = name
    this.#countsRefused = limits?.kind === 'standard' && limits.buckets === true
    if (limits?.kind === 'provisioned') {
      this.utilization = new UtilizationLimit(limits.tokensPerSecond, limits.depthMs ?? 10_000)
    } else if (limits !== undefined) {
      const create = (perMinute: number | undefined, windowMs: number): Limit | undefined =>
        perMinute === undefined ? undefined : limits.buckets ? new BucketLimit(perMinute) : new WindowLimit(perMinute, windowMs)
      this.requests = create(limits.requestsPerMinute, limits.requestSliceMs ?? 10_000)
      this.tokens = create(limits.tokensPerMinute, limits.tokenWindowMs ?? 60_000)
    }
  }

  /** Lets a request in and books its estimated cost, or says how long it would have to wait. */
  admit(now: number, estimate: TokenCost): Admission {
    if (this.utilization !== undefined) {
      const waitMs = this.utilization.waitFor(now)
      if (waitMs > 0) return { admitted: false, reason: 'utilization', waitMs }
      this.utilization.take(now, weigh(estimate))
      return { admitted: true }
    }
    const tokens = estimate.promptTokens + estimate.outputTokens
    const requestsWaitMs = this.requests?.waitFor(now, 1) ?? 0
    const tokensWaitMs = this.tokens?.waitFor(now, tokens) ?? 0
    if (requestsWaitMs > 0 || tokensWaitMs > 0) {
      if (this.#countsRefused) this.requests?.take(now, 1)
      const reason = requestsWaitMs >= tokensWaitMs ? 'requests' : 'tokens'
      return { admitted: false, reason, waitMs: Math.max(requestsWaitMs, tokensWaitMs) }
    }
    this.requests?.take(now, 1)
    this.tokens?.take(now, tokens)
    return { admitted: true }
  }

  /** The answer is complete. Only provisioned deployments give back what was estimated too high. */
  complete(now: number, estimate: TokenCost, real: TokenCost): void {
    this.utilization?.correct(now, weigh(real) - weigh(estimate))
  }
}

function weigh(cost: TokenCost): number {
  return cost.promptTokens + OUTPUT_WEIGHT * cost.outputTokens
}
