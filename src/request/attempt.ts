/**
 * One attempt on one backend: what undici is given for it, how it is sent, and what comes back. Fresh for every attempt, so that
 * nothing a dead one still says can reach the caller.
 *
 *   waiting ──▶ undecided ──response is the caller's──▶ live ─────▶ over
 *      │ └──────────│ └───────response is not wanted──▶ draining ─▶ over
 *      └────────────┴──failed, given up, upgraded─────────────────▶ over
 *
 * Undecided is a response that is looked into: what comes of it is held, and from its commit point on the caller's.
 */
import type { Duplex } from 'node:stream'
import { HeaderReader, readNumber } from '../core/headers.js'
import type { Attempt } from '../core/request.js'
import type { System, Timer } from '../core/types.js'
import type { Progress, Steered } from './caller.js'
import { awaitCredential, FairTimer } from './clock.js'
import { toError, wasServedBefore } from './failure.js'
import type { Look, Verdict } from './look/verdict.js'
import type { KeptAnswer } from './own-answers.js'
import type { OutgoingRequest } from './rewrite.js'
import { errors, type AnyHandler, type AnyHeaders, type Inner, type LegacyHandler, type ParsedHeaders, type RawHeaders } from './undici.js'

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
  /** What was looked for is found. */
  onVerdict(handler: AttemptHandler, verdict: Verdict): void
  /** The first byte of the caller's response, or its end where there is none. */
  onProof(handler: AttemptHandler): void
  onData(chunk: Buffer): void
  onEnd(handler: AttemptHandler, raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void
  onUpgrade(handler: AttemptHandler, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, socket: Duplex): unknown
  onFailure(handler: AttemptHandler, error: Error, blame: Blame): void
  /** A response that was not delivered has come to its end, or is not read any further. @param kept what was read of it, where that was asked for */
  onDrained(handler: AttemptHandler, kept: KeptAnswer | undefined): void
}

/** Whose failure it is: `response` means that a response, which was the caller's already, broke off. */
export type Blame = 'backend' | 'response' | 'caller'
export type AttemptPhase = 'waiting' | 'undecided' | 'live' | 'draining' | 'over'

interface Trailers {
  readonly raw: AnyHeaders | null | undefined
  readonly parsed: ParsedHeaders | undefined
}

const lengthReader = new HeaderReader(['content-length'])

/** Speaks the legacy style: undici 7 takes it as it is, without converting headers back and forth. */
export class AttemptHandler implements LegacyHandler, Steered {
  readonly attempt: Attempt
  /** Bytes of the request body that undici has reported as sent, where the caller wants to know. */
  bytesSent = 0
  phase: AttemptPhase = 'waiting'
  /** undici has put the request on a connection. */
  wasConnected = false
  // Not there at all where the caller's handler has none: see the constructor.
  declare onBodySent?: (chunk: Uint8Array | string) => void
  declare onRequestSent?: () => void

  protected readonly owner: AttemptOwner
  #inner: Inner | undefined
  /** The connection was made for this attempt. */
  #isNew = false
  #abort: ((reason?: Error) => void) | undefined
  #resume: (() => void) | undefined
  #cancelled: Error | undefined
  #drained = 0
  /** Of a response that is not live, what came of it, where that is wanted; of one that is, what the caller has not taken yet. */
  #kept: KeptAnswer | undefined
  #look: Look | undefined
  #lookTimer: Timer | undefined
  #trailers: Trailers | undefined
  #isFlushing = false
  /** The response is good for something: its first byte is here. */
  #isProven = false
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
      this.#inner = inner
      return inner.dispatch(request.make(this.attempt.backend, credential, inner.isMockActive), this)
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
    this.connected()
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
    if (this.phase !== 'live') return
    if (this.#kept === undefined) this.resumeUpstream()
    else this.#outside(() => { this.release() })
  }

  /** What was held of the response; undefined where nothing was. */
  get held(): KeptAnswer | undefined {
    return this.#kept
  }

  /** An answer is coming in, and the caller sees nothing of it yet. */
  get isHeldUnderWay(): boolean {
    return this.phase === 'undecided' && this.#look?.isUnderWay === true
  }

  /** Nothing of the response reaches the caller until the look has found something. */
  hold(answer: KeptAnswer, look: Look): void {
    // A listener to the pool's events has ended the request meanwhile.
    if (this.phase !== 'waiting') return
    this.phase = 'undecided'
    this.#kept = answer
    this.#look = look
    // It has a time of its own, and is an answer by then: `attemptTimeoutMs` is for those that are not yet.
    if (look.isUnderWay === undefined) this.#timer?.cancel()
    this.#arm(look.waitMs)
  }

