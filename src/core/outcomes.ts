/**
 * The books: every attempt from its beginning to its end, in counters and health. What an attempt means is decided by `classify`,
 * what follows for the request by the pool; here it is written down. What its answer says of limits is in `answers.ts`.
 */
import { Answers } from './answers.js'
import { FAILURES_OF_SCOPES, type Backend, type ScopeState } from './backend.js'
import { Callers, type CallerReason } from './callers.js'
import { isDelivered, isRefusal, isWrongOperation, namesModel } from './classify.js'
import { AVAILABLE, FAILURES_TO_EJECT, isOfConfiguration, type Circumstances, type Condition, type HealthEvent, type Probing } from './health.js'
import { isLongWait, Latency, sizeClassOf } from './latency.js'
import { Attempt, Setback, type PoolListener, type PoolRequest } from './request.js'
import type { AnswerError, AttemptEnd, OutcomeClass, System } from './types.js'

/**
 * A backend that failed a request once is not out, and yet no place for the same request right away. As long as the shortest
 * ejection, in milliseconds.
 */
const REOPENS_AFTER_MS = 250

/** A deployment that has answered within so many milliseconds is there: that it does not know an operation is the caller's mistake. */
const SERVED_LATELY_MS = 600_000

/** What the end of an attempt without an answer says of a backend as a whole; of `timeout` nothing, that is the scope's. */
const BACKEND_EVENTS: Partial<Record<AttemptEnd, HealthEvent>> = { connection: 'unreachable', reset: 'unreachable', resolver: 'local', credential: 'credential' }

export class Outcomes extends Answers {
  readonly #random: () => number
  /** Some credential of a caller's was refused. */
  knowsCallers = false

  constructor(system: System, listener: PoolListener) {
    super(system, listener)
    this.#random = () => system.random()
  }

  /** A request goes out; where the backend or the scope is half-open and no other request probes it, as its probe. */
  begin(request: PoolRequest, backend: Backend, scope: ScopeState, now: number): Attempt {
    const probe = backend.health === AVAILABLE ? undefined : this.takeProbe(backend, now)
    const scopeProbe = scope.health === AVAILABLE ? undefined : this.takeProbe(scope, now)
    this.expireCooldown(backend, scope, now)
    request.attempts++
    backend.attempts++
    scope.attempts++
    scope.inFlight++
    scope.usedAt = now
    const attempt = new Attempt(request, backend, scope, probe, scopeProbe, now)
    attempt.declaredCost = backend.sent(request.bodyBytes, now)
    scope.slowStart.sent(attempt)
    attempt.pacer?.sent(attempt, request.bodyBytes, now)
    return attempt
  }

