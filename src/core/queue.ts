import type { PoolRequest } from './types.js'

/** A request that is held. */
export interface Waiter {
  readonly request: PoolRequest
  readonly queue: WaitQueue
  readonly enteredAt: number
  /** When the request began to wait, be it for another time before this one. */
  readonly since: number
  /** Monotonic time at which its wait is over, served or not. */
  readonly deadline: number
  /** Monotonic time from which the backends that it has tried are open to it again. */
  readonly forgiveAt: number
  /** `wake` was called and `acquire` has not followed yet. */
  isWoken: boolean
  isQueued: boolean
  previous: Waiter | undefined
  next: Waiter | undefined
}

/** A queue that has not been empty for so many times the longest wait is not a burst that will pass, but standing overload. */
const STANDING_AFTER_WAITS = 3

/**
 * Under standing overload waiting buys nobody anything but delay (CoDel's insight): newcomers are told sooner. Not too soon,
 * for the queues of several processes take turns in being long: four of them at exactly the capacity of all serve 99 % of
 * the clairvoyant optimum when newcomers wait half as long, and 97.5 % when they wait a fifth (bench:routing).
 */
const STANDING_SHARE = 1 / 2

/** Beyond this an estimate of one's turn is a guess, and the SDK's callers would rather ask again. */
const LONGEST_ESTIMATE_MS = 15_000

/** Where nobody waits, a longer gap between two requests was for want of callers, not of a backend. */
const LONGEST_GAP_MS = 1_000

/** Up to 10 % later, so that those who were told the same do not return at one instant. */
const SLOT_JITTER = 0.1

/** Share of the newest gap in the mean: about the last eight count. */
const GAP_SHARE = 1 / 8

/** The held requests of one scope, first come first served; anyone may leave from the middle. Also knows the turns of those who are not held. */
export class WaitQueue {
  length = 0
  head: Waiter | undefined
  #tail: Waiter | undefined
  #busySince = NaN
  /** Mean time between two turns while somebody is short of one, in milliseconds; 0 until there were two. */
  #gapMs = 0
  #movedAt = NaN
  #learnedAt = -Infinity
  /** Until then some caller that was turned away may still come back. */
  #shortUntil = -Infinity
  /** The latest turn that a rejected caller was told. */
  #promisedUntil = -Infinity

  get tail(): Waiter | undefined {
    return this.#tail
  }

  /** In the order in which they began to wait: whoever comes back refused takes its old place, and is not refused again and again. */
  push(request: PoolRequest, deadline: number, forgiveAt: number, now: number): Waiter {
    const since = request.waitingSince ?? now
    let previous = this.#tail
    while (previous !== undefined && previous.since > since) previous = previous.previous
    const next = previous === undefined ? this.head : previous.next
    const waiter: Waiter = { request, queue: this, enteredAt: now, since, deadline, forgiveAt, isWoken: false, isQueued: true, previous, next }
    if (this.length === 0) this.#busySince = now
    if (previous === undefined) this.head = waiter
    else previous.next = waiter
    if (next === undefined) this.#tail = waiter
    else next.previous = waiter
    this.length++
    return waiter
  }

  /** The waiter keeps its own `next`, so that a walk that stands on it can go on. */
  remove(waiter: Waiter): void {
    if (!waiter.isQueued) return
    waiter.isQueued = false
    if (waiter.previous === undefined) this.head = waiter.next
    else waiter.previous.next = waiter.next
    if (waiter.next === undefined) this.#tail = waiter.previous
    else waiter.next.previous = waiter.previous
    this.length--
  }

  /** A waiter goes on its way. */
  serve(waiter: Waiter, now: number): void {
    this.moved(now)
    this.remove(waiter)
  }

  /**
   * A request of the scope goes out. As long as somebody waits or is promised a turn, that teaches how fast turns come;
   * else it only tells how many requests there are.
   */
  moved(now: number): void {
    if (this.length === 0 && now >= this.#shortUntil) {
      this.#movedAt = NaN
      if (now - this.#learnedAt > LONGEST_ESTIMATE_MS) this.#gapMs = 0
      return
    }
    if (!Number.isNaN(this.#movedAt)) {
      const gapMs = Math.min(now - this.#movedAt, this.length === 0 ? LONGEST_GAP_MS : Infinity)
      this.#gapMs = this.#gapMs === 0 ? gapMs : this.#gapMs + (gapMs - this.#gapMs) * GAP_SHARE
      this.#learnedAt = now
    }
    this.#movedAt = now
  }

  /** How long a newcomer may be held. */
  patienceMs(maxWaitMs: number, now: number): number {
    const isStanding = this.length > 0 && now - this.#busySince >= STANDING_AFTER_WAITS * maxWaitMs
    return isStanding ? maxWaitMs * STANDING_SHARE : maxWaitMs
  }

  /**
   * When a caller that is turned away should come back: after those who are held and those who were turned away before
   * it. What is known of a cooldown and longer is told as it is.
   *
   * @param soonestMs until the first backend is expected to take anything.
   * @param random uniform in [0, 1).
   * @returns milliseconds, > 0.
   */
  promiseSlot(soonestMs: number, random: () => number, now: number): number {
    this.#shortUntil = now + LONGEST_ESTIMATE_MS
    if (this.#gapMs === 0) return soonestMs
    const turn = Math.max(now + soonestMs + this.length * this.#gapMs, this.#promisedUntil + this.#gapMs)
    this.#promisedUntil = Math.min(turn, now + LONGEST_ESTIMATE_MS)
    return Math.max(soonestMs, (this.#promisedUntil - now) * (1 + random() * SLOT_JITTER))
  }
}
