/**
 * The pacing of one scope on one backend: what its limits are, as far as the backend told them or refusals let us feel
 * them. The two kinds of knowledge never mix, for they may do different things: what is *told* may hold a request, send it
 * to a lower tier or refuse it; what is *felt* orders candidates and holds requests that can wait, and refuses none.
 */
import { Depth, Level } from './level.js'
import { LimiterSignals, type BucketSignals } from './rate-limit-headers.js'
import { History, REQUESTS, TOKENS, Window } from './window.js'
import type { ResponseHeaders, ScopeStatus } from '../types.js'

/** What pacing keeps with an attempt. The pool's attempt is one. */
export interface PacedAttempt {
  /** Monotonic time. */
  readonly startedAt: number
  /** In tokens, roughly. */
  cost: number
  /** All that had gone out, this attempt included. */
  sentRequests: number
  sentTokens: number
  /** There only where something was felt when it went out. */
  felt: Felt | undefined
}

/** What was felt of the limits when an attempt went out. Of most backends that is nothing. */
interface Felt {
  /** What was in the windows, this attempt included, and with it all that had ever been undone. */
  readonly requestsCount: number
  readonly tokensCount: number
  /** It went out although a window had no room for it. */
  readonly wentFullOfRequests: boolean
  readonly wentFullOfTokens: boolean
  /** It went out although an estimate said that there was no room, and will tell whether that is so. */
  isTest: boolean
}

/** English text has about four bytes to a token (OpenAI's own rule of thumb). */
const BYTES_PER_TOKEN = 4

/** Share of the newest body in the mean: about the last fifty count. */
const BODY_SHARE = 1 / 50

/** A utilization is reckoned on with a rate that was learned: so long after a report it is an estimate like any other. Measured: 1 to 5 s are alike. */
const FRESH_MS = 2_000

/** Of provisioned throughput, until a refusal above 100 % tells it. Not documented; a bucket of a few seconds' work lets bursts through. */
const ASSUMED_PTU_DEPTH_MS = 10_000

/** Of limit, remaining and reset, until less than all of it was left once: limits are per minute. */
const ASSUMED_BUCKET_DEPTH_MS = 60_000

/** Answers are read one at a time, by all pacers with the same eyes. */
const signals = new LimiterSignals()

/** A bucket that a service reports. */
class Reported {
  readonly level = new Level()
  readonly depth: Depth

  constructor(assumedDepthMs: number) {
    this.depth = new Depth(assumedDepthMs)
  }
}

/**
 * Provisioned throughput that was full a moment ago has room again within tens of milliseconds, as its own waits say. So long others are
 * asked first, in milliseconds; it answers all the same, by spilling over, so nothing is refused.
 */
const SPILLED_MS = 250

export class Pacer {
  readonly #random: () => number
  readonly #history = new History()
  readonly #requests = new Window(this.#history, REQUESTS)
  readonly #tokens = new Window(this.#history, TOKENS)
  // Most backends report nothing.
  #utilization: Reported | undefined
  #requestsBucket: Reported | undefined
  #tokensBucket: Reported | undefined
  /** All that went out and was not refused, ever. */
  #sentRequests = 0
  #sentTokens = 0
  /** All that went out and did not count, ever. */
  #undoneRequests = 0
  #undoneTokens = 0
  #meanBytes = 0
  /** Its answers tell of our quota: a refusal that does not is about something else. */
  #tellsOfQuota = false
  /** Nothing was told yet, and nothing is felt: for most backends, most of the time. */
  #isBlank = true
  /** Monotonic time until which it is full by its own word, though it answers all the same. */
  #fullUntil = 0
  /** Tests that are not decided yet. */
  #tests = 0

  /** @param random uniform in [0, 1). */
  constructor(random: () => number) {
    this.#random = random
  }

