/**
 * A handler for a dispatcher of unknown version. undici 6 and older know the legacy style alone and refuse the modern one, undici
 * 8 the other way round, and an object does not say of which version it is. A handler of both styles suits all of them:
 * each takes the style that it knows, and undici 7, which knows both, takes the modern one.
 */
import type { Duplex } from 'node:stream'
import { isHandler, isModern, toParsed, type AnyHandler, type AnyHeaders, type Controller, type LegacyHandler, type ModernHandler, type ParsedHeaders, type RawHeaders } from './undici.js'

/** The very same handler when it speaks both styles already, or not the modern one: to be refused by the dispatcher then. */
export function speakBoth(handler: AnyHandler): AnyHandler {
  if (!isHandler(handler) || !isModern(handler) || 'onConnect' in handler) return handler
  return new BothStyles(handler)
}

/** The modern style is passed on as it comes, the legacy one is translated. */
class BothStyles implements ModernHandler, LegacyHandler {
  readonly #handler: ModernHandler
  readonly #controller = new LegacyController()
  onBodySent?: (chunk: Uint8Array | string) => void
  onRequestSent?: () => void

  constructor(handler: ModernHandler) {
    this.#handler = handler
    // Their mere presence makes an undici mock read the request body.
    if (handler.onBodySent !== undefined) this.onBodySent = (chunk) => { handler.onBodySent?.(chunk) }
    if (handler.onRequestSent !== undefined) this.onRequestSent = () => { handler.onRequestSent?.() }
  }

  onResponseStarted(): void {
    this.#handler.onResponseStarted?.()
  }

  // The modern style.

  onRequestStart(controller: Controller, context: unknown): void {
    this.#handler.onRequestStart?.(controller, context)
  }

  onRequestUpgrade(controller: Controller, status: number, headers: ParsedHeaders, socket: Duplex): unknown {
    return this.#handler.onRequestUpgrade?.(controller, status, headers, socket)
  }

  onResponseStart(controller: Controller, status: number, headers: ParsedHeaders, message?: string): void {
    this.#handler.onResponseStart?.(controller, status, headers, message)
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    this.#handler.onResponseData?.(controller, chunk)
  }

  onResponseEnd(controller: Controller, trailers: ParsedHeaders): void {
    this.#handler.onResponseEnd?.(controller, trailers)
  }

  onResponseError(controller: Controller, error: Error): void {
    if (this.#handler.onResponseError === undefined) throw error
    this.#handler.onResponseError(controller, error)
  }

  // The legacy one.

  onConnect(abort: (reason?: Error) => void, context?: unknown): void {
    this.#controller.connect(abort)
    this.#handler.onRequestStart?.(this.#controller, context ?? null)
  }

  onUpgrade(status: number, headers: RawHeaders, socket: Duplex): unknown {
    this.#controller.rawHeaders = headers
    return this.#handler.onRequestUpgrade?.(this.#controller, status, toParsed(headers), socket)
  }

  onHeaders(status: number, headers: RawHeaders, resume: () => void, message?: string): boolean {
    this.#controller.rawHeaders = headers
    this.#controller.canResume(resume)
    this.#handler.onResponseStart?.(this.#controller, status, toParsed(headers), message)
    return !this.#controller.paused
  }

  onData(chunk: Buffer): boolean {
    this.#handler.onResponseData?.(this.#controller, chunk)
    return !this.#controller.paused
  }

  onComplete(trailers: RawHeaders | null): void {
    this.#controller.rawTrailers = trailers
    this.#handler.onResponseEnd?.(this.#controller, toParsed(trailers))
  }

  onError(error: Error): void {
    if (this.#handler.onResponseError === undefined) throw error
    this.#handler.onResponseError(this.#controller, error)
  }
}

/** Steers a request in the legacy style: it is paused by what `onHeaders` and `onData` return. */
class LegacyController implements Controller {
  rawHeaders: AnyHeaders | null = null
  rawTrailers: AnyHeaders | null = null
  paused = false
  aborted = false
  reason: Error | null | undefined = null
  #abort: ((reason?: Error) => void) | undefined
  #resume: (() => void) | undefined

  connect(abort: (reason?: Error) => void): void {
    this.#abort = abort
  }

  canResume(resume: () => void): void {
    this.#resume = resume
  }

  abort(reason?: Error): void {
    if (this.aborted) return
    this.aborted = true
    this.reason = reason
    this.#abort?.(reason)
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    if (!this.paused) return
    this.paused = false
    this.#resume?.()
  }
}
