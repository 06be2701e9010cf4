/**
 * Which requests are balanced, and which of them must not move: decided by the URL alone. What matches must match byte for byte
 * and on whole segments, or a backend would be asked for something else than the caller wrote.
 */
import type { PathKind } from '../core/types.js'
import type { DispatchOptions } from './undici.js'

/** What is compared: an origin, and a base path without a slash at its end. */
export interface Base {
  readonly origin: string
  readonly basePath: string
}

/** The name of a deployment or model, decoded, and where it stands as it was written. */
export interface NameSpan {
  readonly name: string
  readonly start: number
  readonly end: number
}

/** What the URL of a request for the pool says. */
export interface Route {
  /** Path and query after the request's own base. */
  readonly rest: string
  /** Names what lives on one backend: it goes to the pool's home. */
  readonly isStateful: boolean
  /** A POST to it makes something (text, vectors, pictures, sound). */
  readonly isGenerating: boolean
  /** How much of a refusal here is the credential's, and how much the path's. */
  readonly kind: PathKind
  /** That Azure names in the path, and where in `rest` it stands. */
  readonly deployment: NameSpan | undefined
  /** The value of `deployment`, else of `model`, in the query: the name of an upgrade, which has no body. */
  readonly queryName: NameSpan | undefined
  /** The query may hold a credential, or a percent sign that may hide one: worth taking apart where none may be in it. */
  readonly mayHoldKey: boolean
}

/** The base paths of one origin, and its last request that was one for the pool. */
interface Origin {
  /** Longest first: the first that matches is the request's own base. */
  readonly basePaths: readonly string[]
  lastPath: string | undefined
  lastRoute: Route | undefined
}

const PERCENT = 0x25
const DOT = 0x2e
const SLASH = 0x2f
const QUESTION_MARK = 0x3f
const BACKSLASH = 0x5c

/** Spellings of origins that are remembered; a process that speaks to more hosts starts over. */
const KNOWN_ORIGINS = 1_000

export class UrlMatcher {
  readonly #bases = new Map<string, Origin>()
  /** By their spellings: `https://Host:443` is the same as `https://host`. */
  #origins = new Map<string, Origin | undefined>()

