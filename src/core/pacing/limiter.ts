/**
 * The replica of one rate limit, as one client process can know it: the generic cell rate algorithm (GCRA). One number
 * says it all, the theoretical arrival time: the moment at which the backend is expected to be below its limit. Each
 * request that goes out pushes it by its cost over our rate; what the backend says puts it right.
 *
 *     arrival in the past                      now                  arrival ahead
 *   ----------|---------------------------------|-------------------------|---------> time
 *             <- room: what was saved up ------->                         <- margin ->| a request waits until here
 *
 * A limiter that is *told* the server's level with every answer (utilization, or limit, remaining and reset) believes
 * it. One that is not feels for the limit: it keeps the pace that it measured between two refusals, and grows slowly.
 */
import { Share } from './rate-estimate.js'

/**
 * Part of the bucket by which the margin grows at a refusal, and most of it. A bucket drains as fast at 80 % as at
 * 100 %: the margin is free but for the room for bursts, of which a quarter is the most to give away.
 */
const MARGIN_STEP = 0.04
const LARGEST_MARGIN = 0.25
/** A day's bucket has a quarter of hours: nobody needs that much against races that take seconds. */
const LONGEST_MARGIN_MS = 15_000
/** Forgotten slowly, since it is free; a refusal in some minutes would be the price of forgetting it sooner. */
const MARGIN_MEMORY_MS = 1_000_000

/** Where nothing but refusals tell of a bucket, it is taken to be this part of the longest wait they asked for. */
const ASSUMED_DEPTH = 0.1

/** A bucket that is as full as this may have been full for long: what flowed over cannot be told. */
const IDLE_LEVEL = 0.98

/** Part of the longest wait that is kept at each shorter one: a single odd answer is forgotten after some dozens. */
const WAIT_KEEP = 0.95

/**
 * The services' shortest window (Azure enforces requests per minute in slices of 1 s or 10 s). Who sends less than once
 * a second and always in the same part of the second meets the same neighbours each time; a refusal moves it on by
 * whole seconds. So processes that share nothing settle into slots: of 5 requests a second, 16 processes use 92 % with
 * 12 % refused, where chance alone (Poisson arrivals at that rate) would leave 18 % empty and refuse 18 %.
 */
const SLICE_MS = 1_000

/**
 * While no limit is known, a pause starts the measuring anew: a quiet hour says nothing of what a backend can take. A rate
 * taken for too high costs one refusal, which puts it right; one taken for too low would leave capacity unused for minutes.
 * Five seconds, since a process that gets a sixteenth of a small deployment sends that seldom and has to be measured.
 */
const LONGEST_PAUSE_MS = 5_000

/**
 * Fewer requests than this are no measurement: 10 of them tell a rate within a third (1 / sqrt(10)). Until then a refusal
 * is obeyed for as long as it says, by the pool's cooldown, and no pace is made of it.
 */
const LEAST_EVIDENCE = 10

/** A refused process comes back within two of its gaps, twice that at each refusal in a row, up to this: not all at one instant. */
const LARGEST_REPEAT = 8

/**
 * Whatever happened, the arrival time is at most a minute ahead (the services' longest window) unless the server asked for
 * more. With the largest margin, spread and fit this bounds how long a replica can be wrong: 2.5 minutes.
 */
const LONGEST_WAIT_MS = 60_000

export class Limiter {
  readonly #share = new Share()
  /** Monotonic time; NaN until a limit is known. */
  #arrivalAt = NaN
  /** How far the arrival time may lie in the past: the size of the bucket, as the time of its refill. */
  #depthMs = 0
  #marginMs = 0
  /** Our own turn among processes that are told the same: they would all send at the same moment. */
  #spreadMs = 0
  /** Time of the server's refill that one unit of cost takes, where a request has to fit as a whole. */
  #fitMs = 0
  #isTold = false
  #toldAt = -Infinity
  #refusedAt = -Infinity
  #repeats = 1
  #longestWaitMs = 0
  /** Monotonic time of the last request; only kept while no limit is known. */
  #sentAt = NaN
  /** Cost that went out and was not refused, ever; and in how many requests. */
  #sent = 0
  #requests = 0

  /** An attempt keeps it, to tell later what came after it. */
  get sentCost(): number {
    return this.#sent
  }

  /** In cost per second; NaN until it was measured. */
  get perSecond(): number {
    return this.#share.rate * 1_000
  }

  /** Milliseconds until a request of this cost is expected to be admitted; 0: now. */
  waitMs(cost: number, now: number): number {
    const fitMs = cost * this.#fitMs
    const wait = this.#arrivalAt + this.#marginMs + this.#spreadMs + (fitMs < LONGEST_WAIT_MS ? fitMs : LONGEST_WAIT_MS) - now
    return wait > 0 ? wait : 0
  }

