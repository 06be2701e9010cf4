/**
 * Requests that are not balanced go on as they came. Only what the inner undici would not take from a caller of another version
 * (Node's own fetch and WebSocket, another copy of undici) is changed, in a copy.
 */
import type { Duplex } from 'node:stream'
import { collapseLength } from './headers.js'
import { isHandler, isModern, toRaw, type AnyHandler, type Controller, type DispatchOptions, type LegacyHandler, type ModernHandler, type ParsedHeaders } from './undici.js'

/**
 * The very same options nearly always.
 * @param takesLegacy whether the inner dispatcher takes legacy handlers
 */
export function adaptOptions(opts: DispatchOptions, handler: AnyHandler, takesLegacy: boolean): DispatchOptions {
  // undici's to refuse, in its own words.
  if ((opts as DispatchOptions | null | undefined) == null) return opts
  let adapted = opts
  // The WebSocket of Node 22 and 24 gives up on a server that chooses HTTP/2, which undici 8 offers by default (nodejs/undici#4989).
  if (opts.upgrade != null && opts.allowH2 === undefined && !takesLegacy && isHandler(handler) && !isModern(handler)) {
    adapted = { ...adapted, allowH2: false }
  }
  // undici 7's request, stream and pipeline hand on the `dispatcher` that they were given; undici 8 refuses it.
  if (!takesLegacy && opts.dispatcher !== undefined) {
    const { dispatcher: _, ...others } = adapted
    adapted = others
  }
  // The fetch of Node 20 and 22 repeats a content-length that the caller set, as `3, 3` (nodejs/undici#5500).
  const headers = opts.headers as { readonly 'content-length'?: unknown } | null | undefined
  const length = headers?.['content-length']
  if (typeof length === 'string' && length.includes(',')) {
    const one = collapseLength(length)
    if (one !== length) adapted = { ...adapted, headers: { ...headers, 'content-length': one } }
  }
  return adapted
}

/** The very same handler when it is modern already, or is none: undici says so then. */
export function adaptHandler(handler: AnyHandler): AnyHandler {
  return !isHandler(handler) || isModern(handler) ? handler : new LegacyForward(handler)
}

/** A legacy handler for a dispatcher that wants modern ones. */
class LegacyForward implements ModernHandler {
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
    // Not at informational headers: see `LegacyCaller`.
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
