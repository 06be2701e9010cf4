/**
 * The model of a recording or a picture: such a request is a form of several parts, and its `model` is a field that may stand before
 * the file or behind it. A file may contain anything, the text of another form too: only what stands between two boundaries counts.
 */
import { LONGEST_NAME_BYTES, type NameSpan } from './route.js'

/** RFC 2046 allows 70 characters; nothing that is longer than this is one. */
const LONGEST_BOUNDARY = 200

/** The headers of a part are a line or two. */
const LONGEST_HEADERS = 4_096

const CR = 0x0d
const LF = 0x0a
const DASH = 0x2d

const END_OF_HEADERS = Buffer.from('\r\n\r\n')
const decoder = new TextDecoder()

/** The boundary of a form, where the request's `content-type` says that it is one. */
export function readBoundary(contentType: unknown): string | undefined {
  const value: unknown = Array.isArray(contentType) ? contentType[0] : contentType
  if (typeof value !== 'string' || !/^\s*multipart\/form-data\s*;/i.test(value)) return undefined
  const boundary = readParameters(value).get('boundary')
  return boundary === undefined || boundary === '' || boundary.length > LONGEST_BOUNDARY ? undefined : boundary
}

/**
 * The value of the field `model`.
 * @param isStart whether these are the first bytes of the form; else the part that they begin in is passed over
 */
export function findModelField(bytes: Uint8Array, boundary: string, isStart: boolean): NameSpan | undefined {
  const form = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const delimiter = Buffer.from(`\r\n--${boundary}`, 'latin1')
  const isAtFirst = isStart && form.subarray(0, delimiter.length - 2).equals(delimiter.subarray(2))
  let at = isAtFirst ? -2 : form.indexOf(delimiter)
  while (at !== -1) {
    const line = skipPadding(form, at + delimiter.length)
    if (form[line] === DASH && form[line + 1] === DASH) return undefined
    at = form.indexOf(delimiter, line)
    // A longer boundary, of a form within a file.
    if (form[line] !== CR || form[line + 1] !== LF) continue
    // The part's end has not come.
    if (at === -1) return undefined
    // From the line's own end on, for a part may have no headers at all; and no further than they may go.
    const headersEnd = form.subarray(0, Math.min(at, line + LONGEST_HEADERS) + END_OF_HEADERS.length).indexOf(END_OF_HEADERS, line)
    if (headersEnd === -1 || !isModelField(form.toString('latin1', line, headersEnd))) continue
    return toSpan(form, headersEnd + END_OF_HEADERS.length, at)
  }
  return undefined
}

function toSpan(form: Buffer, start: number, end: number): NameSpan | undefined {
  return end <= start || end - start > LONGEST_NAME_BYTES ? undefined : { name: decoder.decode(form.subarray(start, end)), start, end }
}

/** @param headers of a part */
function isModelField(headers: string): boolean {
  let isNamed = false
  for (const line of headers.split('\r\n')) {
    const colon = line.indexOf(':')
    const name = line.slice(0, Math.max(0, colon)).trim().toLowerCase()
    const value = line.slice(colon + 1).trim()
    if (name === 'content-disposition') {
      const parameters = readParameters(value)
      isNamed = parameters.get('name') === 'model' && !parameters.has('filename') && !parameters.has('filename*')
    }
    // What is written otherwise than it reads.
    if (name === 'content-transfer-encoding' && !/^(7bit|8bit|binary)$/i.test(value)) return false
  }
  return isNamed
}

/** `form-data; name="model"`: by names in lower case, each the first time that it comes. */
function readParameters(value: string): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>()
  for (const [, name = '', quoted, token = ''] of value.matchAll(/;\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"]*))/g)) {
    const key = name.toLowerCase()
    if (!parameters.has(key)) parameters.set(key, quoted === undefined ? token.trim() : quoted.replace(/\\(.)/g, '$1'))
  }
  return parameters
}

/** White space that a boundary may have behind it. */
function skipPadding(form: Buffer, start: number): number {
  let at = start
  while (form[at] === 0x20 || form[at] === 0x09) at++
  return at
}
