/**
 * One request of the caller on its way through the backends. The caller sees one request, whatever happens behind it:
 *
 *   acquire ──▶ attempt ──headers──▶ not delivered: acquire again
 *      ▲           │                 delivered: the commit point ──▶ body ──▶ over
 *      │           └──failure──▶ acquire again, or the caller's error
 *      └── wake, after a wait
 */
import type { Duplex } from 'node:stream'
import { isDelivered } from '../core/classify.js'
import type { Pool } from '../core/pool.js'
import { PoolRequest, type Acquisition, type Attempt } from '../core/request.js'
import type { AttemptEnd, System } from '../core/types.js'
import { BalancerClosedError } from '../errors.js'
import type { ActiveRequests } from './active-requests.js'
import { AttemptHandler, type AttemptOwner, type Blame } from './attempt.js'
import { adaptCaller, Progress, StableController, type Caller } from './caller.js'
import { FairTimer, isDeadlineError, makeDeadlineError, readSdkPatienceMs } from './clock.js'
import { answerIn, endOf, isCallersFault, isClosedConnection, toError, type ErrorAnswer } from './failure.js'
import { ModernAttemptHandler } from './modern-attempt.js'
import { KeptAnswer, SyntheticResponse, throttledAnswer } from './own-answers.js'
import { OutgoingRequest } from './rewrite.js'
import type { Route } from './route.js'
import { errors, type AnyHandler, type AnyHeaders, type DispatchOptions, type Inner, type ParsedHeaders } from './undici.js'

/**
 * A server that closes what is idle may close several connections at once, and what is sent once more may meet the next of them. So
 * often a request is let down by chance; what comes after that says something of the backend.
 */
const MOST_REPEATS = 3

/** What a request is given by the balancer that it came to. */
export interface RequestContext {
  readonly pool: Pool
  readonly system: System
  readonly current: { readonly maxReplayBytes: number; readonly attemptTimeoutMs: number | undefined; readonly deadlineMs: number | undefined }
  /** Those under way. */
  readonly requests: ActiveRequests<BalancedRequest>
  /** Called when `requests` has become empty; there only while that is waited for. */
  readonly onIdle: (() => void) | undefined
}

export class BalancedRequest extends PoolRequest implements AttemptOwner {
  readonly pinned: boolean
  /** Its place among the active requests; -1 when it is not under way. */
  slot = -1
  readonly callerHandler: AnyHandler
  readonly #context: RequestContext
  readonly #inner: Inner
  readonly #request: OutgoingRequest
  readonly #caller: Caller
  readonly #controller: StableController
  /** The attempt that is awaited, or whose response the caller is getting. */
  #current: AttemptHandler | undefined
  #lastError: Error | undefined
  /** Of those that were not delivered, where one may have to be after all. */
  #lastAnswer: KeptAnswer | undefined
  /** Until the commit point, where there is one. */
  #deadline: FairTimer | undefined
  #startedAt = 0
  #progress: Progress | undefined
  #responseStarted = false
  /** Given up by the caller, or with the balancer. */
  #aborted = false
  #ended = false

  constructor(context: RequestContext, inner: Inner, opts: DispatchOptions, route: Route, handler: AnyHandler) {
    super()
    this.#context = context
    this.#inner = inner
    this.#request = new OutgoingRequest(opts, route, context.current.maxReplayBytes)
    this.pinned = route.isStateful
    this.callerHandler = handler
    this.#caller = adaptCaller(handler)
    this.#controller = new StableController(this)
  }

  get system(): System {
    return this.#context.system
  }

