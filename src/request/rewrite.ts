/**
 * Makes one attempt's request from the caller's, always anew from the original: what one backend has changed in it, or was sent as
 * its own, reaches no other.
 */
import { isCredentialParameter } from '../core/credential-names.js'
import { toScopeName } from '../core/scope-name.js'
import type { BackendConfig } from '../core/types.js'
import { isSingleUse, ReadyBody, RecordedBody, type ReplayableBody } from './body.js'
import { collectCredentials, findHeader, flattenHeaders, HAS_HINTS, readContentLength, rewriteHeaders, scanHeaders, type RequestHeaders } from './headers.js'
import { readHints, type HintOptions, type Hints } from './hints.js'
import { beginsSomething, findModel, type ModelSpan } from './read-body.js'
import { decode, isResponses, LONGEST_NAME_BYTES, type NameSpan, type Route } from './route.js'
import type { DispatchOptions } from './undici.js'

export interface OutgoingOptions extends HintOptions {
  readonly maxReplayBytes: number
}

/** What the balancer that a request came to has to do with models. */
export interface ModelContext {
  /** `usesModels`: some backend renames models, or has only some of them. */
  readonly current: { readonly usesModels: boolean }
  /** A sentence for the log, told the first time. */
  warnOnce(warning: string): void
}

/** The caller's request, from which every attempt's is made. */
export class OutgoingRequest {
  readonly opts: DispatchOptions
  readonly route: Route
  /** What it says of itself. */
  readonly hints: Hints
  /** Without what is for us. */
  readonly headers: RequestHeaders
  /** What `scanHeaders` has found. */
  readonly found: number
  readonly body: ReplayableBody
  /** Where the body names the model. Of a form that undici will write there is no such place. */
  #model: ModelSpan | undefined

  constructor(opts: DispatchOptions, route: Route, options: OutgoingOptions) {
    this.opts = opts
    this.route = route
    const headers = flattenHeaders(opts.headers)
    this.found = scanHeaders(headers)
    this.hints = readHints(headers, (this.found & HAS_HINTS) !== 0, options)
    this.headers = this.hints.otherHeaders ?? headers
    this.body = isSingleUse(opts.body) ? new RecordedBody(opts.body, readContentLength(this.headers), options.maxReplayBytes) : new ReadyBody(opts.body)
  }

  /** What the request is throttled under: the deployment in its path, else the model in its body, or of an upgrade in its query, else `''`. */
  findScope(context: ModelContext): string {
    const { opts, route: { deployment, queryName } } = this
    if (deployment !== undefined) return toScopeName(deployment.name)
    if (opts.upgrade != null && opts.upgrade !== false) return toScopeName(queryName?.name ?? findNameIn(opts.query) ?? '')
    const { usesModels } = context.current
    this.#model = findModel(this.body, this.headers, usesModels)
    if (this.#model !== undefined) return toScopeName(this.#model.name)
    const { form } = this.body
    if (form !== undefined) return toScopeName(findNameInForm(form) ?? '')
    if (usesModels) this.#warnOfUnknown(context)
    return ''
  }

  /** Told where a model is expected, and cannot be seen. */
  #warnOfUnknown(context: ModelContext): void {
    if (this.opts.method !== 'POST' || !this.route.isGenerating || this.opts.body == null) return
    const encoding = findHeader(this.headers, 'content-encoding')
    const isCoded = encoding != null && !(typeof encoding === 'string' && /^\s*(identity)?\s*$/i.test(encoding))
    if (isCoded) context.warnOnce(`A request body with a content-encoding is not looked into: ${UNKNOWN_MODEL} Send it as it is.`)
    else if (this.body.isOutOfSight) context.warnOnce(`A request body that is a stream without a content-length up to maxReplayBytes, or a Blob, is not looked into: ${UNKNOWN_MODEL} Send it as a string or Buffer.`)
  }

  /** All that tells who the caller is: in headers, and in the query, whichever way that was given. */
  callerCredential(): string {
    const { opts: { query }, route: { rest, mayHoldKey } } = this
    const inPath = mayHoldKey ? rest.slice(rest.indexOf('?') + 1).split('&').filter((pair) => isCredentialParameter(nameOf(pair))) : []
    const inQuery = Object.entries(query ?? {}).flatMap(([name, value]) => (isCredentialParameter(name) ? [`${name}=${String(value)}`] : []))
    return [collectCredentials(this.headers), ...inPath, ...inQuery].join('\n')
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
    const rewritten = models === undefined ? undefined : this.#rewriteModel(models)
    if (rewritten instanceof Uint8Array) return rewriteRequest(this, backend, credential, isMockActive ? toMockBody(rewritten) : rewritten, rewritten.byteLength)
    const body = rewritten ?? this.body.open(isMockActive)
    return rewriteRequest(this, backend, credential, isMockActive ? toMockBody(body) : body, undefined)
  }

  /** The body with this backend's name for the model; undefined when it stays as it is. */
  #rewriteModel(models: Names): Uint8Array | FormData | undefined {
    if (this.#model !== undefined) return rewriteModel(this.body, this.#model, models)
    const { form } = this.body
    return form === undefined || this.route.deployment !== undefined ? undefined : rewriteForm(form, models)
  }
}

