/**
 * How those who wait are let go when a cooldown is over. Not all at once: the backend said when it can take *one* request
 * again, and a crowd would mostly be refused, each of it one attempt poorer. So they go in rounds, of one, one, two,
 * four, eight and so on, until somebody is refused again. Pace takes over as soon as there is one.
 */

/** A refusal comes at once, and takes as long as the last one did: whoever is not refused in twice that time was let in. */
const REFUSALS = 2

/** Where refusals come within a millisecond (a server on the same machine), an answer that is not here yet still says nothing. */
const SHORTEST_ROUND_MS = 5

/** What took longer was not the backend's refusing but our sending; a backend that is open does not stay unused for it. */
const LONGEST_ROUND_MS = 1_000

/** A backend that takes one request at a time again is not pressed by two at once: each would be refused. */
const ROUNDS_OF_ONE = 2

export class SlowStart {
  readonly #openedAt: number
  readonly #roundMs: number
  #rounds = 0
  #beganAt = -Infinity
  /** How many of this round are out without being known to be admitted. */
  #unknown = 0

  /** @param refusalMs how long the refusal took that came just now. */
  constructor(refusalMs: number, now: number) {
    this.#openedAt = now
    this.#roundMs = Math.min(LONGEST_ROUND_MS, Math.max(SHORTEST_ROUND_MS, REFUSALS * refusalMs))
  }

  /** Milliseconds until one more of those who wait may go. */
  waitMs(now: number): number {
    const size = 2 ** Math.max(0, this.#rounds - ROUNDS_OF_ONE + 1)
    return this.#unknown < size ? 0 : Math.max(0, this.#beganAt + this.#roundMs - now)
  }

  /** One of those who waited goes. */
  sent(now: number): void {
    // Counted from its first request, or a steady stream of answers and new requests would never let a round end.
    if (this.#unknown > 0 && now - this.#beganAt >= this.#roundMs) this.#endRound()
    if (this.#unknown === 0) this.#beganAt = now
    this.#unknown++
  }

  /** One of those who waited was not refused. @param sentAt those who were sent before the refusal tell nothing of what came after it. */
  admitted(sentAt: number): void {
    if (sentAt >= this.#openedAt && this.#unknown > 0 && --this.#unknown === 0) this.#endRound()
  }

  #endRound(): void {
    this.#rounds++
    this.#unknown = 0
  }
}
