/**
 * What an answer means decides where the request goes next and which backend is left alone, and its status says only half of it.
 * All of that is decided here, and nowhere else.
 */
import { isRetryHeader, type RetryHint } from './retry-after.js'
import type { OutcomeClass } from './types.js'

/** Whether the answer's headers can change what its status means: only then are they worth reading. */
export function mayBeThrottled(status: number): boolean {
  return status === 429 || status >= 500
}

/**
 * What a response means, from its status alone but for a 5xx: one that says when to come back is an overloaded
 * backend that speaks, not a broken one.
 *
 * @param hint what `readRetryAfter` found in the headers.
 * @param ownsCredential whether we added the credential: a refusal is then ours to put right, else it is the caller's answer.
 */
export function classify(status: number, hint: RetryHint | undefined, ownsCredential: boolean): OutcomeClass {
  if (status < 400) return 'success'
  if (status === 429) return 'throttled'
  if (status >= 500) return hint !== undefined && isRetryHeader(hint.source) ? 'throttled' : 'failed'
  // Azure's own timeout: the backend gave up on the request, which it may not do elsewhere.
  if (status === 408) return 'failed'
  if ((status === 401 || status === 403) && ownsCredential) return 'misconfigured'
  return 'answered'
}

/** These reach the caller; all others are followed by another attempt where one is left. */
export function isDelivered(outcome: OutcomeClass): boolean {
  return outcome === 'success' || outcome === 'answered'
}
