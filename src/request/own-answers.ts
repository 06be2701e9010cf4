/**
 * Answers that do not come from a connection: that all backends are full, that none has the model, that a request says what cannot be
 * understood, and an earlier answer that is the best there is after all.
 * Told to the caller's handler as undici would tell of a response, pauses and aborts included.
 */
import { STATUS_CODES } from 'node:http'
import type { OutcomeClass } from '../core/types.js'
import type { Caller, StableController, Steered } from './caller.js'
import { toError } from './failure.js'
import type { Refusal } from './hints.js'
import type { AnyHeaders, ParsedHeaders } from './undici.js'

/** Up to here openai-node obeys a wait that it is told, in milliseconds; past it, it would come back after half a second instead (7.x, 2026-11). */
const LONGEST_OBEYED_MS = 60_000

/** An answer that is at hand as a whole. */
export interface Answer {
  readonly status: number
  readonly raw: AnyHeaders
  readonly parsed: ParsedHeaders | undefined
  readonly message: string | undefined
  readonly body: Buffer
  /** All of it is there. */
  readonly isWhole: boolean
}

interface HeadersAndBody {
  readonly headers: Record<string, string>
  readonly body: Buffer
}

/** What stands under `error` in an answer of ours, in the shape of OpenAI's. */
interface OwnError {
  readonly message: string
  readonly type: string
  readonly param: string | null
  readonly code: string
}

/**
 * Headers and body of a 429 as OpenAI gives it, so that every SDK knows what to do: `retry-after-ms` in whole
 * milliseconds (Azure OpenAI, openai-node), `retry-after` in whole seconds, rounded up (RFC 9110 section 10.2.3). A wait that
 * openai-node would not obey comes with `x-should-retry: false`, which it does obey.
 */
export function makeThrottledAnswer(retryAfterMs: number): HeadersAndBody {
  const ms = Math.max(1, Math.ceil(retryAfterMs))
  const { headers, body } = makeOwnError({
    message: `no backend is available right now, all are throttled. Please retry after ${ms} milliseconds.`,
    type: 'rate_limit_error',
    param: null,
    code: 'rate_limit_exceeded',
  })
  return { headers: { ...headers, ...makeRetryHeaders(ms) }, body }
}

/** @param ms a whole number. */
function makeRetryHeaders(ms: number): Record<string, string> {
  const stop = ms > LONGEST_OBEYED_MS ? { 'x-should-retry': 'false' } : {}
  return { 'retry-after': String(Math.ceil(ms / 1_000)), 'retry-after-ms': String(ms), ...stop }
}

/** With the name of this package before the message: no one is to look for it at a backend. */
function makeOwnError({ message, ...more }: OwnError): HeadersAndBody {
  return makeError({ message: `openai-priority-loadbalancer: ${message}`, ...more })
}

function makeError(error: unknown): HeadersAndBody {
  const body = Buffer.from(JSON.stringify({ error }))
  return { headers: { 'content-type': 'application/json', 'content-length': String(body.byteLength) }, body }
}

function toAnswer(status: number, { headers, body }: HeadersAndBody): Answer {
  return { status, raw: rawOf(headers), parsed: headers, message: STATUS_CODES[status], body, isWhole: true }
}

/** All backends are full. */
export function throttledAnswer(retryAfterMs: number): Answer {
  return toAnswer(429, makeThrottledAnswer(retryAfterMs))
}

/** Names in an answer: a reader wants to see how theirs is spelt, not a catalogue. */
const MOST_NAMES = 50

/**
 * The 404 that OpenAI gives for a model that it does not have.
 * @param served by the backends, as configured
 */
export function unservedAnswer(model: string, served: readonly string[]): Answer {
  const names = served.slice(0, MOST_NAMES).join(', ') + (served.length > MOST_NAMES ? `, and ${served.length - MOST_NAMES} more` : '')
  const message = `no backend serves the model ${JSON.stringify(model)}. Served are: ${names}.`
  return toAnswer(404, makeOwnError({ message, type: 'invalid_request_error', param: 'model', code: 'model_not_found' }))
}

/** To a request that says of itself what cannot be understood. No SDK repeats a 400. */
export function refusedAnswer({ code, param, message }: Refusal): Answer {
  return toAnswer(400, makeOwnError({ message, type: 'invalid_request_error', param, code }))
}

/**
 * What an error says, for an answer of ours that stands for a 200 with an error in it: SDKs retry a 429 or a 5xx, and not that.
 * @param value as the service gave it: an object, or a sentence
 * @param fallback the message where it has none
 * @param retryAfterMs above 0, or nothing is said of when to come back
 */
