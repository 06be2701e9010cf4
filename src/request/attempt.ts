/**
 * One attempt on one backend: what undici is given for it, and how it is sent. Fresh for every attempt; what comes back is in
 * `response.ts`.
 */
import type { Duplex } from 'node:stream'
import type { Attempt } from '../core/request.js'
import { awaitCredential, FairTimer } from './clock.js'
import { toError, wasServedBefore } from './failure.js'
import { AttemptResponse, type AttemptOwner } from './response.js'
import type { OutgoingRequest } from './rewrite.js'
import { errors, type Inner, type LegacyHandler, type RawHeaders } from './undici.js'

/** Speaks the legacy style: undici 7 takes it as it is, without converting headers back and forth. */
export class AttemptHandler extends AttemptResponse implements LegacyHandler {
  /** Bytes of the request body that undici has reported as sent, where the caller wants to know. */
  bytesSent = 0
  override wasConnected = false
  // Not there at all where the caller's handler has none: see the constructor.
  declare onBodySent?: (chunk: Uint8Array | string) => void
  declare onRequestSent?: () => void
  #inner: Inner | undefined
  /** The connection was made for this attempt. */
  #isNew = false
  #abort: ((reason?: Error) => void) | undefined
  #resume: (() => void) | undefined
  #credential: string | undefined

  constructor(owner: AttemptOwner, attempt: Attempt) {
    super(owner, attempt)
    // Assigned, not inherited: with these present an undici mock reads the request body, without them it does not.
    const caller = owner.callerHandler
    if (caller.onBodySent !== undefined) this.onBodySent = (chunk) => { this.tell(() => { owner.progress.bodySent(this, chunk) }) }
    if (caller.onRequestSent !== undefined) this.onRequestSent = () => { this.tell(() => { owner.progress.requestSent() }) }
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
    this.timer = awaitCredential(system, source!, credential, attempt.startedAt, (value) => { // the promise is its own
      this.timer = undefined
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
      this.#inner = inner
      return inner.dispatch(request.make(this.attempt.backend, credential, inner.isMockActive), this)
    } catch (error) {
      // The dispatcher threw: it does not take the request as it is, and another backend would not help.
      this.inCallback = true
      this.takeFailure(toError(error))
      return true
    }
  }

  override refuseCredential(): void {
    if (this.#credential !== undefined) this.attempt.backend.credential?.refuse(this.#credential)
  }

  onConnect(abort: (reason?: Error) => void): void {
    this.#abort = abort
    this.connected()
    // Given up while it was still connecting: there was nothing to abort then.
    if (this.cancelled !== undefined) abort(this.cancelled)
  }

  onResponseStarted(): void {
    if (this.phase !== 'waiting' || this.owner.callerHandler.onResponseStarted === undefined) return
    this.inCallback = true
    this.owner.onResponseStarted()
    this.inCallback = false
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
  override pause(): void {}

  override hadServed(error: Error): boolean {
    if (this.attempt.status > 0) return false
    const isKnown = this.#inner?.tellsConnections?.(this.attempt.backend.origin) === true
    return isKnown ? this.wasConnected && !this.#isNew : wasServedBefore(error)
  }

  /**
   * undici begins to write the request on a connection: from here on it is the backend that is waited for, and no connection or
   * credential. Once only, since what undici sends again by itself (a refused stream of HTTP/2) is still this attempt.
   */
  protected connected(): void {
    this.wasConnected = true
    this.#isNew = this.#inner?.justConnected === this.attempt.backend.origin
    const { attemptTimeoutMs, system } = this.owner
    if (attemptTimeoutMs === undefined || this.timer !== undefined || this.phase !== 'waiting') return
    this.timer = new FairTimer(system, () => {
      const backend = JSON.stringify(this.attempt.backend.name)
      const what = this.phase === 'undecided' ? 'output' : 'response headers'
      this.cancel(new errors.HeadersTimeoutError(`Backend ${backend} sent no ${what} within attemptTimeoutMs (${attemptTimeoutMs} ms).`))
    }, attemptTimeoutMs)
  }

  protected override resumeUpstream(): void {
    this.#resume?.()
  }

  protected override abortUpstream(reason: Error): void {
    this.#abort?.(reason)
  }
}
