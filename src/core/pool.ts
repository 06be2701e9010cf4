import type { PoolAttempt } from './attempt.js'
import type { Backend } from './backend.js'
import { isDelivered } from './classify.js'
import { decide } from './decide.js'
import { Lanes, type Lane } from './scopes.js'
import { Ledger } from './outcomes.js'
import { Picker, type Shortage } from './pick.js'
import { RetryBudget } from './retry-budget.js'
import { Roster } from './tiers.js'
import { ScopePacer } from './pacing/scope-pacer.js'
import { describeBackend } from './status.js'
import type {
  Acquisition, Attempt, AttemptEnd, BackendConfig, OutcomeClass, PoolConfig, PoolListener, PoolRequest, PoolStatus,
  ResponseHeaders, SurfaceReason, System,
} from './types.js'
import type { Waiter } from './queue.js'
import { MAX_WAITERS, WaitRoom } from './wait-room.js'

const WAIT = Object.freeze({ kind: 'wait' })
const CLOSED = Object.freeze({ kind: 'closed' })
const SURFACE = Object.freeze({
  'attempts': Object.freeze({ kind: 'surface', reason: 'attempts' }),
  'budget': Object.freeze({ kind: 'surface', reason: 'budget' }),
  'no-backend': Object.freeze({ kind: 'surface', reason: 'no-backend' }),
  'pinned': Object.freeze({ kind: 'surface', reason: 'pinned' }),
})

/**
 * Refused at first, refused once more because somebody else was as quick after the wait, and a third time by bad luck: the
 * fourth is for those who wait on a single backend, of which one answers for all.
 */
const LEAST_ATTEMPTS_WITH_WAITS = 4

/** The shortest wait that `retry-after-ms` can express. */
const SHORTEST_RETRY_MS = 1

/**
 * All that is known of a set of backends, and every decision on where a request goes. Synchronous; time comes in with
 * each call.
 */
export class Pool<B extends BackendConfig> {
  readonly #listener: PoolListener<B>
  readonly #random: () => number
  readonly #ledger: Ledger<B>
  readonly #picker: Picker<B>
  readonly #lanes: Lanes<B>
  readonly #room: WaitRoom<B>
  #config: PoolConfig<B>
  #roster: Roster<B>
  #budget: RetryBudget
  #maxAttempts: number
  #isClosed = false

  constructor(config: PoolConfig<B>, system: System, listener: PoolListener<B>) {
    const now = system.now()
    this.#listener = listener
    this.#random = () => system.random()
    this.#config = config
    this.#roster = new Roster(config, [])
    this.#maxAttempts = boundAttempts(config)
    this.#budget = new RetryBudget(config.retryBudget.ratio, config.retryBudget.minPerSecond, now)
    this.#ledger = new Ledger(system, listener)
    this.#picker = new Picker(this.#ledger, system)
    this.#lanes = new Lanes(this.#roster.backends, () => (this.#config.pacing ? new ScopePacer(system) : undefined), now)
    this.#room = new WaitRoom(system, (lane, request, at) => this.#picker.pick(this.#roster, lane, request, at))
  }

