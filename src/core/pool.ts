/**
 * All that is known of a set of backends, and every decision on where a request goes. A request passes here four times:
 *
 *     acquire ──▶ Attempt ──(answered)──▶ headers ──▶ reconsider ──▶ conclude ──▶ settle
 *        │ ▲                                 books      where the       the         the body
 *        │ └──────────── not delivered ◀──── limits     body says more  outcome     has ended
 *        └─▶ wait (woken later), reject (a 429 of our own), surface (the last real answer), closed
 *
 * Synchronous; time comes in with each call.
 */
import { Tiers, type Backend } from './backend.js'
import { Outcomes } from './outcomes.js'
import { Pacer } from './pacing/pacer.js'
import { Picker } from './pick.js'
import { findPlace } from './places.js'
import { Probes, type SendProbe } from './probes.js'
import { countOpen } from './prospect.js'
import { FINEST_TIMER_MS, MAX_WAITERS, Queues, type Waiter } from './queue.js'
import type { Acquisition, Attempt, PoolListener, PoolRequest, Shortage } from './request.js'
import { RetryBudget } from './retry-budget.js'
import { Scopes, type Scope } from './scopes.js'
import { isUsedUp, mustPay } from './steps.js'
import { STANDSTILL_MS, type AnswerError, type AttemptEnd, type OutcomeClass, type PoolConfig, type PoolStatus, type ResponseHeaders, type SurfaceReason, type System } from './types.js'

const WAIT = Object.freeze({ kind: 'wait' })
const CLOSED = Object.freeze({ kind: 'closed' })

/** For a request that waits for what no backend serves any more: better told at once. */
const HOPELESS: Shortage = Object.freeze({ kind: 'shortage', isThrottled: true, isInVain: true, toldMs: Infinity, soonestMs: Infinity })

export class Pool {
  readonly #system: Pick<System, 'wallNow'>
  readonly #listener: PoolListener
  readonly #random: () => number
  readonly #outcomes: Outcomes
  readonly #picker: Picker
  readonly #scopes: Scopes
  readonly #queues: Queues
  readonly #probes: Probes | undefined
  #config: PoolConfig
  #tiers: Tiers
  #budget: RetryBudget
  #isClosed = false

