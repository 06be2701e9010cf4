/** A handler of the old style for a dispatcher that wants the new one: for requests that only pass through. */
import type { Duplex } from 'node:stream'
import { isCurrent, isHandler, type AnyHandler, type Controller, type CurrentHandler, type LegacyHandler, type ParsedHeaders } from './undici.js'
import { toRaw } from './response-headers.js'

/** The very same handler when it speaks the new style already, or is none: undici says so then. */
export function adaptForward(handler: AnyHandler): AnyHandler {
  return !isHandler(handler) || isCurrent(handler) ? handler : new LegacyForward(handler)
}

class LegacyForward implements CurrentHandler {
  readonly #handler: LegacyHandler
  onBodySent?: (chunk: Uint8Array | string) => void
  onRequestSent?: () => void

  constructor(handler: LegacyHandler) {
    this.#handler = handler
    // Their mere presence makes an undici mock read the request body.
    if (handler.onBodySent !== undefined) this.onBodySent = (chunk) => { handler.onBodySent?.(chunk) }
    if (handler.onRequestSent !== undefined) this.onRequestSent = () => { handler.onRequestSent?.() }
  }

  onRequestStart(controller: Controller, context: unknown): void {
    this.#handler.onConnect?.((reason) => { controller.abort(reason) }, context)
  }

  onResponseStarted(): void {
    this.#handler.onResponseStarted?.()
  }

  onResponseStart(controller: Controller, status: number, headers: ParsedHeaders, message?: string): void {
    const raw = toRaw(controller.rawHeaders ?? headers)
    // Not at informational headers: see the caller's handler of the same style.
    if (this.#handler.onHeaders?.(status, raw, () => { controller.resume() }, message) === false && status >= 200) controller.pause()
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    if (this.#handler.onData?.(chunk) === false) controller.pause()
  }

  onResponseEnd(controller: Controller, trailers: ParsedHeaders): void {
    this.#handler.onComplete?.(toRaw(controller.rawTrailers ?? trailers))
  }

  onRequestUpgrade(controller: Controller, status: number, headers: ParsedHeaders, socket: Duplex): unknown {
    return this.#handler.onUpgrade?.(status, toRaw(controller.rawHeaders ?? headers), socket)
  }

  onResponseError(_controller: Controller, error: Error): void {
    if (this.#handler.onError === undefined) throw error
    this.#handler.onError(error)
  }
}
