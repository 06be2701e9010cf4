/** The pacing of one scope on one backend: its limits in requests and in tokens, put right by what the backend says. */
import { LimiterSignals, type BucketSignals } from './limiter-signals.js'
import { Limiter } from './limiter.js'
import type { PacedAttempt, Pacer } from './pacer.js'
import type { AttemptEnd, OutcomeClass, ResponseHeaders, ScopeStatus, System } from './types.js'

/** English text has about four bytes to a token (OpenAI's own rule of thumb). */
const BYTES_PER_TOKEN = 4

/** Share of the newest body in the mean: about the last fifty count. */
const BODY_SHARE = 1 / 50

/** A utilization that is nearer to 100 % tells nothing of the bucket: it is written with one decimal. */
const LEAST_EXCESS = 0.002

/** Likewise a bucket of which less was used. */
const LEAST_USED = 0.01

/** Past answers count half as much after so many newer ones, in what is learned of a bucket's size. */
const DEPTH_KEEP = 0.9

const signals = new LimiterSignals()

export class ScopePacer implements Pacer {
  readonly #random: () => number
  readonly #requests = new Limiter()
  readonly #tokens = new Limiter()
  #meanBytes = 0
  /** Its answers speak of our quota: a refusal that does not is about something else. */
  #speaksOfQuota = false
  // Provisioned throughput: time until below 100 %, over the part above it.
  #excessMs = 0
  #excess = 0
  // Buckets: time to be full again, over the part used, by dimension.
  readonly #refill = { requests: { ms: 0, used: 0 }, tokens: { ms: 0, used: 0 } }

  constructor(system: Pick<System, 'random'>) {
    this.#random = () => system.random()
  }

  waitMs(bodyBytes: number, now: number): number {
    const forRequests = this.#requests.waitMs(1, now)
    const forTokens = this.#tokens.waitMs(this.#costOf(bodyBytes), now)
    return forTokens > forRequests ? forTokens : forRequests
  }

  headroom(now: number): number {
    return Math.min(this.#requests.headroom(now), this.#tokens.headroom(now))
  }

  sent(attempt: PacedAttempt, bodyBytes: number, now: number): void {
    if (bodyBytes > 0) this.#meanBytes += (bodyBytes - this.#meanBytes) * (this.#meanBytes === 0 ? 1 : BODY_SHARE)
    attempt.cost = this.#costOf(bodyBytes)
    this.#requests.sent(1, now, 0)
    this.#tokens.sent(attempt.cost, now, this.#random())
    attempt.sentRequests = this.#requests.sentCost
    attempt.sentTokens = this.#tokens.sentCost
  }

  observe(
    attempt: PacedAttempt, outcome: OutcomeClass, status: number, headers: ResponseHeaders, retryAfterMs: number | undefined, now: number,
  ): void {
    const speaks = signals.read(headers)
    if (status === 429) this.#refused(attempt, speaks, retryAfterMs, now)
    else if (outcome === 'throttled' || outcome === 'failed') this.#undo(attempt)
    else {
      if (speaks) {
        this.#speaksOfQuota = true
        this.#listen(attempt, attempt.sentRequests, attempt.sentTokens, now)
      }
      this.#requests.admitted()
      this.#tokens.admitted()
    }
  }

  finished(attempt: PacedAttempt, end: AttemptEnd, answered: boolean): void {
    if (!answered && (end === 'connection' || end === 'credential')) this.#undo(attempt)
  }

  pace(now: number): ScopeStatus['pace'] {
    const pace: { dimension: 'requests' | 'tokens'; perSecond: number; waitMs: number }[] = []
    if (this.#requests.perSecond > 0) pace.push({ dimension: 'requests', perSecond: this.#requests.perSecond, waitMs: this.#requests.waitMs(1, now) })
    if (this.#tokens.perSecond > 0) pace.push({ dimension: 'tokens', perSecond: this.#tokens.perSecond, waitMs: this.#tokens.waitMs(this.#costOf(0), now) })
    return pace
  }

  /** The output is charged as well, and unknown: the mean stands for it. Units do not matter, proportions do. */
  #costOf(bodyBytes: number): number {
    const known = bodyBytes > 0 ? bodyBytes : this.#meanBytes
    return known > 0 ? (known + (this.#meanBytes > 0 ? this.#meanBytes : known)) / BYTES_PER_TOKEN : 1
  }

  #undo(attempt: PacedAttempt): void {
    this.#requests.undo(1)
    this.#tokens.undo(attempt.cost)
  }

  #refused(attempt: PacedAttempt, speaks: boolean, retryAfterMs: number | undefined, now: number): void {
    if (!speaks && this.#speaksOfQuota) return this.#undo(attempt)
    const wait = retryAfterMs ?? 0
    if (signals.utilization - 1 > LEAST_EXCESS && retryAfterMs !== undefined && speaks) {
      this.#excessMs = this.#excessMs * DEPTH_KEEP + retryAfterMs
      this.#excess = this.#excess * DEPTH_KEEP + signals.utilization - 1
    }
    const byRequests = speaks && isRequestsBound()
    // What the answer says of both limits was true before the request: it took nothing.
    if (speaks) this.#listen(attempt, attempt.sentRequests - 1, attempt.sentTokens - attempt.cost, now)
    if (byRequests) {
      this.#requests.refused(1, wait, attempt.startedAt, now, this.#random())
      this.#tokens.undo(attempt.cost)
    } else {
      this.#tokens.refused(attempt.cost, wait, attempt.startedAt, now, this.#random())
      this.#requests.undo(1)
    }
  }

  #listen(attempt: PacedAttempt, sentRequests: number, sentTokens: number, now: number): void {
    const at = attempt.startedAt
    if (signals.utilization >= 0 && this.#excess > 0) {
      const depthMs = this.#excessMs / this.#excess
      this.#tokens.told(at, sentTokens, (signals.utilization - 1) * depthMs, depthMs, 0, now)
    }
    this.#fill(this.#requests, this.#refill.requests, signals.requests, at, sentRequests, now)
    this.#fill(this.#tokens, this.#refill.tokens, signals.tokens, at, sentTokens, now)
  }

  #fill(limiter: Limiter, refill: { ms: number; used: number }, bucket: BucketSignals, at: number, sentCost: number, now: number): void {
    const used = 1 - bucket.remaining / bucket.limit
    if (!(used >= 0 && bucket.resetMs >= 0)) return
    if (used >= LEAST_USED) {
      refill.ms = refill.ms * DEPTH_KEEP + bucket.resetMs
      refill.used = refill.used * DEPTH_KEEP + used
    }
    if (refill.used === 0) return
    const depthMs = refill.ms / refill.used
    limiter.told(at, sentCost, (used - 1) * depthMs, depthMs, depthMs / bucket.limit, now)
  }
}

/** Which limit refused: the one whose reset alone is told (Azure), else the one that has less left. */
function isRequestsBound(): boolean {
  const { requests, tokens } = signals
  if (requests.limit >= 0 && tokens.limit >= 0) return requests.remaining / requests.limit < tokens.remaining / tokens.limit
  if (requests.resetMs >= 0 !== tokens.resetMs >= 0) return requests.resetMs >= 0
  return requests.remaining === 0 && !(tokens.remaining === 0)
}
