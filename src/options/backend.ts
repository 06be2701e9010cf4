/**
 * What a backend is and how it is spoken to. A request needs origin, path, names and credential in the form in which they
 * are sent; a user writes a URL and a key. This is the one place where the one becomes the other.
 */
import type { DeclaredLimits } from '../core/pacing/declared.js'
import type { BackendConfig } from '../core/types.js'
import { ACCOUNT_HEADERS, isCredentialHeader, isCredentialParameter } from '../core/credential-names.js'
import { parseBaseUrl, type BaseUrl } from './base-url.js'
import { checkBoolean, checkInteger, checkNumber, describe, describeKind, joinPath, readList, readOptions, readStrings } from './checks.js'
import { readCredential, type Credential, type CredentialOption } from './credential.js'
import { readHeaders } from './headers.js'
import { InvalidOptionsError } from '../errors.js'

/** One backend among `backends`. */
export interface BackendOptions {
  /**
   * Base URL: what stands before the part of a request's URL that all backends have in common. A bare host means
   * `https://host`. Percent-encoding and letter case of its path are kept. It has no query (see `query`), no user
   * name or password (see `apiKey`, `bearerToken`), no dot segments and no encoded slashes.
   * @example 'https://my-resource.openai.azure.com/openai/v1', 'https://api.openai.com/v1', 'my-resource.openai.azure.com'
   */
  url: string
  /**
   * Integer from 1. The lowest number that is available gets the request; a higher one is only used while all lower
   * ones are out. It does not split traffic: that is what `weight` does among backends of one priority.
   */
  priority: number
  /**
   * Share of the traffic among the available backends of the same priority, above 0 and up to 1,000,000. Only the
   * relation counts: 3 beside 1 is three quarters.
   * @default 1
   */
  weight?: number | undefined
  /**
   * What logs, events and `status()` call the backend. Unique; needed when two backends have the same URL.
   * @default host with port and base path: 'my-resource.openai.azure.com/openai/v1'
   */
  name?: string | undefined
  /**
   * Key of an Azure OpenAI resource, sent as `api-key`; or a function that gives it, asked for every attempt and within
   * 30 s (see `CredentialOption`). When it fails the request goes to the next backend. With a credential of its own a backend
   * never sees the caller's. An option that is there but `undefined` (a missing environment variable) is an error, not "none".
   * @default none: the caller's own credential is passed on
   * @example process.env.AZURE_KEY_WEST
   * @see https://learn.microsoft.com/azure/ai-services/openai/reference#authentication
   */
  apiKey?: CredentialOption | undefined
  /**
   * Token (Microsoft Entra ID) or key (OpenAI), without the word Bearer, sent as `authorization: Bearer ...`; or a
   * function that gives it, as for `apiKey`: it should cache. Not together with `apiKey`.
   * @default none: the caller's own credential is passed on
   * @example getBearerTokenProvider(new DefaultAzureCredential(), 'https://cognitiveservices.azure.com/.default')
   * @see https://learn.microsoft.com/azure/ai-services/openai/how-to/managed-identity
   */
  bearerToken?: CredentialOption | undefined
  /**
   * What this backend calls a deployment or model that callers call otherwise. Rewrites `/deployments/{name}/` in the
   * path, the top-level `model` of a JSON body, the field `model` of a form (multipart), and `deployment` or `model` in the query of a
   * WebSocket. A body that is a stream of unknown length or has a `content-encoding` is not rewritten; the log says so once.
   * @default none: names are passed on
   * @example { 'gpt-4o': 'my-gpt4o-eu' }
   */
  models?: Readonly<Record<string, string>> | undefined
  /**
   * The deployments or models that this backend has, as callers call them or as `models` does; a `*` at the end stands for anything.
   * It gets no request for another one. What names no model goes to any backend, and stateful paths go to the home. A model that no
   * enabled backend serves is answered by the balancer itself, with a 404 (`model_not_found`). An empty list, an empty name, or a `*`
   * anywhere else throws.
   * @default all
   * @example ['gpt-4o', 'text-embedding-3-*']
   */
  serves?: readonly string[] | undefined
  /**
   * Takes what another backend refused as too long for its model (`context_length_exceeded`).
   * @default false
   */
  largerContext?: boolean | undefined
  /**
   * Headers that this backend needs, set on every attempt. Each replaces the caller's header of that name, in any letter case. One in
   * which credentials are sent (`ocp-apim-subscription-key`, `x-litellm-api-key`, `cookie`, ...) is a credential of the backend's: it
   * is shown nowhere, and the caller's own credentials are not sent. `authorization` and `api-key` have options of their own and throw
   * here, as do `host`, `content-length` and the headers of a connection.
   * @default none
   * @example { 'ocp-apim-subscription-key': process.env.APIM_KEY }
   */
  headers?: Readonly<Record<string, string>> | undefined
  /**
   * Query parameters that this backend needs. Each replaces the caller's parameter of that name or is added; others stay. One in which
   * credentials are sent (`key`, `code`, `sig`, `access_token`, `api-key`, `subscription-key`) is a credential of the backend's: the
   * caller's own are not sent.
   * @default none
   * @example { 'api-version': '2024-10-21' }
   */
  query?: Readonly<Record<string, string>> | undefined
  /**
   * Takes the requests that name things which live on one backend (files, batches, threads, stored responses, ...).
   * They go there and nowhere else. At most one backend is the home.
   * @default false; without any home it is the first listed of the lowest priority number
   */
  home?: boolean | undefined
  /**
   * Limits that the backend does not report by itself (vLLM, a gateway), or a cap on what is paid for: of all its models
   * together, in this process. A request beyond them waits, goes to the next priority, or is refused with a 429 that says when to
   * come back. `inFlight` counts until a response's body has ended; tokens are estimated from the size of the request.
   * @default none: only what the backend says, and what its refusals let us feel
   * @example { inFlight: 8 }, { requestsPerMinute: 600, tokensPerMinute: 100_000 }
   */
  limits?: LimitsOption | undefined
  /**
   * `false` takes the backend out without forgetting it: it gets no new attempt, not even where all others fail, and is not
   * the home. What it has begun goes on to its end, its URL is still intercepted, and `status()` has it as `disabled`. An
   * `update` with `true` takes it back, with all that was learned of it. At least one backend must be enabled.
   * @default true
   */
  enabled?: boolean | undefined
}

