/**
 * A stream or iterable that can be sent more than once: every attempt reads it from the start, from one shared reading
 * of the source. undici closes one attempt's reader when an answer comes before the upload has ended; that does not end
 * the source for the next one.
 */
import type { Readable } from 'node:stream'

/** Buffers, typed arrays and strings are what undici's writers take from an iterable. */
export type Chunk = Uint8Array | string

/** One shared reading of the source, with what was read so far, while that is little enough to be kept. */
export class Recording {
  readonly announced: boolean
  byteLength: number
  error: unknown

  readonly #source: object
  readonly #maxBytes: number
  #iterator: AsyncIterator<Chunk> | Iterator<Chunk> | undefined
  /** While recording: all chunks so far. Afterwards: those that the last reader has yet to take. */
  #chunks: Chunk[] = []
  #bytes = 0
  #recording: boolean
  #ended = false
  #pulling: Promise<void> | undefined
  #reader: Reader | undefined

  constructor(source: object, length: number | undefined, maxBytes: number) {
    this.#source = source
    this.#maxBytes = maxBytes
    this.#recording = maxBytes > 0
    this.announced = length !== undefined && length <= maxBytes
    this.byteLength = length ?? 0
    // A stream may fail while no attempt is reading it (all backends are waited for): that must not be uncaught.
    if (isNodeStream(source)) source.once('error', (error: unknown) => { this.error ??= error })
  }

  get replayable(): boolean {
    return this.error === undefined && (this.#recording || this.#iterator === undefined)
  }

  async collect(): Promise<Chunk[] | undefined> {
    while (!this.#ended && this.#recording) await this.pull()
    if (this.error !== undefined) throw this.error
    // Longer than announced: it goes out as the stream that it is, and undici says what is wrong with it.
    return this.#recording ? this.#chunks : undefined
  }

  open(): Reader {
    this.#reader?.detach()
    return (this.#reader = new Reader(this))
  }

  /** The chunk at a reader's position; undefined when it has not been read yet. */
  take(reader: Reader): Chunk | undefined {
    if (!this.#recording) return this.#chunks.shift()
    const chunk = this.#chunks[reader.position]
    if (chunk !== undefined) reader.position++
    return chunk
  }

  get ended(): boolean {
    return this.#ended
  }

  /** Reads one chunk from the source. Two readers that ask at once wait for the same chunk. */
  pull(): Promise<void> {
    return (this.#pulling ??= this.#readNext().finally(() => { this.#pulling = undefined }))
  }

  async #readNext(): Promise<void> {
    try {
      this.#iterator ??= iterate(this.#source)
      const next = await this.#iterator.next()
      if (next.done === true) this.#ended = true
      else this.#keep(next.value)
    } catch (error) {
      this.error ??= error ?? new Error('The request body failed without a reason.')
    }
    if (this.error !== undefined) this.#ended = true
  }

  #keep(chunk: Chunk): void {
    this.#chunks.push(chunk)
    if (!this.#recording) return
    this.#bytes += typeof chunk === 'string' ? Buffer.byteLength(chunk) : chunk.byteLength
    if (this.#bytes > this.#maxBytes) this.release()
  }

  release(): void {
    if (!this.#recording) return
    this.#recording = false
    this.#chunks = this.#chunks.slice(this.#reader?.position ?? 0)
  }

  discard(reason: Error | undefined): void {
    this.#chunks = []
    this.#ended = true
    const source = this.#source
    if (isNodeStream(source)) source.destroy(reason)
    // Also for a source that nobody has asked yet: its own clean-up runs only when it is told.
    else Promise.resolve((this.#iterator ?? iterate(source)).return?.()).catch(() => {})
  }

  closed(reader: Reader): void {
    if (reader === this.#reader && !this.#recording) this.discard(new Error('The request body is not read any further.'))
  }
}

/** One attempt's reading. Closing it does not close the source, as long as another attempt may want to read on. */
class Reader implements AsyncIterableIterator<Chunk> {
  position = 0
  #recording: Recording | undefined

  constructor(recording: Recording) {
    this.#recording = recording
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<Chunk, undefined>> {
    while (this.#recording !== undefined) {
      const recording = this.#recording
      const chunk = recording.take(this)
      if (chunk !== undefined) return { done: false, value: chunk }
      // undici destroys the request with it; the request's own failure handler tells it from a backend's.
      if (recording.error !== undefined) throw recording.error as Error
      if (recording.ended) break
      await recording.pull()
    }
    return { done: true, value: undefined }
  }

  return(): Promise<IteratorResult<Chunk, undefined>> {
    this.#recording?.closed(this)
    this.#recording = undefined
    return Promise.resolve({ done: true, value: undefined })
  }

  /** Another attempt has taken over. */
  detach(): void {
    this.#recording = undefined
  }
}

function iterate(source: object): AsyncIterator<Chunk> | Iterator<Chunk> {
  return Symbol.asyncIterator in source
    ? (source as AsyncIterable<Chunk>)[Symbol.asyncIterator]()
    : (source as Iterable<Chunk>)[Symbol.iterator]()
}

export function isNodeStream(body: object): body is Readable {
  return typeof (body as Readable).pipe === 'function' && typeof (body as Readable).on === 'function'
}
