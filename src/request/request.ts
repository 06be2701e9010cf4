/**
 * One request of the caller on its way through the backends. The caller sees one request, whatever happens behind it:
 *
 *   acquire ──▶ attempt ──headers──▶ (undecided: what comes is held and looked into)
 *      ▲           │                    │
 *      │           │                    ├─▶ not delivered: acquire again
 *      │           │                    └─▶ delivered: the commit point ──▶ body ──▶ over
 *      │           └──failure──▶ acquire again, or the caller's error
 *      └── wake, after a wait
 */
import type { Duplex } from 'node:stream'
import { isDelivered, mayMeanMore } from '../core/classify.js'
import type { Acquisition, Attempt } from '../core/request.js'
import type { OutcomeClass, ResponseHeaders } from '../core/types.js'
import { BalancerClosedError } from '../errors.js'
import { AttemptHandler } from './attempt.js'
import { FairTimer, isDeadlineError, makeDeadlineError } from './clock.js'
import { Exchange, type RequestContext } from './exchange.js'
import { answerIn, endOf, isCallersFault, isClosedConnection, toError, type ErrorAnswer } from './failure.js'
import { ModernAttemptHandler } from './modern-attempt.js'
import { lookAtError, lookAtSuccess, readErrorBody, type Beginning } from './look/look.js'
import type { Verdict } from './look/verdict.js'
import { errorAnswer, KeptAnswer, refusedAnswer, throttledAnswer, toErrorAnswer, unservedAnswer, type Answer } from './own-answers.js'
import type { AttemptOwner, AttemptResponse, Blame } from './response.js'
import { watchEnd } from './upgraded.js'
import type { Route } from './route.js'
import { errors, type AnyHandler, type AnyHeaders, type DispatchOptions, type Inner, type ParsedHeaders } from './undici.js'

/**
 * A server that closes what is idle may close several connections at once, and what is sent once more may meet the next of them. So
 * often a request is let down by chance; what comes after that says something of the backend.
 */
const MOST_REPEATS = 3

const HELD_TOO_LONG = 'A caller gave up waiting for a stream that was held until its end (streamGuard "whole", or x-balancer-stream): '
  + 'the timeout of its client must allow for the whole answer.'

export class BalancedRequest extends Exchange implements AttemptOwner {
  readonly #inner: Inner
  /** The attempt that is awaited, or whose response the caller is getting. */
  #current: AttemptResponse | undefined
  #lastError: Error | undefined
  /** Of those that were not delivered, where one may have to be after all. */
  #lastAnswer: Answer | undefined
  /** Of those to the caller's own credential the first is told: it is of the backend that the caller meant. */
  #firstRefusal: KeptAnswer | undefined
  /** Given up by the caller, or with the balancer. */
  #aborted = false

  constructor(context: RequestContext, inner: Inner, opts: DispatchOptions, route: Route, handler: AnyHandler) {
    super(context, opts, route, handler)
    this.#inner = inner
  }

