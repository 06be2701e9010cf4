/**
 * The caller's half of a request: one exchange with one server, as far as the caller can see. It is told of one response, or one
 * error, and once; what is behind it is in `request.ts`.
 */
import { PoolRequest } from '../core/request.js'
import type { Pool } from '../core/pool.js'
import type { AttemptEnd, PathKind, System } from '../core/types.js'
import type { ActiveRequests } from './active-requests.js'
import { adaptCaller, Progress, StableController, type Caller } from './caller.js'
import { isSdkRetry, readSdkPatienceMs, type FairTimer } from './clock.js'
import { hashCredential } from './headers.js'
import type { StreamOptions } from './look/look.js'
import { SyntheticResponse, type Answer } from './own-answers.js'
import type { AttemptResponse } from './response.js'
import { OutgoingRequest, type ModelContext, type OutgoingOptions } from './rewrite.js'
import type { Route } from './route.js'
import type { AnyHandler, AnyHeaders, DispatchOptions, ParsedHeaders } from './undici.js'

/** What a request is given by the balancer that it came to. */
export interface RequestContext extends ModelContext {
  readonly pool: Pool
  readonly system: System
  readonly current: OutgoingOptions & ModelContext['current'] & StreamOptions & { readonly deadlineMs: number | undefined }
  /** Those under way. */
  readonly requests: ActiveRequests<Exchange>
  /** Called when `requests` has become empty; there only while that is waited for. */
  readonly onIdle: (() => void) | undefined
}

export abstract class Exchange extends PoolRequest {
  readonly pinned: boolean
  /** Its place among the active requests; -1 when it is not under way. */
  slot = -1
  readonly callerHandler: AnyHandler
  protected readonly context: RequestContext
  protected readonly outgoing: OutgoingRequest
  protected readonly caller: Caller
  protected readonly controller: StableController
  #callerKey: string | undefined
  /** Until the commit point, where there is one. */
  protected deadline: FairTimer | undefined
  protected startedAt = 0
  #progress: Progress | undefined
  #responseStarted = false
  protected ended = false

  constructor(context: RequestContext, opts: DispatchOptions, route: Route, handler: AnyHandler) {
    super()
    this.context = context
    this.outgoing = new OutgoingRequest(opts, route, context.current)
    this.maxWaitMs = this.outgoing.hints.maxWaitMs
    this.pinned = route.isStateful
    this.callerHandler = handler
    this.caller = adaptCaller(handler)
    this.controller = new StableController(this)
  }

  /** The caller, or the balancer that is being destroyed. */
  abstract abort(reason: Error): void

  get system(): System {
    return this.context.system
  }

  override get path(): PathKind {
    return this.outgoing.route.kind
  }

  override get isRepeat(): boolean {
    return isSdkRetry(this.outgoing.headers)
  }

  override get callerKey(): string {
    return (this.#callerKey ??= hashCredential(this.outgoing.callerCredential()))
  }

  get progress(): Progress {
    return (this.#progress ??= new Progress(this.callerHandler))
  }

  get attemptTimeoutMs(): number | undefined {
    return this.context.current.attemptTimeoutMs
  }

  /** It asks for what a model makes. */
  protected get isGenerating(): boolean {
    return this.outgoing.route.isGenerating && this.outgoing.opts.method === 'POST'
  }

  /** Another attempt could follow the one under way. */
  protected get canMove(): boolean {
    return this.outgoing.body.replayable && this.context.pool.canMove(this)
  }

  protected settle(handler: AttemptResponse, end: AttemptEnd): void {
    this.context.pool.settle(handler.attempt, end, this.timeOf(handler))
  }

  /**
   * Of what comes within the turn of the headers it is the time of the headers: two looks at the clock less, and 40 to 80 of 1,080 ns
   * (`npm run bench -- --part pure`, one backend).
   */
  protected timeOf({ isFresh, attempt }: AttemptResponse): number {
    return isFresh ? attempt.askedAt + attempt.latencyMs : this.system.now()
  }

  protected get streamOptions(): StreamOptions {
    const { current } = this.context
    return this.outgoing.hints.stream === 'whole' ? { ...current, streamGuard: 'whole' } : current
  }

  get paused(): boolean {
    return this.controller.paused
  }

  override get endsAt(): number {
    return this.deadline?.dueAt ?? Infinity
  }

  override get deadlineAt(): number {
    return Math.min(this.endsAt, this.startedAt + readSdkPatienceMs(this.outgoing.headers))
  }

  onResponseStarted(): void {
    if (!this.#responseStarted) this.callerHandler.onResponseStarted?.()
    this.#responseStarted = true
  }

  onInformation(_handler: AttemptResponse, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void {
    this.#responseStarted = false // undici tells of every message that begins
    this.caller.headers(this.controller, status, raw, parsed, message)
  }

  onData(chunk: Buffer): void {
    this.caller.data(this.controller, chunk)
  }

  protected answer(answer: Answer): void {
    const { opts, body } = this.outgoing
    this.endDeadline()
    const response = new SyntheticResponse(this.caller, this.controller, answer, opts.method !== 'HEAD')
    body.discard()
    // Never before `dispatch` has returned: no real answer comes that early.
    queueMicrotask(() => {
      if (!this.ended) response.start(() => { this.end([], {}) }, (error) => { this.fail(error) })
    })
  }

  protected endDeadline(): void {
    this.deadline?.cancel()
    this.deadline = undefined
  }

  protected fail(error: Error): void {
    if (this.ended) return
    this.leave()
    // In this order: undici's own functions destroy a stream with the error when they hear of it, and only they.
    try { this.caller.error(this.controller, error) } finally { this.outgoing.body.discard() }
  }

  /** Over before the caller is told, so that an abort comes too late, as it does with undici. Where its handler throws, a failure follows. */
  protected end(raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void {
    this.leave()
    try {
      this.caller.end(this.controller, raw, parsed)
    } catch (error) {
      this.ended = false
      throw error
    }
  }

  protected leave(): void {
    this.ended = true
    this.endDeadline()
    this.controller.detach()
    const { requests } = this.context
    requests.remove(this)
    if (requests.size === 0) this.context.onIdle?.()
  }
}
