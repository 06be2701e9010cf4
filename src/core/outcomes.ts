import { PoolAttempt } from './attempt.js'
import type { Backend, ScopeState } from './backend.js'
import { classify, isDelivered, mayBeThrottled } from './classify.js'
import { AVAILABLE, type HealthEvent, type Probing } from './health.js'
import { LatencyGuard } from './latency.js'
import { Reopening } from './slow-start.js'
import { readRetryAfter } from './retry-after.js'
import type {
  AttemptEnd, BackendConfig, OutcomeClass, PoolConfig, PoolListener, PoolRequest, ResponseHeaders, System,
} from './types.js'

/** What an answer says of a backend's health. Being throttled, or right to refuse, says nothing; a probe gives its slot back. */
const HEALTH_EVENTS: Readonly<Record<OutcomeClass, HealthEvent>> = {
  success: 'success', answered: 'release', throttled: 'release', failed: 'failed', misconfigured: 'misconfigured', ignored: 'release',
}

/** Books every attempt from its beginning to its end: counters, health, cooldowns, pace. Decides nothing. */
export class Ledger<B extends BackendConfig> {
  readonly #system: System
  readonly #listener: PoolListener<B>
  readonly #random: () => number
  /** Counts what changes who may be asked: health, cooldowns and the configuration. */
  changes = 0

  constructor(system: System, listener: PoolListener<B>) {
    this.#system = system
    this.#listener = listener
    this.#random = () => system.random()
  }

  /** A request goes out; where the backend is half-open and nobody probes, as its probe. */
  begin(request: PoolRequest, backend: Backend<B>, scope: ScopeState, now: number): PoolAttempt<B> {
    let probe: Probing | undefined
    if (backend.health !== AVAILABLE && backend.feed('probe', false, now, this.#random)) {
      // The event leads to no other state.
      probe = backend.health as Probing
      this.changes++
    }
    this.noticeEnd(backend, scope, now)
    request.attempts++
    backend.attempts++
    backend.inFlight++
    scope.attempts++
    scope.inFlight++
    scope.usedAt = now
    const attempt = new PoolAttempt(request, backend, scope, probe, now)
    attempt.pacer?.sent(attempt, request.bodyBytes, now)
    if (request.waitingSince !== undefined) scope.reopening?.sent(now)
    return attempt
  }

  /** Response headers. @returns what they mean. */
  answer(
    attempt: PoolAttempt<B>, status: number, headers: ResponseHeaders, config: Pick<PoolConfig, 'cooldownMs' | 'maxCooldownMs' | 'latencyGuard'>, now: number,
  ): OutcomeClass {
    const { target, scope } = attempt
    const hint = mayBeThrottled(status) ? readRetryAfter(headers, config.maxCooldownMs, this.#system) : undefined
    const outcome = classify(status, hint, attempt.backend.ownsCredential)
    attempt.status = status
    const latencyMs = now - attempt.startedAt
    if (!isDelivered(outcome)) attempt.latencyMs = latencyMs
    // A key that an update has replaced since is no reason to keep the new one out.
    const isOutdated = outcome === 'misconfigured' && attempt.backend !== target.config
    this.#conclude(attempt, outcome, isOutdated ? 'release' : HEALTH_EVENTS[outcome], now)
    if (outcome === 'success') {
      target.lastLatencyMs = latencyMs
      if (config.latencyGuard) (scope.guard ??= new LatencyGuard()).observe(latencyMs, now)
      else scope.guard = undefined
    }
    if (outcome === 'throttled') {
      this.changes++
      if (attempt.pacer !== undefined) scope.reopening = new Reopening(latencyMs, now)
      if (scope.coolDown(hint?.ms ?? config.cooldownMs, this.#random, now)) {
        this.#listener.cooldown(target.config, scope.name, scope.cooldownUntil - now, hint?.source ?? 'default', status)
      }
    } else if (attempt.request.waitingSince !== undefined) scope.reopening?.admitted(attempt.startedAt)
    attempt.pacer?.observe(attempt, outcome, status, headers, hint?.ms, now)
    return outcome
  }

  /** The body ended, or there will be none. A response that breaks off after its headers is counted, and changes nothing else. */
  end(attempt: PoolAttempt<B>, end: AttemptEnd, now: number): void {
    attempt.isSettled = true
    const { target, scope, outcome } = attempt
    target.inFlight--
    scope.inFlight--
    scope.usedAt = now
    const isFailure = end !== 'completed' && end !== 'aborted'
    if (!attempt.isAnswered) {
      if (isFailure) this.#conclude(attempt, 'failed', 'unreachable', now)
      else this.#conclude(attempt, 'ignored', 'release', now)
    } else if (isFailure && isDelivered(outcome)) {
      target.failures++
      scope.failures++
    }
    attempt.pacer?.finished(attempt, end, attempt.isAnswered)
  }

  /** A backend that is out for a reason that an update may have mended. */
  pardon(backend: Backend<B>, now: number): void {
    if (backend.health.kind !== 'available' && backend.health.reason === 'misconfigured') this.#feed(backend, 'success', false, now)
  }

  /** A cooldown ends without anybody doing anything: the first who sees it says so. */
  noticeEnd(backend: Backend<B>, scope: ScopeState, now: number): void {
    if (scope.noticeEnd(now)) this.#listener.readmitted(backend.config, scope.name, 'cooldown')
  }

  #conclude(attempt: PoolAttempt<B>, outcome: OutcomeClass, event: HealthEvent, now: number): void {
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
    if (!isDelivered(outcome) && outcome !== 'ignored') (request.tried ??= []).push(attempt)
    this.#feed(target, event, attempt.isProbe, now)
  }

  /** Health moves on, and the listener learns what people want to know. */
  #feed(backend: Backend<B>, event: HealthEvent, isProbe: boolean, now: number): void {
    const wasOut = backend.health.kind !== 'available'
    if (!backend.feed(event, isProbe, now, this.#random)) return
    this.changes++
    const { health } = backend
    if (health.kind === 'available' && wasOut) this.#listener.readmitted(backend.config, undefined, 'ejected')
    if (health.kind === 'ejected' && event !== 'release') this.#listener.ejected(backend.config, health.until - now, health.reason)
  }
}