  /** @param sendProbe sends a `HEAD` to a backend that cannot be reached; without it requests are the probes. */
  constructor(config: PoolConfig, system: System, listener: PoolListener, sendProbe?: SendProbe) {
    const now = system.now()
    this.#system = system
    this.#listener = listener
    this.#random = () => system.random()
    this.#config = config
    this.#tiers = new Tiers(config, [])
    this.#budget = new RetryBudget(config.retryBudget.ratio, config.retryBudget.minPerSecond, now)
    this.#outcomes = new Outcomes(system, listener)
    this.#picker = new Picker(this.#outcomes, system)
    this.#scopes = new Scopes(this.#tiers.backends, () => (this.#config.pacing ? new Pacer(this.#random) : undefined), now)
    this.#queues = new Queues(system, (request, at) => {
      const scope = this.#scopes.of(request.scope, at)
      return scope.isUnserved ? HOPELESS : this.#picker.pick(this.#tiers, scope, request, true, at)
    })
    this.#probes = sendProbe === undefined ? undefined : new Probes(system, this.#outcomes, sendProbe, (at) => { this.#queues.wakeBy(at, at) })
    this.#take()
  }

  /** Where the request goes: the first time, again after each attempt that did not work, and after `wake`. */
  acquire(request: PoolRequest, now: number): Acquisition {
    if (this.#isClosed) return this.#close(request, now)
    const scope = this.#scopes.of(request.scope, now)
    if (request.pinned) return request.attempts > 0 ? this.surface(request, 'bound') : this.#begin(request, scope, this.#tiers.home, now)
    if (scope.isUnserved) return this.#refuse(request, now)
    const waiter = this.#queues.size === 0 ? undefined : this.#queues.find(request)
    if (waiter !== undefined) return this.#resume(waiter, scope, now)
    if (request.attempts === 0 && this.#outcomes.knowsCallers) this.#recognize(request)
    const patienceMs = this.#patienceMs(request, scope, now)
    const found = this.#picker.pick(this.#tiers, scope, request, patienceMs > 0, now)
    if (request.attempts === 0) {
      if (this.#probes !== undefined) {
        this.#probes.usedAt = now
        if (this.#probes.isAsleep) this.#probes.wakeUp(now)
      }
      this.#budget.deposit(now)
      if (found.kind === 'backend' && scope.queue.length === 0) return this.#begin(request, scope, found, now)
    }
    return this.#decideNext(request, scope, found, patienceMs, now)
  }

  /** The next attempt, where one can be made at once; where not, nothing has happened, and `acquire` decides. */
  next(request: PoolRequest, now: number): Attempt | undefined {
    if (this.#isClosed || request.pinned || now >= request.deadlineAt || isUsedUp(request, this.#config)) return undefined
    const scope = this.#scopes.of(request.scope, now)
    const found = this.#picker.pick(this.#tiers, scope, request, this.#patienceMs(request, scope, now) > 0, now)
    if (found.kind !== 'backend' || (mustPay(request, scope, found) && !this.#budget.withdraw(now))) return undefined
    return this.#goOn(request, scope, found, now)
  }

  /** Whether another attempt of this request could follow the one under way: if not, it makes no difference what its answer says. */
  canMove(request: PoolRequest): boolean {
    if (request.pinned || isUsedUp(request, this.#config)) return false
    const { maxWaitMs = this.#config.maxWaitMs } = request
    // The one under way is among them.
    return countOpen(this.#tiers.backends, request, maxWaitMs > 0) > 1
  }

  /** Final response headers (status 200 and up, or 101): books what they say of limits. @returns what the answer means, as far as they tell. */
  headers(attempt: Attempt, status: number, headers: ResponseHeaders, now: number): OutcomeClass {
    if (attempt.status > 0 || attempt.isSettled) return attempt.outcome
    return this.#outcomes.headers(attempt, status, headers, this.#config, now)
  }

  /** What the answer says of itself, read before its commit point. @returns what the answer means, for `conclude`. */
  reconsider(attempt: Attempt, error: AnswerError | undefined, isTooLarge: boolean, headers: ResponseHeaders, now: number): OutcomeClass {
    return attempt.isSettled ? attempt.outcome : this.#outcomes.reconsider(attempt, error, isTooLarge, headers, this.#config, now)
  }

  /** The outcome of an attempt, once it is certain; whatever is not delivered is for `acquire` to go on with. */
  conclude(attempt: Attempt, outcome: OutcomeClass, now: number): void {
    if (attempt.isConcluded || attempt.isSettled) return
    this.#outcomes.conclude(attempt, outcome, this.#config.latencyGuard, now)
    this.#probes?.look(now)
    if (this.#queues.size > 0) this.#queues.wakeBy(now, now)
  }

  /** The body of a 429 was read while the request went on elsewhere. */
  correct(attempt: Attempt, error: AnswerError | undefined, isTooLarge: boolean, headers: ResponseHeaders, now: number): void {
    const before = attempt.outcome
    // Too large by its headers alone, which had it take nothing out; what a body has said is said.
    const isOpen = before === 'throttled' || (before === 'oversized' && !attempt.wasRead)
    if (attempt.isSettled || !isOpen) return
    const outcome = this.#outcomes.reconsider(attempt, error, isTooLarge, headers, this.#config, now)
    if (outcome !== before) this.#outcomes.correct(attempt, outcome, now)
    if (this.#queues.size > 0) this.#queues.wakeBy(now, now)
  }

  /** The commit point: the caller gets this answer. */
  deliver(attempt: Attempt): void {
    if (this.#listener.hears('answered')) this.#listener.tell('answered', { attempt })
  }

  /** The end of an attempt, once; a second time does nothing. */
  settle(attempt: Attempt, end: AttemptEnd, now: number): void {
    if (attempt.isSettled) return
    this.#outcomes.settle(attempt, end, now)
    this.#scopes.settled(attempt, now)
    this.#probes?.look(now)
    if (this.#queues.size > 0) this.#queues.wakeBy(now, now)
  }

  /**
   * The attempt met a connection that had served before and was closed just then: once more to the same backend, unless that has
   * been found to be out meanwhile. It counts towards nothing.
   */
  repeat(attempt: Attempt, now: number): Acquisition {
    const { request, target, scope } = attempt
    this.settle(attempt, 'stale', now)
    if (this.#isClosed) return CLOSED
    request.repeats++
    const isOut = target.index < 0 || target.health.kind !== 'available' || scope.health.kind !== 'available'
    if ((isOut || now >= request.deadlineAt) && !request.pinned) return this.acquire(request, now)
    return this.#begin(request, this.#scopes.of(request.scope, now), target, now)
  }

  /** No further attempt: the last real answer, or error, is the caller's. */
  surface(request: PoolRequest, reason: SurfaceReason): Acquisition {
    const last = request.tried?.at(-1)
    if (last !== undefined && last.status > 0) this.deliver(last)
    if (this.#listener.hears('exhausted')) this.#listener.tell('exhausted', { request, retryAfterMs: undefined, reason })
    return { kind: 'surface', reason }
  }

  /** A request that waits and is aborted goes at once. Harmless when it does not wait. */
  leave(request: PoolRequest, now: number): void {
    const waiter = this.#queues.find(request)
    if (waiter !== undefined) this.#queues.leave(waiter, now)
  }

  /** Backends that stay (same name and URL) keep their state; attempts on those that go may still settle. */
  update(config: PoolConfig, now: number): void {
    const { ratio, minPerSecond } = config.retryBudget
    if (ratio !== this.#budget.ratio || minPerSecond !== this.#budget.minPerSecond) {
      this.#budget = new RetryBudget(ratio, minPerSecond, now)
    }
    const isPacingNew = config.pacing !== this.#config.pacing
    this.#config = config
    this.#tiers = new Tiers(config, this.#tiers.all)
    this.#take()
    this.#scopes.rebase(this.#tiers.backends)
    if (isPacingNew) this.#scopes.repace(this.#tiers.all)
    // A backend that was out for a wrong credential may have a new one.
    for (const backend of this.#tiers.all) this.#outcomes.readmit(backend, now)
    this.#outcomes.changes++
    this.#queues.wakeBy(now, now)
  }

  /** The options and backends as they are now, to those who need them. */
  #take(): void {
    this.#outcomes.backends = this.#tiers.backends
    this.#picker.probes = this.#probes !== undefined && this.#config.probe
    this.#probes?.take(this.#tiers.backends, this.#config.probe)
  }

  /** Waiters are woken and find the pool closed; attempts in flight may still settle. */
  close(): void {
    this.#isClosed = true
    this.#probes?.close()
    this.#queues.wakeAll()
  }

  status(now: number): PoolStatus {
    const { all } = this.#tiers
    for (const backend of all) {
      for (const scope of backend.scopes.values()) this.#outcomes.expireCooldown(backend, scope, now)
    }
    const epoch = this.#system.wallNow() - now
    return {
      waiting: this.#queues.size,
      queues: this.#queues.status(now),
      waits: this.#queues.waits,
      backends: all.map((backend) => backend.status(now, epoch)),
    }
  }

  /**
   * After an attempt that did not work, or when no backend can take the request at first.
   *
   * With its attempts used up the caller gets the last real answer, unless no backend is free and one is merely throttled:
   * then a 429 that says when to come back is worth more than a stale answer, or than an error of a backend that happened to
   * be asked last. A refused credential of ours is told as it is: no wait puts it right.
   */
  #decideNext(request: PoolRequest, scope: Scope, found: Backend | Shortage, patienceMs: number, now: number): Acquisition {
    const { attempts, lastOutcome, deadlineAt } = request
    if (attempts > 0 && now >= deadlineAt) return this.surface(request, 'deadline')
    const waitMs = Math.max(0, Math.min(patienceMs, deadlineAt - now))
    // First come first served: a newcomer that gets here passes none that waits already, even where a backend is free.
    const to = found.kind === 'backend' && attempts > 0 ? found : undefined
    const isThrottled = to === undefined && (found.kind === 'backend' || found.isThrottled)
    const toldMs = found.kind === 'shortage' ? found.toldMs : 0
    const soonestMs = found.kind === 'shortage' ? found.soonestMs : 0
    if (isUsedUp(request, this.#config)) {
      return isThrottled && lastOutcome !== 'misconfigured' ? this.#reject(request, scope, toldMs, 'throttled', now) : this.surface(request, 'attempts')
    }
    if (to === undefined) {
      // With patience left a request also waits for a probe.
      if (!isThrottled && (waitMs === 0 || (found.kind === 'shortage' && found.isInVain))) return this.surface(request, 'no-backend')
      if (isThrottled && (toldMs > waitMs || waitMs === 0)) return this.#reject(request, scope, toldMs, 'throttled', now)
      if (this.#queues.size >= MAX_WAITERS) return this.#reject(request, scope, toldMs, 'queue-full', now)
    }
    if (mustPay(request, scope, to) && !this.#budget.withdraw(now)) return this.surface(request, 'budget')
    if (to !== undefined) return this.#goOn(request, scope, to, now)
    this.#tellFailover(request, undefined)
    return this.#wait(request, scope, waitMs, soonestMs, now)
  }

  #goOn(request: PoolRequest, scope: Scope, to: Backend, now: number): Attempt {
    this.#tellFailover(request, to)
    return this.#begin(request, scope, to, now)
  }

  #tellFailover(request: PoolRequest, to: Backend | undefined): void {
    const attempt = request.tried?.at(-1)
    if (attempt !== undefined && this.#listener.hears('failover')) this.#listener.tell('failover', { attempt, to: to?.config })
  }

  /** Once refused, a caller's credential is not to be helped to an answer by one of ours. */
  #recognize(request: PoolRequest): void {
    const { callerKey } = request
    request.isRefused = this.#tiers.backends.some(({ callers, config }) => !config.ownsCredential && callers?.isRefused(callerKey))
  }

  /** A request that was held asks again. */
  #resume(waiter: Waiter, scope: Scope, now: number): Acquisition {
    const request = waiter.request
    waiter.isWoken = false
    const found = this.#picker.pick(this.#tiers, scope, request, true, now)
    if (isOver(request, now)) {
      this.#queues.leave(waiter, now)
      return this.#reject(request, scope, found.kind === 'shortage' && found.toldMs < Infinity ? found.toldMs : 0, 'throttled', now)
    }
    if (found.kind === 'backend') return this.#serve(waiter, scope, found, now)
    const { isThrottled, isInVain, toldMs, soonestMs } = found
    if (!isInVain && now < waiter.deadline && !(isThrottled && now + toldMs > waiter.deadline)) {
      this.#queues.wakeBy(Math.min(now + soonestMs, waiter.deadline), now)
      return WAIT
    }
    // Its patience is over: it goes where only an estimate forbids it, or, where none has said that it is full, to the least bad.
    const last = this.#picker.pick(this.#tiers, scope, request, false, now)
    if (last.kind === 'backend') return this.#serve(waiter, scope, last, now)
    this.#queues.leave(waiter, now)
    return last.isThrottled ? this.#reject(request, scope, last.toldMs, 'throttled', now) : this.surface(request, 'no-backend')
  }

  #wait(request: PoolRequest, scope: Scope, patienceMs: number, soonestMs: number, now: number): Acquisition {
    const since = request.waitingSince ??= now
    this.#queues.enter(scope.queue, request, since, now + patienceMs, now + soonestMs, now)
    if (this.#listener.hears('waiting')) this.#listener.tell('waiting', { request, queueLength: this.#queues.size })
    return WAIT
  }

  #serve(waiter: Waiter, scope: Scope, backend: Backend, now: number): Attempt {
    const { request } = waiter
    const waitedMs = now - waiter.enteredAt
    this.#queues.serve(waiter, now)
    if (this.#listener.hears('waited')) this.#listener.tell('waited', { request, waitedMs, queueLength: this.#queues.size })
    return this.#begin(request, scope, backend, now)
  }

  #begin(request: PoolRequest, scope: Scope, backend: Backend, now: number): Attempt {
    if (backend.callers !== undefined) backend.callers.tried(request.callerKey, now)
    const attempt = this.#outcomes.begin(request, backend, this.#scopes.stateOn(backend, scope, now), now)
    if (this.#listener.hears('picked')) this.#listener.tell('picked', { attempt })
    return attempt
  }

  #reject(request: PoolRequest, scope: Scope, soonestMs: number, reason: 'throttled' | 'queue-full', now: number): Acquisition {
    const before = scope.promises.count(now) + scope.queue.length
    const retryAfterMs = findPlace(this.#tiers, scope, request.bodyBytes, before, soonestMs, this.#random, now)
    scope.promises.add(now + retryAfterMs, now)
    if (this.#listener.hears('exhausted')) this.#listener.tell('exhausted', { request, retryAfterMs, reason })
    return { kind: 'reject', retryAfterMs }
  }

  /** No backend has the model: an answer that another one gave before an update is worth more than to say so. */
  #refuse(request: PoolRequest, now: number): Acquisition {
    this.leave(request, now)
    if (request.attempts > 0) return this.surface(request, 'no-backend')
    if (this.#listener.hears('exhausted')) this.#listener.tell('exhausted', { request, retryAfterMs: undefined, reason: 'not-served' })
    return { kind: 'unserved', served: [...new Set(this.#tiers.backends.flatMap(({ config }) => config.serves!))] } // each has such a list, or it would be served
  }

  #close(request: PoolRequest, now: number): Acquisition {
    this.leave(request, now)
    return CLOSED
  }

  #patienceMs(request: PoolRequest, scope: Scope, now: number): number {
    const { maxWaitMs = this.#config.maxWaitMs } = request
    if (maxWaitMs === 0) return 0
    const leftMs = request.waitingSince === undefined ? maxWaitMs : request.waitingSince + maxWaitMs - now
    return Math.max(0, Math.min(leftMs, scope.queue.patienceMs(maxWaitMs, now)))
  }
}

/** An attempt would be ended as it begins. Where our process has slept through that moment, it is made all the same. */
function isOver({ endsAt }: PoolRequest, now: number): boolean {
  const lateMs = now - endsAt
  return lateMs >= -FINEST_TIMER_MS && lateMs <= STANDSTILL_MS
}