  #arm(waitMs: number | undefined): void {
    this.#lookTimer?.cancel()
    this.#lookTimer = waitMs === undefined ? undefined : this.owner.system.setTimer(() => {
      const look = this.#look
      if (this.phase === 'undecided' && look !== undefined) this.#outside(() => { this.#conclude(look.expire()) })
    }, waitMs)
  }

  /** The response is the caller's from here on. @param isProven its outcome is known already. */
  commit(isProven = false): void {
    this.#endLook()
    this.phase = 'live'
    this.#isProven = isProven
  }

  /** What was held goes first, as fast as the caller takes it. */
  release(): void {
    const kept = this.#kept
    if (kept === undefined || this.#isFlushing || this.phase !== 'live') return
    this.#isFlushing = true
    try {
      while (kept.chunks.length > 0 && !this.owner.paused && this.#isLive) this.#deliver(kept.chunks.shift()!) // there is one
    } finally {
      this.#isFlushing = false
    }
    // A caller that has paused at the last one wants neither what comes next nor the end.
    if (kept.chunks.length > 0 || this.owner.paused || !this.#isLive) return
    this.#kept = undefined
    if (this.#trailers !== undefined) this.#finish(this.#trailers.raw, this.#trailers.parsed)
    // It may have paused in between, and undici with it.
    else this.resumeUpstream()
  }

  /** A caller's callback may have ended it meanwhile. */
  get #isLive(): boolean {
    return this.phase === 'live'
  }

  #endLook(): void {
    this.#timer?.cancel()
    this.#lookTimer?.cancel()
    this.#look?.dispose?.()
    this.#look = undefined
  }

  /** Where undici is not below us on the stack, it makes no failure of what the caller's callback throws. */
  #outside(act: () => void): void {
    try {
      act()
    } catch (error) {
      this.#inCallback = true
      this.cancel(toError(error))
    }
  }

  /** The response is not wanted: read what little there is, so that the connection can be used again, and let go. @param kept gets it. */
  swallow(headers: AnyHeaders, kept?: KeptAnswer): void {
    this.#endLook()
    this.#kept = kept
    this.phase = 'draining'
    if (this.#trailers !== undefined) this.#endDrain()
    else if (readNumber(lengthReader.read(headers)?.[0]) > DRAIN_BYTES) this.#letGo()
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

  /** Whether the connection that broke was there already when the attempt was put on it. */
  hadServed(error: Error): boolean {
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
    if (attemptTimeoutMs === undefined || this.#timer !== undefined || this.phase !== 'waiting') return
    this.#timer = new FairTimer(system, () => {
      const backend = JSON.stringify(this.attempt.backend.name)
      const what = this.phase === 'undecided' ? 'output' : 'response headers'
      this.cancel(new errors.HeadersTimeoutError(`Backend ${backend} sent no ${what} within attemptTimeoutMs (${attemptTimeoutMs} ms).`))
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
      if (this.#kept === undefined) this.#deliver(chunk)
      else this.#kept.add(chunk)
    } else if (this.phase === 'undecided') {
      this.#kept?.add(chunk)
      this.#lookAt(chunk)
    } else if (this.phase === 'draining') {
      this.#kept?.add(chunk)
      if ((this.#drained += chunk.byteLength) > DRAIN_BYTES) this.#letGo()
    }
  }

  protected takeEnd(raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void {
    if (this.phase === 'live') {
      if (this.#kept === undefined) this.#finish(raw, parsed)
      else this.#trailers = { raw, parsed }
    } else if (this.phase === 'undecided') {
      this.#trailers = { raw, parsed }
      this.#kept?.end()
      if (this.#look !== undefined) this.#conclude(this.#look.end())
    } else if (this.phase === 'draining') {
      this.#kept?.end()
      this.#endDrain()
    }
  }

  #deliver(chunk: Buffer): void {
    this.#prove()
    this.#inCallback = true
    this.owner.onData(chunk)
    this.#inCallback = false
  }

  #finish(raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void {
    this.#prove()
    this.#inCallback = true
    // Over only afterwards: undici's retry handler throws here on purpose, and expects the error that follows.
    this.owner.onEnd(this, raw, parsed)
    this.phase = 'over'
  }

  #prove(): void {
    if (this.#isProven) return
    this.#isProven = true
    this.owner.onProof(this)
  }

  #lookAt(chunk: Buffer): void {
    const look = this.#look
    if (look === undefined) return
    const { waitMs, stage } = look
    const verdict = look.write(chunk)
    if (verdict !== undefined) return this.#conclude(verdict)
    if (look.isUnderWay === true) this.#timer?.cancel()
    if (look.restarts === true || look.waitMs !== waitMs || look.stage !== stage) this.#arm(look.waitMs)
  }

  #conclude(verdict: Verdict): void {
    this.#inCallback = true
    this.owner.onVerdict(this, verdict)
    this.#inCallback = false
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
    this.#endLook()
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
    return this.phase !== 'live' || (!this.owner.paused && this.#kept === undefined)
  }

  #endDrain(): void {
    this.#timer?.cancel()
    this.phase = 'over'
    this.owner.onDrained(this, this.#kept)
  }

  #letGo(): void {
    this.#endDrain()
    // Not from inside undici's own callback: an abort calls back at once, while undici is still busy with this very response.
    queueMicrotask(() => { this.abortUpstream(new Error('The rest of a response that no one waits for is not read.')) })
  }
}
