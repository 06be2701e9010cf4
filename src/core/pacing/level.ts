/**
 * What is told of a limit: services that report their level with each answer (PTU utilization; limit, remaining and reset
 * together) let a client keep a replica of it. One number is enough, as in the generic cell rate algorithm: the moment
 * from which the backend is below its limit. What is sent pushes it ahead by cost over rate, each report puts it right.
 *
 *     below since here                          now                    below from here
 *   ----------|----------------------------------|-------------------------|-------------> time
 *             <- room: what was saved up -------->                         <- margin ->| a request waits until here
 *
 * Several processes use one bucket and each knows only its own requests, so the rate is this process's *share*: what it
 * sent between two reports, over the time by which the level moved. The shares add up to the limit without anybody talking
 * to anybody, and follow demand.
 */

/**
 * Below its limit by less than this, a level races with requests that are on their way. Grows at each refusal, up to a
 * quarter of the bucket: that drains as fast at 80 % as at 100 %, so a margin costs nothing but room for bursts.
 */
const SHORTEST_MARGIN_MS = 40
const MARGIN_GROWTH = 1.5
const MARGIN_STEP_MS = 20
const LARGEST_MARGIN = 0.25
/** What is kept of the margin at each admission: a half after some 230. A refusal every few minutes is the price of forgetting it sooner. */
const MARGIN_KEEP = 0.997

/** Two reports that lie closer together tell a rate too coarsely: utilization is written with one decimal. */
const LEAST_SPAN_MS = 1_500

/** A level that fell by more was not only drained: the service corrected an estimate, and the measure begins anew. */
const LARGEST_FALL_MS = 1_000

/** How long a measured rate counts. Load shifts between processes within half a minute. */
const MEMORY_MS = 30_000

/** A report of a request that was answered after 4 s is worth a third of a fresh one (unstreamed answers tell of the past). */
const REPORT_MEMORY_MS = 4_000

/** A bucket as full as this may have been full for long: what flowed over cannot be told, and is no measure of a rate. */
const IDLE_LEVEL = 0.97

/** The longest wait that a single request's own size may cause where it must fit as a whole: the services' longest window. */
const LONGEST_FIT_MS = 60_000

export class Level {
  /** Cost per millisecond, of our own; NaN until it was measured. */
  #rate = NaN
  #costSum = 0
  #spanSum = 0
  // The report that the next one is measured against.
  #reference: { at: number; sent: number } | undefined
  /** Monotonic time from which it is below its limit. */
  #belowAt = -Infinity
  /** The moment that the newest report speaks of. */
  #heardAt = -Infinity
  /** When the newest report came. */
  reportedAt = -Infinity
  #depthMs = 0
  /** Time of the service's refill that a unit of cost takes, where a request has to fit as a whole; else 0. */
  #fitMs = 0
  #marginMs = SHORTEST_MARGIN_MS
  /** Our own turn among processes that are told the same: they would all send at the same moment. */
  #turnMs = 0

  /** Until a rate is known there is no level. */
  get isKnown(): boolean {
    return this.#rate > 0
  }

  /** Our share, in cost per second; NaN until it was measured. */
  get perSecond(): number {
    return this.#rate * 1_000
  }

