/**
 * What is felt of a limit that only 429s tell of. Azure's limits are counts in windows: so many requests in 1 s or 10 s, so
 * many tokens in 60 s. A process that obeys only cooldowns finds the edge again with a burst of 429s each time; so it keeps
 * count of what it sent, and remembers what the count was when the backend said no.
 *
 * It is an estimate. It orders candidates and holds requests that can wait, and it never refuses: others may use the same
 * deployment, the windows' edges are unknown, and a burst that was refused in a bad moment may have taught too little.
 *
 * What was tried: a *rate* per limit, learned between two refusals (version 0.1). It has the fewest 429s in a steady state,
 * and makes a rate of a burst: with three backends of 40 requests per second, a tenth of the load and then all of it, it
 * served 53 % of the calls, where obeying cooldowns alone serves 89 % and windows serve 98 %.
 */

/** Requests per minute are enforced in slices of 1 s or 10 s, tokens per minute over 60 s (Azure OpenAI, "quota"). */
const LENGTHS_MS = [1_000, 10_000, 60_000] as const

/** Of each length: what goes out within 1/63 of a window leaves together. Up to 64 requests in a window are counted to the millisecond. */
const SLOTS = 64

/**
 * Part of its length by which a window is counted for longer than it is: requests take their time to the service, now more and
 * now less. Measured, sliding windows of 10 s at their capacity: 96.9 % of the calls served without it, 97.4 with it.
 */
const WINDOW_MARGIN = 1 / 500

/** Sums of fractions of tokens are off by less. */
const ROUNDING = 1e-3

/** A wait may be a little longer than the window: a round trip, a whole second where the window's end is a fraction away. */
const LENGTH_TOLERANCE = 1.05

/** Part of the longest wait that is kept at each refusal: an odd one is forgotten after some fifty. */
const WAIT_KEEP = 0.97

/** A refusal at this part of the limit or more says the same once again; at less, that others use the window too. */
const SAME_COUNT = 0.7

/** A limit that was tested and found right is not tested again for so long, doubled each time, and at most 16-fold: a 429 every few minutes. */
const TEST_EVERY_MS = 10_000
const MOST_TEST_BACKOFF = 16

export const REQUESTS = 0
export const TOKENS = 1
/** What is counted: requests or tokens. */
export type Dimension = typeof REQUESTS | typeof TOKENS

/**
 * What went out in the last `lengthMs`, in slots that leave as a whole, when the last of theirs does. Late rather than early:
 * one request a moment too early is refused, and closes the window for a whole second. (Tried: to let a slot leave bit by
 * bit, right on average. At the capacity of sliding windows that doubled the 429s and served 2 % fewer.)
 */
export class Ring {
  readonly lengthMs: number
  readonly #keptMs: number
  readonly #widthMs: number
  // Grown as they are needed, so that a scope that is used once is small. A circle of `SLOTS` from `#first` on.
  readonly #lastAt: number[] = []
  readonly #requests: number[] = []
  readonly #tokens: number[] = []
  #first = 0
  #size = 0
  #newest = 0
  #newestSince = -Infinity
  /** When the last of what has left went out. */
  #leftUntil = -Infinity
  #requestsSum = 0
  #tokensSum = 0

  constructor(lengthMs: number) {
    this.lengthMs = lengthMs
    this.#keptMs = lengthMs * (1 + WINDOW_MARGIN)
    this.#widthMs = this.#keptMs / (SLOTS - 1)
  }

  /** Nothing is in the window. */
  isEmpty(now: number): boolean {
    this.#expire(now)
    return this.#requestsSum === 0
  }

  count(dimension: Dimension, now: number): number {
    this.#expire(now)
    return dimension === REQUESTS ? this.#requestsSum : this.#tokensSum
  }

  /** Until then what goes out belongs to the newest slot. */
  get slotUntil(): number {
    return this.#newestSince + this.#widthMs
  }

  add(requests: number, tokens: number, now: number): void {
    this.#requestsSum += requests
    this.#tokensSum += tokens
    // Slots begin at least this far apart, so that no more than `SLOTS` of them can be alive.
    if (this.#size > 0 && now - this.#newestSince < this.#widthMs) {
      const newest = this.#newest
      this.#lastAt[newest] = now
      this.#requests[newest]! += requests // the newest slot is there
      this.#tokens[newest]! += tokens
      return
    }
    // What has left is only looked for where its place is needed, and where someone asks.
    this.#expire(now)
    const slot = this.#newest = this.#at(this.#size++)
    this.#newestSince = this.#lastAt[slot] = now
    this.#requests[slot] = requests
    this.#tokens[slot] = tokens
  }

