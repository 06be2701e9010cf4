/**
 * What part of a backend's limit is this process's own.
 *
 * Between two moments at which the server's backlog is known, the server drained (time passed + growth of the backlog)
 * worth of its limit, and admitted so much cost of *ours*: the quotient is our share. The shares of all processes add up
 * to the limit without anybody talking to anybody, and follow demand. It is a ratio of decayed sums: a mean of ratios
 * overestimates by 15 %, for short intervals with a lucky backlog count too much.
 */

/**
 * How long a measurement counts: so many requests, because the noise of a rate goes with their number (100 make 10 %),
 * but at least half a minute, so that an unstreamed answer (a state 5 s old) does not count as much as the present, and
 * at most five, in which load shifts between processes.
 */
const MEMORY_REQUESTS = 100
const SHORTEST_MEMORY_MS = 30_000
const LONGEST_MEMORY_MS = 300_000

/** A rate from less than a second of a server's time is an accident. */
const LEAST_TIME_MS = 1_000

/** With one refusal to go by: faster than that is no pace. */
const SHORTEST_WAIT_MS = 100

/** The longest window that the services enforce is a minute: in each we send something, or we would never learn. */
const LONGEST_GAP_MS = 60_000

/**
 * While our pace binds and nobody says no, the rate rises by 12 % a minute, or by 0.12 % with a request where that is less:
 * one refusal in some forty requests is what feeling for a limit costs.
 */
const SLOWEST_GROWTH = 2e-6
const SLOWEST_STEP = 1.2e-3
/**
 * Growth itself grows by e in twenty seconds, or in 33 requests where those take longer, but in three minutes at the
 * latest: a limit that has doubled is found within four minutes, within six and a half where a request takes five seconds.
 */
const ACCELERATION_MS = 20_000
const ACCELERATION_REQUESTS = 33
const SLOWEST_ACCELERATION_MS = 180_000
/** A refusal makes growth slow again. It tells the server's rate to within a few per cent. */
const GROWTH_CUT = 8
/** After the first refusal little is known: by a third in a quarter of a minute. */
const FIRST_GROWTH = 2e-5
/** After minutes without any refusal by e in ten seconds: the limit may be anywhere. */
const FASTEST_GROWTH = 1e-4
/** From nothing (TCP calls this its slow start) by e in ten seconds. */
const SLOW_START = 1e-4
/** Never by more than this with one request: its answer has to have a chance to come. */
const FASTEST_STEP = 0.05

export class Share {
  /** Cost per millisecond; NaN until it was measured. */
  #rate = NaN
  #growth = FIRST_GROWTH
  #costSum = 0
  #timeSum = 0
  #lastGapMs = 0
  // The last moment at which the backlog was known.
  #at = NaN
  #backlogMs = 0
  #sent = 0
  /** Time since then in which the server's bucket was full and nobody drew from it: no measure of anything. */
  #idleMs = 0

  get rate(): number {
    return this.#rate
  }

  /** Time that a request of this cost takes of our share; NaN when that is unknown. */
  gapMs(cost: number): number {
    const gap = cost / this.#rate
    return gap > LONGEST_GAP_MS ? LONGEST_GAP_MS : gap
  }

  hasStarted(): boolean {
    return !Number.isNaN(this.#at)
  }

  /** The backlog is known at this moment, but what happened before tells nothing. */
  restart(at: number, backlogMs: number, sent: number): void {
    this.#at = at
    this.#backlogMs = backlogMs
    this.#sent = sent
    this.#idleMs = 0
  }

  /** @param sent all cost of ours that the server had admitted by then. */
  measure(at: number, backlogMs: number, sent: number): void {
    const passed = at - this.#at
    if (passed >= 0) {
      const memory = Math.min(LONGEST_MEMORY_MS, Math.max(SHORTEST_MEMORY_MS, MEMORY_REQUESTS * this.#lastGapMs))
      const keep = 1 / (1 + passed / memory)
      this.#costSum = this.#costSum * keep + sent - this.#sent
      this.#timeSum = this.#timeSum * keep + passed - this.#idleMs + backlogMs - this.#backlogMs
    }
    this.restart(at, backlogMs, sent)
    if (this.#costSum > 0 && this.#timeSum >= LEAST_TIME_MS) this.#rate = this.#costSum / this.#timeSum
  }

  /** Where nothing was ever admitted: one request like this in each wait, and quickly more while nobody says no. */
  assume(cost: number, waitMs: number): void {
    if (this.#rate > 0) return
    this.#rate = cost / Math.max(waitMs, SHORTEST_WAIT_MS)
    this.#growth = SLOW_START
  }

  addIdle(ms: number): void {
    this.#idleMs += ms
  }

  used(gapMs: number): void {
    this.#lastGapMs = gapMs
  }

  /** A request was sent as early as our pace allows. @param windowMs the longest known wait: growth by more than e in it would tell nothing. */
  grow(gapMs: number, windowMs: number): void {
    this.#rate *= 1 + Math.min(this.#growth * gapMs, gapMs / windowMs, FASTEST_STEP)
    const slowest = Math.min(SLOWEST_ACCELERATION_MS, ACCELERATION_REQUESTS * gapMs)
    this.#growth = Math.min(Math.max(FASTEST_GROWTH, this.#growth), this.#growth * (1 + Math.min(1, gapMs / Math.max(ACCELERATION_MS, slowest))))
  }

  slowDown(): void {
    this.#growth = Math.max(Math.min(SLOWEST_GROWTH, SLOWEST_STEP / this.#lastGapMs), this.#growth / GROWTH_CUT)
  }
}
