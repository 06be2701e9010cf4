/**
 * The books: every attempt from its beginning to its end, in counters, health, cooldowns and pace. What an attempt means is
 * decided by `classify`, what follows for the request by the pool; here it is written down.
 */
import type { Backend, ScopeState } from './backend.js'
import { classify, isDelivered, mayBeThrottled } from './classify.js'
import { AVAILABLE, type HealthEvent, type Probing } from './health.js'
import { Latency, sizeClassOf } from './latency.js'
import { Attempt, type PoolListener, type PoolRequest } from './request.js'
import { readRetryAfter } from './retry-after.js'
import type { AttemptEnd, OutcomeClass, PoolConfig, ResponseHeaders, System } from './types.js'

/** What an answer says of a backend's health. Being throttled, or right to refuse, says nothing; a probe gives its slot back. */
const HEALTH_EVENTS: Readonly<Record<OutcomeClass, HealthEvent>> = {
  success: 'success', answered: 'release', throttled: 'release', failed: 'failed', misconfigured: 'misconfigured', ignored: 'release',
}

/**
 * A backend that failed a request once is not out, and yet no place for the same request right away. As long as the shortest
 * ejection, in milliseconds.
 */
const REOPENS_AFTER_MS = 250

export class Outcomes {
  readonly #system: System
  readonly #listener: PoolListener
  readonly #random: () => number
  /** Counts what changes who may be asked: health, cooldowns and the configuration. */
  changes = 0

  constructor(system: System, listener: PoolListener) {
    this.#system = system
    this.#listener = listener
    this.#random = () => system.random()
  }

  /** A request goes out; where the backend is half-open and no other request probes it, as its probe. */
  begin(request: PoolRequest, backend: Backend, scope: ScopeState, now: number): Attempt {
    let probe: Probing | undefined
    if (backend.health !== AVAILABLE && backend.apply('probe', false, now, this.#random)) {
      // The event leads to no other state.
      probe = backend.health as Probing
      this.changes++
    }
    this.expireCooldown(backend, scope, now)
    request.attempts++
    backend.attempts++
    backend.inFlight++
    scope.attempts++
    scope.inFlight++
    scope.usedAt = now
    const attempt = new Attempt(request, backend, scope, probe, now)
    scope.slowStart.sent(attempt)
    attempt.pacer?.sent(attempt, request.bodyBytes, now)
    return attempt
  }

  /** What the response headers say of limits: cooldown and pace. @returns what the answer means. */
  headers(
    attempt: Attempt, status: number, headers: ResponseHeaders, config: Pick<PoolConfig, 'cooldownMs' | 'maxCooldownMs'>, now: number,
  ): OutcomeClass {
    const { target, scope } = attempt
    // Read whole: `maxCooldownMs` bounds how long we obey, not what is learned from the backend's word.
    const hint = mayBeThrottled(status) ? readRetryAfter(headers, this.#system) : undefined
    const outcome = classify(status, hint, attempt.backend.ownsCredential)
    attempt.status = status
    attempt.latencyMs = now - attempt.startedAt
    if (outcome === 'throttled') {
      this.changes++
      const forMs = Math.min(hint?.ms ?? config.cooldownMs, config.maxCooldownMs)
      if (scope.coolDown(forMs, now) && this.#listener.hears('cooldown')) {
        this.#listener.tell('cooldown', {
          backend: target.config, scope: scope.name, cooldownMs: scope.cooldownUntil - now, source: hint?.source ?? 'default', status,
        })
      }
    }
    this.#pace(attempt, outcome, status, headers, hint?.ms, now)
    return outcome
  }