/** Each an integer from 1; what is not given is not limited. */
export interface LimitsOption {
  /** Requests at a time. */
  inFlight?: number | undefined
  requestsPerMinute?: number | undefined
  tokensPerMinute?: number | undefined
}

/** What the options of a backend are when they are not given; part of `DEFAULTS`. */
export const BACKEND_DEFAULTS = Object.freeze({
  /** A share without a unit: all backends of one priority get the same, unless it is said otherwise. */
  weight: 1,
  /** No backend has to be chosen: the first of the lowest priority number is the home then. */
  home: false,
  /** Which contexts fit is known of models, not of backends, unless it is said. */
  largerContext: false,
  /** A backend is listed to be used. */
  enabled: true,
})

const KNOWN = ['url', 'priority', 'weight', 'name', 'apiKey', 'bearerToken', 'models', 'serves', 'largerContext', 'headers', 'query', 'home', 'enabled', 'limits'] as const

const LIMITS = ['inFlight', 'requestsPerMinute', 'tokensPerMinute'] as const

/** A share without a unit. Keeps sums and quotients of weights far from what a double cannot tell apart (2^53). */
const MAX_WEIGHT = 1_000_000

/** A backend whose options were checked. Frozen. */
export class ConfiguredBackend implements BackendConfig {
  readonly name: string
  /** Base URL in normal form: `origin` and `basePath`. */
  readonly url: string
  readonly priority: number
  readonly weight: number
  readonly ownsCredential: boolean
  /** Without a prototype: only what was configured is found in it. */
  readonly models: Readonly<Record<string, string>> | undefined
  /** Frozen. */
  readonly serves: readonly string[] | undefined
  readonly largerContext: boolean
  /** `https://host`, with `:port` unless it is the scheme's own. */
  readonly origin: string
  /** What the `host` header says. */
  readonly host: string
  /** `''` or `/openai/v1`: never a slash at the end. */
  readonly basePath: string
  readonly home: boolean
  readonly enabled: boolean
  readonly limits: DeclaredLimits | undefined
  /** Shows no secret, however it is printed. */
  readonly credential: Credential | undefined
  // Private, since gateways take keys in these, too: in no inspection and no JSON of this object.
  readonly #query: readonly (readonly [string, string])[] | undefined
  readonly #headers: readonly (readonly [string, string])[] | undefined

