import type { OutcomeClass, SurfaceReason } from './types.js'

/** What the decision on a request rests on. */
export interface Situation {
  /** Attempts made so far. */
  readonly attempts: number
  readonly maxAttempts: number
  readonly lastOutcome: OutcomeClass | undefined
  /** A backend would take the request now. */
  readonly isFree: boolean
  /** Milliseconds until a backend that is merely throttled takes it; Infinity when there is none. */
  readonly throttledMs: number
  /** Milliseconds that the request may still be held. */
  readonly patienceMs: number
}

export type Decision = 'send' | 'wait' | 'reject' | Exclude<SurfaceReason, 'pinned'>

/**
 * What becomes of a request: at first, and after each attempt that did not work.
 *
 * With its attempts used up the caller gets the last real answer, unless nobody is free and somebody is merely
 * throttled: then a 429 that says when to come back is worth more than a stale answer, or than an error of a backend
 * that happened to be asked last. A refused credential of ours is told as it is: waiting does not mend it.
 */
export function decide(situation: Situation): Decision {
  const { attempts, maxAttempts, lastOutcome, isFree, throttledMs, patienceMs } = situation
  const isThrottled = throttledMs !== Infinity
  if (attempts >= maxAttempts) {
    return !isFree && isThrottled && lastOutcome !== 'misconfigured' ? 'reject' : 'attempts'
  }
  if (isFree) return 'send'
  if (!isThrottled) return 'no-backend'
  return throttledMs <= patienceMs ? 'wait' : 'reject'
}
