/** The caller's request, from which every attempt's is made anew: what one backend has changed in it reaches no other. */
import { findModel, MAX_SCAN_BYTES, type ModelSpan } from '../core/scope.js'
import type { BackendConfig } from '../core/types.js'
import type { DispatchOptions } from './undici.js'
import { isSingleUse, ReplayableBody } from './body.js'
import { flattenHeaders, readContentLength, type RequestHeaders } from './headers.js'
import { rewriteRequest, type Destination, type Original } from './rewrite.js'
import type { Route } from './route.js'

export class OutgoingRequest implements Original {
  readonly opts: DispatchOptions
  readonly route: Route
  readonly headers: RequestHeaders
  readonly body: ReplayableBody
  #model: ModelSpan | undefined

  constructor(opts: DispatchOptions, route: Route, maxReplayBytes: number) {
    this.opts = opts
    this.route = route
    this.headers = flattenHeaders(opts.headers)
    // Of a body in hand the length is known without.
    const contentLength = isSingleUse(opts.body) ? readContentLength(this.headers) : undefined
    this.body = ReplayableBody.of(opts.body, contentLength, maxReplayBytes)
  }

  /** What the request is throttled under: the deployment in its path, else the model in its body, else `''`. */
  findScope(): string {
    const { deployment } = this.route
    if (deployment !== undefined) return deployment
    const head = this.body.head(MAX_SCAN_BYTES)
    this.#model = head === undefined ? undefined : findModel(head)
    return this.#model?.name ?? ''
  }

  /**
   * What to dispatch for one attempt.
   * @param credential the value for the backend's credential header; undefined when it has none of its own
   * @param isMockActive an undici mock will look at the body
   */
  make(backend: Destination, credential: string | undefined, isMockActive: boolean): DispatchOptions {
    const rewritten = this.#model === undefined ? undefined : rewriteModel(this.body, this.#model, backend)
    const body = rewritten ?? this.body.open(isMockActive)
    return rewriteRequest(this, backend, credential, isMockActive ? toMockBody(body) : body, rewritten?.byteLength)
  }
}

/** The JSON body with this backend's name for the model; undefined when it stays as it is. */
function rewriteModel(body: ReplayableBody, { name, start, end }: ModelSpan, { models }: BackendConfig): Uint8Array | undefined {
  const model = models !== undefined && Object.hasOwn(models, name) ? models[name] : undefined
  if (model === undefined) return undefined
  const bytes = body.head(Infinity)
  // Spliced, not parsed and written again: all else stays as it is, byte for byte.
  return bytes === undefined ? undefined : Buffer.concat([bytes.subarray(0, start), Buffer.from(JSON.stringify(model)), bytes.subarray(end)])
}

/** undici's mocks compare a body with strings and patterns. Bytes that are no text would change on the way, and stay as they are. */
function toMockBody(body: unknown): unknown {
  if (!ArrayBuffer.isView(body)) return body
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
  const text = bytes.toString()
  return Buffer.from(text).equals(bytes) ? text : body
}