  /** Takes the request up. The result is that of `Dispatcher.dispatch`: false asks for no more requests until `drain`. */
  start(): boolean {
    this.context.requests.add(this)
    // Before anything is waited for: only from here on can the caller abort.
    try {
      this.caller.start(this.controller)
    } catch (error) {
      this.fail(toError(error))
      return true
    }
    const { body, hints: { refusal, deadlineMs = this.context.current.deadlineMs } } = this.outgoing
    if (refusal !== undefined && !this.ended) this.answer(refusedAnswer(refusal))
    if (this.ended || refusal !== undefined) return true
    if (deadlineMs !== undefined) this.deadline = new FairTimer(this.system, () => { this.#expire(deadlineMs) }, deadlineMs)
    this.startedAt = this.system.now()
    if (!body.wantsCollecting) return this.#begin(this.startedAt)
    body.collect().then(() => this.#begin(this.system.now()), (error: unknown) => { this.fail(toError(error)) })
    return true
  }

  #begin(now: number): boolean {
    if (this.ended) return true
    this.scope = this.outgoing.findScope(this.context)
    this.bodyBytes = this.outgoing.body.byteLength
    return this.#proceed(this.context.pool.acquire(this, now))
  }

  /** Does what the pool has decided. */
  #proceed(acquisition: Acquisition): boolean {
    if (this.ended) this.#giveBack(acquisition)
    else if (acquisition.kind === 'send') return this.#send(acquisition)
    else if (acquisition.kind === 'reject') this.answer(throttledAnswer(acquisition.retryAfterMs))
    else if (acquisition.kind === 'unserved') this.answer(unservedAnswer(this.scope, acquisition.served))
    // Answers are surfaced where they arrive; what is left are errors, and what was kept while the request waited.
    else if (acquisition.kind === 'surface') this.#surface(this.#lastError)
    else if (acquisition.kind === 'closed') this.fail(this.#lastError ?? new BalancerClosedError())
    return true
  }

  /** A listener to the pool's events has ended the request meanwhile. */
  #giveBack(acquisition: Acquisition): void {
    const { pool } = this.context
    if (acquisition.kind === 'send') pool.settle(acquisition, 'aborted', this.system.now())
    else pool.leave(this, this.system.now())
  }

  #send(attempt: Attempt): boolean {
    const handler = this.#inner.takesLegacy ? new AttemptHandler(this, attempt) : new ModernAttemptHandler(this, attempt)
    this.#current = handler
    return handler.send(this.#inner, this.outgoing)
  }

  onResponse(handler: AttemptResponse, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void {
    const { context: { pool } } = this, { attempt } = handler
    const headers = parsed ?? raw
    const now = this.system.now()
    const outcome = pool.headers(attempt, status, headers, now)
    if (status === 429) return this.#onThrottled(handler, outcome, new KeptAnswer(status, raw, parsed, message), now)
    const beginning = this.#lookAt(outcome, status, headers)
    if (beginning === 'html') return this.#decide(handler, 'failed', new KeptAnswer(status, raw, parsed, message), now)
    if (beginning === 'stream') handler.isStream = true
    else if (beginning !== undefined) return handler.hold(new KeptAnswer(status, raw, parsed, message), beginning)
    if (outcome === 'success') return this.#deliver(handler, status, raw, parsed, message, false)
    this.#decide(handler, outcome, new KeptAnswer(status, raw, parsed, message), now)
  }

  /** Whether the answer is to be looked into. Where nothing could follow it, it is not. */
  #lookAt(outcome: OutcomeClass, status: number, headers: ResponseHeaders): Beginning {
    if (outcome === 'success') return this.isGenerating ? lookAtSuccess(status, headers, this.streamOptions) : undefined
    return mayMeanMore(status) && this.canMove ? lookAtError(headers) : undefined
  }

  /**
   * A 429 sends the request on at once, and its body is read meanwhile: it may tell of an unpaid bill. Only where the request would have
   * to wait, or be refused, is it read first.
   */
  #onThrottled(handler: AttemptResponse, outcome: OutcomeClass, answer: KeptAnswer, now: number): void {
    const { pool } = this.context
    pool.conclude(handler.attempt, outcome, now)
    if (this.ended) return
    // No other attempt can follow: nothing is read of it.
    if (this.pinned || !this.outgoing.body.replayable) return this.#goOn(handler, outcome, answer, this.#acquireNext())
    const next = pool.next(this, now)
    if (this.ended) return next === undefined ? undefined : this.#giveBack(next)
    if (next === undefined) return handler.hold(answer, lookAtError(answer.headers))
    this.outgoing.body.rewind()
    this.#leaveBehind(handler, answer, next)
  }

  onVerdict(handler: AttemptResponse, verdict: Verdict): void {
    const { context: { pool } } = this, { attempt, held } = handler
    if (held === undefined) return
    if (attempt.isConcluded) { // a 429
      if (verdict.kind === 'error') pool.correct(attempt, verdict.error, verdict.isTooLarge, held.headers, this.system.now())
      return this.#goOn(handler, attempt.outcome, held, this.#acquireNext())
    }
    if (verdict.kind === 'deliver') {
      if (handler.isStream) attempt.latencyMs = this.system.now() - attempt.askedAt
      return this.#deliver(handler, held.status, held.raw, held.parsed, held.message, false)
    }
    const now = this.system.now()
    if (verdict.kind === 'failed') return this.#decide(handler, 'failed', held, now, errorAnswer(502, verdict.why, verdict.why, undefined))
    const outcome = pool.reconsider(attempt, verdict.error, verdict.isTooLarge, held.headers, now)
    if (attempt.status >= 400) return this.#decide(handler, outcome, held, now)
    const instead = toErrorAnswer(outcome, attempt.error?.code, verdict.value, attempt.scope.cooldownUntil - now)
    this.#decide(handler, outcome === 'answered' ? 'success' : outcome, held, now, instead)
  }

