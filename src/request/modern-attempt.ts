/**
 * The same attempt for a dispatcher that takes modern handlers, as undici 8 does: what is decided is decided in `attempt.ts`, here
 * it is only said in the other style.
 */
import type { Duplex } from 'node:stream'
import { AttemptHandler } from './attempt.js'
import type { Controller, ModernHandler, ParsedHeaders } from './undici.js'

/** Speaks the style that undici 8 wants, with the legacy one beside it for a dispatcher of unknown version. */
export class ModernAttemptHandler extends AttemptHandler implements ModernHandler {
  #controller: Controller | undefined

  onRequestStart(controller: Controller): void {
    // Over HTTP/2 undici starts a refused stream again: the newer controller is the one that works.
    this.#controller = controller
    this.connected()
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
