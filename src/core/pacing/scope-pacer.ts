/** The pacing of one scope on one backend: its limits in requests and in tokens, put right by what the backend says. */
import { LimiterSignals, type BucketSignals } from './rate-limit-headers.js'
import { Limiter } from './limiter.js'
import type { PacedAttempt, Pacer } from './pacer.js'
import type { AttemptEnd, OutcomeClass, ResponseHeaders, ScopeStatus, System } from '../types.js'

/** English text has about four bytes to a token (OpenAI's own rule of thumb). */
const BYTES_PER_TOKEN = 4

/** Share of the newest body in the mean: about the last fifty count. */
const BODY_SHARE = 1 / 50

/** A utilization nearer to 100 % tells nothing of the bucket's size: it is written with one decimal, 0.05 % off on average. */
const LEAST_EXCESS = 0.002

/** The services' longest window, in milliseconds: whoever asks for a longer wait does not speak of a rate limit. */
const LONGEST_WINDOW_MS = 60_000

/** A bucket of which less was used tells nothing of its refill: times are rounded to milliseconds. */
const LEAST_USED = 0.01

/** What is kept of older answers at each newer one, in what is learned of a bucket's size: about the last ten count. */
const DEPTH_KEEP = 0.9

/** Answers are read one at a time, by all pacers with the same eyes. */
const signals = new LimiterSignals()

/** The time in which a whole bucket is refilled: a ratio of decayed sums of (time, part of the bucket). */
class Depth {
  #ms = 0
  #part = 0

  learn(ms: number, part: number): void {
    this.#ms = this.#ms * DEPTH_KEEP + ms
    this.#part = this.#part * DEPTH_KEEP + part
  }

  /** NaN while nothing is known. */
  get ms(): number {
    return this.#ms / this.#part
  }
}

export class ScopePacer implements Pacer {
  readonly #system: Pick<System, 'random'>
  readonly #requests = new Limiter()
  readonly #tokens = new Limiter()
  readonly #requestsDepth = new Depth()
  readonly #tokensDepth = new Depth()
  #meanBytes = 0
  /** Its answers tell of our quota: a refusal that does not is about something else. */
  #tellsOfQuota = false

  constructor(system: Pick<System, 'random'>) {
    this.#system = system
  }

  waitMs(bodyBytes: number, now: number): number {
    const forRequests = this.#requests.waitMs(1, now)
    const forTokens = this.#tokens.waitMs(this.#costOf(bodyBytes), now)
    return forTokens > forRequests ? forTokens : forRequests
  }

  headroom(now: number): number {
    const ofRequests = this.#requests.headroom(now)
    const ofTokens = this.#tokens.headroom(now)
    return ofTokens < ofRequests ? ofTokens : ofRequests
  }

  sent(attempt: PacedAttempt, bodyBytes: number, now: number): void {
    if (bodyBytes > 0) this.#meanBytes += (bodyBytes - this.#meanBytes) * (this.#meanBytes === 0 ? 1 : BODY_SHARE)
    attempt.cost = this.#costOf(bodyBytes)
    const draw = this.#system.random()
    this.#requests.sent(1, now, draw)
    this.#tokens.sent(attempt.cost, now, draw)
    attempt.sentRequests = this.#requests.sentCost
    attempt.sentTokens = this.#tokens.sentCost
  }

  observe(
    attempt: PacedAttempt, outcome: OutcomeClass, status: number, headers: ResponseHeaders, retryAfterMs: number | undefined, now: number,
  ): void {
    if (status === 429) return this.#refused(attempt, headers, retryAfterMs, now)
    // Broken or overloaded, it charged nothing, and says nothing of its limits.
    if (outcome === 'throttled' || outcome === 'failed') return this.#undo(attempt)
    signals.read(headers)
    if (signals.isQuota) {
      this.#tellsOfQuota = true
      this.#listen(attempt.startedAt, attempt.sentRequests, attempt.sentTokens, now)
    }
    this.#requests.admitted()
    this.#tokens.admitted()
  }