  /** Milliseconds until the levels that the backend reports have room; 0: now. May refuse. */
  toldMs(bodyBytes: number, now: number): number {
    if (this.#isBlank) return 0
    const utilization = this.#utilization?.level
    let ms = this.#requestsBucket?.level.waitMs(1, now) ?? 0
    if (this.#tokensBucket !== undefined) ms = Math.max(ms, this.#tokensBucket.level.waitMs(this.costOf(bodyBytes), now))
    if (utilization !== undefined && now - utilization.reportedAt <= FRESH_MS) ms = Math.max(ms, utilization.waitMs(0, now))
    return ms
  }

  /** Milliseconds until a request of this size is expected to find room by what is only estimated; 0: now. Never refuses. */
  feltMs(bodyBytes: number, now: number): number {
    if (!this.#mayFeel) return 0
    const spilledMs = this.#fullUntil - now
    const utilization = this.#utilization?.level
    let ms = Math.max(0, spilledMs, this.#isRequestsTold ? 0 : this.#requests.waitMs(1, now))
    if (!this.#isTokensTold && this.#tokens.isKnown) ms = Math.max(ms, this.#tokens.waitMs(this.costOf(bodyBytes), now))
    if (utilization !== undefined && now - utilization.reportedAt > FRESH_MS) ms = Math.max(ms, utilization.waitMs(0, now))
    return ms
  }

  /** How far from its limits this scope is, from 0 (at the edge) to 1: weighs equals against each other. */
  room(now: number): number {
    if (this.#isBlank) return 1
    return Math.min(
      this.#utilization?.level.room(now) ?? 1,
      this.#requestsBucket?.level.isKnown === true ? this.#requestsBucket.level.room(now) : this.#requests.room(now),
      this.#isTokensTold ? this.#tokensBucket?.level.room(now) ?? 1 : this.#tokens.room(now),
    )
  }

  /** Milliseconds until a request may go although there is no room, to find out whether that is so; Infinity while another one does. */
  testMs(now: number): number {
    if (this.#tests > 0) return Infinity
    return Math.max(0, this.#requests.testAt - now, this.#tokens.testAt - now, this.#fullUntil - now)
  }

  /** A request of this size goes out now. */
  sent(attempt: PacedAttempt, bodyBytes: number, now: number): void {
    if (bodyBytes > 0) this.#meanBytes += (bodyBytes - this.#meanBytes) * (this.#meanBytes === 0 ? 1 : BODY_SHARE)
    const cost = this.costOf(bodyBytes)
    attempt.cost = cost
    attempt.sentRequests = this.#sentRequests += 1
    attempt.sentTokens = this.#sentTokens += cost
    if (this.#isBlank) return this.#history.sendUnread(cost, now)
    if (this.#mayFeel) attempt.felt = this.#feel(cost, bodyBytes, now)
    else this.#history.send(cost, now)
    this.#requestsBucket?.level.send(1, this.#random, now)
    this.#tokensBucket?.level.send(cost, this.#random, now)
    this.#utilization?.level.send(cost, this.#random, now)
  }

  /** Books a request, where something is felt. */
  #feel(cost: number, bodyBytes: number, now: number): Felt {
    const wentFullOfRequests = this.#requests.waitMs(1, now) > 0
    const wentFullOfTokens = this.#tokens.waitMs(cost, now) > 0
    const isTest = wentFullOfRequests || wentFullOfTokens || this.feltMs(bodyBytes, now) > 0
    if (isTest) this.#tests++
    this.#history.send(cost, now)
    const requestsCount = this.#requests.count(now) + this.#undoneRequests
    const tokensCount = this.#tokens.count(now) + this.#undoneTokens
    return { requestsCount, tokensCount, wentFullOfRequests, wentFullOfTokens, isTest }
  }

  /** The attempt was not refused: its headers are there, or a refusal would have come by now. Once. */
  admitted(attempt: PacedAttempt): void {
    if (this.#isBlank) return
    this.#decided(attempt)
    const { felt } = attempt
    if (felt !== undefined) {
      this.#requests.admitted(felt.requestsCount - this.#undoneRequests, attempt.startedAt, felt.wentFullOfRequests)
      this.#tokens.admitted(felt.tokensCount - this.#undoneTokens, attempt.startedAt, felt.wentFullOfTokens)
    }
    this.#requestsBucket?.level.admitted()
    this.#tokensBucket?.level.admitted()
    this.#utilization?.level.admitted()
  }

  /**
   * What the headers of an answer say of limits.
   * @param arrivedAt when the request reached the backend, roughly.
   * @returns whether the deployment was full, and another one has answered in its place (Azure OpenAI, spillover).
   */
  synchronize(attempt: PacedAttempt, headers: ResponseHeaders, arrivedAt: number, now: number): boolean {
    signals.read(headers)
    if (signals.isSpilled) {
      // What else it says of limits is about the other one.
      this.#isBlank = false
      this.#fullUntil = now + SPILLED_MS
      return true
    }
    this.#listenTo(attempt, arrivedAt, now)
    return false
  }

  #listenTo(attempt: PacedAttempt, arrivedAt: number, now: number): void {
    if (!signals.isQuota) return
    this.#tellsOfQuota = true
    if (!signals.tellsLevel) return
    this.#isBlank = false
    if (signals.utilization >= 0) this.#listen(attempt.sentTokens, arrivedAt, (signals.utilization - 1), now)
    this.#listenToBuckets(attempt.sentRequests, attempt.sentTokens, arrivedAt, now)
  }

  /**
   * A 429.
   * @param waitMs what the answer itself says, without jitter; `undefined` when it says nothing: then it is obeyed, and no evidence.
   */
  refused(attempt: PacedAttempt, headers: ResponseHeaders, waitMs: number | undefined, arrivedAt: number, now: number): void {
    this.undone(attempt, now)
    this.#isBlank = false
    signals.read(headers)
    // "The system is experiencing high demand": the cooldown obeys it, and there is nothing to learn of our limits.
    const isOfQuota = signals.isQuota || !this.#tellsOfQuota
    const isOfRequests = signals.isRequestsBound
    const isTold = isOfRequests ? this.#isRequestsTold : this.#isTokensTold
    if (isTold) {
      if (isOfRequests) this.#requestsBucket?.level.refused()
      else {
        this.#tokensBucket?.level.refused()
        this.#utilization?.level.refused()
      }
    } else if (waitMs !== undefined && isOfQuota) {
      if (isOfRequests) this.#requests.refused(1, waitMs, attempt.startedAt, attempt.felt?.wentFullOfRequests === true, now)
      else this.#tokens.refused(attempt.cost, waitMs, attempt.startedAt, attempt.felt?.wentFullOfTokens === true, now)
    }
    if (!signals.isQuota) return
    this.#tellsOfQuota = true
    // The levels in the answer are those before the request: it was not let in.
    const sentTokens = attempt.sentTokens - attempt.cost
    if (signals.utilization >= 0 && waitMs !== undefined) {
      this.#utilization ??= new Reported(ASSUMED_PTU_DEPTH_MS)
      this.#utilization.depth.learn(waitMs, signals.utilization - 1)
      const depthMs = this.#utilization.depth.ms
      this.#utilization.level.synchronize(arrivedAt, sentTokens, this.#sentTokens, waitMs, depthMs, 0, now)
    }
    this.#listenToBuckets(attempt.sentRequests - 1, sentTokens, arrivedAt, now)
  }

  /** The attempt did not count: it was refused, it failed, or it never arrived. */
  undone(attempt: PacedAttempt, now: number): void {
    this.#decided(attempt)
    this.#history.undo(attempt.cost, attempt.startedAt, now)
    this.#sentRequests -= 1
    this.#sentTokens -= attempt.cost
    this.#undoneRequests += 1
    this.#undoneTokens += attempt.cost
    this.#requestsBucket?.level.undo(1)
    this.#tokensBucket?.level.undo(attempt.cost)
    this.#utilization?.level.undo(attempt.cost)
  }

  /** Nothing will be known of it: the caller aborted. It counts. */
  abandoned(attempt: PacedAttempt): void {
    this.#decided(attempt)
  }

  /** Whether it is known, or felt, when places come free. */
  get hasPlaces(): boolean {
    return this.#isRequestsTold || this.#isTokensTold || this.#requests.isKnown || this.#tokens.isKnown
  }

  /** How many requests of this size will have found a place by then, if nothing else is sent. */
  placesBy(bodyBytes: number, at: number): number {
    const cost = this.costOf(bodyBytes)
    let places = Infinity
    if (this.#isRequestsTold) places = this.#requestsBucket!.level.placesBy(1, at) // told, so there
    else if (this.#requests.isKnown) places = this.#requests.placesBy(1, at)
    if (this.#utilization?.level.isKnown === true) places = Math.min(places, this.#utilization.level.placesBy(cost, at))
    if (this.#tokensBucket?.level.isKnown === true) places = Math.min(places, this.#tokensBucket.level.placesBy(cost, at))
    else if (!this.#isTokensTold && this.#tokens.isKnown) places = Math.min(places, this.#tokens.placesBy(cost, at))
    return places
  }

  /** For `status()`. */
  pace(now: number): ScopeStatus['pace'] {
    const pace: { dimension: 'requests' | 'tokens'; perSecond: number; waitMs: number }[] = []
    const add = (dimension: 'requests' | 'tokens', perSecond: number, waitMs: number): void => {
      if (perSecond > 0) pace.push({ dimension, perSecond, waitMs })
    }
    const cost = this.costOf(0)
    if (this.#isRequestsTold) add('requests', this.#requestsBucket!.level.perSecond, this.#requestsBucket!.level.waitMs(1, now)) // told, so there
    else add('requests', (this.#requests.limit / this.#requests.lengthMs) * 1_000, this.#requests.waitMs(1, now))
    if (this.#isTokensTold) {
      const level = (this.#tokensBucket?.level.isKnown === true ? this.#tokensBucket : this.#utilization)!.level // one of them is told
      add('tokens', level.perSecond, level.waitMs(cost, now))
    } else add('tokens', (this.#tokens.limit / this.#tokens.lengthMs) * 1_000, this.#tokens.waitMs(cost, now))
    return pace
  }

  /**
   * In tokens, roughly: the prompt by its size, and as much again on average for the output, whose size is not known.
   * Limits are felt in the same unit, so only proportions matter. Whole ones, which need no object of their own in V8: that takes 32 of
   * 1,130 bytes from a request (`npm run bench -- --part pure`, one backend).
   */
  costOf(bodyBytes: number): number {
    const mean = this.#meanBytes
    const known = bodyBytes > 0 ? bodyBytes : mean
    return known > 0 ? Math.ceil((known + (mean > 0 ? mean : known)) / BYTES_PER_TOKEN) : 1
  }

  /** Something may stand in the way that is no more than an estimate: most backends that report their limits never get there. */
  get #mayFeel(): boolean {
    return this.#requests.isKnown || this.#tokens.isKnown || this.#utilization !== undefined || this.#fullUntil > 0
  }

  get #isRequestsTold(): boolean {
    return this.#requestsBucket?.level.isKnown === true
  }

  get #isTokensTold(): boolean {
    return this.#tokensBucket?.level.isKnown === true || this.#utilization?.level.isKnown === true
  }

  #decided({ felt }: PacedAttempt): void {
    if (felt?.isTest !== true) return
    felt.isTest = false
    this.#tests--
  }

  #listen(sentTokens: number, at: number, excess: number, now: number): void {
    this.#utilization ??= new Reported(ASSUMED_PTU_DEPTH_MS)
    const depthMs = this.#utilization.depth.ms
    this.#utilization.level.synchronize(at, sentTokens, this.#sentTokens, excess * depthMs, depthMs, 0, now)
  }

  #listenToBuckets(sentRequests: number, sentTokens: number, at: number, now: number): void {
    if (signals.requests.isWhole) {
      this.#requestsBucket ??= new Reported(ASSUMED_BUCKET_DEPTH_MS)
      listenToBucket(this.#requestsBucket, signals.requests, at, sentRequests, this.#sentRequests, now)
    }
    if (signals.tokens.isWhole) {
      this.#tokensBucket ??= new Reported(ASSUMED_BUCKET_DEPTH_MS)
      listenToBucket(this.#tokensBucket, signals.tokens, at, sentTokens, this.#sentTokens, now)
    }
  }
}

function listenToBucket({ level, depth }: Reported, bucket: BucketSignals, at: number, sent: number, sentNow: number, now: number): void {
  const { used } = bucket
  depth.learn(bucket.resetMs, used)
  const depthMs = depth.ms
  level.synchronize(at, sent, sentNow, (used - 1) * depthMs, depthMs, depthMs / bucket.limit, now)
}
