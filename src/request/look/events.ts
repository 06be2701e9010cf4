/**
 * An event stream comes in chunks that are cut anywhere: within a line end, within a character, within the byte order mark. This puts
 * the events together again (HTML standard, 9.2.6), over bytes and without a parse of what is in them, for nearly all of a stream is
 * none of our business.
 */

/** One event, as it was told by its lines. */
export interface StreamEvent {
  /** Of its `event:` line; `undefined` where it has none, or an empty one. */
  readonly name: string | undefined
  /** Its `data:` lines, joined by line feeds; `undefined` where it has none. Valid while the chunks are not written over. */
  readonly data: Uint8Array | undefined
}

const LF = 0x0a
const CR = 0x0d
const COLON = 0x3a
const SPACE = 0x20
const BYTE_ORDER_MARK = Buffer.from('\uFEFF')
const LINE_FEED = Buffer.from('\n')
const DATA = Buffer.from('data')
const EVENT = Buffer.from('event')
const ERROR = Buffer.from('error')

const decoder = new TextDecoder()

export class EventSplitter {
  readonly #onEvent: (event: StreamEvent) => boolean
  /** The beginning of a line whose end has not come. */
  #begun: Uint8Array[] = []
  #atStart: boolean
  #afterCr = false
  #name: string | undefined
  #data: Uint8Array[] = []

  /**
   * @param onEvent returns whether it wants more; once it does not, nothing must be written any more.
   * @param atStart false where the stream's beginning, and the byte order mark that may stand there, was read elsewhere.
   */
  constructor(onEvent: (event: StreamEvent) => boolean, atStart = true) {
    this.#onEvent = onEvent
    this.#atStart = atStart
  }

  write(chunk: Uint8Array): void {
    let at = 0
    // Looked for anew only when it was passed: a stream without one is not searched to its end for each line.
    let cr = -1
    let lf = -1
    while (at < chunk.length) {
      if (this.#afterCr) {
        this.#afterCr = false
        if (chunk[at] === LF) {
          at++
          continue
        }
      }
      if (cr < at) cr = indexOf(chunk, CR, at)
      if (lf < at) lf = indexOf(chunk, LF, at)
      const end = Math.min(cr, lf)
      if (end === chunk.length) {
        this.#begun.push(chunk.subarray(at))
        return
      }
      this.#afterCr = end === cr
      if (!this.#take(this.#finishLine(chunk.subarray(at, end)))) return
      at = end + 1
    }
  }

  /** The stream has ended. Servers close without the last blank line, and their last event counts all the same. */
  end(): void {
    if (this.#begun.length === 0 || this.#take(this.#finishLine(new Uint8Array(0)))) this.#dispatch()
  }

  #finishLine(last: Uint8Array): Uint8Array {
    let line = last
    if (this.#begun.length > 0) {
      line = Buffer.concat([...this.#begun, last])
      this.#begun = []
    }
    if (!this.#atStart) return line
    this.#atStart = false
    return startsWith(line, BYTE_ORDER_MARK) ? line.subarray(BYTE_ORDER_MARK.length) : line
  }

  /** @returns whether more is wanted. */
  #take(line: Uint8Array): boolean {
    if (line.length === 0) return this.#dispatch()
    const colon = indexOf(line, COLON, 0)
    if (isField(line, colon, DATA)) this.#data.push(valueOf(line, colon))
    else if (isField(line, colon, EVENT)) this.#name = decoder.decode(valueOf(line, colon))
    // llama.cpp wrote its errors as `error: {...}`, which is no field at all (ggml-org/llama.cpp#16109).
    else if (isField(line, colon, ERROR)) {
      this.#name = 'error'
      this.#data.push(valueOf(line, colon))
    }
    return true
  }

  #dispatch(): boolean {
    const name = this.#name === '' ? undefined : this.#name
    const lines = this.#data
    this.#name = undefined
    if (lines.length === 0) return name === undefined || this.#onEvent({ name, data: undefined })
    this.#data = []
    return this.#onEvent({ name, data: lines.length === 1 ? lines[0] : join(lines) })
  }
}

/** The length where there is none. */
function indexOf(bytes: Uint8Array, byte: number, from: number): number {
  const at = bytes.indexOf(byte, from)
  return at === -1 ? bytes.length : at
}

function isField(line: Uint8Array, colon: number, name: Uint8Array): boolean {
  return colon === name.length && startsWith(line, name)
}

function startsWith(bytes: Uint8Array, beginning: Uint8Array): boolean {
  // Not `every`: this runs before the compiler has seen it often, and a callback costs most then.
  for (let at = 0; at < beginning.length; at++) if (bytes[at] !== beginning[at]) return false
  return true
}

/** Without the one space that may stand before it. */
function valueOf(line: Uint8Array, colon: number): Uint8Array {
  return line.subarray(line[colon + 1] === SPACE ? colon + 2 : colon + 1)
}

function join(lines: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(lines.flatMap((line, i) => i === 0 ? [line] : [LINE_FEED, line]))
}