/** What every log line of an unknown model says. */
const UNKNOWN_MODEL = 'the model in it stays as the caller wrote it whatever `models` says, and it goes to any backend whatever these serve. Told once.'

/** What a backend calls deployments and models. */
type Names = NonNullable<BackendConfig['models']>

function rewriteModel(body: ReplayableBody, { name, start, end, isRaw }: ModelSpan, models: Names): Uint8Array | undefined {
  const model = rename(name, models)
  // Spliced, not parsed and written again: all else stays as it is, byte for byte.
  return model === undefined ? undefined : body.splice(start, end, Buffer.from(isRaw === true ? model : JSON.stringify(model)))
}

function findNameInForm(form: FormData): string | undefined {
  const name = form.get('model')
  return typeof name === 'string' && name !== '' && name.length <= LONGEST_NAME_BYTES ? name : undefined
}

/** A form of its own, of the caller's kind: undici takes none of another copy of undici. */
function rewriteForm(form: FormData, models: Names): FormData | undefined {
  const name = findNameInForm(form)
  const model = name === undefined ? undefined : rename(name, models)
  if (model === undefined) return undefined
  const copy = new (form.constructor as new () => FormData)()
  for (const [field, value] of form) {
    if (typeof value !== 'string') copy.append(field, value)
    else copy.append(field, field === 'model' ? model : value)
  }
  return copy
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
  { opts, route, headers, found }: OutgoingRequest, backend: BackendConfig, credential: string | undefined, body: unknown, contentLength: number | undefined,
): DispatchOptions {
  const isUpgrade = opts.upgrade != null && opts.upgrade !== false
  const rewritten: DispatchOptions = {
    ...opts,
    origin: backend.origin,
    path: rewritePath(route, backend, opts.query == null, isUpgrade),
    headers: rewriteHeaders(headers, backend, credential, contentLength, found),
    body,
  }
  if (opts.query != null) rewritten.query = rewriteQuery(opts.query, backend, isUpgrade)
  // The caller's server name is that of the host it meant.
  if (opts.servername != null) rewritten.servername = null
  // An inner redirect interceptor knows `authorization`, but not that `api-key` must not follow to another host.
  if (backend.ownsCredential) rewritten.maxRedirections = 0
  if (opts.__mockAgentBodyForDispatch !== undefined) rewritten.__mockAgentBodyForDispatch = body
  return rewritten
}

/**
 * @param setQuery false where the parameters are in `opts.query`: undici refuses a query in both places
 * @param isUpgrade names its model in the query
 */
function rewritePath(route: Route, backend: BackendConfig, setQuery: boolean, isUpgrade: boolean): string {
  let path = backend.models === undefined ? route.rest : rewriteName(route, backend.models, isUpgrade)
  const set = setQuery ? backend.query : undefined
  if (set !== undefined || (backend.ownsCredential && route.mayHoldKey)) path = rewriteParameters(path, set ?? [], backend.ownsCredential)
  path = backend.basePath + path
  // A base without a path, asked for as it is.
  return path.startsWith('/') ? path : `/${path}`
}

function rewriteQuery(query: Readonly<Record<string, unknown>>, { ownsCredential, query: own = [], models }: BackendConfig, isUpgrade: boolean): Record<string, unknown> {
  const kept = Object.entries(query).filter(([name]) => !(ownsCredential && isCredentialParameter(name)))
  if (isUpgrade && models !== undefined) {
    const renamed = (name: string): string | undefined => rename(name, models)
    return Object.fromEntries([...kept.map(([name, value]) => [name, isNameOf(name, value) ? renamed(value) ?? value : value] as const), ...own])
  }
  return Object.fromEntries([...kept, ...own])
}

/** What an upgrade's `opts.query` calls a deployment or model. */
function isNameOf(parameter: string, value: unknown): value is string {
  return (parameter === 'deployment' || parameter === 'model') && typeof value === 'string'
}

function findNameIn(query: Readonly<Record<string, unknown>> | null | undefined): string | undefined {
  const { deployment, model } = query ?? {}
  return [deployment, model].find((value): value is string => typeof value === 'string' && value !== '' && value.length <= LONGEST_NAME_BYTES)
}

/** Azure names the deployment in the path; an upgrade has its model in the query. */
function rewriteName({ rest, deployment, queryName }: Route, models: Names, isUpgrade: boolean): string {
  const span: NameSpan | undefined = deployment ?? (isUpgrade ? queryName : undefined)
  const model = span === undefined ? undefined : rename(span.name, models)
  return span === undefined || model === undefined ? rest : rest.slice(0, span.start) + encodeURIComponent(model) + rest.slice(span.end)
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
    const name = nameOf(pair)
    return !parameters.some(([set]) => set === name) && !(ownsCredential && isCredentialParameter(name))
  })
  for (const [name, value] of parameters) kept.push(`${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
  return kept.length === 0 ? path : `${path}?${kept.join('&')}`
}

/** Decoded, of a query's parameter as it is written. */
function nameOf(pair: string): string {
  const equals = pair.indexOf('=')
  return decode(pair.slice(0, equals === -1 ? pair.length : equals).replaceAll('+', ' '))
}
