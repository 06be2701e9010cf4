/**
 * The caller's request body, such that it can be sent more than once.
 *
 * In hand (string, bytes, Blob, FormData): sent as it is, every time. A stream or iterable is read through a recording:
 * see there.
 */
import { isNodeStream, Recording, type Chunk } from './recording.js'

/** Small bodies of several chunks are sent as one: cheaper for undici than an iterable. A page-sized copy costs nothing. */
const JOIN_BYTES = 65_536

export class ReplayableBody {
  readonly #body: unknown
  readonly #recording: Recording | undefined
  #collected: Chunk[] | undefined

  private constructor(body: unknown, recording: Recording | undefined) {
    this.#body = body
    this.#recording = recording
  }

  /**
   * @param contentLength what the caller's headers announce, in bytes; undefined when they do not
   * @param maxReplayBytes a longer body streams through and is not kept
   */
  static of(body: unknown, contentLength: number | undefined, maxReplayBytes: number): ReplayableBody {
    if (!isSingleUse(body)) return new ReplayableBody(body, undefined)
    return new ReplayableBody(body, new Recording(body, contentLength ?? endedLength(body), maxReplayBytes))
  }

  /** True when the whole body should be read before the first attempt: its length was announced and it fits. */
  get wantsCollecting(): boolean {
    return this.#recording !== undefined && this.#collected === undefined && this.#recording.announced
  }

  /** Reads the whole body. Rejects with the source's own error. */
  async collect(): Promise<void> {
    this.#collected = await this.#recording?.collect()
  }

  /** Whether another attempt can be made now. */
  get replayable(): boolean {
    return this.#recording === undefined || this.#recording.replayable
  }

  /** The error of the body's source, if that is what ended it: no backend is to blame then. */
  get error(): unknown {
    return this.#recording?.error
  }

  /** The first bytes of the body, at least `length` of them where there are so many. Undefined when it is not in hand. */
  head(length: number): Uint8Array | undefined {
    const body = this.#collected ?? this.#body
    // A character is at least one byte.
    if (typeof body === 'string') return Buffer.from(body.length > length ? body.slice(0, length) : body)
    if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength)
    if (body instanceof ArrayBuffer) return new Uint8Array(body)
    return this.#collected === undefined ? undefined : joinUpTo(this.#collected, length)
  }

  /** Length in bytes as far as it can be told without reading: 0 for none or unknown. */
  get byteLength(): number {
    const body = this.#body
    if (this.#recording !== undefined) return this.#recording.byteLength
    if (typeof body === 'string') return Buffer.byteLength(body)
    if (ArrayBuffer.isView(body) || body instanceof ArrayBuffer) return body.byteLength
    return isBlobLike(body) ? body.size : 0
  }

  /** What to hand to undici for one attempt. */
  open(): unknown {
    if (this.#recording === undefined) return this.#body
    if (this.#collected === undefined) return this.#recording.open()
    if (this.#collected.length === 1) return this.#collected[0]
    if (this.#collected.length === 0) return null
    // An array can be iterated again and again.
    return this.#recording.byteLength <= JOIN_BYTES ? joinUpTo(this.#collected, Infinity) : this.#collected
  }

  /** No further attempt will be made: what was kept for one is let go. The attempt under way reads on. */
  release(): void {
    this.#recording?.release()
    this.#collected = undefined
  }

  /** Nobody will read on: the source is told. */
  discard(reason: Error | undefined): void {
    this.#recording?.discard(reason)
  }
}

function isSingleUse(body: unknown): body is object {
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

function tagOf(body: object): unknown {
  return (body as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag]
}

function toBytes(chunk: Chunk): Uint8Array {
  return typeof chunk === 'string' ? Buffer.from(chunk) : chunk
}

/** One piece, of whole chunks, that holds at least the first `length` bytes. */
function joinUpTo(chunks: readonly Chunk[], length: number): Uint8Array {
  const [first] = chunks
  if (first !== undefined && (chunks.length === 1 || toBytes(first).byteLength >= length)) return toBytes(first)
  const parts: Uint8Array[] = []
  let bytes = 0
  for (const chunk of chunks) {
    if (bytes >= length) break
    const part = toBytes(chunk)
    parts.push(part)
    bytes += part.byteLength
  }
  return Buffer.concat(parts)
}