  /** @param instead what the caller gets in the place of the answer where nothing follows: a 200 with an error in it is no answer. */
  #decide(handler: AttemptResponse, outcome: OutcomeClass, answer: KeptAnswer, now: number, instead?: Answer): void {
    const { pool } = this.context
    const { attempt } = handler
    if (outcome === 'success') return this.#deliver(handler, answer.status, answer.raw, answer.parsed, answer.message, false)
    if (outcome === 'misconfigured') handler.refuseCredential()
    pool.conclude(attempt, outcome, now)
    if (this.ended) return
    if (isDelivered(outcome)) return this.#deliver(handler, answer.status, answer.raw, answer.parsed, answer.message, true)
    // An error that was told is the end of what was begun; where nothing was told, it may go on.
    const isLeftOpen = outcome === 'failed' && attempt.error === undefined
    const next = isLeftOpen && this.outgoing.createsState() ? pool.surface(this, 'creates-state') : this.#acquireNext()
    this.#goOn(handler, outcome, answer, next, instead)
  }

  /** The answer is not delivered, unless nothing better can come. */
  #goOn(handler: AttemptResponse, outcome: OutcomeClass, answer: KeptAnswer, next: Acquisition, instead?: Answer): void {
    if (this.ended) return this.#giveBack(next)
    if (next.kind !== 'surface' && next.kind !== 'closed') {
      if (outcome === 'refused') this.#firstRefusal ??= answer
      return this.#leaveBehind(handler, answer, next, instead)
    }
    const better = outcome === 'refused' && this.#firstRefusal?.isWhole === true ? this.#firstRefusal : instead
    if (better === undefined) return this.#commit(handler, answer.status, answer.raw, answer.parsed, answer.message, true)
    this.#current = undefined
    handler.swallow(answer.headers)
    this.answer(better)
  }

  #leaveBehind(handler: AttemptResponse, answer: KeptAnswer, next: Acquisition, instead?: Answer): void {
    this.#current = undefined
    // It may be the best that comes.
    this.#lastAnswer = instead ?? answer
    this.#lastError = undefined
    handler.swallow(answer.headers, answer)
    this.#proceed(next)
  }

  /** @param isProven its outcome is known; of a success only when its first byte is here. */
  #deliver(handler: AttemptResponse, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined, isProven: boolean): void {
    const { pool, current: { streamIdleMs } } = this.context, { isStream } = handler
    pool.deliver(handler.attempt)
    if (this.ended) return
    this.#commit(handler, status, raw, parsed, message, isProven)
    if (isStream && streamIdleMs !== undefined) handler.watch(streamIdleMs)
  }

  /** The commit point: from here on nothing is retried. */
  #commit(handler: AttemptResponse, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined, isProven: boolean): void {
    handler.commit(isProven)
    this.endDeadline()
    this.outgoing.body.release()
    this.controller.attach(handler)
    this.caller.headers(this.controller, status, raw, parsed, message)
    handler.release()
  }

  onProof(handler: AttemptResponse): void {
    this.context.pool.conclude(handler.attempt, 'success', this.timeOf(handler))
  }

  onDrained(handler: AttemptResponse, kept: KeptAnswer | undefined): void {
    const { pool } = this.context
    const { attempt } = handler
    if (attempt.status === 429 && kept?.isWhole === true) {
      const { error, isTooLarge } = readErrorBody(kept.chunks, kept.headers)
      pool.correct(attempt, error, isTooLarge, kept.headers, this.system.now())
    }
    this.settle(handler, 'completed')
  }

  onEnd(handler: AttemptResponse, raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void {
    this.settle(handler, 'completed')
    // An answer may come before the upload has ended, and the rest is of no use then.
    this.outgoing.body.discard()
    this.end(raw, parsed)
  }

  onUpgrade(handler: AttemptResponse, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, socket: Duplex): unknown {
    const { pool } = this.context
    const now = this.system.now()
    pool.conclude(handler.attempt, pool.headers(handler.attempt, status, parsed ?? raw, now), now)
    pool.deliver(handler.attempt)
    if (this.ended) return void socket.destroy() // by a listener to the pool's events
    watchEnd(socket, this.system, (isDropped) => { this.settle(handler, isDropped ? 'dropped' : 'completed') })
    this.outgoing.body.release()
    const result = this.caller.upgrade(this.controller, status, raw, parsed, socket)
    this.leave()
    return result
  }

  onFailure(handler: AttemptResponse, error: Error, blame: Blame): void {
    const isTooLate = isDeadlineError(error)
    if (isTooLate || blame === 'caller' || this.#aborted || this.outgoing.body.error !== undefined || isCallersFault(error)) {
      this.settle(handler, handler.wasConnected ? 'aborted' : 'unsent')
      if (!isTooLate) return this.fail(error)
      this.context.pool.surface(this, 'deadline')
      return this.#surface(this.#lastAnswer?.isWhole === true ? undefined : error)
    }
    const answer = blame === 'backend' ? answerIn(error) : undefined
    const next = answer === undefined ? this.#takeFailure(handler, error, blame) : this.#takeErrorAnswer(handler, answer)
    if (next === undefined) return this.fail(error)
    this.#lastError = error
    this.#current = undefined
    // undici is about to connect anew: asked for the same origin from inside its callback it does so twice, and forgets one of the sockets.
    const isSameOrigin = next.kind === 'send' && next.backend.origin === handler.attempt.backend.origin
    if (isSameOrigin) this.system.nextTurn(() => { this.#proceed(next) })
    else this.#proceed(next)
  }

  /** @returns where the request goes next; undefined: nowhere. */
  #takeFailure(handler: AttemptResponse, error: Error, blame: Blame): Acquisition | undefined {
    if (blame === 'response') {
      this.settle(handler, 'broken')
      return undefined
    }
    const end = endOf(error, handler.wasConnected)
    const createsState = (end === 'reset' || end === 'timeout') && !handler.attempt.isConcluded && this.outgoing.createsState()
    if (end === 'reset' && this.repeats < MOST_REPEATS && isClosedConnection(error) && handler.hadServed(error)) {
      if (!createsState && this.outgoing.body.replayable) return this.context.pool.repeat(handler.attempt, this.system.now())
      // It cannot be made once more, and yet is no backend's fault.
      this.settle(handler, 'stale')
    } else this.settle(handler, end)
    return createsState ? this.context.pool.surface(this, 'creates-state') : this.#acquireNext()
  }

  /** An interceptor further in has made an error of an answer. It means what it would have meant, and the caller gets the error for it. */
  #takeErrorAnswer(handler: AttemptResponse, { status, headers }: ErrorAnswer): Acquisition | undefined {
    const { pool } = this.context
    const { attempt } = handler
    const now = this.system.now()
    const outcome = pool.headers(attempt, status, headers, now)
    if (outcome === 'misconfigured') handler.refuseCredential()
    pool.conclude(attempt, outcome, now)
    const next = isDelivered(outcome) ? undefined : outcome === 'failed' && this.outgoing.createsState() ? pool.surface(this, 'creates-state') : this.#acquireNext()
    if (next === undefined) pool.deliver(attempt)
    this.settle(handler, 'completed')
    return next
  }

  #acquireNext(): Acquisition {
    const { pool } = this.context
    const { body } = this.outgoing
    const next = body.replayable || this.pinned ? pool.acquire(this, this.system.now()) : pool.surface(this, 'not-replayable')
    // The attempt before may be uploading still. While the next one waits for its turn or its credential, the body must not outgrow what can
    // be kept. Where none follows, the answer is the caller's, and the upload goes on.
    if (next.kind === 'send' || next.kind === 'wait') body.rewind()
    return next
  }

  /** The pool: the turn of this waiting request has come, or its wait is over. */
  wake(): void {
    if (this.ended) return
    try {
      const acquisition = this.context.pool.acquire(this, this.system.now())
      if (acquisition.kind === 'closed') this.#lastError = undefined
      this.#proceed(acquisition)
    } catch (error) {
      // Another request's callback is below us on the stack: what this caller's handler throws is not its to catch.
      queueMicrotask(() => { throw error })
    }
  }

  abort(reason: Error): void {
    if (this.ended) return
    this.#aborted = true
    if (this.#current?.isHeldUnderWay === true) this.context.warnOnce(HELD_TOO_LONG)
    if (this.#current === undefined) this.context.pool.leave(this, this.system.now())
    else this.#current.cancel(reason)
    this.fail(reason)
  }

  /** `deadlineMs` is over. One that waits is woken by the pool. */
  #expire(deadlineMs: number): void {
    if (this.#current !== undefined) this.#current.expire(makeDeadlineError(deadlineMs))
    else if (this.attempts === 0 && this.waitingSince === undefined) this.fail(makeDeadlineError(deadlineMs)) // its body is being read
  }

  /** The best that there is: this error, else the last answer. */
  #surface(error: Error | undefined): void {
    if (error === undefined && this.#lastAnswer?.isWhole === true) this.answer(this.#lastAnswer)
    else this.fail(error ?? new errors.HeadersTimeoutError('No backend was available while the request waited, and the last answer was too long to be kept.'))
  }
}
