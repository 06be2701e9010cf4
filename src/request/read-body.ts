/**
 * What a request's body says of itself: OpenAI names the model in it, and limits belong to the model. A scan of bytes, not a parse,
 * because a prompt of megabytes is none of our business; a body that is neither JSON nor a form simply names no model.
 */
import { findHeader, type RequestHeaders } from './headers.js'
import { parseJson } from './look/error-body.js'
import { findModelField, readBoundary } from './multipart.js'
import { LONGEST_NAME_BYTES, type NameSpan } from './route.js'

/** Where the model's name stands in a body, in bytes; in JSON with its quotes. */
export interface ModelSpan extends NameSpan {
  /** Written as it reads, as in a form; not as a JSON string. */
  readonly isRaw?: true
}

/** A piece of a body, and where it begins. */
export interface Piece {
  readonly bytes: Uint8Array
  readonly offset: number
}

/** A body as far as it is in hand. */
export interface BodyInHand {
  /** As far as it is known. */
  readonly byteLength: number
  /** The first bytes, at least `length` of them where there are so many. Undefined when it is not in hand. */
  head(length: number): Uint8Array | undefined
  /** The last bytes, `length` of them where there are so many. */
  tail(length: number): Piece | undefined
}

/**
 * From each end of a body. The SDKs write `model` where the caller has put it: before the prompt, nearly always, or behind it. Where
 * it stands in neither place, looking further has to be worth it.
 */
const MAX_SCAN_BYTES = 64 * 1_024

/**
 * The top-level `model` of a JSON object, or the field `model` of a form.
 * @param isWhole whether all of a body is looked through that names no model near its ends
 */
export function findModel(body: BodyInHand, headers: RequestHeaders, isWhole: boolean): ModelSpan | undefined {
  const head = body.head(MAX_SCAN_BYTES)
  if (head === undefined) return undefined
  const start = skipSpace(head, skipMark(head))
  const length = Math.max(head.length, body.byteLength)
  if (head[start] === OPEN_BRACE) {
    if (length <= MAX_SCAN_BYTES) return findInObject(head, start)
    return findInObject(head.subarray(0, MAX_SCAN_BYTES), start) ?? findFurther(body, length, isWhole, findInEnd, (bytes) => findInObject(bytes, start))
  }
  const boundary = readBoundary(findHeader(headers, 'content-type'))
  if (boundary === undefined) return undefined
  const find = (bytes: Uint8Array): NameSpan | undefined => findModelField(bytes, boundary, true)
  const found = find(head.subarray(0, MAX_SCAN_BYTES)) ??
    (length <= MAX_SCAN_BYTES ? undefined : findFurther(body, length, isWhole, (bytes) => findModelField(bytes, boundary, false), find))
  return found === undefined ? undefined : { ...found, isRaw: true }
}

type Find = (bytes: Uint8Array) => NameSpan | undefined

/** Not in the head of a body that is longer. */
function findFurther(body: BodyInHand, length: number, isWhole: boolean, findInTail: Find, findInAll: Find): NameSpan | undefined {
  const tail = body.tail(MAX_SCAN_BYTES)
  const found = tail === undefined ? undefined : findInTail(tail.bytes)
  if (tail !== undefined && found !== undefined) return { ...found, start: found.start + tail.offset, end: found.end + tail.offset }
  // Where head and tail meet, the name may be cut by both.
  if (!isWhole && length > 2 * MAX_SCAN_BYTES) return undefined
  const all = body.head(Infinity)
  return all === undefined ? undefined : findInAll(all)
}

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

const decoder = new TextDecoder()

/** From the start on. @param brace where the object begins */
function findInObject(bytes: Uint8Array, brace: number): ModelSpan | undefined {
  let at = brace
  do {
    const keyStart = skipSpace(bytes, at + 1)
    const keyEnd = skipString(bytes, keyStart)
    if (keyEnd === -1) return undefined
    const colon = skipSpace(bytes, keyEnd)
    if (bytes[colon] !== COLON) return undefined
    const start = skipSpace(bytes, colon + 1)
    if (isModel(bytes, keyStart, keyEnd)) return toSpan(bytes, start)
    const end = skipValue(bytes, start)
    if (end === -1) return undefined
    at = skipSpace(bytes, end)
  } while (bytes[at] === COMMA)
  return undefined
}

/**
 * From the end of an object on, backwards, member by member. That is as exact as it is forwards: after the last brace it is known that
 * no string is open, and a quote ends or begins one exactly when the backslashes before it are even in number. Where the bytes begin
 * in the midst of something, nothing is taken of it.
 */
function findInEnd(bytes: Uint8Array): ModelSpan | undefined {
  let at = skipSpaceBack(bytes, bytes.length)
  if (bytes[at - 1] !== CLOSE_BRACE) return undefined
  do {
    const end = skipSpaceBack(bytes, at - 1)
    const start = skipValueBack(bytes, end)
    const colon = skipSpaceBack(bytes, start)
    if (start === -1 || bytes[colon - 1] !== COLON) return undefined
    const keyEnd = skipSpaceBack(bytes, colon - 1)
    const keyStart = skipStringBack(bytes, keyEnd)
    if (keyStart === -1) return undefined
    if (isModel(bytes, keyStart, keyEnd)) return toSpan(bytes, start)
    at = skipSpaceBack(bytes, keyStart)
  } while (bytes[at - 1] === COMMA)
  return undefined
}

function toSpan(bytes: Uint8Array, start: number): ModelSpan | undefined {
  const end = skipString(bytes, start)
  if (end === -1 || end - start - 2 > LONGEST_NAME_BYTES) return undefined
  const name = readString(bytes, start, end)
  return name === undefined || name === '' ? undefined : { name, start, end }
}

