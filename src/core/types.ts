/**
 * The words that the core and its callers share. Nothing here knows of undici or sockets: time, chance and timers are
 * handed in, so that every decision can be replayed in a test or in a simulator.
 */

import type { DeclaredLimits } from './pacing/declared.js'

/** A timer that can be called off. Calling it off twice, or after it fired, does nothing. */
export interface Timer {
  cancel(): void
  /** Lets the process end although this has not fired. */
  unref?(): void
}

/**
 * A timer that fires more than so much too late, in milliseconds, means that our own process stood still: a busy loop, or a frozen
 * container. Node is late by a few milliseconds under load, and the longest pauses of its garbage collector are below this.
 */
export const STANDSTILL_MS = 100

/** @param stoodStill our process did when this timer should have fired: what had come was read since, and no backend is to blame for the time. */
export type TimerCallback = (stoodStill?: boolean) => void

/** What the core may ask of the world. The real one is `system.ts`; tests and the simulator bring their own. */
export interface System {
  /** Monotonic time in milliseconds, fractions included. Its zero means nothing. */
  now(): number
  /** Milliseconds since the Unix epoch. Only for dates in headers. */
  wallNow(): number
  /** Uniform in [0, 1). */
  random(): number
  /**
   * Calls back once after `delayMs`, and, where our process stood still meanwhile, not before what has come for it was read from
   * its sockets. The timer keeps the process alive: a held request is work to be done.
   */
  setTimer(callback: TimerCallback, delayMs: number): Timer
  /** Calls back once what happens in this turn of the event loop has happened. */
  nextTurn(callback: () => void): void
}

/** A backend's own credential. */
export interface BackendCredential {
  /** The request header that carries it. */
  readonly header: string
  /** A function gives it: after one that was refused another one may come, without anybody's doing. */
  readonly isFetched: boolean
  /** The header's value, or a promise of it where it has to be fetched. */
  resolve(now: number): string | Promise<string>
  /** Milliseconds that the fetching may still take. */
  leftMs(now: number): number
  /** The error where they are over. */
  expire(): Error
  /** The backend has refused this value. */
  refuse(value: string): void
}

/** A backend as it was configured. Decisions go by the first half; the second is carried along for the part that sends the requests. */
export interface BackendConfig {
  /** Unique in its pool; what logs, status and events call it. */
  readonly name: string
  /** Base URL as a string, without credentials. Identifies, with the name, a backend that stays over an update. */
  readonly url: string
  /** Integer from 1; lower goes first. */
  readonly priority: number
  /** Share among equals, > 0. */
  readonly weight: number
  /** `false`: gets no attempts. */
  readonly enabled?: boolean
  /** True when the backend has a credential of its own, wherever it is sent: then a 401 or 403 is our misconfiguration, not the caller's. */
  readonly ownsCredential: boolean
  /** Takes what another backend has refused as too long. */
  readonly largerContext?: boolean
  /** What the user declares of its limits. */
  readonly limits?: DeclaredLimits | undefined
  /** Deployment or model names as this backend knows them; limits belong to the name on the backend's side. */
  readonly models: Readonly<Record<string, string>> | undefined
  /** The deployments or models that it has, by the caller's name or its own; `*` at the end stands for anything. Undefined: all. */
  readonly serves?: readonly string[] | undefined

  /** `https://host`, with `:port` unless it is the scheme's own. */
  readonly origin: string
  /** `''` or `/openai/v1`: never a slash at the end. */
  readonly basePath: string
  /** Query parameters to set, as text. */
  readonly query: readonly (readonly [string, string])[] | undefined
  /** Headers to set, by names in lower case. */
  readonly headers?: readonly (readonly [string, string])[] | undefined
  readonly credential: BackendCredential | undefined
}

/** The part of the options that the core acts on. Every duration in milliseconds. */
export interface PoolConfig {
  readonly backends: readonly BackendConfig[]
  /** The backend that takes stateful paths. One of `backends`, and enabled. */
  readonly home: BackendConfig
  /** Upper bound on the attempts of one request; `undefined`: one per backend; twice that, and at least 4, when `maxWaitMs` > 0. */
  readonly maxAttempts: number | undefined
  readonly maxWaitMs: number
  readonly cooldownMs: number
  readonly maxCooldownMs: number
  readonly pacing: boolean
  readonly latencyGuard: boolean
  /** Whether backends that cannot be reached are tried by the balancer itself, so that no request pays for it. */
  readonly probe: boolean
  readonly retryBudget: { readonly ratio: number; readonly minPerSecond: number }
}