  /** Where the request goes: the first time, again after each attempt that did not work, and after `wake`. */
  acquire(request: PoolRequest, now: number): Acquisition<B> {
    if (this.#isClosed) return this.#turnAway(request, now)
    const lane = this.#lanes.of(request.scope, now)
    if (request.pinned) return this.#acquireHome(request, lane, now)
    const waiter = this.#room.size === 0 ? undefined : this.#room.find(request)
    if (waiter !== undefined) return this.#resume(waiter, lane, now)
    const found = this.#picker.pick(this.#roster, lane, request, now)
    if (request.attempts === 0) {
      this.#budget.deposit(now)
      if (found.kind === 'backend' && lane.queue.length === 0) return this.#sendOn(request, lane, found, now)
    }
    return this.#goOn(request, lane, found, now)
  }

  /** Final response headers (status 200 and up, or 101). What they mean; whatever is not delivered is for `acquire` to go on with. */
  headers(attempt: Attempt<B>, status: number, headers: ResponseHeaders, now: number): OutcomeClass {
    const made = attempt as PoolAttempt<B>
    if (made.isAnswered || made.isSettled) return made.outcome
    const outcome = this.#ledger.answer(made, status, headers, this.#config, now)
    if (isDelivered(outcome)) this.#listener.answered(made.request, made, status, now - made.startedAt)
    this.#room.wakeBy(now, now)
    return outcome
  }

  /** The end of an attempt, once; a second time does nothing. */
  settle(attempt: Attempt<B>, end: AttemptEnd, now: number): void {
    const made = attempt as PoolAttempt<B>
    if (made.isSettled) return
    this.#ledger.end(made, end, now)
    this.#room.wakeBy(now, now)
  }

  /** A request that waits and is aborted goes at once. Harmless when it does not wait. */
  leave(request: PoolRequest, now: number): void {
    const waiter = this.#room.find(request)
    if (waiter !== undefined) this.#room.leave(waiter, now)
  }

  /** Backends that stay (same name and URL) keep their state; attempts on those that go may still settle. */
  update(config: PoolConfig<B>, now: number): void {
    const { ratio, minPerSecond } = config.retryBudget
    if (ratio !== this.#budget.ratio || minPerSecond !== this.#budget.minPerSecond) {
      this.#budget = new RetryBudget(ratio, minPerSecond, now)
    }
    const isPacingNew = config.pacing !== this.#config.pacing
    this.#config = config
    this.#roster = new Roster(config, this.#roster.backends)
    this.#maxAttempts = boundAttempts(config)
    this.#lanes.rebase(this.#roster.backends)
    if (isPacingNew) this.#lanes.repace()
    // Who was out for a wrong credential may have a new one.
    for (const backend of this.#roster.backends) this.#ledger.pardon(backend, now)
    this.#ledger.changes++
    this.#room.wakeBy(now, now)
  }

  /** Waiters are woken and find the pool closed; attempts in flight may still settle. */
  close(): void {
    this.#isClosed = true
    this.#room.wakeAll()
  }

  status(now: number): PoolStatus {
    const { backends } = this.#roster
    for (const backend of backends) {
      for (const scope of backend.scopes.values()) this.#ledger.noticeEnd(backend, scope, now)
    }
    return {
      waiting: this.#room.size,
      queues: this.#room.queues(now),
      waits: this.#room.waits,
      backends: backends.map((backend) => describeBackend(backend, now)),
    }
  }

  /** Stateful paths: one attempt at home, whatever the state of the backend. */
  #acquireHome(request: PoolRequest, lane: Lane, now: number): Acquisition<B> {
    return request.attempts > 0 ? this.#surface(request, 'pinned') : this.#send(request, lane, this.#roster.home, now)
  }

  /** After an attempt that did not work, or when nobody can take the request at first. */
  #goOn(request: PoolRequest, lane: Lane, found: Backend<B> | Shortage, now: number): Acquisition<B> {
    const to = found.kind === 'backend' ? found : undefined
    // First come first served: a newcomer that gets here passes nobody who waits already, even where a backend is free.
    const isFree = to !== undefined && request.attempts > 0
    const throttledMs = found.kind === 'shortage' ? found.throttledMs : isFree ? Infinity : 0
    const changeMs = found.kind === 'shortage' ? found.changeMs : 0
    const patienceMs = this.#patienceMs(request, lane, now)
    const { attempts, lastOutcome } = request
    const decision = decide({ attempts, maxAttempts: this.#maxAttempts, lastOutcome, isFree, throttledMs, patienceMs })
    if (decision === 'attempts' || decision === 'no-backend') return this.#surface(request, decision)
    if (decision === 'reject') return this.#reject(request, lane, throttledMs, 'throttled', now)
    if (decision === 'wait' && this.#room.size >= MAX_WAITERS) return this.#reject(request, lane, throttledMs, 'queue-full', now)
    if (lastOutcome === 'failed' && !this.#budget.withdraw(now)) return this.#surface(request, 'budget')
    const last = lastAttempt<B>(request)
    if (last !== undefined) this.#listener.failover(request, last, last.outcome, to?.config)
    if (decision === 'send' && to !== undefined) return this.#sendOn(request, lane, to, now)
    request.waitingSince ??= now
    this.#room.enter(lane, request, now + patienceMs, now + throttledMs, now + changeMs, now)
    this.#listener.waiting(request, this.#room.size)
    return WAIT
  }

  /** A request that was held asks again. */
  #resume(waiter: Waiter, lane: Lane, now: number): Acquisition<B> {
    const request = waiter.request
    waiter.isWoken = false
    if (now >= waiter.forgiveAt) request.tried = undefined
    const found = this.#picker.pick(this.#roster, lane, request, now)
    if (found.kind === 'backend') {
      this.#room.serve(waiter, now)
      this.#listener.waited(request, now - waiter.enteredAt, this.#room.size)
      return this.#send(request, lane, found, now)
    }
    const { throttledMs, changeMs } = found
    if (now >= waiter.deadline || (throttledMs !== Infinity && now + throttledMs > waiter.deadline)) {
      this.#room.leave(waiter, now)
      return this.#reject(request, lane, throttledMs, 'throttled', now)
    }
    this.#room.wakeBy(Math.min(now + changeMs, waiter.deadline), now)
    return WAIT
  }

  /** Without having been held. */
  #sendOn(request: PoolRequest, lane: Lane, backend: Backend<B>, now: number): PoolAttempt<B> {
    lane.queue.moved(now)
    return this.#send(request, lane, backend, now)
  }

  #send(request: PoolRequest, lane: Lane, backend: Backend<B>, now: number): PoolAttempt<B> {
    const scope = this.#lanes.stateOn(backend, lane, now)
    const attempt = this.#ledger.begin(request, backend, scope, now)
    this.#listener.picked(request, attempt)
    return attempt
  }

  /** No further attempt: the last real answer, or error, is the caller's. */
  #surface(request: PoolRequest, reason: SurfaceReason): Acquisition<B> {
    const last = lastAttempt<B>(request)
    if (last?.latencyMs !== undefined) this.#listener.answered(request, last, last.status, last.latencyMs)
    this.#listener.exhausted(request, undefined, reason)
    return SURFACE[reason]
  }

