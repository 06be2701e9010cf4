/**
 * How those who wait are let go when a cooldown is over. Not all at once: the backend said when it can take *one* request
 * again, and a crowd would mostly be refused, each of it one attempt poorer. So one goes, then the next when the one
 * before was admitted, and two at a time later, and three: each time twice. Pace takes over as soon as there is one.
 */

/** A refusal comes at once, and takes as long as the last one did: whoever is not refused in twice that time was let in. */
const REFUSALS = 2

/** Where refusals come within a millisecond (a server on the same machine), an answer that is not here yet still says nothing. */
const SHORTEST_ROUND_MS = 5

/** A backend that takes one request at a time again is not pressed by two with every other round: each would be refused. */
const ROUNDS_OF_A_SIZE = 2

export class Reopening {
  readonly #roundMs: number
  #rounds = 0
  /** How many are out without being known to be admitted. */
  #unknown = 0
  #sentAt = -Infinity

  /** @param refusalMs how long the refusal took. */
  constructor(refusalMs: number) {
    this.#roundMs = Math.max(SHORTEST_ROUND_MS, REFUSALS * refusalMs)
  }

  /** Milliseconds until one more of those who wait may go. */
  waitMs(now: number): number {
    const size = 1 + Math.floor(this.#rounds / ROUNDS_OF_A_SIZE)
    return this.#unknown < size ? 0 : Math.max(0, this.#sentAt + this.#roundMs - now)
  }

  /** One of those who waited goes. */
  sent(now: number): void {
    // Nobody was refused for a whole round: those who are out were admitted.
    if (this.#unknown > 0 && now - this.#sentAt >= this.#roundMs) this.#endRound()
    this.#unknown++
    this.#sentAt = now
  }

  /** One of those who waited was not refused. */
  admitted(): void {
    if (this.#unknown > 0 && --this.#unknown === 0) this.#endRound()
  }

  #endRound(): void {
    this.#rounds++
    this.#unknown = 0
  }
}
