/** What a request is throttled under: Azure limits a deployment, which is in the path; OpenAI a model, which is in the body. */

/** Where the model's name stands in a body. */
export interface ModelSpan {
  readonly name: string
  /** Offset of the opening quote. */
  readonly start: number
  /** Offset after the closing quote. */
  readonly end: number
}

const DEPLOYMENTS = '/deployments/'

/** The SDKs write `model` among the first keys; where it has not come by then, it is a file or an attack. */
export const MAX_SCAN_BYTES = 64 * 1_024

/** Names are at most 64 characters long with both services; whatever is longer is no name, and not worth keeping as one. */
const LONGEST_NAME_BYTES = 256

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

const decoder = new TextDecoder()

/** The deployment in a path, decoded: `gpt-4o` in `/openai/deployments/gpt-4o/chat/completions?api-version=...`. */
export function findDeployment(path: string): string | undefined {
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
  return name.includes('%') ? decode(name) : name
}

/**
 * The value of the top-level `model` of a JSON object, if it begins within 64 KiB. A scan, not a parse: a prompt of
 * megabytes is none of our business, and a body that is not JSON simply has no model.
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
  const name = lastName.read(bytes, start, end)
  return name === undefined || name === '' ? undefined : { name, start, end }
}

/** A process asks for few models, mostly for one: the bytes of the last name need not be made text again. */
class LastName {
  #name = ''

  /** @returns `undefined` where the literal is none. */
  read(bytes: Uint8Array, start: number, end: number): string | undefined {
    if (this.#isAt(bytes, start + 1, end - 1)) return this.#name
    const name = readString(bytes, start, end)
    // Only of such a name the bytes are the characters.
    if (name !== undefined && /^[\x20-\x5b\x5d-\x7e]*$/.test(name)) this.#name = name
    return name
  }

  #isAt(bytes: Uint8Array, start: number, end: number): boolean {
    const name = this.#name
    if (name.length !== end - start) return false
    for (let i = 0; i < name.length; i++) if (bytes[start + i] !== name.charCodeAt(i)) return false
    return true
  }
}

const lastName = new LastName()

/** A key may be written with escapes (`"mod\u0065l"`); nobody does, but a server would read it so. */
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
  const literal = decoder.decode(bytes.subarray(start, end))
  if (!literal.includes('\\')) return literal.slice(1, -1)
  try {
    return String(JSON.parse(literal))
  } catch {
    return undefined
  }
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

function decode(name: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    return name
  }
}
