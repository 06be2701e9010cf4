import type { AttemptEnd, OutcomeClass, ResponseHeaders, ScopeStatus } from '../types.js'

/** What pacing keeps with an attempt: what it cost, and what had been sent by then. The pool's attempt is one. */
export interface PacedAttempt {
  /** Monotonic time. */
  readonly startedAt: number
  cost: number
  sentRequests: number
  sentTokens: number
}

/**
 * What the pool asks of the pacing of one scope on one backend, and what it tells it. The size of a request is given
 * as the bytes of its body; what that costs in requests and tokens is the pacer's own business.
 */
export interface Pacer {
  /** Milliseconds until a request of this size is expected to be admitted; 0: now. Asked for every candidate, so no side effects. */
  waitMs(bodyBytes: number, now: number): number
  /** How far from its limit this scope is, from 0 (at the edge) to 1: weighs equals against each other. */
  headroom(now: number): number
  /** A request of this size goes out now. */
  sent(attempt: PacedAttempt, bodyBytes: number, now: number): void
  /** Response headers of an attempt. `retryAfterMs`: what the answer itself says, without jitter; `undefined` when it says nothing. */
  observe(
    attempt: PacedAttempt, outcome: OutcomeClass, status: number, headers: ResponseHeaders, retryAfterMs: number | undefined, now: number,
  ): void
  /** The attempt is over. `answered`: there were response headers. Exactly once per `sent`. */
  finished(attempt: PacedAttempt, end: AttemptEnd, answered: boolean): void
  /** For `status()`. */
  pace(now: number): ScopeStatus['pace']
}