/** A key may be written with escapes (`"mod\u0065l"`); no client does, but a server would read it so. */
function isModel(bytes: Uint8Array, start: number, end: number): boolean {
  const length = end - start - 2
  if (length === 5) {
    return bytes[start + 1] === 0x6d && bytes[start + 2] === 0x6f && bytes[start + 3] === 0x64 && bytes[start + 4] === 0x65 &&
      bytes[start + 5] === 0x6c
  }
  // Six bytes for each of the five letters at most.
  return length > 5 && length <= 30 && bytes.subarray(start, end).includes(BACKSLASH) && readString(bytes, start, end) === 'model'
}

function readString(bytes: Uint8Array, start: number, end: number): string | undefined {
  const plain = readPlain(bytes, start + 1, end - 1)
  if (plain !== undefined) return plain
  const literal = decoder.decode(bytes.subarray(start, end))
  if (!literal.includes('\\')) return literal.slice(1, -1)
  try {
    return String(JSON.parse(literal))
  } catch {
    return undefined
  }
}

/** ASCII without escapes, as nearly all names are: a decoder takes several times as long to get going as this takes for all of a name. */
function readPlain(bytes: Uint8Array, start: number, end: number): string | undefined {
  let text = ''
  for (let at = start; at < end; at++) {
    const code = bytes[at]! // below the end, which is that of a string in it
    if (code < 0x20 || code > 0x7e || code === BACKSLASH) return undefined
    text += String.fromCharCode(code)
  }
  return text
}

/** @returns the offset after the value, -1 when it does not end within the bytes. */
function skipValue(bytes: Uint8Array, start: number): number {
  if (bytes[start] === QUOTE) return skipString(bytes, start)
  let depth = 0
  for (let at = start; at < bytes.length; at++) {
    const byte = bytes[at]
    if (byte === QUOTE) {
      at = skipString(bytes, at) - 1
      if (at < 0) return -1
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth++
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      if (depth === 0) return at
      depth--
      if (depth === 0) return at + 1
    } else if (byte === COMMA && depth === 0) return at
  }
  return -1
}

/** @returns the offset after the closing quote, -1 when there is none, or no string here. */
function skipString(bytes: Uint8Array, start: number): number {
  if (bytes[start] !== QUOTE) return -1
  let at = start
  do {
    at = bytes.indexOf(QUOTE, at + 1)
    if (at === -1) return -1
  } while (isEscaped(bytes, at))
  return at + 1
}

/** A quote is part of its string after an odd number of backslashes. */
function isEscaped(bytes: Uint8Array, quote: number): boolean {
  let at = quote - 1
  while (bytes[at] === BACKSLASH) at--
  return (quote - at) % 2 === 0
}

function skipSpace(bytes: Uint8Array, start: number): number {
  let at = start
  while (isSpace(bytes[at])) at++
  return at
}

/** @returns the offset after the last byte before `end` that is no space. */
function skipSpaceBack(bytes: Uint8Array, end: number): number {
  let at = end
  while (isSpace(bytes[at - 1])) at--
  return at
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

/** A byte order mark, which JSON does not have, but some programs write. */
function skipMark(bytes: Uint8Array): number {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0
}

/** @param end offset after the value @returns where the value begins, -1 when that is before these bytes. */
function skipValueBack(bytes: Uint8Array, end: number): number {
  if (bytes[end - 1] === QUOTE) return skipStringBack(bytes, end)
  let depth = 0
  for (let at = end - 1; at >= 0; at--) {
    const byte = bytes[at]
    if (byte === QUOTE) {
      at = skipStringBack(bytes, at + 1)
      if (at === -1) return -1
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth++
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      depth--
      if (depth <= 0) return depth === 0 ? at : -1
    } else if (depth === 0 && (byte === COLON || byte === COMMA)) return at + 1
  }
  return -1
}

/** @param end offset after the closing quote @returns the offset of the opening one, -1 when that is before these bytes, or no string ends here. */
function skipStringBack(bytes: Uint8Array, end: number): number {
  if (bytes[end - 1] !== QUOTE) return -1
  let at = end - 1
  do {
    at = at === 0 ? -1 : bytes.lastIndexOf(QUOTE, at - 1)
    // Of the very first bytes it is not known what stands before them.
    if (at === -1 || isCut(bytes, at)) return -1
  } while (isEscaped(bytes, at))
  return at
}

/** The backslashes before a quote may go on before these bytes. */
function isCut(bytes: Uint8Array, quote: number): boolean {
  let at = quote - 1
  while (bytes[at] === BACKSLASH) at--
  return at < 0
}

/** Tools that act on something outside the answer (OpenAI and Azure OpenAI, Responses API, 2026-11): what they have done is done. */
const ACTING_TOOLS: ReadonlySet<unknown> = new Set(['mcp', 'code_interpreter', 'computer', 'computer_use_preview', 'shell', 'local_shell', 'apply_patch'])

/** Whether a body for `/responses` asks for more than an answer. One that cannot be read asks for nothing. */
export function beginsSomething(body: Uint8Array): boolean {
  const request = parseJson(body)
  if (typeof request !== 'object' || request === null) return false
  const { background, conversation, tools } = request as { background?: unknown; conversation?: unknown; tools?: unknown }
  if (background === true || (conversation !== undefined && conversation !== null)) return true
  return Array.isArray(tools) && tools.some((tool: unknown) => typeof tool === 'object' && tool !== null && ACTING_TOOLS.has((tool as { type?: unknown }).type))
}
