/**
 * A stream or iterable that can be sent more than once: every attempt reads it from the start, from one shared reading
 * of the source. undici closes one attempt's reader when an answer comes before the upload has ended; that does not end
 * the source for the next one.
 */
import { Readable } from 'node:stream'

/** Buffers, typed arrays and strings are what undici's writers take from an iterable. */
export type Chunk = Uint8Array | string

/** One shared reading of the source, with what was read so far, while that is little enough to be kept. */
export class Recording {
  /** The length is known and fits: worth reading whole before anything is sent. */
  readonly announced: boolean
  readonly byteLength: number
  /** What the source failed with. */
  error: unknown

  readonly #source: object
  readonly #maxBytes: number
  #iterator: AsyncIterator<unknown> | Iterator<unknown> | undefined
  /** While recording: all chunks so far. Afterwards: those that the last reader has yet to take. */
  #chunks: Chunk[] = []
  #bytes = 0
  #recording: boolean
  #ended = false
  #discarded = false
  #pulling: Promise<void> | undefined
  #reader: Reader | undefined

  /** @param length in bytes, where it is known */
  constructor(source: object, length: number | undefined, maxBytes: number) {
    this.#source = source
    this.announced = length !== undefined && length <= maxBytes
    this.byteLength = length ?? 0
    // What turns out longer than announced is not read to the end; what is announced as too long is not kept at all.
    this.#maxBytes = length === undefined ? maxBytes : this.announced ? length : 0
    this.#recording = length === undefined ? maxBytes > 0 : this.announced
    // A stream may fail while no attempt is reading it (all backends are waited for): that must not be uncaught.
    if (isNodeStream(source)) source.once('error', (error: unknown) => { this.error ??= error })
  }

  get replayable(): boolean {
    return this.error === undefined && (this.#recording || this.#iterator === undefined)
  }

  /** Reads all of the source. Undefined when that is more than was announced: then it can only go out as a stream, and undici says what is wrong with it. */
  async collect(): Promise<Chunk[] | undefined> {
    while (!this.#ended && this.#recording && !this.#discarded) await this.pull()
    if (this.error !== undefined) throw this.error
    return this.#recording ? this.#chunks : undefined
  }

  open(): Reader {
    this.rewind()
    return (this.#reader = new Reader(this))
  }

  /** The attempt was given up: nothing more is read for it, and a chunk that comes even so is kept for the next one. */
  rewind(): void {
    this.#reader?.detach()
    this.#reader = undefined
  }

  /** The chunk at a reader's position; undefined when it has not been read yet. */
  take(reader: Reader): Chunk | undefined {
    if (!this.#recording) return this.#chunks.shift()
    const chunk = this.#chunks[reader.position]
    if (chunk !== undefined) reader.position++
    return chunk
  }

  /** While all of it is kept. */
  get bytesRead(): number {
    return this.#bytes
  }

  get ended(): boolean {
    return this.#ended
  }

  get discarded(): boolean {
    return this.#discarded
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
      else this.#keep(toChunk(next.value))
    } catch (error) {
      this.error ??= error ?? new Error('The request body failed without a reason.')
    }
    if (this.error !== undefined) this.#ended = true
  }

  #keep(chunk: Chunk): void {
    if (this.#discarded) return
    this.#chunks.push(chunk)
    if (!this.#recording) return
    this.#bytes += typeof chunk === 'string' ? Buffer.byteLength(chunk) : chunk.byteLength
    if (this.#bytes > this.#maxBytes) this.release()
  }

  /** No other attempt will read from the start: nothing more is kept than what the last reader has yet to take. */
  release(): void {
    if (!this.#recording) return
    this.#recording = false
    if (this.#reader !== undefined) this.#chunks = this.#chunks.slice(this.#reader.position)
    // Collected: it is read already.
    else if (this.#ended) this.#chunks = []
  }

  /** No one will read on. The source is told, unless it has come to its end by itself. */
  discard(): void {
    if (this.#discarded) return
    this.#discarded = true
    this.#chunks = []
    if (this.#ended) return
    const source = this.#source
    if (isNodeStream(source) && typeof source.destroy === 'function') source.destroy()
    else this.#closeIterator()
  }

  /** Also for a source that was not asked yet: its own clean-up runs only when it is told. */
  #closeIterator(): void {
    try {
      Promise.resolve((this.#iterator ?? iterate(this.#source)).return?.()).catch(() => {})
    } catch {
      // A stream that other code has locked, or a clean-up that throws: nothing that the request could do better.
    }
  }

  /** undici reads no further for this reader. */
  closed(reader: Reader): void {
    if (reader === this.#reader && !this.#recording) this.discard()
  }
}

/** One attempt's reading. Closing it does not close the source, as long as another attempt may want to read on. */
class Reader implements AsyncIterableIterator<Chunk> {
  position = 0
  readonly #recording: Recording
  #closed = false
  #detached = false

  constructor(recording: Recording) {
    this.#recording = recording
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<Chunk, undefined>> {
    const recording = this.#recording
    while (!this.#closed) {
      // undici breaks the upload off for it: a server must not take a part of the body for the whole.
      if (this.#detached || recording.discarded) throw new Error('The request body is not sent any further: this attempt was given up.')
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
    this.#closed = true
    this.#recording.closed(this)
    return Promise.resolve({ done: true, value: undefined })
  }

  /** Another attempt has taken over. */
  detach(): void {
    this.#detached = true
  }
}

function iterate(source: object): AsyncIterator<unknown> | Iterator<unknown> {
  if (Symbol.asyncIterator in source) return (source as AsyncIterable<unknown>)[Symbol.asyncIterator]()
  if (Symbol.iterator in source) return (source as Iterable<unknown>)[Symbol.iterator]()
  // A stream from before Node 0.10, as the `form-data` package still makes them: it flows when it is told to.
  const stream = source as NodeJS.ReadableStream
  const readable = new Readable().wrap(stream)
  stream.resume()
  return readable[Symbol.asyncIterator]()
}

function toChunk(value: unknown): Chunk {
  if (typeof value === 'string' || value instanceof Uint8Array) return value
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  throw new TypeError(`The request body gave a chunk that cannot be sent: ${value === null ? 'null' : typeof value}. Strings, Buffers and typed arrays can.`)
}

/** undici's own test for it. */
export function isNodeStream(body: object): body is Readable {
  return typeof (body as Readable).pipe === 'function' && typeof (body as Readable).on === 'function'
}
