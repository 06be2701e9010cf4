/**
 * The caller's side of a request. Its handler was written for one exchange with one server: it is told of exactly one, in its own
 * style, and holds one controller, whatever attempts come and go behind it.
 */
import type { Duplex } from 'node:stream'
import {
  errors, isHandler, isModern, toParsed, toRaw, type AnyHandler, type AnyHeaders, type Controller, type LegacyHandler, type ModernHandler, type ParsedHeaders,
} from './undici.js'

/** What the controller steers: the attempt whose response the caller is getting. */
export interface Steered {
  pause(): void
  resume(): void
}

/** The one controller that the caller's handler holds. */
export class StableController implements Controller {
  // Plain fields: undici 8's fetch reads the response's headers from here, and its decompressing interceptor assigns them.
  rawHeaders: AnyHeaders | null = null
  rawTrailers: AnyHeaders | null = null

  readonly #owner: { abort(reason: Error): void }
  #steered: Steered | undefined
  #paused = false
  #aborted = false
  /** What the caller gave, which may be nothing, as with undici. */
  #reason: Error | null | undefined = null

  /** @param owner is told once at most that the caller gives up, and why. */
  constructor(owner: { abort(reason: Error): void }) {
    this.#owner = owner
  }

  get aborted(): boolean {
    return this.#aborted
  }

  get paused(): boolean {
    return this.#paused
  }

  get reason(): Error | null | undefined {
    return this.#reason
  }

  abort(reason?: Error): void {
    if (this.#aborted) return
    this.#aborted = true
    this.#reason = reason
    this.#owner.abort(reason ?? new errors.RequestAbortedError())
  }

  pause(): void {
    if (this.#paused) return
    this.#paused = true
    this.#steered?.pause()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#steered?.resume()
  }

  /** From here on the caller steers this attempt. A pause that was asked for earlier holds. */
  attach(steered: Steered): void {
    this.#steered = steered
    if (this.#paused) steered.pause()
  }

  /** Whether the caller steers this. */
  steers(one: Steered): boolean {
    return this.#steered === one
  }

  /** The request is over: there is nothing left to steer. */
  detach(): void {
    this.#steered = undefined
  }
}

/** The caller's handler behind one face. `raw` is what came over the wire; `parsed` is there when undici has parsed it already. */
export interface Caller {
  start(controller: StableController): void
  headers(controller: StableController, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void
  data(controller: StableController, chunk: Buffer): void
  end(controller: StableController, raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void
  error(controller: StableController, error: Error): void
  upgrade(controller: StableController, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, socket: Duplex): unknown
}

export function adaptCaller(handler: AnyHandler): Caller {
  return isModern(handler) ? new ModernCaller(handler) : new LegacyCaller(handler)
}

/** Tells a handler, in its own style, that its request is not taken. The result is that of `dispatch`. */
export function refuse(handler: AnyHandler, error: Error): boolean {
  if (!isHandler(handler)) throw error
  if (isModern(handler)) {
    if (handler.onResponseError === undefined) throw error
    // undici has no controller either for a request that it refuses.
    handler.onResponseError(null as unknown as Controller, error)
  } else {
    if (handler.onError === undefined) throw error
    handler.onError(error)
  }
  return false
}

class ModernCaller implements Caller {
  readonly #handler: ModernHandler

  constructor(handler: ModernHandler) {
    this.#handler = handler
  }

  start(controller: StableController): void {
    this.#handler.onRequestStart?.(controller, null)
  }

  headers(controller: StableController, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void {
    controller.rawHeaders = raw
    this.#handler.onResponseStart?.(controller, status, parsed ?? toParsed(raw), message)
  }

  data(controller: StableController, chunk: Buffer): void {
    this.#handler.onResponseData?.(controller, chunk)
  }

  end(controller: StableController, raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void {
    controller.rawTrailers = raw ?? null
    this.#handler.onResponseEnd?.(controller, parsed ?? toParsed(raw))
  }

  error(controller: StableController, error: Error): void {
    if (this.#handler.onResponseError === undefined) throw error
    this.#handler.onResponseError(controller, error)
  }

  upgrade(controller: StableController, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, socket: Duplex): unknown {
    controller.rawHeaders = raw
    return this.#handler.onRequestUpgrade?.(controller, status, parsed ?? toParsed(raw), socket)
  }
}

class LegacyCaller implements Caller {
  readonly #handler: LegacyHandler
  /** What `onHeaders` is given, always the same: there since the start, which comes before everything else. */
  #resume!: () => void

  constructor(handler: LegacyHandler) {
    this.#handler = handler
  }

  start(controller: StableController): void {
    // Bound, since closures with their context take half as much memory again.
    this.#resume = controller.resume.bind(controller)
    this.#handler.onConnect?.(controller.abort.bind(controller))
  }

  headers(controller: StableController, status: number, raw: AnyHeaders, _parsed: ParsedHeaders | undefined, message: string | undefined): void {
    // undici does not ask at informational headers; Node's own fetch says false there, and never resumes a response without a body.
    if (this.#handler.onHeaders?.(status, toRaw(raw), this.#resume, message) === false && status >= 200) controller.pause()
  }

  data(controller: StableController, chunk: Buffer): void {
    if (this.#handler.onData?.(chunk) === false) controller.pause()
  }

  end(_controller: StableController, raw: AnyHeaders | null | undefined): void {
    this.#handler.onComplete?.(toRaw(raw))
  }

  error(_controller: StableController, error: Error): void {
    if (this.#handler.onError === undefined) throw error
    this.#handler.onError(error)
  }

  upgrade(_controller: StableController, status: number, raw: AnyHeaders, _parsed: ParsedHeaders | undefined, socket: Duplex): unknown {
    return this.#handler.onUpgrade?.(status, toRaw(raw), socket)
  }
}

/** What the caller's handler is told of the sending, as of one request, however often it is really sent. */
export class Progress {
  readonly #handler: AnyHandler
  #isSent = false
  #bytes = 0

  constructor(handler: AnyHandler) {
    this.#handler = handler
  }

  /** A piece of the body went out. A replay sends again what the caller was told already: only what is new is told. */
  bodySent(attempt: { bytesSent: number }, chunk: Uint8Array | string): void {
    const known = this.#bytes - attempt.bytesSent
    const length = Buffer.byteLength(chunk)
    attempt.bytesSent += length
    if (known >= length) return
    this.#bytes = attempt.bytesSent
    const fresh = known === 0 ? chunk : (typeof chunk === 'string' ? Buffer.from(chunk) : chunk).subarray(known)
    this.#handler.onBodySent?.(fresh)
  }

  requestSent(): void {
    if (this.#isSent) return
    this.#isSent = true
    this.#handler.onRequestSent?.()
  }
}
