/**
 * The caller's request body, such that it can be sent more than once.
 *
 * In hand (string, bytes, Blob, FormData): sent as it is, every time. A stream or iterable is read through a recording:
 * see there.
 */
import type { BodyInHand, Piece } from './read-body.js'
import { isNodeStream, Recording, type Chunk } from './recording.js'

/**
 * A body that was collected goes out as one Buffer up to here: undici writes that faster than an iterable, but holds on
 * to it until the response has ended. Of a longer one it is given only the right to read it.
 */
const JOIN_BYTES = 65_536

export interface ReplayableBody extends BodyInHand {
  /** True when the whole body should be read before the first attempt: its length was announced and it fits. */
  readonly wantsCollecting: boolean
  /** Whether another attempt can be made now. */
  readonly replayable: boolean
  /** The error of the body's source, if that is what ended it: no backend is to blame then. */
  readonly error: unknown
  /** A form that undici will write as it sends it; it can be asked for its fields. */
  readonly form: FormData | undefined
  /** There is one, but not in hand: a stream, or a Blob. */
  readonly isOutOfSight: boolean
  /** Length in bytes as far as it can be told without reading: 0 for none or unknown. */
  readonly byteLength: number
  /** Reads the whole body. Rejects with the source's own error. */
  collect(): Promise<void>
  /** The first bytes of the body, at least `length` of them where there are so many. Undefined when it is not in hand. */
  head(length: number): Uint8Array | undefined
  /** The last `length` bytes, or all of a shorter one. */
  tail(length: number): Piece | undefined
  /** All of it, with other bytes in the place of some. */
  splice(start: number, end: number, bytes: Uint8Array): Uint8Array | undefined
  /**
   * What to hand to undici for one attempt.
   * @param inOnePiece where it can be had so
   */
  open(inOnePiece: boolean): unknown
  /** Another attempt will be made, now or later: the one before it reads no further. */
  rewind(): void
  /** No further attempt will be made: what was kept for one is let go. The attempt under way reads on. */
  release(): void
  /** No one will read on: the source is told. */
  discard(): void
}

/** What is there as a whole, or is none. Apart from what is read, so that it costs a request next to nothing. */
export class ReadyBody implements ReplayableBody {
  readonly #body: unknown

  constructor(body: unknown) {
    this.#body = body
  }

  get wantsCollecting(): boolean {
    return false
  }

  get replayable(): boolean {
    return true
  }

  get error(): undefined {
    return undefined
  }

  /** Of a string the characters, which is near enough to estimate a cost by. */
  get byteLength(): number {
    const body = this.#body
    // Counting the bytes of one takes longer than all else that happens to its request: 10 MB a millisecond.
    if (typeof body === 'string') return body.length
    if (ArrayBuffer.isView(body) || body instanceof ArrayBuffer) return body.byteLength
    return isBlobLike(body) ? body.size : 0
  }

  collect(): Promise<void> {
    return Promise.resolve()
  }

