/**
 * Services say within a stream, behind a status of 200, what they would have said with a status of its own: that there were too many
 * requests, or that they are overloaded. Each has its own shape for it, and some come first without the reason.
 */
import type { AnswerError } from '../../core/types.js'
import { errorOf, own, unlist } from './error-body.js'

/** An error that was found in an event. */
export interface StreamError {
  /** `undefined` where it has no reason that we could go by. */
  readonly says: AnswerError | undefined
  /** What would stand under `error` in an answer with a status of its own: an object, or nothing. */
  readonly value: unknown
}

/**
 * Events that keep a connection open. OpenAI sends `keepalive` in long responses, without having documented it (openai/openai-node#1964).
 */
export const PINGS: ReadonlySet<unknown> = new Set(['ping', 'keepalive'])

/**
 * The error that an event tells of, if it does: an event `error`, flat or with `error` in it; `response.failed`; or any other
 * with an `error` at its top, as in chat completions, whatever else is in it. The SDKs throw for the same.
 *
 * @param name of its `event:` line, or what stands for it.
 * @param data parsed; `undefined` where that is not possible.
 */
export function errorInEvent(name: string | undefined, data: unknown): StreamError | undefined {
  const value = unlist(data)
  const type = own(value, 'type')
  const error = own(value, 'error')
  if (name === 'response.failed' || type === 'response.failed') return toError(own(own(value, 'response'), 'error') ?? error)
  if (Boolean(error)) return toError(error)
  if (name === 'error' || type === 'error' || own(value, 'object') === 'error') return toError(flatten(value))
  return undefined
}

function toError(error: unknown): StreamError {
  if (typeof error === 'string' || typeof error === 'number') return { says: errorOf({ error }), value: { message: String(error) } }
  return { says: errorOf({ error }), value: typeof error === 'object' && error !== null ? error : undefined }
}

/** Of an event whose fields are the error's. Its `type` is the event's own name then. */
function flatten(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  const type = own(value, 'type')
  return { message: own(value, 'message'), type: type === 'error' ? undefined : type, param: own(value, 'param'), code: own(value, 'code') }
}
