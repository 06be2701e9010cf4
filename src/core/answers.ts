/**
 * An answer says two things: what it means, and how near the backend is to its limits. Both are read here, from its headers and,
 * where that was looked into, from what it says of itself: that may put right what the headers alone have led to.
 */
import { IMMEDIATE_MS, type Backend, type ScopeState } from './backend.js'
import { classify, classifyInStream, mayBeThrottled } from './classify.js'
import type { Attempt, PoolListener } from './request.js'
import { readRetryAfter, saysRoomIsLeft, type RetryHint } from './retry-after.js'
import type { AnswerError, OutcomeClass, PoolConfig, ResponseHeaders, System } from './types.js'

type Cooldowns = Pick<PoolConfig, 'cooldownMs' | 'maxCooldownMs'>

export abstract class Answers {
  protected readonly system: System
  protected readonly listener: PoolListener
  /** All of the pool, for what concerns all of them. */
  backends: readonly Backend[] = []
  /** Counts what changes who may be asked: health, cooldowns and the configuration. */
  changes = 0

  constructor(system: System, listener: PoolListener) {
    this.system = system
    this.listener = listener
  }

  /** What the response headers say of limits: cooldown and pace. @returns what the answer means, as far as its headers tell. */
  headers(attempt: Attempt, status: number, headers: ResponseHeaders, config: Cooldowns, now: number): OutcomeClass {
    const { target, scope } = attempt
    attempt.status = status
    attempt.latencyMs = now - attempt.askedAt
    scope.abandonedAt = NaN
    target.resets = 0
    let outcome: OutcomeClass = 'success'
    let hint: RetryHint | undefined
    if (status >= 400) {
      // Read whole: `maxCooldownMs` bounds how long we obey, not what is learned from the backend's word.
      hint = mayBeThrottled(status) ? readRetryAfter(headers, this.system) : undefined
      outcome = this.#classify(attempt, hint, status === 429 && saysRoomIsLeft(headers))
      if (outcome === 'throttled') this.#coolDown(attempt, hint, config, now)
    }
    this.#pace(attempt, outcome, status, headers, hint?.ms, now)
    return outcome
  }

  /**
   * What the answer says of itself, where that was read: of an error its body, of a 200 an error in the place of an answer. Puts
   * right what its headers alone have led to.
   * @param isTooLarge it says that the request alone is larger than the limit.
   * @returns what the answer means.
   */
  reconsider(attempt: Attempt, error: AnswerError | undefined, isTooLarge: boolean, headers: ResponseHeaders, config: Cooldowns, now: number): OutcomeClass {
    const { status } = attempt
    attempt.error = error
    attempt.wasRead = true
    const hint = status < 400 || mayBeThrottled(status) ? readRetryAfter(headers, this.system) : undefined
    if (status < 400) {
      const outcome = error === undefined ? 'failed' : classifyInStream({ error, isTooLarge, hasLarger: this.#hasLarger(attempt) })
      if (outcome === 'throttled') {
        this.#coolDown(attempt, hint, config, now)
        attempt.pacer?.refused(attempt, headers, hint?.ms, Math.min(now, attempt.scope.slowStart.arrivedAt(attempt)), now)
      }
      return outcome
    }
    const outcome = this.#classify(attempt, hint, isTooLarge || (status === 429 && saysRoomIsLeft(headers)))
    if (outcome !== 'throttled' && attempt.cooldownUntil !== undefined && attempt.scope.undoCooldown(attempt.cooldownUntil)) this.changes++
    return outcome
  }

  #classify(attempt: Attempt, hint: RetryHint | undefined, isTooLarge: boolean): OutcomeClass {
    const { status, error, request, backend: { ownsCredential } } = attempt
    const outcome = classify({ status, hint, error, ownsCredential, isTooLarge, hasLarger: this.#hasLarger(attempt) })
    // What belongs to one backend cannot move: its answer is the caller's.
    return request.pinned && (outcome === 'missing' || outcome === 'refused') ? 'answered' : outcome
  }

  /** Whether what is too long for this backend may be tried on another one. */
  #hasLarger({ backend }: Attempt): boolean {
    return backend.largerContext !== true && this.backends.some(({ config }) => config.largerContext === true)
  }

  #coolDown(attempt: Attempt, hint: RetryHint | undefined, { cooldownMs, maxCooldownMs }: Cooldowns, now: number): void {
    const { target, scope, status, error } = attempt
    this.changes++
    const askedMs = hint?.ms ?? cooldownMs
    if (askedMs < IMMEDIATE_MS) attempt.request.immediates++
    const forMs = Math.min(Math.max(askedMs, scope.floorMs(askedMs, attempt.startedAt, now)), maxCooldownMs)
    const isNews = scope.coolDown(forMs, now)
    attempt.cooldownUntil = now + forMs
    if (isNews && this.listener.hears('cooldown')) {
      this.listener.tell('cooldown', {
        backend: target.config, scope: scope.name, cooldownMs: scope.cooldownUntil - now, source: hint?.source ?? 'default', status, error,
      })
    }
  }

  /** What an answer says of limits: that the request was let in, or not, and how full the backend is. */
  #pace(attempt: Attempt, outcome: OutcomeClass, status: number, headers: ResponseHeaders, waitMs: number | undefined, now: number): void {
    const { scope: { slowStart }, pacer, latencyMs } = attempt
    attempt.scope.admitDue(now)
    if (status === 429) {
      slowStart.refused(attempt, latencyMs)
      pacer?.refused(attempt, headers, waitMs, Math.min(now, slowStart.arrivedAt(attempt)), now)
      attempt.target.undone(attempt.declaredCost, attempt.startedAt, now)
    } else if (outcome === 'throttled' || outcome === 'failed') {
      // Broken or overloaded, it charged nothing, and says nothing of its limits.
      slowStart.failed(attempt)
      pacer?.undone(attempt, now)
      attempt.target.undone(attempt.declaredCost, attempt.startedAt, now)
    } else {
      if (slowStart.admitted(attempt)) pacer?.admitted(attempt)
      if (pacer?.synchronize(attempt, headers, Math.min(now, slowStart.arrivedAt(attempt)), now) === true) {
        attempt.target.spillovers++
        attempt.scope.spillovers++
      }
    }
  }

  /** A cooldown ends by itself: the first who sees it says so. */
  expireCooldown(backend: Backend, scope: ScopeState, now: number): void {
    if (scope.expireCooldown(now) && this.listener.hears('readmitted')) {
      this.listener.tell('readmitted', { backend: backend.config, scope: scope.name, after: 'cooldown' })
    }
  }
}