  /** @returns the slot, where it is free and due. */
  takeProbe(condition: Condition, now: number): Probing | undefined {
    if (!condition.apply('probe', this.#circumstances(now, false, 0))) return undefined
    this.changes++
    // The event leads to no other state.
    return condition.health as Probing
  }

  /** The outcome of an attempt that was answered, once: health, counters, and what the request has tried. */
  conclude(attempt: Attempt, outcome: OutcomeClass, guardsLatency: boolean, now: number): void {
    this.#count(attempt, outcome, now)
    this.#book(attempt, outcome, guardsLatency, now)
  }

  /** The body of a 429 was read while the request went on, and says that it is something else. */
  correct(attempt: Attempt, outcome: OutcomeClass, now: number): void {
    const { target, scope, request } = attempt
    // By its headers it may have been too large, which is a step already.
    if (attempt.outcome === 'throttled') {
      target.throttled--
      scope.throttled--
      request.steps++
    }
    attempt.outcome = outcome
    this.#book(attempt, outcome, false, now)
  }

  /** Who is out, and for how long: the last column of the table. */
  #book(attempt: Attempt, outcome: OutcomeClass, guardsLatency: boolean, now: number): void {
    const { target, scope, latencyMs, request } = attempt
    if (outcome === 'success') {
      this.#succeeded(attempt, now)
      target.lastLatencyMs = latencyMs
      scope.usual ??= new Latency()
      scope.usual.observe(sizeClassOf(request.bodyBytes), latencyMs, now)
      scope.latency = guardsLatency ? scope.usual : undefined
    } else if (outcome === 'failed') this.#failed(attempt, attempt.error?.code ?? attempt.status, now)
    else if (outcome === 'misconfigured') this.#misconfigured(attempt, now)
    else if (outcome === 'exhausted' && attempt.backend.ownsCredential) this.#apply(attempt, target, 'exhausted', now)
    else if (outcome === 'exhausted' || outcome === 'refused') this.#takeOutFor(attempt, outcome, now)
    else if (outcome === 'missing' && this.#isOfName(attempt, now)) this.#apply(attempt, scope, 'missing', now)
    // What its body says may decide the probe: the slot is held until that was read.
    else if (outcome !== 'throttled' || attempt.status !== 429) {
      this.#release(attempt, now)
      if (outcome === 'answered' && isRefusal(attempt.status, attempt.backend.ownsCredential) && request.path !== 'outside') this.#callersOf(target).mark(request.callerKey)
    }
  }

  /** Our credential was refused: everywhere, for one deployment, or where that says nothing of the model API. */
  #misconfigured(attempt: Attempt, now: number): void {
    const { target, scope, request: { path }, error, status, wasRead } = attempt
    // Not with a key that an update has replaced since.
    if (attempt.backend !== target.config || path === 'outside') return this.#release(attempt, now)
    const event = attempt.backend.credential?.isFetched === true ? 'credential' : 'misconfigured'
    // What was the caller's at once was not looked into: a 403 may have named the model, and other models need not pay for that.
    const isOfScope = path !== 'core' || namesModel(error) || (status === 403 && !wasRead)
    this.#apply(attempt, isOfScope ? scope : target, event, now)
  }

  /** A caller's own credential: nobody else notices. */
  #takeOutFor(attempt: Attempt, reason: CallerReason, now: number): void {
    const { target, request, error } = attempt
    this.#release(attempt, now)
    if (reason === 'refused') {
      request.isRefused = true
      if (request.path === 'outside') return
      // It may not make pictures, or use this model: that says nothing of its chats.
      if (request.path !== 'core' || namesModel(error)) return this.#callersOf(target).mark(request.callerKey)
    }
    const cooldownMs = this.#callersOf(target).takeOut(request.callerKey, reason, attempt.startedAt, now)
    if (cooldownMs > 0 && this.listener.hears('caller-out')) this.listener.tell('caller-out', { attempt, cooldownMs })
  }