  /** What an answer says of limits: that the request was let in, or not, and how full the backend is. */
  #pace(attempt: Attempt, outcome: OutcomeClass, status: number, headers: ResponseHeaders, waitMs: number | undefined, now: number): void {
    const { scope: { slowStart }, pacer, latencyMs } = attempt
    attempt.scope.admitDue(now)
    if (status === 429) {
      slowStart.refused(attempt, latencyMs)
      pacer?.refused(attempt, headers, waitMs, Math.min(now, slowStart.arrivedAt(attempt)), now)
    } else if (outcome === 'throttled' || outcome === 'failed') {
      // Broken or overloaded, it charged nothing, and says nothing of its limits.
      slowStart.failed(attempt)
      pacer?.undone(attempt, now)
    } else {
      if (slowStart.admitted(attempt)) pacer?.admitted(attempt)
      pacer?.synchronize(attempt, headers, Math.min(now, slowStart.arrivedAt(attempt)), now)
    }
  }

  /** The outcome of an attempt that was answered, once: health, counters, and what the request has tried. */
  conclude(attempt: Attempt, outcome: OutcomeClass, guardsLatency: boolean, now: number): void {
    const { target, scope, latencyMs } = attempt
    // A key that an update has replaced since is no reason to keep the new one out.
    const isOutdated = outcome === 'misconfigured' && attempt.backend !== target.config
    this.#book(attempt, outcome, isOutdated ? 'release' : HEALTH_EVENTS[outcome], now)
    if (outcome !== 'success') return
    target.lastLatencyMs = latencyMs
    if (guardsLatency) (scope.latency ??= new Latency()).observe(sizeClassOf(attempt.request.bodyBytes), latencyMs, now)
    else scope.latency = undefined
  }

  /** The body ended, or there will be none. A response that breaks off after its headers is counted, and changes nothing else. */
  settle(attempt: Attempt, end: AttemptEnd, now: number): void {
    attempt.isSettled = true
    const { target, scope, outcome } = attempt
    target.inFlight--
    scope.inFlight--
    scope.usedAt = now
    const isFailure = end !== 'completed' && end !== 'aborted'
    const isAnswered = attempt.status > 0
    if (!isAnswered) {
      scope.slowStart.failed(attempt)
      if (isFailure) {
        this.#book(attempt, 'failed', 'unreachable', now)
        attempt.pacer?.undone(attempt, now)
      } else {
        this.#book(attempt, 'ignored', 'release', now)
        attempt.pacer?.abandoned(attempt)
      }
    } else if (isFailure && isDelivered(outcome)) {
      target.failures++
      scope.failures++
    }
  }

  /** An update may have put right what this backend was out for. */
  readmit(backend: Backend, now: number): void {
    if (backend.health.kind !== 'available' && backend.health.reason === 'misconfigured') this.#apply(backend, 'success', false, now)
  }

  /** A cooldown ends by itself: the first who sees it says so. */
  expireCooldown(backend: Backend, scope: ScopeState, now: number): void {
    if (scope.expireCooldown(now) && this.#listener.hears('readmitted')) {
      this.#listener.tell('readmitted', { backend: backend.config, scope: scope.name, after: 'cooldown' })
    }
  }

  #book(attempt: Attempt, outcome: OutcomeClass, event: HealthEvent, now: number): void {
    const { request, target, scope } = attempt
    attempt.outcome = outcome
    request.lastOutcome = outcome
    if (outcome === 'success') {
      target.successes++
      scope.successes++
    } else if (outcome === 'throttled') {
      target.throttled++
      scope.throttled++
    } else if (outcome === 'failed' || outcome === 'misconfigured') {
      target.failures++
      scope.failures++
    }
    if (!isDelivered(outcome) && outcome !== 'ignored') {
      (request.tried ??= []).push(attempt)
      attempt.reopensAt = outcome === 'failed' ? now + REOPENS_AFTER_MS : now
    }
    // Nearly always: a success of a backend that is in order.
    if (target.health !== AVAILABLE || (event !== 'success' && event !== 'release')) this.#apply(target, event, attempt.isProbe, now)
  }

  /** Health moves on, and the listener learns what people want to know. */
  #apply(backend: Backend, event: HealthEvent, isProbe: boolean, now: number): void {
    const wasOut = backend.health.kind !== 'available'
    if (!backend.apply(event, isProbe, now, this.#random)) return
    this.changes++
    const { config, health } = backend
    if (health.kind === 'available' && wasOut && this.#listener.hears('readmitted')) {
      this.#listener.tell('readmitted', { backend: config, scope: undefined, after: 'ejected' })
    }
    if (health.kind === 'ejected' && event !== 'release' && this.#listener.hears('ejected')) {
      this.#listener.tell('ejected', { backend: config, cooldownMs: health.until - now, reason: health.reason })
    }
  }
}
