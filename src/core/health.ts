/**
 * When what fails is left alone, and when it is tried again. A backend that is down must not cost every request an attempt; one that
 * is well again must be found out soon, and by one request, not by all of them at once. The same machine is kept twice: for a
 * backend as a whole, of what concerns its host or account, and for each scope on it, of what concerns a deployment.
 */

import type { AnswerError, Out, OutReason } from './types.js'

/*
 *                      second failure in a row; at once where it
 *                      is anything but failed
 *   ┌───────────┐ ───────────────────────────────────────────► ┌─────────┐
 *   │ available │                                              │ ejected │ ◄┐
 *   └───────────┘ ◄─────────────────── success ─────────────── └─────────┘  │
 *     ▲   ▲                                                      │   ▲ │    │ the probe failed
 *     │   │                            its time is over, and one │   │ │    │ (a longer time)
 *     │   │                            request goes as the probe ▼   │ │    │
 *     │   │                                                   ┌─────────┐   │
 *     │   └────────────────────── success ─────────────────── │ probing │ ──┘
 *     └── reached: what was unreachable answers again, and ── └─────────┘
 *         its count of ejections goes on until a success
 *                                 the probe was throttled, refused as the caller's mistake
 *                                 or aborted: ejected, its time over, the slot free again
 */

export interface Available {
  readonly kind: 'available'
  /** In a row, without a success in between. */
  readonly failures: number
  /** That came before, without a success since: how far the backoff has come. */
  readonly ejections: number
}

export interface Ejected {
  readonly kind: 'ejected'
  /** Monotonic time from which one probe may go. */
  readonly until: number
  /** In a row: how far the backoff has come. */
  readonly ejections: number
  readonly reason: EjectionReason
}

/** The object itself is the probe slot: the attempt that took it holds it for as long as this very state lasts. */
export interface Probing {
  readonly kind: 'probing'
  readonly ejections: number
  readonly reason: EjectionReason
}

export type Health = Available | Ejected | Probing

/**
 * - `failed`: 408, 5xx, a timeout: one may be the request's own fault, the second in a row hardly is.
 * - `unreachable`: no connection, or one that broke off before an answer; `local`: the same, where our own machine may be the reason.
 * - `abandoned`: callers gave up waiting for it.
 * - `misconfigured`: it refused the fixed credential that we have for it; `credential`: the function that gives it failed, or gave one that was refused.
 * - `exhausted`: its account has no money left. `missing`: it does not have this deployment or model.
 */
export type EjectionReason = OutReason

/**
 * - `success`, and the reasons above, are the outcomes that say something.
 * - `reached`: any answer to a probe of ours, which says that the host is there, and no more.
 * - `probe`: a request takes the slot.
 * - `release`: the probe ended in a way that says nothing.
 */
export type HealthEvent = 'success' | 'reached' | EjectionReason | 'probe' | 'release'

/** One bad answer may be the request's own fault (a malformed one is answered 500 by Azure); two in a row hardly are. */
export const FAILURES_TO_EJECT = 2

/** In milliseconds: the first time, and the longest that it is doubled to. */
export interface Backoff {
  readonly firstMs: number
  readonly longestMs: number
}

/** What only people can put right, in milliseconds: the first time, and the longest that it is doubled to. */
export const BY_PEOPLE = {
  // A wrong key is replaced by people. A minute keeps the noise down and still notices within one.
  misconfigured: { firstMs: 60_000, longestMs: 60_000 },
  // A bill is paid, or a limit raised, in a quarter of an hour at best.
  exhausted: { firstMs: 60_000, longestMs: 15 * 60_000 },
  // A deployment that is being made is there within minutes.
  missing: { firstMs: 60_000, longestMs: 5 * 60_000 },
} satisfies Partial<Record<EjectionReason, Backoff>>

/** A function that gives keys is a service of its own, and its hiccups are short: 1 s, doubled each time, up to a minute. */
const FIRST_CREDENTIAL_MS = 1_000

/** Most failures (a restart, a lost connection, one bad minute of DNS) are over soon, so the first probe comes after this. */
const FIRST_BACKOFF_MS = 250

/**
 * OpenAI's clients come back within 1 s after their second attempt was given up, and that is their last: it must not be the probe of
 * a deployment that answers no one.
 */
const FIRST_ABANDONED_MS = 2_000

/** Or after so many times what the failure took: a host that swallows packets for 10 s is not asked every quarter of a second. */
const BACKOFF_OF_COST = 3

/** Recovery is noticed within a minute. */
export const LONGEST_BACKOFF_MS = 60_000

/** What our own machine lacks (an answer of its resolver) comes back for all backends at once: looked for every second. */
const LONGEST_LOCAL_BACKOFF_MS = 1_000

/** Up to half of a backoff is added by chance: processes that saw the same failure must not probe in step. */
const BACKOFF_JITTER = 0.5

/** Shared, so that a success of what is healthy allocates nothing. */
export const AVAILABLE: Available = Object.freeze({ kind: 'available', failures: 0, ejections: 0 })

/** What an event comes with. */
export interface Circumstances {
  readonly now: number
  /** Whether the event comes from the attempt that holds the probe slot. A late failure of an older attempt is no news about what is out already. */
  readonly isProbe: boolean
  /** Milliseconds that the failure took: what it cost the caller. */
  readonly tookMs: number
  /** Uniform in [0, 1); only asked on ejection. */
  readonly random: () => number
  /** How many failures in a row eject. */
  readonly failuresToEject: number
}

