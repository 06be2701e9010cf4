/**
 * How a backend that said no is opened again. Not to all that wait at once: it said when it can take *one* request, and a
 * crowd would mostly be refused, each of it one attempt poorer (without this, 10 to 30 429s for each success). So requests
 * that wait go one at a time at first, half a one more for each that was not refused: 1, 1.5, 2 ... and in the end without a limit.
 *
 * That takes knowing what was *admitted*, long before an answer is there: a refusal comes within a round trip, the headers of
 * an answer may take ten seconds. So a request that was not refused in three of a refusal's usual round trips was let in.
 * (Tried: a random delay after each cooldown, doubled on repeats. It serves fewer, since a window that is open is not used.)
 */
import type { PacedAttempt } from './pacing/pacer.js'

/** An attempt of which it is not known yet whether the backend took it. The pool's attempt is one. */
export interface Undecided extends PacedAttempt {
  isUndecided: boolean
  /** The next one that went out. */
  nextUndecided: Undecided | undefined
}

/** Round trips after which a refusal would be here. One is the usual; the third is for those that take twice as long as others. */
const REFUSALS = 3

/** A refusal's round trip, in milliseconds, until one was seen. They take 5 to 60 ms within a continent. */
const ASSUMED_REFUSAL_MS = 50

/** Share of the newest refusal in the mean. */
const REFUSAL_SHARE = 1 / 5

/** Where refusals come within a millisecond (a server on the same machine), an answer that is not here yet still says nothing. */
const SHORTEST_DECISION_MS = 5

/** What one admission adds to the number of requests that may be undecided, and from where on there is no limit. */
const GROWTH = 0.5
const WIDE_OPEN = 64

/** When a request reaches the backend, as a part of a refusal's round trip: the way there, and not yet the way back. */
const WAY_THERE = 0.4

export class SlowStart {
  /** How many attempts are neither admitted nor refused. */
  #undecided = 0
  /** How many may be. */
  #width = Infinity
  #refusalMs = ASSUMED_REFUSAL_MS
  // In the order in which they went out, those among them that were decided since.
  #head: Undecided | undefined
  #tail: Undecided | undefined

  /** Milliseconds until one more of the requests that can wait may go; 0: now. */
  waitMs(now: number): number {
    if (this.#undecided + 1 <= this.#width || this.#head === undefined) return 0
    return Math.max(0, this.#head.startedAt + this.#decisionMs - now)
  }

  /** When the attempt reached the backend, roughly. */
  arrivedAt(attempt: Undecided): number {
    return attempt.startedAt + WAY_THERE * this.#refusalMs
  }

  sent(attempt: Undecided): void {
    attempt.isUndecided = true
    this.#undecided++
    if (this.#tail === undefined) this.#head = attempt
    else this.#tail.nextUndecided = attempt
    this.#tail = attempt
  }

  /** @returns an attempt that would have been refused by now, if it were to be: to be called until there is none. */
  takeAdmitted(now: number): Undecided | undefined {
    const head = this.#head
    if (head === undefined || head.startedAt + this.#decisionMs > now) return undefined
    this.#admit(head)
    return head
  }

  /** Headers are there. @returns whether that is news. */
  admitted(attempt: Undecided): boolean {
    if (!attempt.isUndecided) return false
    this.#admit(attempt)
    return true
  }

  /** It was refused. */
  refused(attempt: Undecided, refusalMs: number): void {
    this.failed(attempt)
    this.#refusalMs += (refusalMs - this.#refusalMs) * REFUSAL_SHARE
    this.#width = 1
  }

  /** It ended in a way that says nothing of limits. */
  failed(attempt: Undecided): void {
    if (!attempt.isUndecided) return
    attempt.isUndecided = false
    this.#undecided--
    this.#dropDecided()
  }

  get #decisionMs(): number {
    return Math.max(SHORTEST_DECISION_MS, REFUSALS * this.#refusalMs)
  }

  #admit(attempt: Undecided): void {
    this.failed(attempt)
    this.#width = this.#width >= WIDE_OPEN ? Infinity : this.#width + GROWTH
  }

  #dropDecided(): void {
    while (this.#head?.isUndecided === false) {
      const next: Undecided | undefined = this.#head.nextUndecided
      this.#head.nextUndecided = undefined
      this.#head = next
    }
    if (this.#head === undefined) this.#tail = undefined
  }
}