  /** 0 at the edge, 1 from half a bucket of room on, or when no limit is known. */
  headroom(now: number): number {
    const room = now - this.#arrivalAt - this.#marginMs
    if (room >= this.#depthMs / 2 || Number.isNaN(room)) return 1
    return room > 0 ? (2 * room) / this.#depthMs : 0
  }

  /** @param draw in [0, 1): our turn among those who are told the same. */
  sent(cost: number, now: number, draw: number): void {
    const share = this.#share
    if (!share.hasStarted()) share.restart(now, 0, this.#sent)
    this.#sent += cost
    this.#requests++
    const gapMs = share.gapMs(cost)
    if (Number.isNaN(this.#arrivalAt)) {
      if (now - this.#sentAt > LONGEST_PAUSE_MS) share.restart(now, 0, this.#sent - cost)
      this.#sentAt = now
      return
    }
    // Told of a level, and not yet long enough to have a rate.
    if (Number.isNaN(gapMs)) return
    const room = now - this.#arrivalAt
    if (room > this.#depthMs) {
      share.addIdle(room - this.#depthMs)
      this.#arrivalAt = now - this.#depthMs
    }
    share.used(gapMs)
    if (this.#isTold) {
      this.#spreadMs = Math.min(draw * gapMs, this.#mostMarginMs)
      this.#arrivalAt += gapMs
    } else {
      if (room < gapMs) share.grow(gapMs, Math.max(this.#longestWaitMs, SLICE_MS))
      this.#arrivalAt += this.#isSliced(gapMs) ? Math.round(gapMs / SLICE_MS) * SLICE_MS : gapMs
    }
    this.#bound(now, 0)
  }

  /** A request that went out did not count: it never arrived, or was refused for another reason than this limit. */
  undo(cost: number): void {
    this.#sent -= cost
    this.#requests--
    const gapMs = this.#share.gapMs(cost)
    if (gapMs > 0) this.#arrivalAt -= gapMs
  }

  /**
   * The server's own word on its level.
   * @param at when it was so.
   * @param sentCost what we had sent by then.
   * @param backlogMs time until it is below its limit; negative when it is.
   * @param fitMs time of refill that a unit of cost takes where a request must fit as a whole, else 0.
   */
  told(at: number, sentCost: number, backlogMs: number, depthMs: number, fitMs: number, now: number): void {
    if (at < this.#toldAt) return // an answer that took longer tells of an older state
    if (this.#isTold) this.#marginMs /= 1 + (at - this.#toldAt) / MARGIN_MEMORY_MS
    this.#isTold = true
    this.#toldAt = at
    this.#depthMs = depthMs
    this.#fitMs = fitMs
    if (backlogMs < -IDLE_LEVEL * depthMs) this.#share.restart(at, backlogMs, sentCost)
    else this.#share.measure(at, backlogMs, sentCost)
    const sinceMs = (this.#sent - sentCost) / this.#share.rate
    this.#arrivalAt = at + backlogMs + (sinceMs > 0 ? sinceMs : 0)
    this.#bound(now, 0)
  }

  /**
   * The server refused a request of ours for this limit.
   * @param sentAt when the request went out: refusals of those that were under way together are one lesson.
   * @param draw in [0, 1): how late after the wait we come back.
   */
  refused(cost: number, retryAfterMs: number, sentAt: number, now: number, draw: number): void {
    const isFirst = Number.isNaN(this.#share.rate)
    this.#sent -= cost
    this.#requests--
    const backlogMs = retryAfterMs - Math.min(cost * this.#fitMs, retryAfterMs)
    this.#share.measure(now, backlogMs, this.#sent)
    this.#share.assume(cost, retryAfterMs)
    if (sentAt >= this.#refusedAt) {
      this.#refusedAt = now
      this.#learn(retryAfterMs)
    }
    if (!this.#isTold && this.#requests < LEAST_EVIDENCE) return
    const gapMs = this.#share.gapMs(cost)
    // While nothing else is known, the word of the backend is enough: the pool's cooldown has its own jitter.
    const lateMs = isFirst ? 0 : this.#isSliced(gapMs) ? Math.floor(draw * (gapMs / SLICE_MS + 1)) * SLICE_MS : draw * this.#repeats * gapMs
    this.#arrivalAt = now + backlogMs + lateMs
    this.#bound(now, backlogMs)
  }

  /** A request was admitted: whoever is refused next is not refused again. */
  admitted(): void {
    this.#repeats = 1
  }

  #learn(retryAfterMs: number): void {
    this.#share.slowDown()
    this.#longestWaitMs = Math.max(retryAfterMs, this.#longestWaitMs * WAIT_KEEP)
    this.#repeats = Math.min(LARGEST_REPEAT, this.#repeats * 2)
    if (this.#isTold) this.#marginMs = Math.min(this.#mostMarginMs, this.#marginMs + MARGIN_STEP * this.#depthMs)
    else this.#depthMs = ASSUMED_DEPTH * this.#longestWaitMs
  }

  get #mostMarginMs(): number {
    return Math.min(LARGEST_MARGIN * this.#depthMs, LONGEST_MARGIN_MS)
  }

  /** Refusals that ask for one second are a slice's; with more than one request to a slice, pace alone is even enough. */
  #isSliced(gapMs: number): boolean {
    return !this.#isTold && this.#longestWaitMs <= SLICE_MS && this.#longestWaitMs > 0.9 * SLICE_MS && gapMs > SLICE_MS
  }

  #bound(now: number, askedMs: number): void {
    const latest = now + Math.max(LONGEST_WAIT_MS, askedMs)
    if (this.#arrivalAt > latest) this.#arrivalAt = latest
  }
}
