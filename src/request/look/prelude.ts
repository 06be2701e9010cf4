/**
 * A stream that begins with a status of 200 may still be a refusal: Azure's responses say "too many requests" only in their second or
 * third event. Before the first output of a model another backend can answer instead and nobody will notice; after it, never. So
 * the beginning of a stream is read, event by event, until it is clear which of the two it is. Only what is known to be empty counts
 * as empty: every event that is not understood is output, and is delivered.
 *
 *     prelude ──> accepted ──> output        an error is one only where no output came before
 *        └───────────┴───────> error         with its reason
 *        └───────────┴───────> failed ──> error   without, until the reason comes
 */
import type { AnswerError } from '../../core/types.js'
import { own, parseJson } from './error-body.js'
import { EventSplitter } from './events.js'
import { glance } from './glance.js'
import { errorInEvent, PINGS, type StreamError } from './stream-error.js'

/**
 * - `prelude`: nothing but beginnings.
 * - `accepted`: the same, but the service has taken the request on; what follows may take a model's thinking.
 * - `output`: a part of the answer, or something that is not known.
 * - `failed`: an error that does not say why. Its reason may be in the next event, and makes it an `error`.
 * - `error`: an error, before any output.
 */
export type PreludeState = 'prelude' | 'accepted' | 'output' | 'failed' | 'error'

/**
 * Bytes. What has no name and is longer is not parsed, but taken for output: the chunks before that have below 1 KB in the captures of
 * Azure and OpenAI. Events with a name are known by it, however long: `response.created` repeats the request's instructions.
 */
const LONGEST_PARSED = 8 * 1_024

/** Bytes. No chunk of a prelude is longer, but for those that repeat the request's instructions. */
const LONGEST_WHOLE = 16 * 1_024

/** The events of a response before its output. `response.created` alone comes also before Azure's refusals. */
const LIFECYCLE: ReadonlyMap<unknown, 'prelude' | 'accepted'> = new Map([
  ['response.created', 'prelude'], ['response.queued', 'accepted'], ['response.in_progress', 'accepted'],
])

/** Bytes: room for a brace, the key, spaces and the longest name of an event. */
const HEAD_BYTES = 96

