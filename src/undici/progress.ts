/** What the caller's handler is told of the sending, as of one request, however often it is really sent. */
import type { AnyHandler } from './handlers.js'

export class Progress {
  readonly #handler: AnyHandler
  #started = false
  #sent = false
  #bytes = 0

  constructor(handler: AnyHandler) {
    this.#handler = handler
  }

  /** The first byte of a response, before its headers. */
  responseStarted(): void {
    if (this.#started) return
    this.#started = true
    this.#handler.onResponseStarted?.()
  }

  /** A piece of the body went out. A replay sends again what the caller was told already: only what is new is told. */
  bodySent(attempt: { bytesSent: number }, chunk: Uint8Array): void {
    const known = this.#bytes - attempt.bytesSent
    attempt.bytesSent += chunk.byteLength
    if (known >= chunk.byteLength) return
    this.#bytes = attempt.bytesSent
    this.#handler.onBodySent?.(known > 0 ? chunk.subarray(known) : chunk)
  }

  requestSent(): void {
    if (this.#sent) return
    this.#sent = true
    this.#handler.onRequestSent?.()
  }
}
