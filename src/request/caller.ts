/** The caller's handler, in whichever style it was written, behind one face. */
import type { Duplex } from 'node:stream'
import type { AnyHandler, AnyHeaders, Controller, CurrentHandler, LegacyHandler, ParsedHeaders } from './undici.js'
import { isCurrent, isHandler } from './undici.js'
import { errors } from './peer.js'
import { toParsed, toRaw } from './response-headers.js'
import type { StableController } from './stable-controller.js'

/** `raw` is what came over the wire; `parsed` is there when undici has parsed it already. */
export interface CallerHandler {
  start(controller: StableController): void
  headers(controller: StableController, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void
  data(controller: StableController, chunk: Buffer): void
  end(controller: StableController, raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void
  error(controller: StableController, error: Error): void
  upgrade(controller: StableController, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, socket: Duplex): unknown
}

export function adaptCaller(handler: AnyHandler): CallerHandler {
  if (!isHandler(handler)) throw new errors.InvalidArgumentError('handler must be an object')
  return isCurrent(handler) ? new CurrentCaller(handler) : new LegacyCaller(handler)
}

/** Tells a handler, in its own style, that its request is not taken. The result is that of `dispatch`. */
export function refuse(handler: AnyHandler, error: Error): boolean {
  if (!isHandler(handler)) throw error
  if (isCurrent(handler)) {
    if (handler.onResponseError === undefined) throw error
    // undici has no controller either for a request that it refuses.
    handler.onResponseError(null as unknown as Controller, error)
  } else {
    if (handler.onError === undefined) throw error
    handler.onError(error)
  }
  return false
}

class CurrentCaller implements CallerHandler {
  readonly #handler: CurrentHandler

  constructor(handler: CurrentHandler) {
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

class LegacyCaller implements CallerHandler {
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
