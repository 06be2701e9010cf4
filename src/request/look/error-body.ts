/**
 * The status of an error is only half of what it says: a 429 may mean that the account is out of money, a 404 that another backend has
 * the model. The other half is in the body, as `code`, `type` and `param`, in half a dozen shapes. They are read whole and compared
 * whole: callers choose the names of models and the words of prompts, and servers quote both in their messages, so that a word
 * found somewhere in a text proves nothing.
 */
import { brotliDecompressSync, constants, gunzipSync, inflateRawSync, inflateSync } from 'node:zlib'
import type { AnswerError } from '../../core/types.js'

/**
 * Bytes of an answer that are undone for a look. An error's JSON is below 2 KB everywhere (OpenAI, Azure, OpenRouter, vLLM), and the
 * packets before a stream's first output are too unless they repeat the request's instructions.
 */
export const MAX_INFLATED_BYTES = 16 * 1_024

/** Characters. The longest codes of OpenAI and Azure have about thirty (`misalignment_policy_violation`); what is longer is a sentence. */
const LONGEST_CODE = 64

const PRINTABLE = /^[\x20-\x7e]+$/

/** "Limit 30000, Requested 61337", with separators of thousands or without. */
const LIMIT_AND_REQUESTED = /\bLimit:? (\d[\d,._]*), Requested:? (\d[\d,._]*)/g

const decoder = new TextDecoder()

/** What the body of an error says of itself. Never throws. */
export function readError(body: Uint8Array): AnswerError | undefined {
  return errorOf(parseJson(body))
}

/**
 * What the body of a 2xx says of an error: only `error` itself counts, since a good answer may well have a `type` of its own.
 *
 * @returns an error that says nothing more where there is one without code, type and param.
 */
export function readErrorOfSuccess(body: Uint8Array): AnswerError | undefined {
  const value = parseJson(body)
  const error = own(value, 'error')
  if (error === undefined || error === null || error === false || error === '') return undefined
  return errorOf(value) ?? { code: undefined, type: undefined, param: undefined }
}

/**
 * The same as `readError` for JSON that was parsed already: `error` as an object or as a plain code; where there is no `error`, the
 * same fields at the top (vLLM, API Management); and a list of one of these (Google's compatible API).
 */
export function errorOf(value: unknown): AnswerError | undefined {
  const answer = unlist(value)
  if (!has(answer, 'error')) return fieldsOf(answer)
  const error = own(answer, 'error')
  return typeof error === 'object' ? fieldsOf(error) : fieldsOf({ code: error })
}

/**
 * True for OpenAI's 429 for a request that is larger than its limit a minute, and so will never fit. It has the code and the headers
 * of any other 429, and only its message tells them apart: `Request too large for gpt-4o in organization org-x on tokens per min
 * (TPM): Limit 30000, Requested 61337. ...`. The one place where a message counts: its beginning is the service's own, which no
 * name of a model and no prompt can forge, and of the numbers the last ones are.
 */
export function saysTooLarge(body: Uint8Array): boolean {
  return isTooLarge(own(unlist(parseJson(body)), 'error'))
}

/** The same for an `error` that was parsed already. */
export function isTooLarge(error: unknown): boolean {
  const message = own(error, 'message')
  if (typeof message !== 'string' || !message.startsWith('Request too large')) return false
  const last = [...message.matchAll(LIMIT_AND_REQUESTED)].at(-1)
  return last !== undefined && toCount(last[2]) > toCount(last[1])
}

/**
 * The beginning of an answer as it was before it was compressed. What was cut off anywhere gives what is there.
 *
 * More than 16 KiB give nothing: zlib's synchronous functions throw away what they have when there is too much, and to look for the
 * part that just fits would take up to a dozen tries. An error is not that long, and of a stream that is, the first output is over.
 * A small error takes 15 us, a bomb of gzip or deflate 30 us (Node 20, a core of a shared machine). Brotli's decoder fills its window
 * before it hands anything over: 18 ms for a bomb with the 4 MiB that encoders take at most unless told otherwise.
 *
 * @param encoding the value of `content-encoding`.
 * @returns `undefined` for an encoding that is not known, for several, and for what does not decode.
 */
export function inflateHead(chunks: readonly Uint8Array[], encoding: string | undefined): Uint8Array | undefined {
  return encoding?.trim().toLowerCase() === 'br' && hasLargeWindow(chunks) ? undefined : inflate(chunks, encoding, MAX_INFLATED_BYTES)
}

/**
 * The same without regard to what that takes.
 * @param most bytes of what comes out; where there are more there is nothing.
 */
export function inflate(chunks: readonly Uint8Array[], encoding: string | undefined, most: number): Uint8Array | undefined {
  const [only] = chunks
  const bytes = chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks)
  try {
    switch (encoding?.trim().toLowerCase()) {
      case undefined: case '': case 'identity': return bytes
      case 'gzip': case 'x-gzip': return gunzipSync(bytes, untilHere(most))
      // The standard means zlib's format; some servers send deflate's own. Zlib's first byte names the method, 8, in its lower half.
      case 'deflate': return bytes.length === 0 || (bytes[0]! & 0x0f) === 8 ? inflateSync(bytes, untilHere(most)) : inflateRawSync(bytes, untilHere(most))
      case 'br': return brotliDecompressSync(bytes, { finishFlush: constants.BROTLI_OPERATION_FLUSH, maxOutputLength: most })
      default: return undefined
    }
  } catch {
    return undefined
  }
}

function untilHere(most: number) {
  return { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: most }
}

/** Windows of 8 and 16 MiB, which a bomb fills in up to 65 ms. The size is in the lowest bits of the first byte (RFC 7932, 9.1). */
function hasLargeWindow(chunks: readonly Uint8Array[]): boolean {
  const low = (chunks.find((chunk) => chunk.length > 0)?.[0] ?? 0) & 0x0f
  return low === 0x0d || low === 0x0f
}

/** @returns `undefined`, which no JSON is, for what is not JSON. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    // The decoder drops a byte order mark.
    return JSON.parse(decoder.decode(bytes))
  } catch {
    return undefined
  }
}

/** What is in a list of one. */
export function unlist(value: unknown): unknown {
  return Array.isArray(value) && value.length === 1 ? value[0] : value
}

/** A property of the value itself: nothing that some library has put on `Object.prototype`. */
export function own(value: unknown, key: string): unknown {
  return has(value, key) ? value[key] : undefined
}

function has(value: unknown, key: string): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
}

function fieldsOf(value: unknown): AnswerError | undefined {
  const code = toText(own(value, 'code'))
  const type = toText(own(value, 'type'))
  const param = toText(own(value, 'param'))
  return code === undefined && type === undefined && param === undefined ? undefined : { code, type, param }
}

function toText(value: unknown): string | undefined {
  const text = typeof value === 'number' ? String(value) : value
  return typeof text === 'string' && text.length <= LONGEST_CODE && PRINTABLE.test(text) ? text : undefined
}

function toCount(digits: string | undefined): number {
  return Number(digits?.replace(/\D/g, ''))
}
