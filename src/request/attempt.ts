/**
 * One attempt on one backend: what undici is given for it, how it is sent, and what comes back. Fresh for every attempt, so that
 * nothing a dead one still says can reach the caller.
 *
 *   waiting ──response is the caller's──▶ live ──────────────▶ over
 *      │ └────response is not wanted────▶ draining ──────────▶ over
 *      └──────failed, given up, upgraded─────────────────────▶ over
 */
import type { Duplex } from 'node:stream'
import { HeaderReader, readNumber } from '../core/headers.js'
import type { Attempt } from '../core/request.js'
import type { AttemptEnd, System, Timer } from '../core/types.js'
import type { Progress, Steered } from './caller.js'
import { awaitCredential, FairTimer } from './clock.js'
import { toError } from './failure.js'
import type { KeptAnswer } from './own-answers.js'
import type { OutgoingRequest } from './rewrite.js'
import { errors, type AnyHandler, type AnyHeaders, type Controller, type Inner, type LegacyHandler, type ModernHandler, type ParsedHeaders, type RawHeaders } from './undici.js'

/**
 * A swallowed response is read up to here, so that its connection can be used again. Error bodies are a few hundred
 * bytes; what is longer than 64 KiB costs more to read than a new connection does.
 */
const DRAIN_BYTES = 65_536

/** And for so long: a body that stalls must not hold a connection until undici's own body timeout (300 s). */
const DRAIN_MS = 1_000

