/** One request of the caller on its way through the backends. The caller's handler sees one request, whatever happens behind it. */
import type { Duplex } from 'node:stream'
import { findDeployment, type ModelSpan } from '../core/scope.js'
import type { Acquisition, Attempt, AttemptEnd, OutcomeClass, PoolRequest, System } from '../core/types.js'
import { BalancerClosedError } from '../errors.js'
import type { ActiveRequest } from './active-requests.js'
import { AttemptHandler, type AttemptOwner } from './attempt-handler.js'
import { adaptCaller, type CallerHandler } from './caller-handler.js'
import { CurrentAttemptHandler } from './current-attempt-handler.js'
import { endOf, isCallersFault, toError } from './failure.js'
import type { AnyHandler, AnyHeaders, DispatchOptions, ParsedHeaders } from './handlers.js'
import { readModel, rewriteModel, toMockBody } from './outgoing-body.js'
import { errors } from './peer.js'
import { Progress } from './progress.js'
import type { Inner, RequestContext } from './request-context.js'
import { flattenHeaders, hasRepeatedContentLength, readContentLength } from './request-headers.js'
import { rewriteRequest, type Destination, type Original } from './request-rewrite.js'
import { ReplayableBody } from './replayable-body.js'
import { readResponseLength } from './response-headers.js'
import { StableController, type ControllerOwner } from './stable-controller.js'
import { SyntheticResponse } from './synthetic-response.js'
import { isStateful } from './url-match.js'

export class BalancedRequest implements PoolRequest, ActiveRequest, AttemptOwner, ControllerOwner {
  // Of PoolRequest: what the pool goes by, and its own notes.
  scope = ''
  bodyBytes = 0
  readonly pinned: boolean
  attempts = 0
  tried: unknown[] | undefined
  lastOutcome: OutcomeClass | undefined
  waitingSince = NaN

  slot = -1
  readonly progress: Progress
  readonly #context: RequestContext
  readonly #inner: Inner
  readonly #original: Original
  readonly #caller: CallerHandler
  readonly #controller: StableController
  readonly #body: ReplayableBody
  #model: ModelSpan | undefined
  /** The attempt that is awaited, or whose response the caller is getting. */
  #current: AttemptHandler | undefined
  #lastError: Error | undefined
  #ended = false

  /** @param rest path and query after the request's own base */
  constructor(context: RequestContext, inner: Inner, opts: DispatchOptions, rest: string, handler: AnyHandler) {
    const headers = flattenHeaders(opts.headers)
    this.#context = context
    this.#inner = inner
    this.#original = { opts, rest, headers }
    this.pinned = isStateful(rest)
    this.#caller = adaptCaller(handler)
    this.#controller = new StableController(this)
    this.progress = new Progress(handler)
    this.#body = ReplayableBody.of(opts.body, readContentLength(headers), context.maxReplayBytes)
  }

  get callerHandler(): AnyHandler {
    return this.#caller.handler
  }

  get system(): System {
    return this.#context.system
  }

  get paused(): boolean {
    return this.#controller.paused
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
    if (this.#ended || !this.#body.wantsCollecting) return this.#begin()
    this.#body.collect().then(() => this.#begin(), (error: unknown) => { this.#fail(toError(error)) })
    return true
  }

  #begin(): boolean {
    if (this.#ended) return true
    this.bodyBytes = this.#body.byteLength
    const deployment = findDeployment(this.#original.rest)
    if (deployment === undefined) this.#model = readModel(this.#body)
    this.scope = deployment ?? this.#model?.name ?? ''
    return this.#proceed(this.#context.pool.acquire(this, this.system.now()))
  }

  /** Does what the pool has decided. */
  #proceed(acquisition: Acquisition<Destination>): boolean {
    switch (acquisition.kind) {
      case 'send': return this.#send(acquisition)
      case 'wait': return true
      case 'reject': this.#answerThrottled(acquisition.retryAfterMs); return true
      case 'closed': this.#fail(new BalancerClosedError()); return true
      // Answers are surfaced where they arrive; what is left is an error.
      case 'surface': this.#fail(this.#lastError ?? new errors.UndiciError('No backend could be tried.')); return true
    }
  }

  #send(attempt: Attempt<Destination>): boolean {
    const { attemptTimeoutMs } = this.#context
    const handler = this.#inner.takesLegacy ? new AttemptHandler(this, attempt) : new CurrentAttemptHandler(this, attempt)
    this.#current = handler
    if (attemptTimeoutMs !== undefined) handler.failAfter(attemptTimeoutMs)
    let credential: string | Promise<string> | undefined
    try {
      credential = attempt.backend.credential?.resolve()
    } catch (error) {
      handler.cancel(toError(error))
      return true
    }
    if (typeof credential !== 'object') return this.#dispatch(handler, credential)
    credential.then(
      (value) => { if (handler.phase === 'waiting') this.#dispatch(handler, value) },
      (error: unknown) => { handler.cancel(toError(error)) },
    )
    return true
  }

  #dispatch(handler: AttemptHandler, credential: string | undefined): boolean {
    const { backend } = handler.attempt
    const { headers } = this.#original
    const rewritten = this.#model === undefined ? undefined : rewriteModel(this.#body, this.#model, backend)
    const body = rewritten ?? this.#body.open()
    const contentLength = rewritten?.byteLength ?? (hasRepeatedContentLength(headers) ? readContentLength(headers) : undefined)
    try {
      const sent = this.#inner.isMockActive ? toMockBody(body) : body
      return this.#inner.dispatch(rewriteRequest(this.#original, backend, credential, sent, contentLength), handler)
    } catch (error) {
      handler.onError(toError(error))
      return true
    }
  }