export function errorAnswer(status: number, value: unknown, fallback: string, retryAfterMs: number | undefined): Answer {
  const given = typeof value === 'object' && value !== null ? value as { readonly [key: string]: unknown } : {}
  const { message = typeof value === 'string' ? value : fallback, type = status === 429 ? 'rate_limit_error' : 'server_error', param = null, code = null } = given
  const { headers, body } = makeError({ message, type, param, code })
  if (retryAfterMs !== undefined && retryAfterMs > 0) Object.assign(headers, makeRetryHeaders(Math.ceil(retryAfterMs)))
  return toAnswer(status, { headers, body })
}

/**
 * What stands for a 200 with an error in it where nothing follows; undefined where that error is the caller's to read as it came.
 * @param cooldownMs until the backend is expected to take a request
 */
export function toErrorAnswer(outcome: OutcomeClass, code: string | undefined, value: unknown, cooldownMs: number): Answer | undefined {
  const isFull = outcome === 'throttled' || outcome === 'exhausted' || outcome === 'oversized'
  if (!isFull && outcome !== 'failed') return undefined
  return errorAnswer(isFull ? 429 : statusOf(code), value, 'The service ended the stream with an error.', outcome === 'throttled' ? cooldownMs : undefined)
}

/** A gateway's code may be a status; an overload is a 503. */
function statusOf(code: string | undefined): number {
  if (code !== undefined && /^5\d\d$/.test(code)) return Number(code)
  return code?.endsWith('overloaded') === true ? 503 : 500
}

/** Shared by all answers of which nothing has come yet, and never written to. */
const NONE: Buffer[] = []

/** A backend's answer of which nothing has reached the caller yet: it may become the caller's, or be kept in case that no better one comes. */
export class KeptAnswer implements Answer {
  readonly status: number
  readonly raw: AnyHeaders
  readonly parsed: ParsedHeaders | undefined
  readonly message: string | undefined
  /** What has come of its body. */
  chunks: Buffer[] = NONE
  /** All of it is there: it may be longer than is worth reading. */
  isWhole = false

  constructor(status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined) {
    this.status = status
    this.raw = raw
    this.parsed = parsed
    this.message = message
  }

  /** As undici gave them out. */
  get headers(): AnyHeaders {
    return this.parsed ?? this.raw
  }

  add(chunk: Buffer): void {
    if (this.chunks === NONE) this.chunks = [chunk]
    else this.chunks.push(chunk)
  }

  end(): void {
    this.isWhole = true
  }

  get body(): Buffer {
    return Buffer.concat(this.chunks)
  }
}

/** Hands the answer to the caller's handler step by step, with regard to a pause between the steps. */
export class SyntheticResponse implements Steered {
  readonly #caller: Caller
  readonly #controller: StableController
  readonly #answer: Answer
  readonly #hasBody: boolean
  #step = 0
  #running = false
  #end: (() => void) | undefined
  #fail: ((error: Error) => void) | undefined

  /** @param hasBody false for a HEAD request */
  constructor(caller: Caller, controller: StableController, answer: Answer, hasBody: boolean) {
    this.#caller = caller
    this.#controller = controller
    this.#answer = answer
    this.#hasBody = hasBody
  }

  /**
   * @param end is to tell the caller of the end
   * @param fail the caller's handler threw; it is told of it like of any failure
   */
  start(end: () => void, fail: (error: Error) => void): void {
    this.#end = end
    this.#fail = fail
    this.#controller.attach(this)
    this.#run()
  }

  #run(): void {
    // Resumed from inside a callback: the loop below us on the stack goes on when that has returned.
    if (this.#running) return
    this.#running = true
    try {
      while (this.#controller.steers(this) && !this.#controller.paused && this.#step < 3) this.#tell(this.#step++)
    } catch (error) {
      this.#fail?.(toError(error))
    }
    this.#running = false
  }

  #tell(step: number): void {
    const { status, raw, parsed, message, body } = this.#answer
    if (step === 0) this.#caller.headers(this.#controller, status, raw, parsed, message)
    else if (step === 1 && this.#hasBody && body.byteLength > 0) this.#caller.data(this.#controller, body)
    else if (step === 2) this.#end?.()
  }

  pause(): void {}

  resume(): void {
    this.#run()
  }
}

function rawOf(headers: Record<string, string>): Buffer[] {
  return Object.entries(headers).flatMap(([name, value]) => [Buffer.from(name), Buffer.from(value)])
}