  head(length: number): Uint8Array | undefined {
    const body = this.#body
    // A character is at least one byte.
    if (typeof body === 'string') return Buffer.from(body.length > length ? body.slice(0, length) : body)
    if (body instanceof Uint8Array) return body
    if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength)
    return body instanceof ArrayBuffer ? new Uint8Array(body) : undefined
  }

  tail(length: number): Piece | undefined {
    const bytes = this.head(Infinity)
    if (bytes === undefined) return undefined
    const offset = Math.max(0, bytes.byteLength - length)
    return { bytes: bytes.subarray(offset), offset }
  }

  splice(start: number, end: number, bytes: Uint8Array): Uint8Array | undefined {
    const whole = this.head(Infinity)
    return whole === undefined ? undefined : Buffer.concat([whole.subarray(0, start), bytes, whole.subarray(end)])
  }

  get form(): FormData | undefined {
    return isFormData(this.#body) ? this.#body : undefined
  }

  get isOutOfSight(): boolean {
    return isBlobLike(this.#body)
  }

  open(): unknown {
    return this.#body
  }

  rewind(): void {}

  release(): void {}

  discard(): void {}
}

/** What can be read once, and is recorded as it is read. */
export class RecordedBody implements ReplayableBody {
  readonly #recording: Recording
  /** Whether undici learns the length from the headers: of an iterable it learns it from nowhere else. */
  readonly #hasLengthHeader: boolean
  #collected: Collected | undefined

  /**
   * @param contentLength what the caller's headers announce, in bytes; undefined when they do not
   * @param maxReplayBytes a longer body streams through and is not kept
   */
  constructor(body: object, contentLength: number | undefined, maxReplayBytes: number) {
    this.#recording = new Recording(body, contentLength ?? endedLength(body), maxReplayBytes)
    this.#hasLengthHeader = contentLength !== undefined
  }

  get wantsCollecting(): boolean {
    return this.#collected === undefined && this.#recording.announced
  }

  get replayable(): boolean {
    return this.#recording.replayable
  }

  get error(): unknown {
    return this.#recording.error
  }

  get byteLength(): number {
    return this.#recording.byteLength
  }

  async collect(): Promise<void> {
    const chunks = await this.#recording.collect()
    this.#collected = chunks === undefined ? undefined : new Collected(chunks)
  }

  head(length: number): Uint8Array | undefined {
    return this.#collected?.join(length)
  }

  tail(length: number): Piece | undefined {
    return this.#collected?.tail(length)
  }

  splice(start: number, end: number, bytes: Uint8Array): Uint8Array | undefined {
    return this.#collected?.splice(start, end, bytes)
  }

  get form(): undefined {
    return undefined
  }

  get isOutOfSight(): boolean {
    return this.#collected === undefined
  }

  open(inOnePiece: boolean): unknown {
    const recording = this.#recording
    if (this.#collected === undefined) return recording.open()
    // Shorter than announced: left as it is, because undici notices that with an iterable only.
    if (recording.bytesRead !== recording.byteLength) return this.#collected
    if (recording.byteLength === 0) return null
    return inOnePiece || recording.byteLength <= JOIN_BYTES || !this.#hasLengthHeader ? this.#collected.join(Infinity) : this.#collected
  }

  rewind(): void {
    this.#recording.rewind()
  }

  release(): void {
    this.#recording.release()
    this.#collected?.release()
    this.#collected = undefined
  }

  discard(): void {
    this.#recording.discard()
  }
}

/** True for what can be read only once: streams and iterables. */
export function isSingleUse(body: unknown): body is object {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return false
  if (ArrayBuffer.isView(body) || body instanceof ArrayBuffer) return false
  // Before all that goes by tags: the `form-data` package's FormData is a stream.
  if (isNodeStream(body)) return true
  if (isBlobLike(body)) return false
  const tag = tagOf(body)
  if (tag === 'FormData' || tag === 'URLSearchParams') return false
  return Symbol.asyncIterator in body || Symbol.iterator in body
}

/** A Node stream whose end has come already knows its length: undici announces it, so do we. */
function endedLength(body: object): number | undefined {
  if (!isNodeStream(body) || body.readableObjectMode) return undefined
  // undici reads the same private field; there is no public one for "everything has been pushed".
  const state = (body as unknown as { _readableState?: { ended?: boolean; length?: number } })._readableState
  return state?.ended === true ? state.length : undefined
}

function isBlobLike(body: unknown): body is Blob {
  if (typeof body !== 'object' || body === null) return false
  const tag = tagOf(body)
  return (tag === 'Blob' || tag === 'File') && typeof (body as Blob).arrayBuffer === 'function'
}

/** undici's own test for it, as far as it goes by what is used here. */
function isFormData(body: unknown): body is FormData {
  return typeof body === 'object' && body !== null && tagOf(body) === 'FormData' && !isNodeStream(body) && typeof (body as FormData).get === 'function'
}

function tagOf(body: object): unknown {
  return (body as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag]
}

/** The whole of a body, to be sent any number of times, until it is released. An attempt that has begun to read it then reads on. */
class Collected implements Iterable<Chunk> {
  #chunks: readonly Chunk[]

  constructor(chunks: readonly Chunk[]) {
    this.#chunks = chunks
  }

  [Symbol.iterator](): Iterator<Chunk> {
    return this.#chunks[Symbol.iterator]()
  }

  /** One piece, of whole chunks, that holds at least the first `length` bytes. */
  join(length: number): Uint8Array {
    const [first] = this.#chunks
    if (first !== undefined && (this.#chunks.length === 1 || Buffer.byteLength(first) >= length)) return toBytes(first)
    const parts: Uint8Array[] = []
    let bytes = 0
    for (const chunk of this.#chunks) {
      if (bytes >= length) break
      const part = toBytes(chunk)
      parts.push(part)
      bytes += part.byteLength
    }
    return Buffer.concat(parts)
  }

  /** The last bytes, from as few chunks as there are for them. */
  tail(length: number): Piece {
    const parts: Uint8Array[] = []
    let bytes = 0
    for (let at = this.#chunks.length - 1; at >= 0 && bytes < length; at--) {
      const part = toBytes(this.#chunks[at]!) // within them
      parts.push(part)
      bytes += part.byteLength
    }
    const [only] = parts
    const joined = parts.length === 1 && only !== undefined ? only : Buffer.concat(parts.reverse())
    const tail = joined.subarray(Math.max(0, bytes - length))
    return { bytes: tail, offset: this.#byteLength() - tail.byteLength }
  }

  /** In one copy: what is written anew may be a recording of twenty megabytes. */
  splice(start: number, end: number, bytes: Uint8Array): Uint8Array {
    const before: Uint8Array[] = []
    const after: Uint8Array[] = []
    let offset = 0
    for (const chunk of this.#chunks) {
      const part = toBytes(chunk)
      before.push(part.subarray(0, Math.max(0, start - offset)))
      after.push(part.subarray(Math.max(0, end - offset)))
      offset += part.byteLength
    }
    return Buffer.concat([...before, bytes, ...after])
  }

  release(): void {
    this.#chunks = []
  }

  #byteLength(): number {
    let bytes = 0
    for (const chunk of this.#chunks) bytes += Buffer.byteLength(chunk)
    return bytes
  }
}

function toBytes(chunk: Chunk): Uint8Array {
  return typeof chunk === 'string' ? Buffer.from(chunk) : chunk
}
