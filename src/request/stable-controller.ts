/** The one controller that the caller's handler holds, whatever attempt is under way behind it. */
import type { AnyHeaders, Controller } from './undici.js'
import { errors } from './peer.js'

/** What the controller steers: the attempt whose response the caller is getting. */
export interface Steered {
  pause(): void
  resume(): void
}

export interface ControllerOwner {
  /** The caller gives up, with its reason. Called once at most. */
  abort(reason: Error): void
}

export class StableController implements Controller {
  // Plain fields: undici 8's fetch reads the response's headers from here, and its decompressing interceptor assigns them.
  rawHeaders: AnyHeaders | null = null
  rawTrailers: AnyHeaders | null = null

  readonly #owner: ControllerOwner
  #steered: Steered | undefined
  #paused = false
  #aborted = false
  /** What the caller gave, which may be nothing, as with undici. */
  #reason: Error | null | undefined = null

  constructor(owner: ControllerOwner) {
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
}