  finished(attempt: PacedAttempt, end: AttemptEnd, answered: boolean): void {
    // A request that timed out may have been admitted: to believe it was is the safe side.
    if (!answered && (end === 'connection' || end === 'credential')) this.#undo(attempt)
  }

  pace(now: number): ScopeStatus['pace'] {
    return [
      ...describe('requests', this.#requests, 1, now),
      ...describe('tokens', this.#tokens, this.#costOf(0), now),
    ]
  }

  /**
   * In tokens, roughly: the prompt by its size, and as much again on average for the output, whose size nobody knows. The
   * limiter measures its rate in the same unit, so only proportions matter.
   */
  #costOf(bodyBytes: number): number {
    const mean = this.#meanBytes
    const known = bodyBytes > 0 ? bodyBytes : mean
    return known > 0 ? (known + (mean > 0 ? mean : known)) / BYTES_PER_TOKEN : 1
  }

  #undo(attempt: PacedAttempt): void {
    this.#requests.undo(1)
    this.#tokens.undo(attempt.cost)
  }

  #refused(attempt: PacedAttempt, headers: ResponseHeaders, askedMs: number | undefined, now: number): void {
    signals.read(headers)
    const retryAfterMs = askedMs === undefined ? undefined : Math.min(askedMs, LONGEST_WINDOW_MS)
    // "The system is experiencing high demand": the cooldown obeys it, and there is nothing to learn of our limits.
    if (!signals.isQuota && this.#tellsOfQuota) return this.#undo(attempt)
    const excess = signals.utilization - 1
    if (excess >= LEAST_EXCESS && retryAfterMs !== undefined) this.#tokensDepth.learn(retryAfterMs, excess)
    // The levels in the answer are those before the request: it was not let in.
    this.#listen(attempt.startedAt, attempt.sentRequests - 1, attempt.sentTokens - attempt.cost, now)
    const draw = this.#system.random()
    if (signals.isRequestsBound) {
      this.#requests.refused(1, retryAfterMs ?? 0, attempt.startedAt, now, draw)
      this.#tokens.undo(attempt.cost)
    } else {
      this.#tokens.refused(attempt.cost, retryAfterMs ?? 0, attempt.startedAt, now, draw)
      this.#requests.undo(1)
    }
  }

  #listen(at: number, sentRequests: number, sentTokens: number, now: number): void {
    const depthMs = this.#tokensDepth.ms
    // Nothing is known of provisioned throughput's bucket until a refusal has shown how fast it drains.
    if (signals.utilization >= 0 && depthMs >= 0) {
      this.#tokens.told(at, sentTokens, (signals.utilization - 1) * depthMs, depthMs, 0, now)
    }
    listenToBucket(this.#requests, this.#requestsDepth, signals.requests, at, sentRequests, now)
    listenToBucket(this.#tokens, this.#tokensDepth, signals.tokens, at, sentTokens, now)
  }
}

/** Limit, remaining and reset together tell all of a bucket; Azure's remaining without the other two tells nothing that lasts. */
function listenToBucket(limiter: Limiter, depth: Depth, bucket: BucketSignals, at: number, sentCost: number, now: number): void {
  const { used, resetMs } = bucket
  if (!(used >= 0 && resetMs >= 0)) return
  if (used >= LEAST_USED) depth.learn(resetMs, used)
  const depthMs = depth.ms
  if (depthMs >= 0) limiter.told(at, sentCost, (used - 1) * depthMs, depthMs, depthMs / bucket.limit, now)
}

function describe(dimension: 'requests' | 'tokens', limiter: Limiter, cost: number, now: number): ScopeStatus['pace'] {
  return limiter.perSecond > 0 ? [{ dimension, perSecond: limiter.perSecond, waitMs: limiter.waitMs(cost, now) }] : []
}