/** OpenAI writes an event's type first. Anchored at the beginning, so that no text in it is taken for it. */
const TYPE_AT_HEAD = /^\s*\{\s*"type"\s*:\s*"([\w.]+)"/

export class Prelude {
  #state: PreludeState = 'prelude'
  #error: StreamError | undefined
  #bytes = 0
  /** From the first chunk on that is not made of whole events in the usual spelling. */
  #events: EventSplitter | undefined

  get state(): PreludeState {
    return this.#state
  }

  /** Nothing that may follow changes the state: nothing must be written any more. */
  get isDecided(): boolean {
    return this.#state === 'output' || this.#state === 'error'
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
    const isFirst = this.#bytes === 0
    this.#bytes += chunk.length
    const at = this.#events === undefined ? this.#writeWhole(chunk) : 0
    if (at === chunk.length || this.isDecided) return
    this.#events ??= new EventSplitter((event) => {
      this.#take(event.name, event.data ?? NOTHING)
      return !this.isDecided
    }, isFirst && at === 0)
    this.#events.write(at === 0 ? chunk : chunk.subarray(at))
  }

  /** The stream has ended. What is then neither output nor an error has ended without an answer. */
  end(): void {
    this.#events?.end()
  }

  /**
   * Nearly all servers write whole events, of one or two lines, and nearly all networks deliver them so: these need no splitter.
   *
   * @returns up to where the chunk was read.
   */
  #writeWhole(chunk: Uint8Array): number {
    if (chunk.length > LONGEST_WHOLE) return 0
    // A character is a byte. In strings of this size all that follows is found ten times as fast as in bytes.
    const text = toLatin1(chunk)
    let at = 0
    while (at < text.length && !this.isDecided) {
      const nameEnd = text.startsWith('event: ', at) ? text.indexOf('\n', at) : -1
      const dataAt = nameEnd === -1 ? at : nameEnd + 1
      const end = text.startsWith('data: ', dataAt) ? text.indexOf('\n\n', dataAt) : -1
      if (end === -1) return at
      const lines = text.slice(at, end)
      // Of several lines of data, with other fields among them, or with other line ends.
      if (lines.includes('\r') || lines.includes('\n', dataAt - at)) return at
      const name = nameEnd === -1 ? '' : text.slice(at + 7, nameEnd)
      this.#takeText(name === '' ? undefined : name, text.slice(dataAt + 6, end), chunk, dataAt + 6)
      at = end + 2
    }
    return at
  }

  #takeText(line: string | undefined, text: string, chunk: Uint8Array, at: number): void {
    const step = line === undefined && text.length <= LONGEST_PARSED ? glance(text) : LIFECYCLE.get(line)
    if (step === undefined) this.#take(line, chunk.subarray(at, at + text.length))
    else this.#advance(step)
  }

  #take(line: string | undefined, data: Uint8Array): void {
    const name = nameOf(line, data)
    const step = LIFECYCLE.get(name)
    if (step !== undefined) this.#advance(step)
    else if (!PINGS.has(name)) this.#look(name, data)
  }

  /** Most streams come here twice, with the chunk that opens a message and the first that has a part of it. */
  #look(name: string | undefined, data: Uint8Array): void {
    const isError = name === 'error' || name === 'response.failed'
    // An event without data is none for most readers (HTML standard, 9.2.6), and some servers keep connections open with it.
    if (data.length === 0 && !isError) return
    if (!isError && (data.length > LONGEST_PARSED || name?.startsWith('response.') === true)) {
      this.#advance('output')
      return
    }
    const value = parseJson(data)
    const error = errorInEvent(name, value)
    if (error !== undefined) this.#fail(error)
    // Also what is no JSON, and `[DONE]` with nothing before it: that is an empty answer and none of the errors that are known.
    else if (!PINGS.has(own(value, 'type'))) this.#advance(LIFECYCLE.get(own(value, 'type')) ?? stepOf(value))
  }

  #advance(step: 'prelude' | 'accepted' | 'output'): void {
    if (this.#state === 'prelude' || (this.#state === 'accepted' && step === 'output')) this.#state = step
  }

  #fail(error: StreamError): void {
    if (error.says !== undefined) {
      this.#state = 'error'
      this.#error = error
    } else {
      this.#state = 'failed'
      if (this.#error?.value === undefined) this.#error = error
    }
  }
}

const NOTHING = new Uint8Array(0)
/** By which an event is known: its `event:` line, else the type that its data begins with. `message` is what all are called that have no line. */
function nameOf(line: string | undefined, data: Uint8Array): string | undefined {
  if (line !== undefined && line !== 'message') return line
  return TYPE_AT_HEAD.exec(toLatin1(data, HEAD_BYTES))?.[1]
}

function toLatin1({ buffer, byteOffset, byteLength }: Uint8Array, length = byteLength): string {
  return Buffer.from(buffer, byteOffset, Math.min(byteLength, length)).toString('latin1')
}

/** What a chunk of a completion is. Without choices it says something about the prompt (Azure), or of tokens when all is over. */
function stepOf(value: unknown): 'prelude' | 'accepted' | 'output' {
  const choices = own(value, 'choices')
  if (!Array.isArray(choices)) return 'output'
  if (choices.length === 0) return isBlank(own(value, 'usage') ?? null) ? 'prelude' : 'output'
  if (!choices.every(isEmptyChoice)) return 'output'
  return choices.some((choice) => isObject(own(choice, 'delta'))) ? 'accepted' : 'prelude'
}

function isEmptyChoice(choice: unknown): boolean {
  return isObject(choice) && Object.entries(choice).every(([key, value]) => key === 'index' || key.startsWith('content_filter_') ||
    (key === 'delta' && isObject(value) ? Object.entries(value).every(([part, content]) => part === 'role' || isEmpty(content)) : isEmpty(value)))
}

/** Nothing, or an object with nothing in it, such as `logprobs` of no tokens. */
function isEmpty(value: unknown): boolean {
  return isBlank(value) || (isObject(value) && Object.values(value).every(isBlank))
}

function isBlank(value: unknown): boolean {
  return value === null || value === '' || (Array.isArray(value) && value.length === 0)
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
