/**
 * The caller's request headers, in all the shapes that undici takes. Each attempt needs a few of them changed, and none of the
 * caller's own objects may be: read and copied here, without touching them.
 */

import { createHash, randomBytes } from 'node:crypto'
import { CREDENTIAL_HEADERS } from '../core/credential-names.js'
import type { BackendConfig } from '../core/types.js'

/** Pairs in a flat array, an object, or (made into an array at once, since it may be good for one reading only) an iterable of pairs. */
export type RequestHeaders = readonly unknown[] | Readonly<Record<string, unknown>> | null | undefined

/** By length, which rules out nearly all headers without a lower-case copy of each name. */
const CREDENTIALS_BY_LENGTH: (readonly string[] | undefined)[] = []
for (const name of CREDENTIAL_HEADERS) CREDENTIALS_BY_LENGTH[name.length] = [...CREDENTIALS_BY_LENGTH[name.length] ?? [], name]

/** Browsers cannot set headers of a WebSocket, so OpenAI takes the key among its subprotocols, too: `openai-insecure-api-key.sk-...`. */
const SUBPROTOCOL = 'sec-websocket-protocol'
const KEY_IN_SUBPROTOCOL = /^openai-insecure-api-key\./i

/** The same for whose account pays. */
const ACCOUNT_IN_SUBPROTOCOL = /^openai-(organization|project)\./i

/** The bit that a lower-case letter has, and an upper-case one has not. */
const LOWER_CASE = 0x20

/** An iterable of pairs becomes a flat array; everything else stays as it is. */
export function flattenHeaders(headers: unknown): RequestHeaders {
  if (headers === null || typeof headers !== 'object') return undefined
  if (Array.isArray(headers)) return headers as unknown[]
  if (typeof (headers as Partial<Iterable<unknown>>)[Symbol.iterator] !== 'function') return headers as Record<string, unknown>
  const flat: unknown[] = []
  for (const pair of headers as Iterable<unknown>) {
    // undici's to refuse: it takes no array of an odd length.
    if (!Array.isArray(pair) || pair.length !== 2) return [pair]
    flat.push(pair[0], pair[1])
  }
  return flat
}

/** The announced length of the body in bytes; undefined when none is, or it is no number. */
export function readContentLength(headers: RequestHeaders): number | undefined {
  const value = findHeader(headers, 'content-length')
  const text = Array.isArray(value) ? value.join(',') : value
  if (typeof text === 'number') return text
  if (typeof text !== 'string') return undefined
  const one = collapseLength(text)
  return /^\d+$/.test(one) ? Number(one) : undefined
}

/** RFC 9110 section 8.6: identical repetitions of the length may be taken as one. Anything else stays as it is. */
export function collapseLength(value: string): string {
  if (!value.includes(',')) return value.trim()
  const first = value.slice(0, value.indexOf(',')).trim()
  return value.split(',').every((one) => one.trim() === first) ? first : value
}

/** The value as the caller gave it. @param name in lower case */
export function findHeader(headers: RequestHeaders, name: string): unknown {
  if (headers === null || headers === undefined) return undefined
  if (isFlat(headers)) {
    for (let i = 0; i + 1 < headers.length; i += 2) if (isNamed(headers[i], name)) return headers[i + 1]
    return undefined
  }
  const direct = headers[name]
  if (direct !== undefined) return direct
  for (const key in headers) if (isNamed(key, name)) return headers[key]
  return undefined
}

/** What the names of headers begin with that are for us (see hints.ts). */
export const HINT_PREFIX = 'x-balancer-'

/** What `scanHeaders` may find, as bits. */
const HAS_HOST = 1
export const HAS_HINTS = 2

/** One pass over the names, of every request, for all that is looked for in them. */
export function scanHeaders(headers: RequestHeaders): number {
  let found = 0
  if (headers === null || headers === undefined) return found
  if (isFlat(headers)) for (let i = 0; i + 1 < headers.length; i += 2) found |= scanName(headers[i])
  else for (const name in headers) found |= scanName(name)
  return found
}

function scanName(name: unknown): number {
  if (isHint(name)) return HAS_HINTS
  return isNamed(name, 'host') ? HAS_HOST : 0
}

/** Whether a header is for us, in whatever letter case, also where its name is a Buffer. */
export function isHint(name: unknown): boolean {
  if (typeof name !== 'string') return name instanceof Uint8Array && isHint(Buffer.from(name).toString('latin1'))
  // The third letter, since it is a `b` in hardly any other name.
  return name.length >= HINT_PREFIX.length && (name.charCodeAt(2) | 0x20) === 0x62 && name.slice(0, HINT_PREFIX.length).toLowerCase() === HINT_PREFIX
}

/** The part of a backend that headers depend on. */
type Owner = Pick<BackendConfig, 'ownsCredential' | 'credential' | 'headers'>

interface HeaderChanges {
  /** What is its own takes the place of the caller's; with a credential of its own, of whatever the caller has to identify itself. */
  readonly backend: Owner
  readonly credential: string | undefined
  readonly contentLength: number | undefined
}

/**
 * The headers of one attempt. The very same object where nothing has to change, else a flat array: undici takes both,
 * and an object with a dozen new keys takes five times as long to make.
 * @param credential the value of the backend's credential header; undefined when it has none
 * @param contentLength takes the place of the caller's `content-length`: the body was rewritten
 * @param found what `scanHeaders` has found in them
 */
