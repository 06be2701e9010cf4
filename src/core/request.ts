/**
 * One request and its attempts, as the pool knows them. A request may be sent several times, to several backends; each
 * time is an attempt, which has one outcome and ends once. The shell's request object is a `PoolRequest` itself, and an
 * attempt is one object from `acquire` to `settle`, so that nothing else is allocated on the way.
 */
import type { Backend, ScopeState } from './backend.js'
import type { Probing, Streak } from './health.js'
import type { PacedAttempt, Pacer } from './pacing/pacer.js'
import type { Undecided } from './slow-start.js'
import type { AnswerError, BackendConfig, CooldownSource, OutcomeClass, OutReason, PathKind, SurfaceReason } from './types.js'

export abstract class PoolRequest {
  /** Deployment or model; `''` when unknown, which is a scope like any other. */
  scope = ''
  /** Size of the request body in bytes as far as it is known, else 0: the base of the estimated token cost. */
  bodyBytes = 0
  /** Goes to the home backend and nowhere else (stateful paths). */
  abstract readonly pinned: boolean
  /** What a refusal would say of the backend. */
  get path(): PathKind {
    return 'core'
  }

  /** A hash of the caller's own credential; asked only where some credential of a caller's was refused. */
  get callerKey(): string {
    return ''
  }

  /** Its client says that it has tried before. Asked only where some caller gave up waiting. */
  get isRepeat(): boolean {
    return false
  }

  /** For how long it may be held, in milliseconds, where it has said so itself: else the option of this name counts. */
  maxWaitMs: number | undefined = undefined

  /** Monotonic time from which on no further attempt begins, and at which a wait ends. */
  get deadlineAt(): number {
    return Infinity
  }

  /** Monotonic time at which an attempt under way is ended as well: never before `deadlineAt`. */
  get endsAt(): number {
    return Infinity
  }

  // The pool's own notes.
  /** Attempts made so far. */
  attempts = 0
  /** The attempts since the last wait that did not work: their backends are not asked again before one. */
  tried: Attempt[] | undefined = undefined
  /** How the last attempt went. */
  lastOutcome: OutcomeClass | undefined = undefined
  /** Attempts that failed. */
  failures = 0
  /** Attempts that were not delivered, those that were throttled apart: the step after the first of them is free. */
  steps = 0
  /** The caller's credential was refused: no backend may be asked with one of ours, or it would be let in by the back door. */
  isRefused = false
  /** Too long for a backend: only those that are marked `largerContext` may do better. */
  needsLarger = false
  /** Attempts that met a connection which was closed just then, and were made once more: they do not count. */
  repeats = 0
  /** Attempts that were told to come back at once: of a request that can wait they do not count. */
  immediates = 0
  /** Monotonic time at which the request began to wait for the first time. */
  waitingSince: number | undefined = undefined

  /** The turn of a waiting request has come, or its wait is over: the shell calls `acquire` again. Never called from inside `acquire`. */
  abstract wake(): void
}

/** What is kept of an attempt that did not work. Apart from it, so that all the others are small. */
export class Setback {
  /** Monotonic time at which it became known. */
  readonly at: number
  /** Monotonic time from which the backend is open again to the request, where that waits. */
  readonly reopensAt: number
  /** No connection was made: nothing was asked of anyone. */
  wasUnconnected = false
  /** In which way it failed, where that may be the request's fault: a status, `timeout` or `reset`. */
  evidence: number | string | undefined = undefined
  /** Another backend failed the request in the same way. */
  isSuspect = false
  /** What the failure was counted in, on the backend and on the scope: it may have to be taken back. */
  targetStreak: Streak | undefined = undefined
  scopeStreak: Streak | undefined = undefined

  constructor(at: number, reopensAt: number) {
    this.at = at
    this.reopensAt = reopensAt
  }
}

/** One try of one request on one backend; made by `acquire`, given back with `settle`. */
export class Attempt implements Undecided {
  readonly request: PoolRequest
  readonly backend: BackendConfig
  /** 1 for the first attempt of a request. */
  readonly number: number
  /** Monotonic time of `acquire`. */
  readonly startedAt: number

  // The pool's own.
  readonly target: Backend
  readonly scope: ScopeState
  /** The probe slots of the backend and of the scope, where this attempt took them. */
  readonly probe: Probing | undefined
  readonly scopeProbe: Probing | undefined
  /** That counted this attempt; an update may have replaced or removed the scope's since. */
  readonly pacer: Pacer | undefined
  /** `ignored` until it is known. */
  outcome: OutcomeClass = 'ignored'
  /** Of the response; 0 as long as there is none. */
  status = 0
  /** Monotonic time from which the backend itself was waited for: `Infinity` while its credential is fetched. */
  askedAt: number
  /** Milliseconds from `askedAt` to the response headers. */
  latencyMs = 0
  isSettled = false
  /** Its outcome is known. */
  isConcluded = false
  /** What the answer said of itself, where that was read. */
  error: AnswerError | undefined = undefined
  /** Its body was looked into, whatever came of it. */
  wasRead = false
  /** Monotonic time of the end of the cooldown that it asked for: it may have to be taken back. */
  cooldownUntil: number | undefined = undefined
  /** There only when it did not work. */
  setback: Setback | undefined = undefined
  /** What it costs of a declared limit of tokens; -1 where it is not counted. */
  declaredCost = -1
  // The pacer's own.
  cost = 0
  sentRequests = 0
  sentTokens = 0
  felt: PacedAttempt['felt'] = undefined
  // The slow start's own.
  isUndecided = false
  nextUndecided: Undecided | undefined = undefined