  /** Milliseconds until a request of this cost is expected to be admitted; 0: now. */
  waitMs(cost: number, now: number): number {
    if (!(this.#rate > 0)) return 0
    return Math.max(0, this.#belowAt + this.#marginMs + this.#turnMs + Math.min(LONGEST_FIT_MS, cost * this.#fitMs) - now)
  }

  /** Free part of the bucket, from 0 to 1; 1 while it is unknown. */
  room(now: number): number {
    if (!(this.#rate > 0)) return 1
    return Math.max(0, Math.min(1, (now - this.#belowAt - this.#marginMs) / this.#depthMs))
  }

  /** How many requests of this cost will have found a place by then, if nothing else is sent. */
  placesBy(cost: number, at: number): number {
    const from = this.#belowAt + this.#marginMs + Math.min(LONGEST_FIT_MS, cost * this.#fitMs)
    return at < from ? 0 : 1 + Math.floor(((at - from) * this.#rate) / cost)
  }

  /** @param random uniform in [0, 1); only asked where there is a level. */
  send(cost: number, random: () => number, now: number): void {
    if (!(this.#rate > 0)) return
    const gapMs = cost / this.#rate
    this.#belowAt = Math.max(this.#belowAt, now - this.#depthMs) + gapMs
    this.#turnMs = Math.min(random() * gapMs, LARGEST_MARGIN * this.#depthMs)
  }

  undo(cost: number): void {
    if (this.#rate > 0) this.#belowAt -= cost / this.#rate
  }

  refused(): void {
    this.#marginMs = Math.min(LARGEST_MARGIN * this.#depthMs, this.#marginMs * MARGIN_GROWTH + MARGIN_STEP_MS)
  }

  admitted(): void {
    this.#marginMs = Math.max(SHORTEST_MARGIN_MS, this.#marginMs * MARGIN_KEEP)
  }

  /**
   * The service's own word.
   *
   * @param at the moment that it speaks of.
   * @param sent all cost of ours that had gone out by then, and `sentNow`, by now.
   * @param backlogMs time until it is below its limit; negative when it is.
   * @param depthMs time in which a whole bucket is refilled.
   * @param fitMs time of refill that a unit of cost takes where a request must fit as a whole, else 0.
   */
  synchronize(at: number, sent: number, sentNow: number, backlogMs: number, depthMs: number, fitMs: number, now: number): void {
    if (at < this.#heardAt) return // an answer that took longer tells of an older state
    this.#heardAt = at
    this.reportedAt = now
    this.#depthMs = depthMs
    this.#fitMs = fitMs
    const belowAt = at + backlogMs
    const reference = this.#reference
    if (reference === undefined) this.#reference = { at: belowAt, sent }
    else {
      const span = belowAt - reference.at
      if (span < -LARGEST_FALL_MS || backlogMs < -IDLE_LEVEL * depthMs) {
        reference.at = belowAt
        reference.sent = sent
      } else if (span >= LEAST_SPAN_MS && sent > reference.sent) {
        this.#measure(sent - reference.sent, span)
        reference.at = belowAt
        reference.sent = sent
      }
    }
    if (!(this.#rate > 0)) return
    const told = belowAt + (sentNow - sent) / this.#rate
    this.#belowAt = this.#belowAt === -Infinity ? told : this.#belowAt + (told - this.#belowAt) * keepOf((now - at) / REPORT_MEMORY_MS)
  }

  /** A ratio of decayed sums: a mean of ratios overestimates by 15 %, for short spans with a lucky backlog count too much. */
  #measure(cost: number, span: number): void {
    const keep = Math.exp(-span / MEMORY_MS)
    this.#costSum = this.#costSum * keep + cost
    this.#spanSum = this.#spanSum * keep + span
    this.#rate = this.#costSum / this.#spanSum
  }
}

/** e to the minus x; what is quick is nearly all of it, and costs no logarithm. */
function keepOf(x: number): number {
  return x < 0.02 ? 1 - x : Math.exp(-x)
}

/** A part nearer to full or empty tells nothing of a bucket's size: utilization has one decimal, times are whole milliseconds. */
const LEAST_PART = 0.003

/** What is kept of older reports at each newer one, in what is learned of a bucket's size: about the last ten count. */
const DEPTH_KEEP = 0.9

/** The time in which a whole bucket is refilled: a ratio of decayed sums of (time, part of the bucket). */
export class Depth {
  #ms: number
  #part = 1
  #isAssumed = true

  /** @param assumedMs until something is known. */
  constructor(assumedMs: number) {
    this.#ms = assumedMs
  }

  learn(ms: number, part: number): void {
    if (!(part >= LEAST_PART && ms >= 0)) return
    const keep = this.#isAssumed ? 0 : DEPTH_KEEP
    this.#isAssumed = false
    this.#ms = this.#ms * keep + ms
    this.#part = this.#part * keep + part
  }

  get ms(): number {
    return this.#ms / this.#part
  }
}
