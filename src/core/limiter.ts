/**
 * The replica of one rate limit, as one client process can know it: the generic cell rate algorithm (GCRA). One number
 * says it all, the theoretical arrival time: the moment at which the backend is expected to be below its limit. Each
 * request that goes out pushes it by cost / rate; what the backend says puts it right.
 *
 *   arrival time in the past                 now                arrival time ahead
 *   ------|-----------------------------------|----------------------|------------> time
 *         <- room: as much as was saved up -->                       <- margin ->|  a request waits until here
 *
 * The rate is this process's own share. Between two moments at which the server's backlog is known, the server drained
 * (time passed + growth of the backlog) worth of its own limit, and admitted so much of *our* cost: the quotient is our
 * share, and the shares of all processes add up to the limit without anybody talking to anybody.
 */

/**
 * How long a measurement counts, in milliseconds. Long against the jitter of single answers (a streamed answer tells
 * of a state 0.3 s ago, an unstreamed one of 5 s ago), short against the minutes in which load shifts between processes.
 */
const MEMORY_MS = 30_000

/**
 * While our own pace is what binds and nobody says no, each request raises the rate by this. At 0.1 % some 50 requests
 * make 5 %, which is what one refusal costs.
 */
const SLOWEST_GROWTH = 3e-4
/** Growth itself grows with each request that nobody refused: after 150 in a row a limit that has doubled is found. */
const GROWTH_OF_GROWTH = 1.01
const FASTEST_GROWTH = 0.1
/** A refusal divides the growth. */
const GROWTH_CUT = 8

/** The part of the bucket by which the margin grows at a refusal; at most a quarter of the bucket, where room for bursts is lost. */
const MARGIN_STEP = 0.03
const LARGEST_MARGIN = 0.25
/** The margin is forgotten that slowly, in milliseconds: it costs nothing but room for bursts. */
const MARGIN_MEMORY_MS = 3_000_000

/** Where nothing but refusals tell of the bucket: it is taken to be this part of the longest wait that was asked for. */
const ASSUMED_DEPTH = 0.05

/** A bucket this empty may have been empty for long: how much it drained cannot be told. */
const IDLE_LEVEL = 0.98

/** A refused client comes back within its gap between two requests, times this at most, so that all do not come at once. */
const LARGEST_REPEAT = 8

export class Limiter {
  /** Monotonic time; NaN until a limit is known. */
  #arrivalAt = NaN
  /** Our share of the limit, in cost per millisecond; NaN until it was measured. */
  #rate = NaN
  /** How far the arrival time may lie in the past: the size of the bucket, in milliseconds of its refill. */
  #depthMs = 0
  #marginMs = 0
  /** Milliseconds of the server's refill that one unit of cost takes, where a request has to fit as a whole. */
  #fitMs = 0
  #growth = FASTEST_GROWTH
  #repeats = 1
  #longestMs = 1_000
  /** The server tells its level in every answer: no need to feel for the limit. */
  #isTold = false

  /** Cost that went out and was not refused, ever. */
  #sent = 0
  #costSum = 0
  #timeSum = 0
  #syncedAt = NaN
  #syncedBacklogMs = 0
  #syncedSent = 0
  /** Time since then in which the bucket was full and nobody drew from it. */
  #idleMs = 0

  /** What has gone out so far: an attempt keeps it, to say later what came after it. */
  get sentCost(): number {
    return this.#sent
  }

  /** In cost per second; NaN until it was measured. */
  get perSecond(): number {
    return this.#rate * 1_000
  }

  /** Milliseconds until a request of this cost is expected to be admitted; 0: now. */
  waitMs(cost: number, now: number): number {
    const wait = this.#arrivalAt + this.#marginMs + cost * this.#fitMs - now
    return wait > 0 ? wait : 0
  }