/** Response headers as undici hands them over: parsed, with lower-case names, or raw name and value in turn. */
export type ResponseHeaders =
  | Readonly<Record<string, string | string[] | undefined>>
  | readonly (Uint8Array | string | readonly (Uint8Array | string)[])[]

/**
 * What an error says of itself, in an answer's body or in a stream: `error.code`, `error.type` and `error.param`, as text. Nothing
 * else of it counts: messages quote what callers wrote.
 */
export interface AnswerError {
  readonly code: string | undefined
  readonly type: string | undefined
  readonly param: string | undefined
}

/**
 * What an answer means, at its commit point.
 * - `success`: 2xx, 3xx. Delivered.
 * - `answered`: other 4xx. Delivered; says nothing about the backend's health.
 * - `throttled`: 429, 403 or 5xx with a retry header, or a rate limit told within a 200. Next backend; the scope cools down.
 * - `oversized`: a 429 for a request that can never fit. Next backend; nothing is out.
 * - `failed`: 408, other 5xx, HTML, connection failures, timeouts, a stream that ends before any output. Next backend; counts towards ejection.
 * - `misconfigured`: 401 or 403 to a credential that we added, or a credential function that fails. Next backend; this one, or the scope, is out.
 * - `refused`: 403, or 401 with the code PermissionDenied, to the caller's own credential. Next backend that gets the same credential; out for that credential.
 * - `exhausted`: the account has no money left. Next backend; out for minutes, or for that credential where it is the caller's.
 * - `missing`: the backend does not have this deployment or model. Next backend; the pair is out for minutes.
 * - `overlong`: more than the model takes. Next backend that is marked `largerContext`; nothing is out.
 * - `ignored`: the caller aborted. Says nothing about the backend.
 */
export type OutcomeClass =
  | 'success' | 'answered' | 'throttled' | 'oversized' | 'failed' | 'misconfigured' | 'refused' | 'exhausted' | 'missing' | 'overlong' | 'ignored'

/**
 * How much a path says of a backend when it is refused there.
 * - `core`: chat, responses, embeddings: a credential that is refused here is refused everywhere.
 * - `model`: the rest of the model API, which a key may not be good for.
 * - `outside`: anything else (`/traces/ingest`), which says nothing.
 */
export type PathKind = 'core' | 'model' | 'outside'

/**
 * How an attempt ended, as the shell reports it to `settle`.
 * - `completed`: headers were reported; the body ended, or what was left of a swallowed response was given up.
 * - `connection`: no connection was made (refused, DNS, TLS, undici's connect timeout): nothing was sent.
 * - `reset`: the connection broke off before the response headers, or what came was no response.
 * - `timeout`: no response headers in time (undici's headers timeout, or `attemptTimeoutMs`).
 * - `local`: our own machine could not even try (no file descriptors, no buffers): no backend is at fault.
 * - `resolver`: our resolver had no answer (EAI_AGAIN), which may be the machine's fault or the name's.
 * - `credential`: the backend's credential provider failed; nothing was sent.
 * - `stale`: a connection that had served before was closed just as it was used again: the request goes once more to the same backend.
 * - `broken`: the response broke off after its commit point.
 * - `dropped`: an upgraded connection was closed at once.
 * - `aborted`: the caller aborted.
 * - `unsent`: the same, before the request was on a connection.
 */
export type AttemptEnd = 'completed' | 'connection' | 'reset' | 'timeout' | 'local' | 'resolver' | 'credential' | 'stale' | 'broken' | 'dropped' | 'aborted' | 'unsent'

/**
 * Why an attempt that did not work is not followed by another one.
 * - `deadline`: the time of the request is over (`deadlineMs`, or what its SDK says of its own timeout).
 * - `attempts`: `maxAttempts` are used up.
 * - `budget`: the retry budget is.
 * - `no-backend`: every other backend was tried, or is out.
 * - `creates-state`: it may have begun something (a background response, a tool that acts) that must not be begun twice.
 * - `bound`: a stateful path belongs to the home backend and is not sent elsewhere.
 * - `not-replayable`: the body was longer than `maxReplayBytes`, and a part of it is gone.
 */