  /** @param sentAt when it went out; what has left the window already is not there any more. */
  remove(tokens: number, sentAt: number, now: number): void {
    this.#expire(now)
    if (sentAt <= this.#leftUntil) return
    // It is in the window still, so one of the slots has it: the first whose last is no older.
    let k = this.#size - 1
    while (k > 0 && this.#lastAt[this.#at(k - 1)]! >= sentAt) k--
    const slot = this.#at(k)
    this.#requests[slot]!--
    this.#tokens[slot]! -= tokens
    this.#take(1, tokens)
  }

  /** What is in the window at a later moment, if nothing more is sent. */
  countBy(dimension: Dimension, at: number): number {
    const costs = dimension === REQUESTS ? this.#requests : this.#tokens
    let rest = dimension === REQUESTS ? this.#requestsSum : this.#tokensSum
    // `k` is below the size.
    for (let k = 0; k < this.#size && this.#lastAt[this.#at(k)]! + this.#keptMs <= at; k++) rest -= costs[this.#at(k)]!
    return rest
  }

  /** When so much of what is in the window, or all of it, has left. */
  leftAt(dimension: Dimension, cost: number): number {
    const costs = dimension === REQUESTS ? this.#requests : this.#tokens
    let rest = cost
    let at = -Infinity
    for (let k = 0; k < this.#size && rest > ROUNDING; k++) {
      rest -= costs[this.#at(k)]! // `k` is below the size
      at = this.#lastAt[this.#at(k)]! + this.#keptMs
    }
    return at
  }

  #at(k: number): number {
    return (this.#first + k) % SLOTS
  }

  #expire(now: number): void {
    while (this.#size > 0 && this.#lastAt[this.#first]! + this.#keptMs <= now) { // the oldest slot is there
      this.#take(this.#requests[this.#first]!, this.#tokens[this.#first]!)
      this.#leftUntil = this.#lastAt[this.#first]!
      this.#first = this.#at(1)
      this.#size--
    }
  }

  /** Sums of fractions do not come back to zero by themselves. */
  #take(requests: number, tokens: number): void {
    this.#requestsSum -= requests
    this.#tokensSum = this.#requestsSum === 0 ? 0 : this.#tokensSum - tokens
  }
}

/** What one process sent to one scope of a backend and was not refused: of the last 1, 10 and 60 s. */
export class History {
  readonly #rings = LENGTHS_MS.map((lengthMs) => new Ring(lengthMs))
  // What is to be added to the newest slot of each ring; nothing where there are no requests.
  #requests = 0
  #tokens = 0
  #lastAt = 0
  /** Until then what goes out belongs to the newest slot of each ring. */
  #sameSlotUntil = -Infinity

  send(tokens: number, now: number): void {
    this.#book()
    for (const ring of this.#rings) ring.add(1, tokens, now)
  }

  /**
   * The same, where the rings are not read until something is felt: of many requests only the first in a slot is written down three
   * times. Takes 40 of 690 ns from a request (`npm run bench -- --part pure`, one backend).
   */
  sendUnread(tokens: number, now: number): void {
    if (now >= this.#sameSlotUntil) {
      this.send(tokens, now)
      this.#sameSlotUntil = Math.min(...this.#rings.map((ring) => ring.slotUntil))
      return
    }
    this.#requests++
    this.#tokens += tokens
    this.#lastAt = now
  }

  #book(): void {
    if (this.#requests > 0) for (const ring of this.#rings) ring.add(this.#requests, this.#tokens, this.#lastAt)
    this.#requests = 0
    this.#tokens = 0
  }

  /** It went out and did not count: it was refused, or never got there. */
  undo(tokens: number, sentAt: number, now: number): void {
    this.#book()
    for (const ring of this.#rings) ring.remove(tokens, sentAt, now)
  }

  /** The shortest window that explains such a wait. */
  ringFor(waitMs: number): Ring {
    this.#book()
    // A wait that is longer than all of them is explained best by the longest.
    return this.#rings.find(({ lengthMs }) => waitMs <= lengthMs * LENGTH_TOLERANCE) ?? this.#rings[this.#rings.length - 1]!
  }
}

export class Window {
  readonly #history: History
  readonly #dimension: Dimension
  /** Of the length that is believed; none before the first refusal. */
  #ring: Ring | undefined
  #limit = NaN
  #longestWaitMs = 0
  #refusedAt = -Infinity
  /** Since when the length is believed: counts from before are of another one. */
  #knownSince = -Infinity
  /** Tests in a row that found the limit right: 0, 1, 2, 4 ... */
  #failedTests = 0
  /** Monotonic time from which the limit may be tested. */
  #testAt = -Infinity

  constructor(history: History, dimension: Dimension) {
    this.#history = history
    this.#dimension = dimension
  }

  get isKnown(): boolean {
    return this.#ring !== undefined
  }

  /** In requests or tokens per window; NaN while it is unknown. */
  get limit(): number {
    return this.#limit
  }

  /** NaN while it is unknown. */
  get lengthMs(): number {
    return this.#ring?.lengthMs ?? NaN
  }

  get testAt(): number {
    return this.#testAt
  }

  /** 0: there is room. An empty window takes any request. Else milliseconds until what stands in the way has left. */
  waitMs(cost: number, now: number): number {
    const ring = this.#ring
    if (ring === undefined) return 0
    if (ring.isEmpty(now)) return 0
    const excess = ring.count(this.#dimension, now) + cost - this.#limit
    return excess <= ROUNDING ? 0 : Math.max(0, ring.leftAt(this.#dimension, excess) - now)
  }

  /** Free part of the window, from 0 to 1; 1 while it is unknown. */
  room(now: number): number {
    const ring = this.#ring
    if (ring === undefined) return 1
    return Math.max(0, 1 - ring.count(this.#dimension, now) / this.#limit)
  }

  /** How many requests of this cost will have found a place by then, if nothing else is sent; within one window. */
  placesBy(cost: number, at: number): number {
    const ring = this.#ring
    if (ring === undefined) return 0
    const count = ring.countBy(this.#dimension, at)
    // An empty window takes any request.
    return Math.max(count <= 0 ? 1 : 0, Math.floor((this.#limit - count + ROUNDING) / cost))
  }

  /**
   * A 429 that speaks of this limit. The request was taken out of the history before.
   *
   * @param waitMs how long it asks to be left alone.
   * @param wentFull whether the request was sent although there was no room.
   */
  refused(cost: number, waitMs: number, sentAt: number, wentFull: boolean, now: number): void {
    this.#longestWaitMs = Math.max(waitMs, this.#longestWaitMs * WAIT_KEEP)
    const ring = this.#history.ringFor(this.#longestWaitMs)
    if (ring !== this.#ring) {
      this.#ring = ring
      this.#limit = NaN
      this.#failedTests = 0
      this.#refusedAt = -Infinity
      this.#knownSince = now
    }
    const count = Math.max(cost, ring.count(this.#dimension, now))
    // What was sent before the last refusal came is the same lesson.
    const isNews = sentAt > this.#refusedAt
    const isSame = count >= SAME_COUNT * this.#limit
    this.#refusedAt = now
    this.#limit = isNews || Number.isNaN(this.#limit) ? count : Math.min(this.#limit, count)
    if (!isNews) return
    if (!isSame) this.#failedTests = Math.min(1, this.#failedTests)
    else if (wentFull) this.#failedTests = Math.min(MOST_TEST_BACKOFF, 2 * this.#failedTests || 1)
    this.#testAt = now + this.#failedTests * Math.max(ring.lengthMs, TEST_EVERY_MS)
  }

  /** What is in the window; 0 while it is unknown. */
  count(now: number): number {
    return this.#ring?.count(this.#dimension, now) ?? 0
  }

  /**
   * A request was admitted: the limit is no lower than the count when it went out, itself included.
   *
   * @param count what of that was not refused since.
   * @param wentFull whether there was no room for it.
   */
  admitted(count: number, sentAt: number, wentFull: boolean): void {
    if (this.#ring === undefined || sentAt < this.#knownSince) return
    if (count > this.#limit) this.#limit = count
    else if (!wentFull) return
    this.#failedTests = 0
    this.#testAt = -Infinity
  }
}