  // What an attempt reports.

  onInformation(_handler: AttemptHandler, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void {
    this.#caller.headers(this.#controller, status, raw, parsed, message)
  }

  onResponse(handler: AttemptHandler, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void {
    const { pool } = this.#context
    const now = this.system.now()
    const outcome = pool.headers(handler.attempt, status, parsed ?? raw, now)
    if (outcome !== 'success' && outcome !== 'answered' && this.#movable) {
      const next = pool.acquire(this, now)
      if (next.kind !== 'surface' && next.kind !== 'closed') {
        this.#current = undefined
        handler.swallow(readResponseLength(parsed ?? raw))
        this.#proceed(next)
        return
      }
    }
    // The commit point: from here on nothing is retried.
    handler.commit()
    this.#body.release()
    this.#controller.attach(handler)
    this.#caller.headers(this.#controller, status, raw, parsed, message)
  }

  onData(chunk: Buffer): void {
    this.#caller.data(this.#controller, chunk)
  }

  onEnd(handler: AttemptHandler, raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void {
    this.settle(handler, 'completed')
    // Not ended yet: what the caller's handler throws here comes back as this request's failure.
    this.#caller.end(this.#controller, raw, parsed)
    this.#end()
  }

  onUpgrade(handler: AttemptHandler, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, socket: Duplex): unknown {
    this.#context.pool.headers(handler.attempt, status, parsed ?? raw, this.system.now())
    socket.once('close', () => { this.settle(handler, 'completed') })
    this.#body.release()
    this.#end()
    return this.#caller.upgrade(this.#controller, status, raw, parsed, socket)
  }

  onFailure(handler: AttemptHandler, error: Error, wasLive: boolean): void {
    if (this.#controller.aborted || this.#body.error !== undefined || isCallersFault(error)) {
      this.settle(handler, 'aborted')
      this.#fail(error)
      return
    }
    this.settle(handler, wasLive ? 'broken' : endOf(error))
    if (wasLive || !this.#movable) {
      this.#fail(error)
      return
    }
    this.#lastError = error
    this.#current = undefined
    this.#proceed(this.#context.pool.acquire(this, this.system.now()))
  }

  settle(handler: AttemptHandler, end: AttemptEnd): void {
    this.#context.pool.settle(handler.attempt, end, this.system.now())
  }

  // What the pool and the caller say.

  /** The pool: the turn of this waiting request has come, or its wait is over. */
  wake(): void {
    if (this.#ended) return
    try {
      this.#proceed(this.#context.pool.acquire(this, this.system.now()))
    } catch (error) {
      // Somebody else's callback is below us on the stack: what this caller's handler throws is not theirs to catch.
      queueMicrotask(() => { throw error })
    }
  }

  /** The caller, or the balancer that is being destroyed. */
  abort(reason: Error): void {
    if (this.#ended) return
    if (this.#current === undefined) this.#context.pool.leave(this, this.system.now())
    else this.#current.cancel(reason)
    this.#fail(reason)
  }

  abortError(): Error {
    return new errors.RequestAbortedError()
  }

  // Ends.

  get #movable(): boolean {
    return !this.pinned && this.#body.replayable
  }

  #answerThrottled(retryAfterMs: number): void {
    const response = new SyntheticResponse(this.#caller, this.#controller, retryAfterMs)
    this.#body.discard(undefined)
    // Never before `dispatch` has returned: no real answer comes that early.
    queueMicrotask(() => {
      if (!this.#ended) response.start(() => { this.#end() }, (error) => { this.#fail(error) })
    })
  }

  #fail(error: Error): void {
    if (this.#ended) return
    this.#body.discard(error)
    this.#end()
    this.#caller.error(this.#controller, error)
  }

  #end(): void {
    if (this.#ended) return
    this.#ended = true
    const { requests } = this.#context
    requests.remove(this)
    if (requests.size === 0) this.#context.onIdle()
  }
}
