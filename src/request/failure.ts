/**
 * An error is not always a failure of the backend: it may be the caller's own, or an answer that an interceptor further in has
 * turned into an error. Judged by undici's error codes.
 */
import type { AttemptEnd, ResponseHeaders } from '../core/types.js'

/** A request that could not be sent as it is, or a dispatcher that its owner has closed: no backend is to blame, and another one would not help. */
const CALLERS = new Set([
  'UND_ERR_INVALID_ARG', 'UND_ERR_NOT_SUPPORTED', 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH', 'UND_ERR_INVALID_RETURN_VALUE',
  'UND_ERR_CLOSED', 'UND_ERR_DESTROYED', 'UND_MOCK_ERR_MOCK_NOT_MATCHED', 'ERR_NOCK_NO_MATCH', 'ERR_INVALID_ARG_TYPE',
])

/** Our own machine could not even try: out of file descriptors, buffers, memory or ports. No backend is at fault. */
const LOCAL = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL'])

/** What `RetryAgent` and `interceptors.retry()`, and what `interceptors.responseError()` make of an answer that they do not like. */
const ANSWERS = new Set(['UND_ERR_REQ_RETRY', 'UND_ERR_RESPONSE'])

/** An answer that was turned into an error. */
export interface ErrorAnswer {
  readonly status: number
  readonly headers: ResponseHeaders
}

export function isCallersFault(error: Error): boolean {
  // A TypeError is a mistake in the program (a header name that is no string); what the network does comes as an Error.
  return CALLERS.has(codeOf(error)) || error.name === 'TypeError'
}

/** How an attempt ended that got no response headers. @param wasConnected whether the request was on a connection. */
export function endOf(error: Error, wasConnected: boolean): AttemptEnd {
  const code = codeOf(error)
  if (code === 'ERR_OPLB_CREDENTIAL') return 'credential'
  if (LOCAL.has(code)) return 'local'
  if (code === 'EAI_AGAIN') return 'resolver'
  if (code === 'UND_ERR_HEADERS_TIMEOUT') return 'timeout'
  return wasConnected ? 'reset' : 'connection'
}

/** The shortest answer that there is, `HTTP/1.1 200 OK` and an empty line: a connection on which less was read has not served before. */
const SHORTEST_ANSWER_BYTES = 19

/** What a connection that was closed just then comes to; whatever else went wrong, there was an answer of some kind. */
const CLOSED = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'])

export function isClosed(error: Error): boolean {
  return CLOSED.has(codeOf(error))
}

/** The server had closed a connection that had served before, when this request was put on it: it has not seen the request. */
export function wasServedBefore(error: Error): boolean {
  const { bytesRead } = (error as { socket?: { bytesRead?: unknown } | null }).socket ?? {}
  return typeof bytesRead === 'number' && bytesRead >= SHORTEST_ANSWER_BYTES
}

/** The answer inside an error; undefined where none is. */
export function answerIn(error: Error): ErrorAnswer | undefined {
  if (!ANSWERS.has(codeOf(error))) return undefined
  const { statusCode: status, headers } = error as { statusCode?: unknown; headers?: unknown }
  if (typeof status !== 'number' || status < 200) return undefined
  return { status, headers: typeof headers === 'object' && headers !== null ? headers as ResponseHeaders : {} }
}

function codeOf(error: Error): string {
  return String((error as { code?: unknown }).code)
}

/** Anything can be thrown or rejected with; handlers are promised an Error. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(`A value that is no Error was thrown: ${typeof thrown}`, { cause: thrown })
}
