/**
 * When a backend that fails is left alone, and when it is tried again. A backend that is down must not cost every request an
 * attempt; one that is well again must be found out soon, and by one request, not by all of them at once.
 */

/*
 *                      second failure in a row, or unreachable,
 *                      or misconfigured
 *   ┌───────────┐ ───────────────────────────────────────────► ┌─────────┐
 *   │ available │                                              │ ejected │ ◄┐
 *   └───────────┘ ◄─────────────────── success ─────────────── └─────────┘  │
 *         ▲                                                      │     ▲    │ the probe failed
 *         │                            its time is over, and one │     │    │ (a longer time)
 *         │                            request goes as the probe ▼     │    │
 *         │                                                   ┌─────────┐   │
 *         └────────────────────── success ─────────────────── │ probing │ ──┘
 *                                                             └─────────┘
 *                                 the probe was throttled, refused as the caller's mistake
 *                                 or aborted: ejected, its time over, the slot free again
 */

export interface Available {
  readonly kind: 'available'
  /** In a row, without a success in between. */
  readonly failures: number
}

export interface Ejected {
  readonly kind: 'ejected'
  /** Monotonic time from which one probe may go. */
  readonly until: number
  /** In a row: how far the backoff has come. */
  readonly ejections: number
  readonly reason: EjectionReason
}

/** The object itself is the probe slot: the attempt that took it holds it for as long as the backend has this very state. */
export interface Probing {
  readonly kind: 'probing'
  readonly ejections: number
  readonly reason: EjectionReason
}

export type Health = Available | Ejected | Probing

export type EjectionReason = 'failed' | 'unreachable' | 'misconfigured'

/**
 * - `success`, `failed` (408 or 5xx), `unreachable` (no response headers) and `misconfigured` are the outcomes that say something.
 * - `probe`: a request takes the slot.
 * - `release`: the probe ended in a way that says nothing.
 */
export type HealthEvent = 'success' | EjectionReason | 'probe' | 'release'

/** One bad answer may be the request's own fault (a malformed one is answered 500 by Azure); two in a row hardly are. */
const FAILURES_TO_EJECT = 2

/** A wrong key is replaced by people. A minute keeps the noise down and still notices within one. */
const MISCONFIGURED_MS = 60_000

/** Most failures (a restart, a lost connection, one bad minute of DNS) are over soon, so the first probe comes within this. */
const FIRST_BACKOFF_MS = 500

/** A dead backend costs its probe one failed attempt. At 15 s, a mean of 7.5 s, that is one request in hundreds at 40 a second. */
export const LONGEST_BACKOFF_MS = 15_000

/** Shared, so that a success on a healthy backend allocates nothing. */
export const AVAILABLE: Available = Object.freeze({ kind: 'available', failures: 0 })

/**
 * The next state of a backend. Returns the very same object when nothing changes.
 *
 * @param isProbe whether the event comes from the attempt that holds the probe slot. A late failure of an older attempt
 * is no news about a backend that is already out.
 * @param random uniform in [0, 1); only asked on ejection.
 */
export function transition(state: Health, event: HealthEvent, isProbe: boolean, now: number, random: () => number): Health {
  switch (event) {
    case 'success':
      return AVAILABLE
    case 'probe':
      return state.kind === 'ejected' && canProbe(state, now) ? { kind: 'probing', ejections: state.ejections, reason: state.reason } : state
    case 'release':
      return state.kind === 'probing' && isProbe ? { ...state, kind: 'ejected', until: now } : state
    default:
      return fail(state, event, isProbe, now, random)
  }
}

/** Out, but its time is over and nobody probes yet. */
export function canProbe(state: Health, now: number): boolean {
  return state.kind === 'ejected' && state.until <= now
}

function fail(state: Health, reason: EjectionReason, isProbe: boolean, now: number, random: () => number): Health {
  if (state.kind === 'available') {
    const failures = state.failures + 1
    return reason === 'failed' && failures < FAILURES_TO_EJECT ? { kind: 'available', failures } : eject(1, reason, now, random)
  }
  return state.kind === 'probing' && isProbe ? eject(state.ejections + 1, reason, now, random) : state
}

function eject(ejections: number, reason: EjectionReason, now: number, random: () => number): Ejected {
  const forMs = reason === 'misconfigured' ? MISCONFIGURED_MS : backoffMs(ejections, random())
  return { kind: 'ejected', until: now + forMs, ejections, reason }
}

/**
 * How long a backend that failed is left alone: uniform between 0 and a bound that doubles with each ejection in a row
 * ("full jitter": processes that saw the same failure must not probe in step).
 *
 * @param ejections how many ejections in a row, this one included; from 1.
 * @param random uniform in [0, 1).
 * @returns milliseconds.
 */
function backoffMs(ejections: number, random: number): number {
  return random * Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** (ejections - 1))
}