  #callersOf(target: Backend): Callers {
    this.knowsCallers = true
    return target.callers ??= new Callers()
  }

  /** Whether the name is known, and its deployment not: one that answers others only does not know the operation. */
  #isOfName({ scope, error }: Attempt, now: number): boolean {
    return scope.name !== '' && !(isWrongOperation(error) && now - scope.succeededAt < SERVED_LATELY_MS)
  }

  /** The body ended, or there will be none. */
  settle(attempt: Attempt, end: AttemptEnd, now: number): void {
    attempt.isSettled = true
    const { target, scope } = attempt
    target.ended(attempt.startedAt, now)
    scope.inFlight--
    scope.usedAt = now
    if (attempt.isConcluded) return this.#ended(attempt, end, now)
    // Where headers came, what they say of limits is booked already.
    if (attempt.status === 0) scope.slowStart.failed(attempt)
    if (end === 'aborted' || end === 'unsent' || end === 'completed') {
      if (attempt.status === 0) attempt.pacer?.abandoned(attempt)
      this.#count(attempt, 'ignored', now)
      this.#aborted(attempt, end !== 'unsent', now)
      return
    }
    if (attempt.status === 0) {
      attempt.pacer?.undone(attempt, now)
      target.undone(attempt.declaredCost, attempt.startedAt, now)
    }
    if (end === 'stale') {
      this.#count(attempt, 'ignored', now)
      this.#release(attempt, now)
      return
    }
    if (end === 'reset' && attempt.status === 0) target.resets++
    this.#count(attempt, end === 'credential' ? 'misconfigured' : 'failed', now)
    if (end === 'connection' || end === 'resolver' || end === 'local') attempt.setback!.wasUnconnected = true // just counted
    const event = BACKEND_EVENTS[end]
    if (end === 'local') this.#release(attempt, now)
    else if (event === undefined || end === 'reset') this.#failed(attempt, attempt.status > 0 ? 'broken' : end, now)
    else this.#apply(attempt, target, event, now)
    if (end === 'broken' && this.listener.hears('broken')) this.listener.tell('broken', { attempt })
  }

  /** Of a response that was the caller's. Each of its beginnings is a success, so what breaks off is counted by itself. */
  #ended(attempt: Attempt, end: AttemptEnd, now: number): void {
    const { target, scope, outcome } = attempt
    if (outcome === 'throttled') this.#release(attempt, now)
    if (outcome !== 'success') return
    if (end === 'completed') scope.breaks = 0
    if (end === 'dropped') {
      target.successes--
      scope.successes--
    } else if (end !== 'broken') return
    target.failures++
    scope.failures++
    scope.breaks++
    if (scope.breaks >= FAILURES_TO_EJECT) this.#change(target, scope, 'failed', { ...this.#circumstances(now, false, now - attempt.startedAt), failuresToEject: 1 })
    if (this.listener.hears('broken')) this.listener.tell('broken', { attempt })
  }

  /** What was unreachable answers a probe of ours, or does not. */
  probed(backend: Backend, probe: Probing, isReached: boolean, tookMs: number, now: number): void {
    if (backend.health !== probe) return
    if (isReached && probe.reason === 'local') this.#readmitLocal(now)
    this.#change(backend, undefined, isReached ? 'reached' : probe.reason, this.#circumstances(now, true, tookMs))
  }

  /** The slot is given back: the probe says nothing. */
  probeRefused(backend: Backend, probe: Probing, now: number): void {
    if (backend.health === probe) this.#change(backend, undefined, 'release', this.#circumstances(now, true, 0))
  }

  /** An update may have put right what this backend was out for. */
  readmit(backend: Backend, now: number): void {
    const { health } = backend
    const circumstances = this.#circumstances(now, false, 0)
    if (isOfConfiguration(health)) this.#change(backend, undefined, 'success', circumstances)
    for (const scope of backend.scopes.values()) if (isOfConfiguration(scope.health)) this.#change(backend, scope, 'success', circumstances)
  }

  /** Counters, and what the request has tried. */
  #count(attempt: Attempt, outcome: OutcomeClass, now: number): void {
    const { request, target, scope } = attempt
    attempt.outcome = outcome
    attempt.isConcluded = true
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
    if (isDelivered(outcome) || outcome === 'ignored') return
    const tried = request.tried ??= []
    tried.push(attempt)
    if (outcome === 'failed') request.failures++
    if (outcome === 'overlong') request.needsLarger = true
    if (outcome !== 'throttled') request.steps++
    attempt.setback = new Setback(now, outcome === 'failed' ? now + REOPENS_AFTER_MS : now)
  }

  /** A failure that may be the request's fault, the deployment's or the host's. */
  #failed(attempt: Attempt, evidence: number | string, now: number): void {
    const setback = attempt.setback! // written down when it was counted
    setback.evidence = evidence
    const twin = attempt.request.tried?.find((one) => one.setback?.evidence === evidence && one.target !== attempt.target)
    if (twin?.setback === undefined) return this.#blame(attempt, setback, now)
    // Two backends say the same: a caller must not be able to empty a pool with one poisonous prompt.
    setback.isSuspect = true
    this.#release(attempt, now)
    if (twin.setback.isSuspect) return
    twin.setback.isSuspect = true
    this.#takeBack(twin, twin.setback, now)
    if (this.listener.hears('suspect-request')) this.listener.tell('suspect-request', { attempt, evidence })
  }

  #blame(attempt: Attempt, setback: Setback, now: number): void {
    const { target, scope } = attempt
    if (setback.evidence === 'reset') {
      this.#apply(attempt, target, 'unreachable', now)
      setback.targetStreak = target.streak
      return
    }
    setback.targetStreak = target.count('failed')
    setback.scopeStreak = scope.count('failed')
    this.#apply(attempt, scope, 'failed', now)
    const isOfBackend = target.failedOn(scope) || attempt.isProbe
    if (isOfBackend) this.#change(target, undefined, 'failed', { ...this.#circumstances(now, attempt.isProbe, attempt.tookMs(now)), failuresToEject: 1 })
  }

  #takeBack(attempt: Attempt, { evidence, targetStreak, scopeStreak }: Setback, now: number): void {
    const { target, scope, probe, scopeProbe } = attempt
    const kind = evidence === 'reset' ? 'outright' : 'failed'
    if (kind === 'failed') target.notFailedOn(scope)
    const isOut = ({ health }: Condition): boolean => health.kind !== 'available'
    const [wasOut, wasScopeOut] = [isOut(target), isOut(scope)]
    if (targetStreak !== undefined) target.takeBack(kind, targetStreak, probe, FAILURES_OF_SCOPES, now)
    if (scopeStreak !== undefined) scope.takeBack(kind, scopeStreak, scopeProbe, FAILURES_TO_EJECT, now)
    this.changes++
    if (wasOut && !isOut(target)) this.#tellReadmitted(target, undefined)
    if (wasScopeOut && !isOut(scope)) this.#tellReadmitted(target, scope.name)
  }

  #succeeded(attempt: Attempt, now: number): void {
    const { target, scope, request } = attempt
    // Not with its headers: a 200 may turn out to be a refusal.
    scope.immediate = 0
    target.succeeded()
    if (target.callers !== undefined && !attempt.backend.ownsCredential) target.callers.readmit(request.callerKey)
    if (scope.health !== AVAILABLE) this.#apply(attempt, scope, 'success', now)
    if (target.health !== AVAILABLE) {
      if (target.health.kind !== 'available' && target.health.reason === 'local') this.#readmitLocal(now)
      this.#apply(attempt, target, 'success', now)
    }
    // It could be answered: those that failed it in the same way are at fault after all.
    if (request.tried !== undefined) for (const one of request.tried) if (one.setback?.isSuspect === true) this.#blame(one, one.setback, now)
  }

  /**
   * The caller gave up. Where that was before the request was on a connection, it is the host that is not there. @see isLongWait
   */
  #aborted(attempt: Attempt, wasSent: boolean, now: number): void {
    const { target, scope, request } = attempt
    const event = wasSent ? 'abandoned' : 'unreachable'
    const waitedMs = now - attempt.askedAt
    if (!isLongWait(waitedMs, scope.usual?.exactMs(sizeClassOf(request.bodyBytes)))) return this.#release(attempt, now)
    if (attempt.isProbe) this.#apply(attempt, target, event, now)
    if (attempt.isScopeProbe) this.#apply(attempt, scope, 'abandoned', now)
    else if (attempt.startedAt >= scope.abandonedAt) {
      scope.abandonedAt = NaN
      this.#apply(attempt, wasSent ? scope : target, event, now)
    } else if (Number.isNaN(scope.abandonedAt)) scope.abandonedAt = now
  }

  /** It says nothing: a probe gives its slot back. */
  #release(attempt: Attempt, now: number): void {
    if (attempt.probe !== undefined) this.#apply(attempt, attempt.target, 'release', now)
    if (attempt.scopeProbe !== undefined) this.#apply(attempt, attempt.scope, 'release', now)
  }

  /** The resolver answers again: what it had no answer for is none of the backends' fault. */
  #readmitLocal(now: number): void {
    for (const backend of this.backends) {
      const { health } = backend
      if (health.kind === 'ejected' && health.reason === 'local') this.#change(backend, undefined, 'success', this.#circumstances(now, false, 0))
    }
  }

  #apply(attempt: Attempt, condition: Backend | ScopeState, event: HealthEvent, now: number): void {
    const isScope = condition === attempt.scope
    const circumstances = this.#circumstances(now, isScope ? attempt.isScopeProbe : attempt.isProbe, attempt.tookMs(now))
    this.#change(attempt.target, isScope ? attempt.scope : undefined, event, circumstances, attempt.error)
  }

  /** Health moves on, and the listener learns what people want to know. */
  #change(backend: Backend, scope: ScopeState | undefined, event: HealthEvent, circumstances: Circumstances, error?: AnswerError): void {
    const condition = scope ?? backend
    const wasOut = condition.health.kind !== 'available'
    if (!condition.apply(event, circumstances)) return
    this.changes++
    const { health } = condition
    if (health.kind === 'ejected') condition.error = error
    if (health.kind === 'available' && wasOut) this.#tellReadmitted(backend, scope?.name)
    if (health.kind === 'ejected' && event !== 'release' && this.listener.hears('ejected')) {
      this.listener.tell('ejected', {
        backend: backend.config, scope: scope?.name, cooldownMs: health.until - circumstances.now, reason: health.reason, tookMs: circumstances.tookMs, error,
      })
    }
  }

  #tellReadmitted(backend: Backend, scope: string | undefined): void {
    if (this.listener.hears('readmitted')) this.listener.tell('readmitted', { backend: backend.config, scope, after: 'ejected' })
  }

  #circumstances(now: number, isProbe: boolean, tookMs: number): Circumstances {
    return { now, isProbe, tookMs, random: this.#random, failuresToEject: FAILURES_TO_EJECT }
  }
}
