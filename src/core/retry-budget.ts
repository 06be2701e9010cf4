/**
 * Where everything fails, each request would be tried on one backend after the other: the load on backends that are already
 * down would be multiplied by their number, just when they can bear it least. Retries after failures are therefore paid for,
 * out of an account that requests fill.
 */

/** In milliseconds. What was earned is kept for one to two of these: long enough for an outage to show, short enough that a quiet night buys no storm. */
const EPOCH_MS = 10_000

/** A share of the requests, and a few a second for a process that has little traffic: the factor is at most `1 + ratio`. */
export class RetryBudget {
  readonly ratio: number
  readonly minPerSecond: number
  #reserve: number
  #reservedAt: number
  #earned = 0
  #earnedBefore = 0
  #epochEnd: number

  /**
   * @param ratio retries per request.
   * @param minPerSecond retries per second whatever the traffic.
   */
  constructor(ratio: number, minPerSecond: number, now: number) {
    this.ratio = ratio
    this.minPerSecond = minPerSecond
    this.#reserve = this.#fullReserve
    this.#reservedAt = now
    this.#epochEnd = now + EPOCH_MS
  }

  /** A request came in. */
  deposit(now: number): void {
    if (now >= this.#epochEnd) this.#turn(now)
    this.#earned += this.ratio
  }

  /** Takes one retry out; false when there is none left. */
  withdraw(now: number): boolean {
    if (now >= this.#epochEnd) this.#turn(now)
    this.#reserve = Math.min(this.#fullReserve, this.#reserve + (now - this.#reservedAt) * this.minPerSecond / 1_000)
    this.#reservedAt = now
    if (this.#earnedBefore >= 1) this.#earnedBefore -= 1
    else if (this.#earned + this.#earnedBefore >= 1) {
      this.#earned -= 1 - this.#earnedBefore
      this.#earnedBefore = 0
    } else if (this.#reserve >= 1) this.#reserve -= 1
    else return false
    return true
  }

  get #fullReserve(): number {
    return this.minPerSecond * EPOCH_MS / 1_000
  }

  #turn(now: number): void {
    this.#earnedBefore = now < this.#epochEnd + EPOCH_MS ? this.#earned : 0
    this.#earned = 0
    this.#epochEnd = now + EPOCH_MS
  }
}
