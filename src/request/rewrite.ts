/**
 * Makes one attempt's request from the caller's, always anew from the original: what one backend has changed in it, or was sent as
 * its own, reaches no other.
 */
import { toScopeName } from '../core/scopes.js'
import type { BackendConfig } from '../core/types.js'
import { BodyInHand, isSingleUse, RecordedBody, type ReplayableBody } from './body.js'
import { flattenHeaders, readContentLength, rewriteHeaders, type RequestHeaders } from './headers.js'
import { beginsSomething, findModel, MAX_SCAN_BYTES, type ModelSpan } from './read-body.js'
import { decode, isResponses, type Route } from './route.js'
import type { DispatchOptions } from './undici.js'

/** The caller's request, from which every attempt's is made. */
export class OutgoingRequest {
  readonly opts: DispatchOptions
  readonly route: Route
  readonly headers: RequestHeaders
  readonly body: ReplayableBody
  #model: ModelSpan | undefined

  constructor(opts: DispatchOptions, route: Route, maxReplayBytes: number) {
    this.opts = opts
    this.route = route
    this.headers = flattenHeaders(opts.headers)
    this.body = isSingleUse(opts.body) ? new RecordedBody(opts.body, readContentLength(this.headers), maxReplayBytes) : new BodyInHand(opts.body)
  }

  /** What the request is throttled under: the deployment in its path, else the model in its body, else `''`. */
  findScope(): string {
    const { deployment } = this.route
    if (deployment !== undefined) return toScopeName(deployment.name)
    const head = this.body.head(MAX_SCAN_BYTES)
    this.#model = head === undefined ? undefined : findModel(head)
    return this.#model === undefined ? '' : toScopeName(this.#model.name)
  }

  /**
   * Whether the request may begin something that must not be begun twice: a response in the background, a turn of a conversation,
   * a tool that acts. Asked only when something went wrong, so that the body is read for no other request.
   */
  createsState(): boolean {
    if (this.opts.method !== 'POST') return false
    if (this.route.isStateful) return true
    const bytes = isResponses(this.route.rest) ? this.body.head(Infinity) : undefined
    return bytes !== undefined && beginsSomething(bytes)
  }

  /**
   * What to dispatch for one attempt.
   * @param credential the value for the backend's credential header; undefined when it has none of its own
   * @param isMockActive an undici mock will look at the body
   */
  make(backend: BackendConfig, credential: string | undefined, isMockActive: boolean): DispatchOptions {
    const { models } = backend
    const rewritten = this.#model === undefined || models === undefined ? undefined : rewriteModel(this.body, this.#model, models)
    const body = rewritten ?? this.body.open(isMockActive)
    return rewriteRequest(this, backend, credential, isMockActive ? toMockBody(body) : body, rewritten?.byteLength)
  }
}

/** What a backend calls deployments and models. */
type Names = NonNullable<BackendConfig['models']>

/** The JSON body with this backend's name for the model; undefined when it stays as it is. */
function rewriteModel(body: ReplayableBody, { name, start, end }: ModelSpan, models: Names): Uint8Array | undefined {
  const model = rename(name, models)
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

/**
 * @param credential the value for the backend's credential header; undefined when it has none of its own
 * @param contentLength set when the caller's `content-length` must not stand as it is
 */
function rewriteRequest(
  { opts, route, headers }: OutgoingRequest, backend: BackendConfig, credential: string | undefined, body: unknown, contentLength: number | undefined,
): DispatchOptions {
  const own = credential === undefined || backend.credential === undefined ? undefined : { name: backend.credential.header, value: credential }
  const rewritten: DispatchOptions = {
    ...opts,
    origin: backend.origin,
    path: rewritePath(route, backend, own !== undefined, opts.query == null),
    headers: rewriteHeaders(headers, { credential: own, contentLength }),
    body,
  }
  if (opts.query != null) rewritten.query = rewriteQuery(opts.query, backend, own !== undefined)
  // The caller's server name is that of the host it meant.
  if (opts.servername != null) rewritten.servername = null
  // An inner redirect interceptor knows `authorization`, but not that `api-key` must not follow to another host.
  if (own !== undefined) rewritten.maxRedirections = 0
  if (opts.__mockAgentBodyForDispatch !== undefined) rewritten.__mockAgentBodyForDispatch = body
  return rewritten
}

/** @param setQuery false where the parameters are in `opts.query`: undici refuses a query in both places */
function rewritePath(route: Route, backend: BackendConfig, ownsCredential: boolean, setQuery: boolean): string {
  let path = backend.models === undefined ? route.rest : rewriteDeployment(route, backend.models)
  const set = setQuery ? backend.query : undefined
  if (set !== undefined || (ownsCredential && route.mayHoldKey)) path = rewriteParameters(path, set ?? [], ownsCredential)
  path = backend.basePath + path
  // A base without a path, asked for as it is.
  return path.startsWith('/') ? path : `/${path}`
}

function rewriteQuery(query: Readonly<Record<string, unknown>>, backend: BackendConfig, ownsCredential: boolean): Record<string, unknown> {
  const kept = Object.entries(query).filter(([name]) => !(ownsCredential && isCredential(name)))
  return Object.fromEntries([...kept, ...(backend.query ?? [])])
}

/**
 * Where else than in headers the caller's credential can be: Azure OpenAI's realtime API takes `api-key`, API Management
 * `subscription-key`, Google `key`, Azure Functions `code`, a shared access signature `sig`. A backend with a credential of its
 * own must not see it there either.
 */
const CREDENTIAL_PARAMETERS: ReadonlySet<string> = new Set(['api-key', 'subscription-key', 'key', 'code', 'sig', 'access_token'])

function isCredential(parameter: string): boolean {
  return CREDENTIAL_PARAMETERS.has(parameter.toLowerCase())
}

/** Azure names the deployment in the path. */
function rewriteDeployment({ rest, deployment }: Route, models: Names): string {
  const model = deployment === undefined ? undefined : rename(deployment.name, models)
  return deployment === undefined || model === undefined ? rest : rest.slice(0, deployment.start) + encodeURIComponent(model) + rest.slice(deployment.end)
}

/** What the backend calls a deployment or model; undefined when it has no name of its own for it. */
function rename(name: string, models: Names): string | undefined {
  return Object.hasOwn(models, name) ? models[name] : undefined
}

/** Sets parameters, and takes the caller's credential out; all others stay as they are, byte for byte and in their order. */
function rewriteParameters(rest: string, parameters: readonly (readonly [string, string])[], ownsCredential: boolean): string {
  const at = rest.indexOf('?')
  const path = at === -1 ? rest : rest.slice(0, at)
  const pairs = at === -1 || at === rest.length - 1 ? [] : rest.slice(at + 1).split('&')
  const kept = pairs.filter((pair) => {
    const equals = pair.indexOf('=')
    const name = decode(pair.slice(0, equals === -1 ? pair.length : equals).replaceAll('+', ' '))
    return !parameters.some(([set]) => set === name) && !(ownsCredential && isCredential(name))
  })
  for (const [name, value] of parameters) kept.push(`${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
  return kept.length === 0 ? path : `${path}?${kept.join('&')}`
}
