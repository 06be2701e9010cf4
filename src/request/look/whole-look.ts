/**
 * Holds a stream until it has ended well (`streamGuard: 'whole'`): a cut, a stall or a broken event moves the request on, and the
 * caller sees none of it. The price is memory, and that the caller sees nothing until then: both are bounded.
 */
import { inflate, isTooLarge } from './error-body.js'
import { Prelude } from './prelude.js'
import { DELIVER, describeSilence, NO_REASON_GIVEN, type Look, type Verdict } from './verdict.js'
import { WholeStream } from './whole.js'

/** Of one stream: some two million tokens. What is longer is delivered from there on. */
const STREAM_BYTES = 8 * 1024 * 1024

/** Of all streams that are held in this process. */
const PROCESS_BYTES = 64 * 1024 * 1024

/** In milliseconds: the reason of a failure that is told without one comes in the next event, or not at all. */
const REASON_MS = 50

let heldBytes = 0

export class WholeLook implements Look {
  readonly #encoding: string
  readonly #idleMs: number | undefined
  readonly #stream = new WholeStream()
  readonly #prelude = new Prelude()
  /** Of a compressed stream, which is looked into when it has ended. */
  readonly #chunks: Buffer[] = []
  #bytes = 0

  /**
   * @param encoding the value of `content-encoding`, `''` for none
   * @param idleMs of silence are a cut; undefined: none is
   */
  constructor(encoding: string, idleMs: number | undefined) {
    this.#encoding = encoding
    this.#idleMs = idleMs
  }

  get waitMs(): number | undefined {
    return this.#stream.state === 'failed' ? REASON_MS : this.#idleMs
  }

  get restarts(): boolean {
    return this.#stream.state !== 'failed'
  }

  /** The time of an attempt is over with its first output, or where the service says that it is at work. */
  get isUnderWay(): boolean {
    return this.#encoding === '' ? this.#prelude.state !== 'prelude' : this.#bytes > 0
  }

  write(chunk: Buffer): Verdict | undefined {
    this.#bytes += chunk.byteLength
    heldBytes += chunk.byteLength
    if (this.#encoding === '') {
      if (!this.#prelude.isDecided) this.#prelude.write(chunk)
      this.#stream.write(chunk)
    } else this.#chunks.push(chunk)
    return this.#verdict ?? (this.#bytes > STREAM_BYTES || heldBytes > PROCESS_BYTES ? DELIVER : undefined)
  }

  get #verdict(): Verdict | undefined {
    const { state, error, errorValue } = this.#stream
    if (state === 'done' || state === 'acts') return DELIVER
    if (state === 'bad') return { kind: 'failed', why: 'An event of the stream is not JSON.' }
    return state === 'error' ? { kind: 'error', error, isTooLarge: isTooLarge(errorValue), value: errorValue } : undefined
  }

  end(): Verdict {
    if (this.#encoding !== '') {
      const whole = inflate(this.#chunks, this.#encoding, PROCESS_BYTES)
      // What cannot be undone is not understood, and delivered as it came.
      if (whole === undefined) return DELIVER
      this.#stream.write(whole)
    }
    if (this.#verdict === undefined) this.#stream.end()
    return this.#verdict ?? { kind: 'failed', why: 'The stream was cut off before its end.' }
  }

  expire(): Verdict {
    if (this.#stream.state === 'failed') return { kind: 'failed', why: NO_REASON_GIVEN }
    return { kind: 'failed', why: describeSilence(this.#idleMs ?? 0) }
  }

  dispose(): void {
    heldBytes -= this.#bytes
    this.#bytes = 0
  }
}