  constructor(request: PoolRequest, target: Backend, scope: ScopeState, probe: Probing | undefined, scopeProbe: Probing | undefined, now: number) {
    this.request = request
    this.backend = target.config
    this.number = request.attempts
    this.startedAt = now
    this.askedAt = now
    this.target = target
    this.scope = scope
    this.probe = probe
    this.scopeProbe = scopeProbe
    this.pacer = scope.pacer
  }

  get kind(): 'send' {
    return 'send'
  }

  /** Milliseconds until its outcome was known, by now at the latest; not those in which its credential was fetched, unless it is that what failed. */
  tookMs(now: number): number {
    return (this.setback?.at ?? now) - (this.askedAt < Infinity ? this.askedAt : this.startedAt)
  }

  /** Whether this attempt decides on the backend's, or the scope's, readmission. Once the state has moved on, it no longer does. */
  get isProbe(): boolean {
    return this.probe !== undefined && this.target.health === this.probe
  }

  get isScopeProbe(): boolean {
    return this.scopeProbe !== undefined && this.scope.health === this.scopeProbe
  }
}

/** The answer of `acquire`. */
export type Acquisition =
  | Attempt
  /** Held: `request.wake()` will be called. `leave` takes the request out of the queue. */
  | { readonly kind: 'wait' }
  /** Nothing is available and at least one backend is merely throttled: answer 429 with this wait, in milliseconds (> 0). */
  | { readonly kind: 'reject'; readonly retryAfterMs: number }
  /** No backend has the request's model: answer 404, and say what is served. */
  | { readonly kind: 'unserved'; readonly served: readonly string[] }
  /** No further attempt: the caller gets the last real response or error. Never the answer for a first attempt. */
  | { readonly kind: 'surface'; readonly reason: SurfaceReason }
  /** The pool was closed. */
  | { readonly kind: 'closed' }

/** No backend can take the request now. */
export interface Shortage {
  readonly kind: 'shortage'
  /** At least one backend has said that it is full, or only an estimate says so: a wait may help. */
  readonly isThrottled: boolean
  /** What keeps all from taking the request is nothing that a wait puts right. */
  readonly isInVain: boolean
  /** Milliseconds until the first backend of all is expected to take the request, by its own word or out; 0 where only an estimate stands in the way, Infinity when none is. */
  readonly toldMs: number
  /** Milliseconds until the situation changes, estimates included. */
  readonly soonestMs: number
}

/** What the pool tells as it happens, by the name of the event. */
export interface PoolEvents {
  /** An attempt begins. */
  picked: { readonly attempt: Attempt }
  /** Response headers go to the caller: a success, an answer that is the caller's own, or the last one when no backend is left. */
  answered: { readonly attempt: Attempt }
  /** The attempt did not work and the request goes on: to the next backend, or, where that is `undefined`, to wait for one. */
  failover: { readonly attempt: Attempt; readonly to: BackendConfig | undefined }
  cooldown: {
    readonly backend: BackendConfig; readonly scope: string; readonly cooldownMs: number; readonly source: CooldownSource; readonly status: number
    readonly error: AnswerError | undefined
  }
  ejected: {
    readonly backend: BackendConfig; readonly scope: string | undefined; readonly cooldownMs: number; readonly reason: OutReason; readonly tookMs: number
    readonly error: AnswerError | undefined
  }
  /** A caller's own credential was refused, or its account is exhausted: the backend is out for that credential alone. */
  'caller-out': { readonly attempt: Attempt; readonly cooldownMs: number }
  /** The response broke off after its commit point: the caller has a part of it. */
  broken: { readonly attempt: Attempt }
  /** `after`: what kept the backend (or, where it is given, the scope) out. */
  readmitted: { readonly backend: BackendConfig; readonly scope: string | undefined; readonly after: 'ejected' | 'cooldown' }
  'suspect-request': { readonly attempt: Attempt; readonly evidence: number | string }
  waiting: { readonly request: PoolRequest; readonly queueLength: number }
  /** A held request goes on. */
  waited: { readonly request: PoolRequest; readonly waitedMs: number; readonly queueLength: number }
  /** The caller is told that nothing is available: a 429 of our own, a 404 where no backend has the model, or the last real answer or error. */
  exhausted: { readonly request: PoolRequest; readonly retryAfterMs: number | undefined; readonly reason: SurfaceReason | 'throttled' | 'queue-full' | 'not-served' }
}

/** Hears what the pool tells. The facts of an event are put together only where `hears` says that someone wants them. */
export interface PoolListener {
  hears(event: keyof PoolEvents): boolean
  tell<K extends keyof PoolEvents>(event: K, facts: PoolEvents[K]): void
}
