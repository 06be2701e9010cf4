/**
 * A caller that would rather wait than have half an answer is given a stream when it has ended well. Streams end in several ways, and
 * a connection that was closed in the middle looks like some of them: what is read here is whether this one is whole.
 */
import type { AnswerError } from '../../core/types.js'
import { own, parseJson } from './error-body.js'
import { EventSplitter, type StreamEvent } from './events.js'
import { errorInEvent, PINGS, type StreamError } from './stream-error.js'

/**
 * - `open`: it goes on; after the end: it was cut off.
 * - `done`: it has ended well.
 * - `acts`: a tool has begun to act on something outside the answer, which must not happen twice.
 * - `bad`: an event that no client can read.
 * - `failed`: an error without a reason, which may be in the next event, and makes it an `error`.
 * - `error`: an error, with or without output before it. It may be the answer: of that decides what it says.
 */
export type WholeState = 'open' | 'done' | 'acts' | 'bad' | 'failed' | 'error'

/** The last events of a response. A `response.failed` is an error. */
const LAST: ReadonlySet<unknown> = new Set(['response.completed', 'response.incomplete'])

/** After which other streams (images, transcriptions, speech) close, or send `[DONE]`. */
const FINISHING: ReadonlySet<unknown> = new Set(['image_generation.completed', 'image_edit.completed', 'transcript.text.done', 'speech.audio.done'])

/** Items of a response (OpenAI and Azure OpenAI, 2026-11) with which something begins that is not undone by giving up the stream. */
const ACTING_ITEMS: ReadonlySet<unknown> = new Set([
  'mcp_call', 'code_interpreter_call', 'computer_call', 'shell_call', 'shell_call_output', 'local_shell_call', 'apply_patch_call',
])

/** Events of such items: `response.mcp_call.in_progress`, `response.mcp_call_arguments.delta`, `response.code_interpreter_call_code.delta`. */
const ACTING_EVENT = /^response\.(?:mcp_call|code_interpreter_call|computer_call|shell_call|local_shell_call|apply_patch_call)/

/** To be fed with a stream from its first byte on, until the state is neither `open` nor `failed`, or until it ends. */
export class WholeStream {
  #state: WholeState = 'open'
  #error: StreamError | undefined
  /** Choices by their index, and whether they are finished: of several one may be while another is cut off. */
  readonly #choices = new Map<unknown, boolean>()
  readonly #events = new EventSplitter((event) => {
    this.#take(event)
    return !this.isDecided
  })

  get state(): WholeState {
    return this.#state
  }

  /** Nothing that may follow changes the state: nothing must be written any more. */
  get isDecided(): boolean {
    return this.#state !== 'open' && this.#state !== 'failed'
  }

  /** What the error says, once the state is `error`. */
  get error(): AnswerError | undefined {
    return this.#error?.says
  }

  /** The error as an answer with a status of its own would have it; `undefined` where the stream has nothing of that kind. */
  get errorValue(): unknown {
    return this.#error?.value
  }

  write(chunk: Uint8Array): void {
    this.#events.write(chunk)
  }

  /**
   * The stream was closed, without a failure of its connection.
   *
   * @returns whether it has ended well: it is `done` then.
   */
  end(): boolean {
    this.#events.end()
    if (this.#state === 'open' && this.#choices.size > 0 && [...this.#choices.values()].every(Boolean)) this.#state = 'done'
    return this.#state === 'done'
  }

  #take({ name, data }: StreamEvent): void {
    if (PINGS.has(name)) return
    const value = data === undefined ? undefined : parseJson(data)
    const error = errorInEvent(name, value)
    if (error !== undefined) this.#fail(error)
    // What an error without a reason is followed by does not make it good, unless it is the reason.
    else if (this.#state === 'open' && data !== undefined) this.#state = value === undefined ? isDone(data) ? 'done' : 'bad' : this.#read(name, value)
  }

  #fail(error: StreamError): void {
    this.#state = error.says === undefined ? 'failed' : 'error'
    if (error.says !== undefined || this.#error?.value === undefined) this.#error = error
  }

  #read(name: string | undefined, value: unknown): 'open' | 'done' | 'acts' | 'failed' {
    const type = own(value, 'type') ?? name
    if (LAST.has(type)) return 'done'
    if (ACTING_ITEMS.has(own(own(value, 'item'), 'type')) || (typeof type === 'string' && ACTING_EVENT.test(type))) return 'acts'
    if (FINISHING.has(type)) this.#choices.set(type, true)
    const choices = own(value, 'choices')
    for (const choice of Array.isArray(choices) ? choices as unknown[] : []) {
      const index = own(choice, 'index')
      const reason = own(choice, 'finish_reason')
      if (reason === 'error') return 'failed'
      if (reason !== undefined && reason !== null) this.#choices.set(index, true)
      else if (!this.#choices.has(index)) this.#choices.set(index, false)
    }
    return 'open'
  }
}

const DONE = Buffer.from('[DONE]')

/** Clients go by the beginning of the data. */
function isDone(data: Uint8Array): boolean {
  return DONE.every((byte, at) => data[at] === byte)
}
