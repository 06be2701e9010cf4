/**
 * Limits that a user declares, for a backend that reports none (vLLM, a gateway) or as a cap on what is paid for. They are
 * the user's word, and count like a backend's: they hold a request, send it to a lower tier, or refuse it. They are those of
 * the whole backend, whatever the models that are asked for.
 */
import { REQUESTS, Ring, TOKENS, type Dimension } from './window.js'

/** `undefined`: no limit. */
export interface DeclaredLimits {
  /** Attempts at a time, each until its body has ended. */
  readonly inFlight?: number | undefined
  readonly requestsPerMinute?: number | undefined
  readonly tokensPerMinute?: number | undefined
}

const MINUTE_MS = 60_000

/** How long a request takes from sending to the end of its body, until one has ended. In milliseconds. */
const ASSUMED_DURATION_MS = 1_000

/** Share of the newest request in the mean. */
const DURATION_SHARE = 1 / 8

/** English text has about four bytes to a token, and the output is as long as prompts are on average, as the pacer reckons. */
const BYTES_PER_TOKEN = 4
const BODY_SHARE = 1 / 50

/** What one process sent to a backend with declared limits. */
export class Declared {
  /** Of the last minute. */
  readonly #sent = new Ring(MINUTE_MS)
  #durationMs = ASSUMED_DURATION_MS
  #meanBytes = 0

  /** Milliseconds until a request of this size is within the limits; 0: now. */
  waitMs(limits: DeclaredLimits, inFlight: number, bodyBytes: number, now: number): number {
    const { inFlight: most = Infinity, requestsPerMinute, tokensPerMinute } = limits
    return Math.max(
      // One of those that are out is expected to end.
      inFlight < most ? 0 : this.#durationMs / most,
      requestsPerMinute === undefined ? 0 : this.#leftMs(REQUESTS, requestsPerMinute, 1, now),
      tokensPerMinute === undefined ? 0 : this.#leftMs(TOKENS, tokensPerMinute, this.#costOf(bodyBytes), now),
    )
  }

  /** @returns what the request costs in tokens, roughly. */
  sent(bodyBytes: number, now: number): number {
    if (bodyBytes > 0) this.#meanBytes += (bodyBytes - this.#meanBytes) * (this.#meanBytes === 0 ? 1 : BODY_SHARE)
    const cost = this.#costOf(bodyBytes)
    this.#sent.add(1, cost, now)
    return cost
  }

  /** It did not count: it was refused, it failed, or it never arrived. */
  undone(cost: number, sentAt: number, now: number): void {
    this.#sent.remove(cost, sentAt, now)
  }

  ended(durationMs: number): void {
    this.#durationMs += (durationMs - this.#durationMs) * DURATION_SHARE
  }

  /** An empty window takes a request of any size. */
  #leftMs(dimension: Dimension, limit: number, cost: number, now: number): number {
    const excess = this.#sent.count(dimension, now) + cost - limit
    return excess <= 0 || this.#sent.isEmpty(now) ? 0 : Math.max(0, this.#sent.leftAt(dimension, excess) - now)
  }

  #costOf(bodyBytes: number): number {
    return ((bodyBytes > 0 ? bodyBytes : this.#meanBytes) + this.#meanBytes) / BYTES_PER_TOKEN
  }
}