/** What attempts report to: the request that they belong to. */
export interface AttemptOwner {
  /** The caller's handler as it was given: its optional callbacks are mirrored only where it has them. */
  readonly callerHandler: AnyHandler
  readonly progress: Progress
  readonly system: System
  readonly attemptTimeoutMs: number | undefined
  /** The caller's wish, of the stable controller. */
  readonly paused: boolean
  onResponseStarted(): void
  onInformation(handler: AttemptHandler, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void
  onResponse(handler: AttemptHandler, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void
  onData(chunk: Buffer): void
  onEnd(handler: AttemptHandler, raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void
  onUpgrade(handler: AttemptHandler, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, socket: Duplex): unknown
  onFailure(handler: AttemptHandler, error: Error, blame: Blame): void
  settle(handler: AttemptHandler, end: AttemptEnd): void
}

/** Whose failure it is: `response` means that a response, which was the caller's already, broke off. */
export type Blame = 'backend' | 'response' | 'caller'
export type AttemptPhase = 'waiting' | 'live' | 'draining' | 'over'
const lengthReader = new HeaderReader(['content-length'])

/** Speaks the legacy style: undici 7 takes it as it is, without converting headers back and forth. */
export class AttemptHandler implements LegacyHandler, Steered {
  readonly attempt: Attempt
  /** Bytes of the request body that undici has reported as sent, where the caller wants to know. */
  bytesSent = 0
  phase: AttemptPhase = 'waiting'
  /** undici has put the request on a connection. */
  wasConnected = false
  /** It did so as soon as it was given it: the connection was there, and had served before. */
  wasReused = false
  // Not there at all where the caller's handler has none: see the constructor.
  declare onBodySent?: (chunk: Uint8Array | string) => void
  declare onRequestSent?: () => void

  protected readonly owner: AttemptOwner
  #abort: ((reason?: Error) => void) | undefined
  #resume: (() => void) | undefined
  #cancelled: Error | undefined
  #drained = 0
  #kept: KeptAnswer | undefined
  #timer: Timer | undefined
  #credential: string | undefined
  /** Stays set when the caller's callback throws: undici makes a failure of that, which is no backend's. */
  #inCallback = false

  constructor(owner: AttemptOwner, attempt: Attempt) {
    this.owner = owner
    this.attempt = attempt
    // Assigned, not inherited: with these present an undici mock reads the request body, without them it does not.
    const caller = owner.callerHandler
    if (caller.onBodySent !== undefined) this.onBodySent = (chunk) => { this.#tell(() => { owner.progress.bodySent(this, chunk) }) }
    if (caller.onRequestSent !== undefined) this.onRequestSent = () => { this.#tell(() => { owner.progress.requestSent() }) }
  }

  /**
   * Sends the attempt, with the backend's credential, which may have to be fetched first. All that goes wrong is told as a
   * failure of the attempt. @returns what `dispatch` returns: false asks for no more requests until `drain`.
   */
  send(inner: Inner, request: OutgoingRequest): boolean {
    const { attempt, owner: { system } } = this
    const source = attempt.backend.credential
    let credential: string | Promise<string> | undefined
    try {
      credential = source?.resolve(attempt.startedAt)
    } catch (error) {
      this.cancel(toError(error))
      return true
    }
    if (typeof credential !== 'object') return this.#dispatch(inner, request, credential)
    attempt.askedAt = Infinity
    this.#timer = awaitCredential(system, source!, credential, attempt.startedAt, (value) => { // the promise is its own
      this.#timer = undefined
      attempt.askedAt = system.now()
      this.#dispatch(inner, request, value)
    }, (error) => { this.cancel(error) })
    return true
  }

  #dispatch(inner: Inner, request: OutgoingRequest, credential: string | undefined): boolean {
    // Given up while the credential was fetched.
    if (this.phase !== 'waiting') return true
    this.#credential = credential
    try {
      const mayGoOn = inner.dispatch(request.make(this.attempt.backend, credential, inner.isMockActive), this)
      this.wasReused = this.wasConnected
      return mayGoOn
    } catch (error) {
      // The dispatcher threw: it does not take the request as it is, and another backend would not help.
      this.#inCallback = true
      this.takeFailure(toError(error))
      return true
    }
  }

  /** The backend refused the credential that this attempt was sent with. */
  refuseCredential(): void {
    if (this.#credential !== undefined) this.attempt.backend.credential?.refuse(this.#credential)
  }

  onConnect(abort: (reason?: Error) => void): void {
    this.#abort = abort
    this.startClock()
    // Given up while it was still connecting: there was nothing to abort then.
    if (this.#cancelled !== undefined) abort(this.#cancelled)
  }

  onResponseStarted(): void {
    if (this.phase !== 'waiting' || this.owner.callerHandler.onResponseStarted === undefined) return
    this.#inCallback = true
    this.owner.onResponseStarted()
    this.#inCallback = false
  }

  onHeaders(status: number, headers: RawHeaders, resume: () => void, message?: string): boolean {
    this.#resume = resume
    this.takeHeaders(status, headers, undefined, message)
    return this.goesOn
  }

  onData(chunk: Buffer): boolean {
    this.takeData(chunk)
    return this.goesOn
  }

  onComplete(trailers: RawHeaders | null): void {
    this.takeEnd(trailers, undefined)
  }

  onUpgrade(status: number, headers: RawHeaders, socket: Duplex): unknown {
    return this.takeUpgrade(status, headers, undefined, socket)
  }

  onError(error: Error): void {
    this.takeFailure(error)
  }

  /** The caller pauses through what `onHeaders` and `onData` return. */
  pause(): void {}

  resume(): void {
    // Later on, undici would resume whatever else has come to be read on this connection.
    if (this.phase === 'live') this.resumeUpstream()
  }

  /** The response is the caller's from here on. */
  commit(): void {
    this.#timer?.cancel()
    this.phase = 'live'
  }

  /** The response is not wanted: read what little there is, so that the connection can be used again, and let go. @param kept gets it. */
  swallow(headers: AnyHeaders, kept?: KeptAnswer): void {
    this.#timer?.cancel()
    this.#kept = kept
    this.phase = 'draining'
    if (readNumber(lengthReader.read(headers)?.[0]) > DRAIN_BYTES) this.#letGo()
    else this.#timer = this.owner.system.setTimer(() => { this.#letGo() }, DRAIN_MS)
  }

  /** Ends the attempt from our side. The owner hears of it as of any failure, before this returns. */
  cancel(reason: Error): void {
    if (this.phase === 'over') return
    this.#cancelled = reason
    this.abortUpstream(reason)
    // Nothing to abort yet, or undici had nothing to say to it.
    this.takeFailure(reason)
  }

  /**
   * undici begins to write the request on a connection: from here on it is the backend that is waited for, and no connection or
   * credential. Once only, since what undici sends again by itself (a refused stream of HTTP/2) is still this attempt.
   */
  protected startClock(): void {
    this.wasConnected = true
    const { attemptTimeoutMs, system } = this.owner
    if (attemptTimeoutMs === undefined || this.#timer !== undefined || this.phase !== 'waiting') return
    this.#timer = new FairTimer(system, () => {
      const backend = JSON.stringify(this.attempt.backend.name)
      this.cancel(new errors.HeadersTimeoutError(`Backend ${backend} sent no response headers within attemptTimeoutMs (${attemptTimeoutMs} ms).`))
    }, attemptTimeoutMs)
  }

  protected resumeUpstream(): void {
    this.#resume?.()
  }

  protected abortUpstream(reason: Error): void {
    this.#abort?.(reason)
  }

  protected get cancelled(): Error | undefined {
    return this.#cancelled
  }

  protected takeHeaders(status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void {
    if (this.phase !== 'waiting') return
    this.#inCallback = true
    if (status < 200) this.owner.onInformation(this, status, raw, parsed, message)
    else this.owner.onResponse(this, status, raw, parsed, message)
    this.#inCallback = false
  }

  protected takeData(chunk: Buffer): void {
    if (this.phase === 'live') {
      this.#inCallback = true
      this.owner.onData(chunk)
      this.#inCallback = false
    } else if (this.phase === 'draining') {
      this.#kept?.add(chunk)
      if ((this.#drained += chunk.byteLength) > DRAIN_BYTES) this.#letGo()
    }
  }

  protected takeEnd(raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void {
    if (this.phase === 'live') {
      this.#inCallback = true
      // Over only afterwards: undici's retry handler throws here on purpose, and expects the error that follows.
      this.owner.onEnd(this, raw, parsed)
      this.phase = 'over'
    } else if (this.phase === 'draining') {
      this.#kept?.end()
      this.#endDrain()
    }
  }

  protected takeUpgrade(status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, socket: Duplex): unknown {
    if (this.phase !== 'waiting') {
      socket.destroy()
      return undefined
    }
    this.commit()
    this.#inCallback = true
    const result = this.owner.onUpgrade(this, status, raw, parsed, socket)
    this.phase = 'over'
    return result
  }

  protected takeFailure(error: Error): void {
    if (this.phase === 'over') return
    if (this.phase === 'draining') return this.#endDrain()
    this.#timer?.cancel()
    const blame = this.#inCallback ? 'caller' : this.phase === 'live' ? 'response' : 'backend'
    this.phase = 'over'
    this.owner.onFailure(this, error, blame)
  }

  #tell(callback: () => void): void {
    if (this.phase === 'over') return
    this.#inCallback = true
    callback()
    this.#inCallback = false
  }

  /** What a legacy handler returns: `false` pauses. */
  private get goesOn(): boolean {
    return this.phase !== 'live' || !this.owner.paused
  }

  #endDrain(): void {
    this.#timer?.cancel()
    this.phase = 'over'
    this.owner.settle(this, 'completed')
  }

  #letGo(): void {
    this.#endDrain()
    // Not from inside undici's own callback: an abort calls back at once, while undici is still busy with this very response.
    queueMicrotask(() => { this.abortUpstream(new Error('The rest of a response that no one waits for is not read.')) })
  }
}

/** Speaks the style that undici 8 wants, with the legacy one beside it for a dispatcher of unknown version. */
export class ModernAttemptHandler extends AttemptHandler implements ModernHandler {
  #controller: Controller | undefined

  onRequestStart(controller: Controller): void {
    // Over HTTP/2 undici starts a refused stream again: the newer controller is the one that works.
    this.#controller = controller
    this.startClock()
    if (this.cancelled !== undefined) controller.abort(this.cancelled)
  }

  onResponseStart(controller: Controller, status: number, headers: ParsedHeaders, message?: string): void {
    this.#controller ??= controller
    this.takeHeaders(status, controller.rawHeaders ?? headers, headers, message)
  }

  onResponseData(_controller: Controller, chunk: Buffer): void {
    this.takeData(chunk)
  }

  onResponseEnd(controller: Controller, trailers: ParsedHeaders): void {
    this.takeEnd(controller.rawTrailers ?? trailers, trailers)
  }

  onRequestUpgrade(controller: Controller, status: number, headers: ParsedHeaders, socket: Duplex): unknown {
    return this.takeUpgrade(status, controller.rawHeaders ?? headers, headers, socket)
  }

  onResponseError(_controller: Controller, error: Error): void {
    this.takeFailure(error)
  }

  override pause(): void {
    this.#controller?.pause()
  }

  protected override resumeUpstream(): void {
    // A dispatcher of undici 6 calls the legacy callbacks even here.
    if (this.#controller === undefined) super.resumeUpstream()
    else this.#controller.resume()
  }

  protected override abortUpstream(reason: Error): void {
    if (this.#controller === undefined) super.abortUpstream(reason)
    else this.#controller.abort(reason)
  }
}