export function rewriteHeaders(
  headers: RequestHeaders, backend: Owner, credential: string | undefined, contentLength: number | undefined, found = scanHeaders(headers),
): unknown {
  const hasOwn = backend.ownsCredential || backend.headers !== undefined
  if (!hasOwn && contentLength === undefined && (found & HAS_HOST) === 0) return headers
  const changes = { backend, credential, contentLength }
  return isFlat(headers) ? rewriteFlat(headers, changes) : rewriteObject(headers ?? {}, changes)
}

function rewriteFlat(headers: readonly unknown[], changes: HeaderChanges): unknown[] {
  const copy: unknown[] = []
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i]
    if (isReplaced(name, changes)) continue
    const value = rewriteValue(name, headers[i + 1], changes)
    if (value !== NOTHING) copy.push(name, value)
  }
  // An odd number of entries is the caller's mistake, and undici's to say so.
  if (headers.length % 2 === 1) copy.push(headers[headers.length - 1])
  return addOwn(copy, changes)
}

function rewriteObject(headers: Readonly<Record<string, unknown>>, changes: HeaderChanges): unknown[] {
  const names = Object.keys(headers)
  // Made in one go: an array that grows by a pair at a time is copied twice on the way to a dozen headers, which takes a request
  // with a key of the backend's own from 2,500 bytes to 1,500 (`npm run bench -- --part pure`).
  const copy = new Array<unknown>(2 * names.length)
  let length = 0
  for (const name of names) {
    if (isReplaced(name, changes)) continue
    const value = rewriteValue(name, headers[name], changes)
    if (value === NOTHING) continue
    copy[length++] = name
    copy[length++] = value
  }
  copy.length = length
  return addOwn(copy, changes)
}

/** Something of ours takes its place: `host` is always the backend's own. */
function isReplaced(name: unknown, { backend, contentLength }: HeaderChanges): boolean {
  if (typeof name !== 'string') return false
  if (backend.ownsCredential && isCredential(name)) return true
  if (backend.headers?.some(([own]) => isNamed(name, own)) === true) return true
  return isNamed(name, 'host') || (contentLength !== undefined && isNamed(name, 'content-length'))
}

function isCredential(name: string): boolean {
  const alike = CREDENTIALS_BY_LENGTH[name.length]
  if (alike !== undefined) for (const known of alike) if (isNamed(name, known)) return true
  return false
}

/** Nothing of the value is left: the header goes. */
const NOTHING = Symbol('nothing')

function rewriteValue(name: unknown, value: unknown, { backend, credential }: HeaderChanges): unknown {
  if (!backend.ownsCredential || !isNamed(name, SUBPROTOCOL)) return value
  if (!Array.isArray(value)) return rewriteSubprotocols(value, credential)
  const values = value.map((one) => rewriteSubprotocols(one, credential)).filter((one) => one !== NOTHING)
  return values.length === 0 ? NOTHING : values
}

/** A list of subprotocols with the backend's credential instead of the caller's; without any where the backend's is of another kind. */
function rewriteSubprotocols(value: unknown, credential: string | undefined): unknown {
  if (typeof value !== 'string') return value
  const protocols = value.split(',').map((protocol) => protocol.trim())
  if (!protocols.some((protocol) => KEY_IN_SUBPROTOCOL.test(protocol) || ACCOUNT_IN_SUBPROTOCOL.test(protocol))) return value
  const kept = protocols.flatMap((protocol) => {
    if (ACCOUNT_IN_SUBPROTOCOL.test(protocol)) return []
    if (!KEY_IN_SUBPROTOCOL.test(protocol)) return [protocol]
    return credential === undefined ? [] : [`openai-insecure-api-key.${credential.replace(/^Bearer /, '')}`]
  })
  return kept.length === 0 ? NOTHING : kept.join(', ')
}

function addOwn(headers: unknown[], { backend, credential, contentLength }: HeaderChanges): unknown[] {
  if (credential !== undefined && backend.credential !== undefined) headers.push(backend.credential.header, credential)
  if (backend.headers !== undefined) for (const [name, value] of backend.headers) headers.push(name, value)
  if (contentLength !== undefined) headers.push('content-length', String(contentLength))
  return headers
}

export function isFlat(headers: RequestHeaders): headers is readonly unknown[] {
  return Array.isArray(headers)
}

/**
 * Compares without a lower-case copy of every name that is as long: first the last letters, since names that are alike begin alike.
 * Takes 360 of 2,050 bytes from a request with a key of the backend's own (`npm run bench -- --part pure`).
 */
function isNamed(key: unknown, name: string): boolean {
  if (typeof key !== 'string' || key.length !== name.length) return false
  const last = name.length - 1
  return key === name || ((key.charCodeAt(last) | LOWER_CASE) === name.charCodeAt(last) && key.toLowerCase() === name)
}

/** All that tells who the caller is, or whose account pays, in one text; `''` where there is nothing. */
export function collectCredentials(headers: RequestHeaders): string {
  return CREDENTIAL_HEADERS.map((name) => toText(findHeader(headers, name))).join('\n').trim()
}

function toText(value: unknown): string {
  if (Array.isArray(value)) return value.map(toText).join(',')
  return typeof value === 'string' ? value : value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : ''
}

/** Of this process alone: what is remembered of callers means nothing outside it. */
const salt = randomBytes(16)

/** What is remembered of a caller's credential. */
export function hashCredential(credential: string): string {
  return createHash('sha256').update(salt).update(credential).digest('base64')
}
