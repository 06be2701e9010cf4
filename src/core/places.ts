/**
 * When a caller that is sent away should come back. SDKs come back twice, and at the very moment that they are told: callers
 * that were refused together must return when a window turns over and there is room for them, neither all at once nor spread
 * over some rate. So the k-th of them is told when the k-th place is expected to come free: an entry of a window leaves, a
 * level has room for one more; where neither is known, the end of a cooldown and then one place after the other.
 *
 * (Tried: to count on into the window after the next, place for place. One backend of 10 requests a second served 81 % so
 * instead of 94: a window that is not full at once is closed later by the refusal that follows, and stays closed for longer.)
 */
import type { ScopeState, Tiers } from './backend.js'
import { LONGEST_BACKOFF_MS, type Condition } from './health.js'

/** In milliseconds. Beyond this a place is a guess, and the caller would rather ask again. Never sooner than the soonest backend all the same. */
const LONGEST_PROMISE_MS = 15_000

/** Where nothing is known but the end of a cooldown: one place after the other, so many milliseconds apart. */
const UNKNOWN_GAP_MS = 100

/** Callers after the last place that is known are told times as far apart as places are, and at least so many milliseconds. */
const SHORTEST_GAP_MS = 5

/** So that callers that were told the same do not return at one instant. In milliseconds. */
const JITTER_MS = 20

/** The longest window, and a margin: places that come free later are not looked for. In milliseconds. */
const HORIZON_MS = 75_000

/** Halvings of the horizon until the place is known to 5 ms. */
const HALVINGS = 14

/**
 * Promises are counted in slots, for 16 s: constant memory, however many are sent away. A fortieth of the shortest window; with
 * a quarter of it, promises that were due counted on, and limits of 1 s at their capacity served 3 % fewer.
 */
const SLOT_MS = 25
const SLOTS = 640

/** The promises of one scope that are not due yet. */
export class Promises {
  /** A circle: how many are due in each slot of time. */
  readonly #due: number[] = []
  #count = 0
  /** The first slot that is not over. */
  #first = 0

  /** How many callers may still come back for a place. */
  count(now: number): number {
    const first = Math.floor(now / SLOT_MS)
    for (let slot = Math.max(this.#first, first - SLOTS); slot < first; slot++) {
      this.#count -= this.#due[slot % SLOTS] ?? 0
      this.#due[slot % SLOTS] = 0
    }
    this.#first = first
    return this.#count
  }

  add(at: number, now: number): void {
    this.count(now)
    const slot = Math.min(Math.floor(at / SLOT_MS), this.#first + SLOTS - 1) % SLOTS
    this.#due[slot] = (this.#due[slot] ?? 0) + 1
    this.#count++
  }
}

/** Where the requests of one scope may go. */
interface Where {
  readonly states: readonly (ScopeState | undefined)[]
  readonly unserved: readonly boolean[] | undefined
}

/**
 * @param before how many requests come first: those that wait, and those that were promised a place.
 * @param soonestMs until the first backend is expected to take anything.
 * @param random uniform in [0, 1).
 * @returns milliseconds from now, > 0.
 */
export function findPlace(
  tiers: Tiers, scope: Where, bodyBytes: number, before: number, soonestMs: number, random: () => number, now: number,
): number {
  const countBy = (at: number): number => countPlaces(tiers, scope, bodyBytes, at, now)
  const known = countBy(now + HORIZON_MS)
  let at = now
  // To the first in line the moment itself, which is known exactly.
  if (countBy(now + soonestMs) > before) at = now + soonestMs
  else if (known > before) at = findTime(countBy, before, now)
  else if (known >= 1) {
    const last = findTime(countBy, known - 1, now)
    at = last + (before - known + 1) * Math.max(SHORTEST_GAP_MS, (last - findTime(countBy, 0, now)) / known)
  }
  return Math.max(1, soonestMs, Math.min(at - now, LONGEST_PROMISE_MS)) + random() * JITTER_MS
}

/** The first moment at which more than `places` have come free, to 5 ms. */
function findTime(countBy: (at: number) => number, places: number, now: number): number {
  if (countBy(now) > places) return now
  let early = now
  let late = now + HORIZON_MS
  for (let k = 0; k < HALVINGS; k++) {
    const middle = (early + late) / 2
    if (countBy(middle) > places) late = middle
    else early = middle
  }
  return late
}

function countPlaces(tiers: Tiers, { states, unserved }: Where, bodyBytes: number, at: number, now: number): number {
  let places = 0
  tiers.backends.forEach((backend, position) => {
    if (unserved?.[position] === true) return
    const state = states[position]
    const from = Math.max(now + backend.declaredMs(bodyBytes, now), state?.cooldownUntil ?? now, outUntil(backend, now), state === undefined ? now : outUntil(state, now))
    if (at < from) return
    const pacer = state?.pacer
    places += pacer?.hasPlaces === true ? pacer.placesBy(bodyBytes, at) : 1 + Math.floor((at - from) / UNKNOWN_GAP_MS)
  })
  return places
}

function outUntil({ health }: Condition, now: number): number {
  if (health.kind === 'available') return now
  return health.kind === 'ejected' ? health.until : now + LONGEST_BACKOFF_MS
}