export type SurfaceReason = 'deadline' | 'attempts' | 'budget' | 'no-backend' | 'bound' | 'not-replayable' | 'creates-state'

/** Where a cooldown's length came from. */
export type CooldownSource =
  | 'retry-after-ms' | 'x-ms-retry-after-ms' | 'retry-after'
  | 'x-ratelimit-reset-requests' | 'x-ratelimit-reset-tokens' | 'default'

/** `cooldown`: every scope that was used lately is cooling down. `ejected` and `probing`: see `health.ts`. `disabled`: by the option `enabled`. */
export type BackendState = 'available' | 'cooldown' | 'ejected' | 'probing' | 'disabled'

/** Why a backend, or one scope of it, is out: see `EjectedEvent`. */
export type OutReason = 'failed' | 'unreachable' | 'local' | 'abandoned' | 'misconfigured' | 'credential' | 'exhausted' | 'missing'

/** What keeps a backend, or one scope of it, from being asked. */
export interface Out {
  /** Milliseconds since the Unix epoch. In the past while one request finds out whether it is back. */
  readonly until: number
  readonly reason: OutReason | 'throttled'
  /** What the answer said of itself that put it out, where that was read. */
  readonly errorCode?: string | undefined
  readonly errorType?: string | undefined
}

/** A snapshot of one scope on one backend. */
export interface ScopeStatus {
  /** Deployment or model as the backend knows it; `''` stands for requests whose scope is unknown. */
  readonly scope: string
  readonly state: 'available' | 'cooldown' | 'paced' | 'ejected' | 'probing'
  /** Milliseconds until the scope may be used again; 0 when it may now. */
  readonly cooldownMs: number
  /** Why it is ejected or probed; `undefined` when it is not. */
  readonly reason: OutReason | undefined
  /** Only while something keeps it from being asked. */
  readonly out?: Out
  readonly attempts: number
  readonly successes: number
  readonly throttled: number
  /** Successes that another deployment of the same resource has given, since this one was full (Azure OpenAI, spillover). Counted with `pacing`. */
  readonly spillovers: number
  readonly failures: number
  readonly inFlight: number
  /** What pacing has learned, where it has: the backend's pace in units per second, and how long until the next request fits (0: now). */
  readonly pace: readonly { readonly dimension: 'requests' | 'tokens'; readonly perSecond: number; readonly waitMs: number }[]
}

/** A snapshot of one backend. */
export interface BackendStatus {
  readonly name: string
  readonly url: string
  readonly priority: number
  readonly weight: number
  readonly state: BackendState
  /** Milliseconds until the backend may be used again as a whole; 0 when it may now. */
  readonly cooldownMs: number
  /** Why it is ejected or probed; `undefined` when it is not. */
  readonly reason: OutReason | undefined
  /** Only while something keeps it from being asked as a whole. */
  readonly out?: Out
  /** Callers' own credentials that it refuses, or whose account is exhausted: for these alone it is out. */
  readonly callersOut: number
  /** Attempts whose response body has not ended. */
  readonly inFlight: number
  readonly attempts: number
  readonly successes: number
  readonly throttled: number
  /** Successes that another deployment of the same resource has given, since this one was full (Azure OpenAI, spillover). Counted with `pacing`. */
  readonly spillovers: number
  readonly failures: number
  /** Time to response headers of the last success, in milliseconds. */
  readonly lastLatencyMs: number | undefined
  readonly scopes: readonly ScopeStatus[]
}

/** Those of one scope that are held right now. */
export interface QueueStatus {
  /** As the caller names it: model or deployment, `''` when that is unknown. */
  readonly scope: string
  readonly waiting: number
  /** How long ago the first in the queue began to wait, in milliseconds. */
  readonly firstWaitedMs: number
}

/** Of all waits that are over, since the pool exists. A request that was refused after one may have waited again. */
export interface WaitStatus {
  /** Ended with a backend that takes the request. */
  readonly served: number
  /** Ended otherwise: with a 429 after all, or aborted. */
  readonly unserved: number
  /** Of those that were served, in milliseconds. */
  readonly totalMs: number
  readonly longestMs: number
}

export interface PoolStatus {
  /** Requests that are held for a backend right now. */
  readonly waiting: number
  /** By scope; empty ones are left out. */
  readonly queues: readonly QueueStatus[]
  readonly waits: WaitStatus
  readonly backends: readonly BackendStatus[]
}
