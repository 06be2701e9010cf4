/**
 * The caller's request headers, in all the shapes that undici takes. Each attempt needs a few of them changed, and none of the
 * caller's own objects may be: read and copied here, without touching them.
 */

/** Pairs in a flat array, an object, or (made into an array at once, since it may be good for one reading only) an iterable of pairs. */
export type RequestHeaders = readonly unknown[] | Readonly<Record<string, unknown>> | null | undefined

/**
 * What tells a server who the caller is, or whose account pays: in Azure OpenAI, OpenAI, Azure API Management, Azure Functions,
 * Google, LiteLLM, Portkey and Helicone. A backend with a credential of its own must see none of it.
 */
const CREDENTIALS = [
  'api-key', 'authorization', 'x-api-key', 'x-goog-api-key', 'ocp-apim-subscription-key', 'x-functions-key', 'x-litellm-api-key',
  'x-portkey-api-key', 'helicone-auth', 'cookie', 'proxy-authorization', 'openai-organization', 'openai-project',
]

/** By length, which rules out nearly all headers without a lower-case copy of each name. */
const CREDENTIALS_BY_LENGTH: (readonly string[] | undefined)[] = []
for (const name of CREDENTIALS) CREDENTIALS_BY_LENGTH[name.length] = [...CREDENTIALS_BY_LENGTH[name.length] ?? [], name]

/** Browsers cannot set headers of a WebSocket, so OpenAI takes the key among its subprotocols, too: `openai-insecure-api-key.sk-...`. */
const SUBPROTOCOL = 'sec-websocket-protocol'
const KEY_IN_SUBPROTOCOL = /\bopenai-insecure-api-key\.[^\s,]+/g

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

export interface HeaderChanges {
  /** Takes the place of whatever the caller has to identify itself. */
  readonly credential: { readonly name: string; readonly value: string } | undefined
  /** Takes the place of the caller's `content-length`: the body was rewritten. */
  readonly contentLength: number | undefined
}

/**
 * The headers of one attempt. The very same object where nothing has to change, else a flat array: undici takes both,
 * and an object with a dozen new keys takes five times as long to make.
 */
export function rewriteHeaders(headers: RequestHeaders, changes: HeaderChanges): unknown {
  const { credential, contentLength } = changes
  if (credential === undefined && contentLength === undefined && findHeader(headers, 'host') === undefined) return headers
  return isFlat(headers) ? rewriteFlat(headers, changes) : rewriteObject(headers ?? {}, changes)
}

function rewriteFlat(headers: readonly unknown[], changes: HeaderChanges): unknown[] {
  const copy: unknown[] = []
  for (let i = 0; i + 1 < headers.length; i += 2) if (!isReplaced(headers[i], changes)) copy.push(headers[i], rewriteValue(headers[i], headers[i + 1], changes))
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
    copy[length++] = name
    copy[length++] = rewriteValue(name, headers[name], changes)
  }
  copy.length = length
  return addOwn(copy, changes)
}

/** Something of ours takes its place: `host` is always the backend's own. */
function isReplaced(name: unknown, { credential, contentLength }: HeaderChanges): boolean {
  if (typeof name !== 'string') return false
  if (credential !== undefined && isCredential(name)) return true
  return isNamed(name, 'host') || (contentLength !== undefined && isNamed(name, 'content-length'))
}

function isCredential(name: string): boolean {
  const alike = CREDENTIALS_BY_LENGTH[name.length]
  if (alike !== undefined) for (const known of alike) if (isNamed(name, known)) return true
  return false
}

function rewriteValue(name: unknown, value: unknown, { credential }: HeaderChanges): unknown {
  return credential !== undefined && isNamed(name, SUBPROTOCOL) ? rewriteSubprotocol(value, credential.value) : value
}

function rewriteSubprotocol(value: unknown, credential: string): unknown {
  if (Array.isArray(value)) return value.map((one) => rewriteSubprotocol(one, credential))
  return typeof value === 'string' ? value.replace(KEY_IN_SUBPROTOCOL, () => `openai-insecure-api-key.${credential.replace(/^Bearer /, '')}`) : value
}

function addOwn(headers: unknown[], { credential, contentLength }: HeaderChanges): unknown[] {
  if (credential !== undefined) headers.push(credential.name, credential.value)
  if (contentLength !== undefined) headers.push('content-length', String(contentLength))
  return headers
}

function isFlat(headers: RequestHeaders): headers is readonly unknown[] {
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
