/** Callers that were sent away together must not return together, yet none should wait for long in vain. */
const SHARE = 0.1
const MAX_MS = 1_000

/** How much later than it was told to a caller may come back at most. Both in milliseconds. */
export function largestJitterMs(forMs: number): number {
  return Math.min(forMs * SHARE, MAX_MS)
}