  get progress(): Progress {
    return (this.#progress ??= new Progress(this.callerHandler))
  }

  get attemptTimeoutMs(): number | undefined {
    return this.#context.current.attemptTimeoutMs
  }

  get paused(): boolean {
    return this.#controller.paused
  }

  override get endsAt(): number {
    return this.#deadline?.dueAt ?? Infinity
  }

  override get deadlineAt(): number {
    return Math.min(this.endsAt, this.#startedAt + readSdkPatienceMs(this.#request.headers))
  }

  /** Takes the request up. The result is that of `Dispatcher.dispatch`: false asks for no more requests until `drain`. */
  start(): boolean {
    this.#context.requests.add(this)
    // Before anything is waited for: only from here on can the caller abort.
    try {
      this.#caller.start(this.#controller)
    } catch (error) {
      this.#fail(toError(error))
      return true
    }
    const { body } = this.#request, { deadlineMs } = this.#context.current
    if (this.#ended) return true
    if (deadlineMs !== undefined) this.#deadline = new FairTimer(this.system, () => { this.#expire(deadlineMs) }, deadlineMs)
    this.#startedAt = this.system.now()
    if (!body.wantsCollecting) return this.#begin(this.#startedAt)
    body.collect().then(() => this.#begin(this.system.now()), (error: unknown) => { this.#fail(toError(error)) })
    return true
  }

  #begin(now: number): boolean {
    if (this.#ended) return true
    this.scope = this.#request.findScope()
    this.bodyBytes = this.#request.body.byteLength
    return this.#proceed(this.#context.pool.acquire(this, now))
  }

  /** Does what the pool has decided. */
  #proceed(acquisition: Acquisition): boolean {
    if (this.#ended) this.#giveBack(acquisition)
    else if (acquisition.kind === 'send') return this.#send(acquisition)
    else if (acquisition.kind === 'reject') this.#answer(throttledAnswer(acquisition.retryAfterMs))
    // Answers are surfaced where they arrive; what is left are errors, and what was kept while the request waited.
    else if (acquisition.kind === 'surface') this.#surface(this.#lastError)
    else if (acquisition.kind === 'closed') this.#fail(this.#lastError ?? new BalancerClosedError())
    return true
  }

  /** A listener to the pool's events has ended the request meanwhile. */
  #giveBack(acquisition: Acquisition): void {
    const { pool } = this.#context
    if (acquisition.kind === 'send') pool.settle(acquisition, 'aborted', this.system.now())
    else pool.leave(this, this.system.now())
  }

  #send(attempt: Attempt): boolean {
    const handler = this.#inner.takesLegacy ? new AttemptHandler(this, attempt) : new ModernAttemptHandler(this, attempt)
    this.#current = handler
    return handler.send(this.#inner, this.#request)
  }

  onResponseStarted(): void {
    if (!this.#responseStarted) this.callerHandler.onResponseStarted?.()
    this.#responseStarted = true
  }

  onInformation(_handler: AttemptHandler, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void {
    this.#responseStarted = false // undici tells of every message that begins
    this.#caller.headers(this.#controller, status, raw, parsed, message)
  }

  onResponse(handler: AttemptHandler, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void {
    const next = this.#conclude(handler, { status, headers: parsed ?? raw })
    if (this.#ended) return next === undefined ? undefined : this.#giveBack(next)
    if (next !== undefined && next.kind !== 'surface' && next.kind !== 'closed') {
      this.#current = undefined
      // It may be the best that comes.
      this.#lastAnswer = this.#deadline !== undefined || next.kind === 'wait' ? new KeptAnswer(status, raw, parsed, message) : undefined
      this.#lastError = undefined
      handler.swallow(parsed ?? raw, this.#lastAnswer)
      this.#proceed(next)
      return
    }
    // The commit point: from here on nothing is retried.
    handler.commit()
    this.#endDeadline()
    this.#request.body.release()
    this.#controller.attach(handler)
    this.#caller.headers(this.#controller, status, raw, parsed, message)
  }

  onData(chunk: Buffer): void {
    this.#caller.data(this.#controller, chunk)
  }

  onEnd(handler: AttemptHandler, raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void {
    this.settle(handler, 'completed')
    // An answer may come before the upload has ended, and the rest is of no use then.
    this.#request.body.discard()
    this.#end(raw, parsed)
  }

  onUpgrade(handler: AttemptHandler, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, socket: Duplex): unknown {
    this.#conclude(handler, { status, headers: parsed ?? raw })
    socket.once('close', () => { this.settle(handler, 'completed') })
    this.#request.body.release()
    const result = this.#caller.upgrade(this.#controller, status, raw, parsed, socket)
    this.#leave()
    return result
  }

  onFailure(handler: AttemptHandler, error: Error, blame: Blame): void {
    const isTooLate = isDeadlineError(error)
    if (isTooLate || blame === 'caller' || this.#aborted || this.#request.body.error !== undefined || isCallersFault(error)) {
      this.settle(handler, handler.wasConnected ? 'aborted' : 'unsent')
      if (!isTooLate) return this.#fail(error)
      this.#context.pool.surface(this, 'deadline')
      return this.#surface(this.#lastAnswer?.isWhole === true ? undefined : error)
    }
    const answer = blame === 'backend' ? answerIn(error) : undefined
    const next = answer === undefined ? this.#takeFailure(handler, error, blame) : this.#takeErrorAnswer(handler, answer)
    if (next === undefined) return this.#fail(error)
    this.#lastError = error
    this.#current = undefined
    // undici is about to connect anew: asked for the same origin from inside its callback it does so twice, and forgets one of the sockets.
    const isSameOrigin = next.kind === 'send' && next.backend.origin === handler.attempt.backend.origin
    if (isSameOrigin) this.system.nextTurn(() => { this.#proceed(next) })
    else this.#proceed(next)
  }

  /** @returns where the request goes next; undefined: nowhere. */
  #takeFailure(handler: AttemptHandler, error: Error, blame: Blame): Acquisition | undefined {
    if (blame === 'response') {
      this.settle(handler, 'broken')
      return undefined
    }
    const end = endOf(error, handler.wasConnected)
    const createsState = (end === 'reset' || end === 'timeout') && this.#request.createsState()
    if (end === 'reset' && this.repeats < MOST_REPEATS && isClosedConnection(error) && handler.hadServed(error)) {
      if (!createsState && this.#request.body.replayable) return this.#context.pool.repeat(handler.attempt, this.system.now())
      // It cannot be made once more, and yet is no backend's fault.
      this.settle(handler, 'stale')
    } else this.settle(handler, end)
    return createsState ? this.#context.pool.surface(this, 'creates-state') : this.#acquireNext()
  }

  /** An interceptor further in has made an error of an answer. It means what it would have meant, and the caller gets the error for it. */
  #takeErrorAnswer(handler: AttemptHandler, answer: ErrorAnswer): Acquisition | undefined {
    const next = this.#conclude(handler, answer)
    this.settle(handler, 'completed')
    return next
  }

  /** Tells the pool what an attempt was answered. @returns where the request goes next; undefined where the answer is the caller's. */
  #conclude(handler: AttemptHandler, { status, headers }: ErrorAnswer): Acquisition | undefined {
    const { pool } = this.#context
    const { attempt } = handler
    const now = this.system.now()
    const outcome = pool.headers(attempt, status, headers, now)
    if (outcome === 'misconfigured') handler.refuseCredential()
    pool.conclude(attempt, outcome, now)
    if (isDelivered(outcome)) return undefined
    return outcome === 'failed' && this.#request.createsState() ? pool.surface(this, 'creates-state') : this.#acquireNext()
  }

  #acquireNext(): Acquisition {
    const { pool } = this.#context
    // The attempt before may be uploading still. While the next one waits for its turn or its credential, the body must not outgrow what can be kept.
    this.#request.body.rewind()
    return this.#request.body.replayable || this.pinned ? pool.acquire(this, this.system.now()) : pool.surface(this, 'not-replayable')
  }

  settle(handler: AttemptHandler, end: AttemptEnd): void {
    this.#context.pool.settle(handler.attempt, end, this.system.now())
  }

  /** The pool: the turn of this waiting request has come, or its wait is over. */
  wake(): void {
    if (this.#ended) return
    try {
      const acquisition = this.#context.pool.acquire(this, this.system.now())
      if (acquisition.kind === 'closed') this.#lastError = undefined
      this.#proceed(acquisition)
    } catch (error) {
      // Another request's callback is below us on the stack: what this caller's handler throws is not its to catch.
      queueMicrotask(() => { throw error })
    }
  }

  /** The caller, or the balancer that is being destroyed. */
  abort(reason: Error): void {
    if (this.#ended) return
    this.#aborted = true
    if (this.#current === undefined) this.#context.pool.leave(this, this.system.now())
    else this.#current.cancel(reason)
    this.#fail(reason)
  }

  /** `deadlineMs` is over. One that waits is woken by the pool. */
  #expire(deadlineMs: number): void {
    if (this.#current !== undefined) this.#current.cancel(makeDeadlineError(deadlineMs))
    else if (this.attempts === 0 && this.waitingSince === undefined) this.#fail(makeDeadlineError(deadlineMs)) // its body is being read
  }

  /** The best that there is: this error, else the last answer. */
  #surface(error: Error | undefined): void {
    if (error === undefined && this.#lastAnswer?.isWhole === true) this.#answer(this.#lastAnswer)
    else this.#fail(error ?? new errors.HeadersTimeoutError('No backend was available while the request waited, and the last answer was too long to be kept.'))
  }

  #answer(answer: ConstructorParameters<typeof SyntheticResponse>[2]): void {
    const { opts, body } = this.#request
    this.#endDeadline()
    const response = new SyntheticResponse(this.#caller, this.#controller, answer, opts.method !== 'HEAD')
    body.discard()
    // Never before `dispatch` has returned: no real answer comes that early.
    queueMicrotask(() => {
      if (!this.#ended) response.start(() => { this.#end([], {}) }, (error) => { this.#fail(error) })
    })
  }

  #endDeadline(): void {
    this.#deadline?.cancel()
    this.#deadline = undefined
  }

  #fail(error: Error): void {
    if (this.#ended) return
    this.#leave()
    // In this order: undici's own functions destroy a stream with the error when they hear of it, and only they.
    try { this.#caller.error(this.#controller, error) } finally { this.#request.body.discard() }
  }

  /** Over before the caller is told, so that an abort comes too late, as it does with undici. Where its handler throws, a failure follows. */
  #end(raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void {
    this.#leave()
    try {
      this.#caller.end(this.#controller, raw, parsed)
    } catch (error) {
      this.#ended = false
      throw error
    }
  }

  #leave(): void {
    this.#ended = true
    this.#endDeadline()
    this.#controller.detach()
    const { requests } = this.#context
    requests.remove(this)
    if (requests.size === 0) this.#context.onIdle?.()
  }
}
