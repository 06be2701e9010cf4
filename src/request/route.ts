/** Which requests are balanced, and which of them must not move: decided by the URL alone. */
import { findDeployment } from '../core/scope.js'
import type { DispatchOptions } from './undici.js'

/** What is compared: an origin, and a base path without a slash at its end. */
export interface Base {
  readonly origin: string
  readonly basePath: string
}

/** What the URL of a request for the pool says. */
export interface Route {
  /** Path and query after the request's own base. */
  readonly rest: string
  /** See `isStateful`. */
  readonly isStateful: boolean
  /** That Azure names in the path. */
  readonly deployment: string | undefined
  /** The query has a `key` in it, or a percent sign that may hide one: worth taking apart where no credential may be in it. */
  readonly mayHoldKey: boolean
}

const PERCENT = 0x25
const DOT = 0x2e
const SLASH = 0x2f
const QUESTION_MARK = 0x3f
const BACKSLASH = 0x5c

const NO_OPTIONS: Partial<DispatchOptions> & { path: string } = { path: '' }

/** Spellings of origins that were looked at lately; more than this many hosts in one process start over. */
const CACHED_ORIGINS = 1_000

export class UrlMatcher {
  readonly #bases = new Map<string, readonly string[]>()
  #cache = new Map<string, readonly string[] | null>()
  // Of the last request that was one for the pool: a process asks for few URLs, mostly for one, and reading it takes a third of a request's whole time.
  #lastOrigin = ''
  #lastPath = ''
  #lastRoute: Route | undefined

  constructor(bases: readonly Base[]) {
    for (const { origin, basePath } of bases) {
      // Longest first: that one is the request's own base.
      const paths = [...(this.#bases.get(origin) ?? []), basePath].sort((a, b) => b.length - a.length)
      this.#bases.set(origin, paths)
    }
  }

  /** By the longest base that the request's URL starts with; undefined: it starts with none. */
  match(opts: DispatchOptions): Route | undefined {
    // What is no options object at all is undici's to refuse, in its own words.
    const { origin, path } = (opts as DispatchOptions | null | undefined) ?? NO_OPTIONS
    if (origin === this.#lastOrigin && path === this.#lastPath && opts.method !== 'CONNECT') return this.#lastRoute
    const basePaths = this.#find(origin)
    if (basePaths === null || opts.method === 'CONNECT') return undefined
    const route = findRoute(path, basePaths)
    if (route !== undefined && typeof origin === 'string') {
      this.#lastOrigin = origin
      this.#lastPath = path
      this.#lastRoute = route
    }
    return route
  }

  #find(origin: string | URL | undefined): readonly string[] | null {
    if (typeof origin !== 'string') return this.#bases.get(normalize(String(origin))) ?? null
    const known = this.#cache.get(origin)
    if (known !== undefined) return known
    if (this.#cache.size >= CACHED_ORIGINS) this.#cache = new Map()
    const found = this.#bases.get(normalize(origin)) ?? null
    this.#cache.set(origin, found)
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
  return { rest, isStateful: isStateful(rest), deployment: findDeployment(rest), mayHoldKey: /\?.*(key|%)/i.test(rest) }
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
  // One pass that nearly always finds nothing: this stands in every request's way.
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

/** Names things that live on one backend: Azure OpenAI and OpenAI API references, one word a resource. */
const STATEFUL = [
  '/files', '/uploads', '/batches', '/assistants', '/threads', '/vector_stores', '/fine_tuning', '/evals', '/containers', '/conversations',
]

/** By the code of the first letter: this stands in every request's way, and nearly always finds nothing. */
const STATEFUL_BY_INITIAL: string[][] = []
const NONE: readonly string[] = []
for (const name of STATEFUL) (STATEFUL_BY_INITIAL[name.charCodeAt(1)] ??= []).push(name)

/** True for what is created on one backend and only known there; such a request goes to the pool's home. `rest`: see `Route`. */
export function isStateful(rest: string): boolean {
  let at = 0
  // Where the API's root is not part of the base: `/openai/files`, `/openai/v1/files`, `/v1/files`.
  if (isSegment(rest, at, '/openai')) at += '/openai'.length
  if (isSegment(rest, at, '/v1')) at += '/v1'.length
  for (const name of STATEFUL_BY_INITIAL[rest.charCodeAt(at + 1)] ?? NONE) if (isSegment(rest, at, name)) return true
  // Creating a response can happen anywhere; fetching, continuing or deleting one cannot.
  return isSegment(rest, at, '/responses') && rest.charCodeAt(at + '/responses'.length) === SLASH && !isEndOfSegment(rest, at + '/responses/'.length)
}

/** Whether this whole segment, with the slash before it, stands here. */
function isSegment(path: string, at: number, segment: string): boolean {
  return path.startsWith(segment, at) && isEndOfSegment(path, at + segment.length)
}

function isEndOfSegment(path: string, at: number): boolean {
  const code = path.charCodeAt(at)
  return at >= path.length || code === SLASH || code === QUESTION_MARK
}