/** The next state. The very same object where nothing changes. */
export function transition(state: Health, event: HealthEvent, circumstances: Circumstances): Health {
  const { now, isProbe } = circumstances
  switch (event) {
    case 'success':
      return AVAILABLE
    case 'reached':
      return state.kind === 'probing' && isProbe ? { kind: 'available', failures: 0, ejections: state.ejections } : state
    case 'probe':
      return canProbe(state, now) ? { kind: 'probing', ejections: state.ejections, reason: state.reason } : state
    case 'release':
      return state.kind === 'probing' && isProbe ? { ...state, kind: 'ejected', until: now } : state
    default:
      return fail(state, event, circumstances)
  }
}

/** Out, but its time is over and no probe is under way. */
export function canProbe(state: Health, now: number): state is Ejected {
  return state.kind === 'ejected' && state.until <= now
}

function fail(state: Health, reason: EjectionReason, circumstances: Circumstances): Health {
  if (state.kind === 'available') {
    const failures = state.failures + 1
    if (reason === 'failed' && failures < circumstances.failuresToEject) return { kind: 'available', failures, ejections: state.ejections }
    return eject(state.ejections + 1, reason, circumstances)
  }
  return state.kind === 'probing' && circumstances.isProbe ? eject(state.ejections + 1, reason, circumstances) : state
}

function eject(ejections: number, reason: EjectionReason, { now, tookMs, random }: Circumstances): Ejected {
  return { kind: 'ejected', until: now + backoffMs(ejections, reason, tookMs, random), ejections, reason }
}

/** @param ejections in a row, this one included; from 1. */
function backoffMs(ejections: number, reason: EjectionReason, tookMs: number, random: () => number): number {
  if (reason in BY_PEOPLE) return doubled(BY_PEOPLE[reason as keyof typeof BY_PEOPLE], ejections)
  const leastMs = reason === 'abandoned' ? FIRST_ABANDONED_MS : FIRST_BACKOFF_MS
  const firstMs = reason === 'credential' ? FIRST_CREDENTIAL_MS : Math.max(leastMs, BACKOFF_OF_COST * tookMs)
  const longestMs = reason === 'local' ? LONGEST_LOCAL_BACKOFF_MS : LONGEST_BACKOFF_MS
  return Math.min(longestMs, doubled({ firstMs, longestMs }, ejections) * (1 + BACKOFF_JITTER * random()))
}

/** @param times in a row, this one included; from 1. */
export function doubled({ firstMs, longestMs }: Backoff, times: number): number {
  return Math.min(longestMs, firstMs * 2 ** (times - 1))
}

/** How many failures were counted since the last success, and not taken back: those that eject at once, and the others. */
export interface Streak {
  outright: number
  failed: number
}

/** Of a backend as a whole, or of one scope on it: its health, and what that rests on, so that a failure can be taken back. */
export class Condition {
  health: Health = AVAILABLE
  /** What the answer said of itself that put it out, where that was read. */
  error: AnswerError | undefined
  #streak: Streak | undefined

  /** Milliseconds until it may be tried; 0 when that is now, or a probe is under way. */
  outMs(now: number): number {
    return this.health.kind === 'ejected' ? Math.max(0, this.health.until - now) : 0
  }

  /** @returns whether anything changed. */
  apply(event: HealthEvent, circumstances: Circumstances): boolean {
    const before = this.health
    this.health = transition(before, event, circumstances)
    if (event === 'success' || event === 'reached') this.#streak = undefined
    else if (event !== 'failed' && event !== 'probe' && event !== 'release') this.count('outright')
    return this.health !== before
  }

  /** Counts a failure; one that ejects at once is counted where it is applied. @returns what it can be taken back from. */
  count(kind: keyof Streak): Streak {
    const streak = this.#streak ??= { outright: 0, failed: 0 }
    streak[kind]++
    return streak
  }

  get streak(): Streak | undefined {
    return this.#streak
  }

  /**
   * A failure was not its fault: an ejection that rested on it ends, and one that it had only prolonged is over for now.
   *
   * @param streak what it was counted in; where a success came since, it counts no more.
   * @param probe the slot that the attempt held.
   * @param failuresToEject how many of those that do not eject at once do so in a row.
   */
  takeBack(kind: keyof Streak, streak: Streak, probe: Probing | undefined, failuresToEject: number, now: number): void {
    if (streak !== this.#streak) return
    streak[kind]--
    const { health } = this
    if (health.kind === 'available') this.health = { ...health, failures: Math.max(0, health.failures - 1) }
    else if (health.kind === 'ejected' && health.ejections - 1 === probe?.ejections) this.health = { ...probe, kind: 'ejected', until: now }
    else if (streak.outright === 0 && streak.failed < failuresToEject) this.health = { kind: 'available', failures: streak.failed, ejections: health.ejections - 1 }
  }
}

/** Out for what an update may have put right. */
export function isOfConfiguration(health: Health): boolean {
  return health.kind !== 'available' && (health.reason === 'misconfigured' || health.reason === 'credential' || health.reason === 'missing')
}

/** What keeps it from being asked, if anything does: the longer of ejection and cooldown. */
export function describeOut({ health, error }: Condition, cooldownUntil: number, now: number, epoch: number): { readonly out?: Out } {
  const isCooling = cooldownUntil > now
  if (health.kind === 'available') return isCooling ? { out: { until: cooldownUntil + epoch, reason: 'throttled' } } : {}
  const until = Math.max(health.kind === 'ejected' ? health.until : now, cooldownUntil)
  return { out: { until: until + epoch, reason: health.reason, ...(error === undefined ? {} : { errorCode: error.code, errorType: error.type }) } }
}
