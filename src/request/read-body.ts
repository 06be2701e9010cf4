/**
 * What a request's body says of itself: OpenAI names the model in it, and limits belong to the model. A scan of bytes, not a parse,
 * because a prompt of megabytes is none of our business; a body that is not JSON simply names no model.
 */
import { LONGEST_NAME_BYTES } from './route.js'

/** Where the model's name stands in a body. */
export interface ModelSpan {
  readonly name: string
  /** Offset of the opening quote. */
  readonly start: number
  /** Offset after the closing quote. */
  readonly end: number
}

/** The SDKs write `model` among the first keys; where it has not come by then, it is a file or an attack. */
export const MAX_SCAN_BYTES = 64 * 1_024

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

const decoder = new TextDecoder()

/**
 * The value of the top-level `model` of a JSON object, if it begins within 64 KiB.
 */
export function findModel(body: Uint8Array): ModelSpan | undefined {
  const bytes = body.length > MAX_SCAN_BYTES ? body.subarray(0, MAX_SCAN_BYTES) : body
  let at = skipSpace(bytes, 0)
  if (bytes[at] !== OPEN_BRACE) return undefined
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
  while (bytes[at] === 0x20 || bytes[at] === 0x0a || bytes[at] === 0x0d || bytes[at] === 0x09) at++
  return at
}

/** Tools that act on something outside the answer (OpenAI and Azure OpenAI, Responses API, 2026-11): what they have done is done. */
const ACTING_TOOLS: ReadonlySet<unknown> = new Set(['mcp', 'code_interpreter', 'computer', 'computer_use_preview', 'shell', 'local_shell', 'apply_patch'])

/** Whether a body for `/responses` asks for more than an answer. One that cannot be read asks for nothing. */
export function beginsSomething(body: Uint8Array): boolean {
  let request: unknown
  try {
    request = JSON.parse(decoder.decode(body))
  } catch {
    return false
  }
  if (typeof request !== 'object' || request === null) return false
  const { background, conversation, tools } = request as { background?: unknown; conversation?: unknown; tools?: unknown }
  if (background === true || (conversation !== undefined && conversation !== null)) return true
  return Array.isArray(tools) && tools.some((tool: unknown) => typeof tool === 'object' && tool !== null && ACTING_TOOLS.has((tool as { type?: unknown }).type))
}