  /** 0 at the edge, 1 from half a bucket of room on, or when no limit is known. */
  headroom(now: number): number {
    const room = (now - this.#arrivalAt - this.#marginMs) / (this.#depthMs / 2)
    return room >= 1 ? 1 : room > 0 ? room : room <= 0 ? 0 : 1
  }

  sent(cost: number, now: number): void {
    if (!(this.#syncedAt <= now)) this.#restart(now, 0, this.#sent)
    this.#sent += cost
    const lag = now - this.#arrivalAt
    if (lag > this.#depthMs) {
      this.#idleMs += lag - this.#depthMs
      this.#arrivalAt = now - this.#depthMs
    }
    const gap = cost / this.#rate
    if (!(gap > 0)) return
    if (!this.#isTold && lag < gap) this.#grow(gap)
    this.#arrivalAt += gap
  }

  /** A request that went out did not count: it never arrived, or was refused for another reason than this limit. */
  undo(cost: number): void {
    this.#sent -= cost
    const gap = cost / this.#rate
    if (gap > 0) this.#arrivalAt -= gap
  }

  /**
   * The server's own word on its level.
   * @param at when it was so, in monotonic milliseconds.
   * @param sentCost what we had sent by then.
   * @param backlogMs negative below the limit.
   * @param fitMs milliseconds of refill that a unit of cost takes, where a request must fit as a whole; else 0.
   */
  told(at: number, sentCost: number, backlogMs: number, depthMs: number, fitMs: number): void {
    if (at < this.#syncedAt && this.#isTold) return // an answer that took longer tells of an older state
    this.#isTold = true
    this.#depthMs = depthMs
    this.#fitMs = fitMs
    if (this.#marginMs > 0) this.#marginMs /= 1 + Math.max(0, at - this.#syncedAt) / MARGIN_MEMORY_MS
    this.#repeats = 1
    if (backlogMs < -IDLE_LEVEL * depthMs) this.#restart(at, backlogMs, sentCost)
    else this.#measure(at, backlogMs, sentCost)
    this.#rate = this.#costSum > 0 && this.#timeSum > 0 ? this.#costSum / this.#timeSum : this.#rate
    const since = (this.#sent - sentCost) / this.#rate
    this.#arrivalAt = at + backlogMs + (since > 0 ? since : 0)
  }

  /**
   * The server refused a request of ours for this limit.
   * @param draw in [0, 1): where between the end of the wait and one gap later we come back.
   */
  refused(cost: number, retryAfterMs: number, now: number, draw: number): void {
    this.#sent -= cost
    this.#longestMs = Math.max(this.#longestMs, retryAfterMs)
    const backlogMs = retryAfterMs - cost * this.#fitMs
    this.#measure(now, backlogMs, this.#sent)
    if (this.#costSum > 0 && this.#timeSum > 0) this.#rate = this.#costSum / this.#timeSum
    else if (!(this.#rate > 0)) this.#rate = cost / Math.max(retryAfterMs, 1_000)
    if (this.#isTold) this.#marginMs = Math.min(LARGEST_MARGIN * this.#depthMs, this.#marginMs + MARGIN_STEP * this.#depthMs)
    else this.#depthMs = Math.max(this.#depthMs, ASSUMED_DEPTH * retryAfterMs)
    this.#growth = Math.max(SLOWEST_GROWTH, this.#growth / GROWTH_CUT)
    this.#arrivalAt = now + backlogMs + draw * this.#repeats * (cost / this.#rate)
    this.#repeats = Math.min(LARGEST_REPEAT, this.#repeats * 2)
  }

  /** A request was admitted, and the server says nothing of its level. */
  admitted(): void {
    this.#repeats = 1
  }

  #grow(gap: number): void {
    this.#rate *= 1 + Math.min(this.#growth, gap / this.#longestMs)
    this.#growth = Math.min(FASTEST_GROWTH, this.#growth * GROWTH_OF_GROWTH)
  }

  #measure(at: number, backlogMs: number, sentCost: number): void {
    const passed = at - this.#syncedAt
    if (passed > 0 || passed === 0) {
      const keep = 1 / (1 + passed / MEMORY_MS)
      this.#costSum = this.#costSum * keep + sentCost - this.#syncedSent
      this.#timeSum = this.#timeSum * keep + passed - this.#idleMs + backlogMs - this.#syncedBacklogMs
    }
    this.#restart(at, backlogMs, sentCost)
  }

  #restart(at: number, backlogMs: number, sentCost: number): void {
    this.#syncedAt = at
    this.#syncedBacklogMs = backlogMs
    this.#syncedSent = sentCost
    this.#idleMs = 0
  }
}
