/** What the caller's handler is told of the sending, as of one request, however often it is really sent. */
import type { AnyHandler } from './undici.js'

export class Progress {
  readonly #handler: AnyHandler
  #sent = false
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
    if (this.#sent) return
    this.#sent = true
    this.#handler.onRequestSent?.()
  }
}
