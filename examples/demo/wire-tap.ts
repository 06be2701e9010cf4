import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { RunLog } from './run-log.js'

/** The part of undici's request object that its diagnostics channels document. */
interface WireRequest {
  readonly origin: string | URL
  readonly path: string
}

interface TappedBackend {
  readonly name: string
  readonly url: string
}

/**
 * Writes into a log what really goes over the wire, with a balancer or without one: undici, Node's own copy of it
 * included, tells of every request on `undici:request:headers` and `undici:request:error`.
 */
export class WireTap {
  readonly #log: RunLog
  readonly #backends: readonly { readonly name: string, readonly origin: string, readonly path: string }[]
  readonly #answered = new WeakSet<WireRequest>()

  constructor(backends: readonly TappedBackend[], log: RunLog) {
    this.#log = log
    this.#backends = backends.map(({ name, url }) => {
      const { origin, pathname } = new URL(url)
      return { name, origin, path: pathname.replace(/\/$/, '') }
    })
    subscribe('undici:request:headers', this.#onHeaders)
    subscribe('undici:request:error', this.#onError)
  }

  close(): void {
    unsubscribe('undici:request:headers', this.#onHeaders)
    unsubscribe('undici:request:error', this.#onError)
  }

  readonly #onHeaders = (message: unknown): void => {
    const { request, response } = message as { request: WireRequest, response: { statusCode: number } }
    // An interim answer (103) is not the answer.
    if (response.statusCode < 200) return
    this.#answered.add(request)
    this.#record(request, response.statusCode)
  }

  readonly #onError = (message: unknown): void => {
    const { request, error } = message as { request: WireRequest, error: Error }
    // What breaks after the headers was counted with them; what we gave up ourselves is nobody's failure.
    if (this.#answered.has(request) || error.name === 'AbortError') return
    this.#record(request, undefined)
  }

  #record(request: WireRequest, status: number | undefined): void {
    const { origin } = new URL(request.origin)
    const backend = this.#backends.find((one) => one.origin === origin && request.path.startsWith(`${one.path}/`))
    if (backend !== undefined) this.#log.attempts.push({ atMs: this.#log.nowMs(), backend: backend.name, status })
  }
}
