/**
 * What the simulated world and a routing policy say to each other. A policy sees exactly what an interceptor in a
 * client process could see; only the clairvoyant oracle may look into the servers.
 */
import type { Engine } from './engine.js'
import type { SimulatedBackend } from './simulated-backend.js'
import type { Arrival } from './workload.js'

export type HeaderValues = Record<string, string>

/** One call of the application, as an interceptor sees it. Policies may not add to it: they keep their own maps. */
export interface RequestView {
  readonly id: number
  /** Index of the client process. */
  readonly client: number
  readonly stream: boolean
  readonly bodyBytes: number
  readonly maxTokens: number
  /** How often the SDK has tried already. */
  readonly sdkRetry: number
  readonly callAt: number
  readonly firstSeenAt: number
  /** Attempts of this interceptor call so far. */
  attempt: number
  /** Indices of the backends that were tried. */
  readonly tried: number[]
  last: FailedAnswer | null
  /** The request itself; only for the oracle. */
  readonly truth: Arrival | undefined
}

/** What a server answered, and when, counted from the moment at which the request reached it. */
export interface Answer {
  readonly status?: number
  readonly error?: string
  readonly headers?: HeaderValues
  readonly headersAfterMs: number
  readonly totalAfterMs: number
}
export type FailedAnswer = Answer

export interface AttemptResult {
  /** 0 when there was no response. */
  readonly status: number
  readonly error?: string | undefined
  readonly headers: HeaderValues
  readonly latencyMs: number
}

export type Decision =
  | number
  | { readonly wait: number }
  | { readonly queue: true }
  | { readonly reject: number; readonly seconds?: number; readonly final?: boolean }
  | { readonly surface: true }

export interface PolicyBackend {
  readonly index: number
  readonly name: string
  readonly priority: number
  readonly kind: 'ptu' | 'payg'
  /** Only for policies that are configured with limits. */
  readonly limits: { readonly rpm: number; readonly tpm: number } | undefined
}

/** Virtual and seeded. */
export interface PolicyEnv {
  now(): number
  random(): number
  setTimer(callback: () => void, delayMs: number): { cancel(): void }
  /** `pick` is called again for a queued request. */
  wake(request: RequestView): void
}

export interface PolicyContext {
  readonly backends: readonly PolicyBackend[]
  readonly env: PolicyEnv
  readonly clients: number
  readonly world: { readonly engine: Engine; readonly backends: readonly SimulatedBackend[] } | undefined
}

export interface PolicyInstance {
  /** For a new call, again after each failed attempt, after a `wait` and after `env.wake`. */
  pick(now: number, request: RequestView): Decision
  /** Response headers of a success. */
  onHeaders?(now: number, backend: number, request: RequestView, result: AttemptResult): void
  /** The end of every attempt. */
  onResult(now: number, backend: number, request: RequestView, result: AttemptResult): void
}

export interface Policy {
  readonly name: string
  readonly clairvoyant?: boolean
  create(context: PolicyContext): PolicyInstance
}