  #reject(request: PoolRequest, lane: Lane, throttledMs: number, reason: 'throttled' | 'queue-full', now: number): Acquisition<B> {
    const slotMs = lane.queue.promiseSlot(throttledMs, this.#random, now)
    const retryAfterMs = Math.max(SHORTEST_RETRY_MS, slotMs)
    this.#listener.exhausted(request, retryAfterMs, reason)
    return { kind: 'reject', retryAfterMs }
  }

  #turnAway(request: PoolRequest, now: number): Acquisition<B> {
    this.leave(request, now)
    return CLOSED
  }

  #patienceMs(request: PoolRequest, lane: Lane, now: number): number {
    const { maxWaitMs } = this.#config
    if (maxWaitMs === 0) return 0
    const leftMs = request.waitingSince === undefined ? maxWaitMs : request.waitingSince + maxWaitMs - now
    return Math.max(0, Math.min(leftMs, lane.queue.patienceMs(maxWaitMs, now)))
  }
}

function boundAttempts({ maxAttempts, maxWaitMs, backends }: PoolConfig): number {
  return maxAttempts ?? (maxWaitMs > 0 ? Math.max(LEAST_ATTEMPTS_WITH_WAITS, 2 * backends.length) : backends.length)
}

/** The pool keeps failed attempts, not backends, in `tried`: the last of them is what is surfaced. */
function lastAttempt<B extends BackendConfig>(request: PoolRequest): PoolAttempt<B> | undefined {
  return request.tried?.at(-1) as PoolAttempt<B> | undefined
}