  constructor(bases: readonly Base[]) {
    for (const { origin, basePath } of bases) {
      const basePaths = [...(this.#bases.get(origin)?.basePaths ?? []), basePath].sort((a, b) => b.length - a.length)
      this.#bases.set(origin, { basePaths, lastPath: undefined, lastRoute: undefined })
    }
  }

  /** By the longest base that the request's URL starts with; undefined: it starts with none. */
  match(opts: DispatchOptions): Route | undefined {
    // What is no options object at all is undici's to refuse, in its own words.
    if ((opts as DispatchOptions | null | undefined) == null || opts.method === 'CONNECT') return undefined
    const origin = this.#find(opts.origin)
    if (origin === undefined) return undefined
    const { path } = opts
    // A process asks for few URLs, mostly for one.
    if (path === origin.lastPath) return origin.lastRoute
    const route = findRoute(path, origin.basePaths)
    if (route !== undefined) {
      origin.lastPath = path
      origin.lastRoute = route
    }
    return route
  }

  #find(origin: string | URL | undefined): Origin | undefined {
    const spelling = typeof origin === 'string' ? origin : String(origin)
    if (this.#origins.has(spelling)) return this.#origins.get(spelling)
    if (this.#origins.size >= KNOWN_ORIGINS) this.#origins = new Map()
    const found = this.#bases.get(normalize(spelling))
    this.#origins.set(spelling, found)
    return found
  }
}

function findRoute(path: string, basePaths: readonly string[]): Route | undefined {
  for (const basePath of basePaths) {
    if (startsWithBase(path, basePath)) return isTricky(path) ? undefined : readRoute(path.slice(basePath.length))
  }
  return undefined
}

/** @param rest path and query after the request's own base */
export function readRoute(rest: string): Route {
  return {
    rest,
    isStateful: isStateful(rest),
    isGenerating: GENERATING.test(rest),
    kind: CORE.test(rest) ? 'core' : MODEL_API.test(rest) ? 'model' : 'outside',
    deployment: findDeployment(rest),
    queryName: findParameter(rest, 'deployment') ?? findParameter(rest, 'model'),
    mayHoldKey: /\?.*(key|code|sig|token|%)/i.test(rest),
  }
}

/** `HTTPS://Host:443/` and the like, which undici takes too. What has more in it, such as a user name or a path, is no origin. */
function normalize(origin: string): string {
  if (!URL.canParse(origin)) return ''
  const url = new URL(origin)
  return url.href === `${url.origin}/` ? url.origin : ''
}

/** Byte for byte, and only on the boundary of a segment: `/openai/v1` is no base of `/openai/v10`. */
function startsWithBase(path: string, basePath: string): boolean {
  if (typeof path !== 'string' || !path.startsWith(basePath)) return false
  const next = path.charCodeAt(basePath.length)
  return next === SLASH || next === QUESTION_MARK || (path.length === basePath.length && basePath !== '')
}

/**
 * True when a server could read the path as another one than the one that was compared: dot segments, plain or
 * encoded, also behind an encoded slash, and backslashes.
 */
function isTricky(path: string): boolean {
  // One pass that nearly always finds nothing.
  for (let i = 0; i < path.length; i++) {
    const code = path.charCodeAt(i)
    if (code === QUESTION_MARK) return false
    if (code === BACKSLASH) return true
    if (code === PERCENT || (code === DOT && path.charCodeAt(i - 1) === SLASH)) return hasDotSegment(path)
  }
  return false
}

function hasDotSegment(pathAndQuery: string): boolean {
  const query = pathAndQuery.indexOf('?')
  const path = query === -1 ? pathAndQuery : pathAndQuery.slice(0, query)
  const decoded = path.replace(/%2e/gi, '.').replace(/%2f|%5c|\\/gi, '/')
  // Some servers cut parameters off a segment before they look at it: `..;x`.
  return path.includes('\\') || /\/\.{1,2}([/;]|$)/.test(decoded)
}

const DEPLOYMENTS = '/deployments/'

/** Deployment and model names are at most 64 characters long with both services; whatever is longer is no name, and not worth keeping as one. */
export const LONGEST_NAME_BYTES = 256

/** The deployment in a path, decoded: `gpt-4o` in `/openai/deployments/gpt-4o/chat/completions?api-version=...`. */
function findDeployment(path: string): Route['deployment'] {
  const at = path.indexOf(DEPLOYMENTS)
  if (at === -1) return undefined
  const query = path.indexOf('?')
  const start = at + DEPLOYMENTS.length
  const slash = path.indexOf('/', start)
  let end = query === -1 ? path.length : query
  if (slash !== -1 && slash < end) end = slash
  // Empty where that comes only after the question mark.
  const name = path.slice(start, end)
  if (name === '' || name.length > LONGEST_NAME_BYTES) return undefined
  return { name: decode(name), start, end }
}

/** Realtime's WebSockets name their model so: OpenAI says `model`, Azure `deployment`. */
function findParameter(rest: string, parameter: string): NameSpan | undefined {
  let start = rest.indexOf('?') + 1
  if (start === 0) return undefined
  while (start < rest.length) {
    const next = rest.indexOf('&', start)
    const end = next === -1 ? rest.length : next
    const equals = rest.indexOf('=', start)
    if (equals !== -1 && equals < end && decode(rest.slice(start, equals)) === parameter) {
      const value = rest.slice(equals + 1, end)
      return value === '' || value.length > LONGEST_NAME_BYTES ? undefined : { name: decode(value.replaceAll('+', ' ')), start: equals + 1, end }
    }
    start = end + 1
  }
  return undefined
}

/** Percent-decoded; as it is where that is not possible. */
export function decode(text: string): string {
  if (!text.includes('%')) return text
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** Where the API's root is not part of the base it may stand in the rest: `/openai/files`, `/openai/v1/files`, `/v1/files`. */
const ROOT = '^(?:/openai)?(?:/v1)?'
const END = '(?=[/?]|$)'
/** A slash behind the last segment is the same path to most servers. */
const LAST = '/?(?=\\?|$)'

/** Azure OpenAI and OpenAI API references (2026-11), one word a resource. What is below it and what lists it lives on one backend. */
const RESOURCES = [
  'files', 'uploads', 'batches', 'assistants', 'threads', 'vector_stores', 'fine_tuning', 'evals', 'containers', 'conversations', 'skills',
  'chatkit', 'audio/voices', 'audio/voice_consents',
]

/** What is made at the word itself, anywhere; what is made then lives below it, where it was made. */
const MADE_ANYWHERE = [
  // What only counts tokens, or makes a conversation shorter, names nothing.
  `responses/(?!(?:compact|input_tokens)${LAST})`, 'chat/completions/', 'videos/', 'realtime/calls/', `video/generations/(?!jobs${LAST})`,
]

/**
 * Names things that live on one backend. Creating a response can happen anywhere; fetching, continuing or deleting one cannot.
 */
const STATEFUL = new RegExp(`${ROOT}/(?:(?:${RESOURCES.join('|')})${END}|(?:${MADE_ANYWHERE.join('|')})[^/?])`)

/** Azure's older paths name the deployment before what is done with it. */
const DEPLOYED = `${ROOT}(?:/deployments/[^/?]+)?`

const GENERATING = new RegExp(
  `${DEPLOYED}/(?:(?:responses(?:/compact|/input_tokens)?|chat/completions|completions|embeddings|moderations)${LAST}|(?:images|audio|video/generations)/[^/?]|videos${END})`,
)

const CORE = new RegExp(`${DEPLOYED}/(?:responses|chat/completions|embeddings)${LAST}`)

const MODEL_API = new RegExp(
  `${ROOT}/(?:deployments|engines|models|responses|chat|completions|embeddings|moderations|images|audio|video|videos|realtime|${RESOURCES.join('|')})${END}`,
)

/** @param rest path and query after the request's own base */
export function isStateful(rest: string): boolean {
  return STATEFUL.test(rest)
}

/** Whether a response is made here: of all that can be answered anywhere, this alone may leave something behind. */
export function isResponses(rest: string): boolean {
  return /^(\/openai)?(\/v1)?\/responses\/?(\?|$)/.test(rest)
}