  /** @throws InvalidOptionsError */
  constructor(options: unknown, path: string) {
    const { weight = BACKEND_DEFAULTS.weight, home = BACKEND_DEFAULTS.home, enabled = BACKEND_DEFAULTS.enabled, ...others } = readOptions(options, path, KNOWN)
    const { largerContext = BACKEND_DEFAULTS.largerContext, ...given } = others
    const base = parseBaseUrl(given.url, `${path}.url`)
    this.url = base.href
    this.origin = base.origin
    this.host = base.origin.slice(base.origin.indexOf('//') + 2)
    this.basePath = base.basePath
    this.name = readName(given.name, `${path}.name`, this.host + base.basePath)
    this.priority = checkInteger(given.priority, `${path}.priority`, 1)
    this.weight = checkNumber(weight, `${path}.weight`, { min: 0, above: true, max: MAX_WEIGHT })
    this.credential = readCredential(given, path, this.name)
    this.models = readModels(given.models, `${path}.models`)
    this.serves = readServes(given.serves, `${path}.serves`)
    this.largerContext = checkBoolean(largerContext, `${path}.largerContext`)
    this.#query = readQuery(given.query, `${path}.query`)
    this.#headers = readHeaders(given.headers, `${path}.headers`)
    this.ownsCredential = this.#holdsKey || this.#headers?.some(([name]) => isCredentialHeader(name)) === true
    this.home = checkBoolean(home, `${path}.home`)
    this.enabled = checkBoolean(enabled, `${path}.enabled`)
    this.limits = readLimits(given.limits, `${path}.limits`)
    Object.freeze(this)
  }

  /** Names and values to set in the query, not encoded. */
  get query(): readonly (readonly [string, string])[] | undefined {
    return this.#query
  }

  /** Names in lower case, and values to set in the headers. */
  get headers(): readonly (readonly [string, string])[] | undefined {
    return this.#headers
  }

  /** Of its own it has only headers that say whose account pays. */
  get hasAccountOnly(): boolean {
    return this.ownsCredential && !this.#holdsKey
  }

  /** Something of its own that opens a door. */
  get #holdsKey(): boolean {
    if (this.credential !== undefined || this.#query?.some(([name]) => isCredentialParameter(name)) === true) return true
    return this.#headers?.some(([name]) => isCredentialHeader(name) && !ACCOUNT_HEADERS.includes(name)) === true
  }

  get base(): BaseUrl {
    return { href: this.url, origin: this.origin, basePath: this.basePath }
  }
}

function readName(value: unknown, path: string, fallback: string): string {
  if (value === undefined) return fallback
  // A name stands in log lines and metrics labels: a line break in it could forge a line. 200 characters hold every
  // host with a base path that is in use, which is the default name.
  if (typeof value === 'string' && /^[^\p{Cc}\p{Zl}\p{Zp}]{1,200}$/u.test(value) && value.trim() === value) return value
  throw new InvalidOptionsError(path, 'must be a string of 1 to 200 printable characters without white space around it', describe(value))
}

function readLimits(value: unknown, path: string): DeclaredLimits | undefined {
  if (value === undefined) return undefined
  const given = readOptions(value, path, LIMITS)
  const limits: { -readonly [K in keyof DeclaredLimits]: DeclaredLimits[K] } = {}
  for (const name of LIMITS) if (given[name] !== undefined) limits[name] = checkInteger(given[name], `${path}.${name}`, 1)
  return Object.keys(limits).length === 0 ? undefined : Object.freeze(limits)
}

function readModels(value: unknown, path: string): Readonly<Record<string, string>> | undefined {
  if (value === undefined) return undefined
  const models = readStrings(value, path)
  for (const [name, target] of Object.entries(models)) {
    // As a path segment these would name another path, not a deployment.
    if (/^\.{0,2}$/.test(target) || /\p{Cc}/u.test(target)) {
      throw new InvalidOptionsError(joinPath(path, name), 'must be the name of a deployment or model', describe(target))
    }
  }
  return Object.keys(models).length === 0 ? undefined : models
}

function readServes(value: unknown, path: string): readonly string[] | undefined {
  if (value === undefined) return undefined
  return Object.freeze(readList(value, path).map((name, index) => {
    if (typeof name === 'string' && /^([^*\p{Cc}]+\*?|\*)$/u.test(name)) return name
    throw new InvalidOptionsError(`${path}[${index}]`, 'must be the name of a deployment or model, with a * at its end at most', describe(name))
  }))
}

function readQuery(value: unknown, path: string): readonly (readonly [string, string])[] | undefined {
  if (value === undefined) return undefined
  const entries = Object.entries(readStrings(value, path))
  if (entries.some(([name]) => name === '')) throw new InvalidOptionsError(path, 'must have no parameter without a name', describeKind(''))
  return entries.length === 0 ? undefined : Object.freeze(entries.map((entry) => Object.freeze(entry)))
}
