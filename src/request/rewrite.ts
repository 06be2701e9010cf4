/** Makes one attempt's request from the caller's, always anew: nothing of another backend can be in it. */
import type { BackendConfig } from '../core/types.js'
import type { DispatchOptions } from './undici.js'
import type { RequestHeaders } from './headers.js'
import { rewriteHeaders } from './headers.js'
import type { Route } from './route.js'

/** What a request needs to know of its backend. */
export interface Destination extends BackendConfig {
  readonly origin: string
  readonly basePath: string
  /** Parameters to set, as text. */
  readonly query: readonly (readonly [string, string])[] | undefined
  readonly credential: { readonly header: string; resolve(): string | Promise<string> } | undefined
}

/** The caller's request, as far as every attempt needs it again. */
export interface Original {
  readonly opts: DispatchOptions
  readonly route: Route
  readonly headers: RequestHeaders
}

/**
 * @param credential the value for the backend's credential header; undefined when it has none of its own
 * @param contentLength set when the caller's `content-length` must not stand as it is
 */
export function rewriteRequest(
  original: Original, backend: Destination, credential: string | undefined, body: unknown, contentLength: number | undefined,
): DispatchOptions {
  const { opts, route } = original
  const own = credential === undefined || backend.credential === undefined ? undefined : { name: backend.credential.header, value: credential }
  const rewritten: DispatchOptions = {
    ...opts,
    origin: backend.origin,
    path: rewritePath(route, backend, own !== undefined, opts.query == null),
    headers: rewriteHeaders(original.headers, { credential: own, contentLength }),
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
function rewritePath({ rest, mayHoldKey }: Route, backend: Destination, ownsCredential: boolean, setQuery: boolean): string {
  let path = backend.models === undefined ? rest : rewriteDeployment(rest, backend.models)
  const set = setQuery ? backend.query : undefined
  if (set !== undefined || (ownsCredential && mayHoldKey)) path = rewriteParameters(path, set ?? [], ownsCredential)
  path = backend.basePath + path
  // A base without a path, asked for as it is.
  return path.startsWith('/') ? path : `/${path}`
}

function rewriteQuery(query: Readonly<Record<string, unknown>>, backend: Destination, ownsCredential: boolean): Record<string, unknown> {
  const kept = Object.entries(query).filter(([name]) => !(ownsCredential && isCredential(name)))
  return Object.fromEntries([...kept, ...(backend.query ?? [])])
}

/**
 * Where else than in headers the caller's credential can be: Azure OpenAI's realtime API takes `api-key` and API
 * Management `subscription-key` from the query. A backend with its own must not see it there either.
 */
const CREDENTIAL_PARAMETERS = ['api-key', 'subscription-key']

function isCredential(parameter: string): boolean {
  return CREDENTIAL_PARAMETERS.includes(parameter.toLowerCase())
}

const DEPLOYMENTS = '/deployments/'

/** Azure names the deployment in the path. */
function rewriteDeployment(rest: string, models: Readonly<Record<string, string>>): string {
  const query = rest.indexOf('?')
  const path = query === -1 ? rest : rest.slice(0, query)
  const at = path.indexOf(DEPLOYMENTS)
  if (at === -1) return rest
  const start = at + DEPLOYMENTS.length
  const slash = path.indexOf('/', start)
  const end = slash === -1 ? path.length : slash
  const name = decode(path.slice(start, end))
  const model = Object.hasOwn(models, name) ? models[name] : undefined
  return model === undefined ? rest : rest.slice(0, start) + encodeURIComponent(model) + rest.slice(end)
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

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
