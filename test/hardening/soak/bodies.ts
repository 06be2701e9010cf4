/** Request bodies of every kind that a caller may have. */
import { Readable } from 'node:stream'
import { FormData as UndiciFormData } from 'undici'

export interface MadeBody {
  readonly body: unknown
  /** Bytes; `none` for one that breaks off, `undefined` where only the client's library knows. */
  readonly length: number | 'none' | undefined
  readonly headers: Readonly<Record<string, string>>
}

/** What fetch takes. */
export const FETCH_BODIES = ['string', 'bytes', 'blob', 'form', 'parameters', 'web-stream', 'broken-web-stream', 'none'] as const
/** What `undici.request` and `dispatch` take. */
export const UNDICI_BODIES = ['string', 'bytes', 'array-buffer-view', 'undici-form', 'node-stream', 'ended-node-stream', 'async-generator', 'iterable', 'broken-node-stream', 'none'] as const

export type BodyKind = typeof FETCH_BODIES[number] | typeof UNDICI_BODIES[number]

const MODELS = ['gpt-4o', 'gpt-4o-mini', 'o3', 'gpt-4.1'] as const
const JSON_TYPE = { 'content-type': 'application/json' }

/** An upload that its own source breaks off: no other party is to blame, and it is not to be taken for a whole one. */
export class BrokenSource extends Error {
  override readonly name = 'BrokenSource'
}

export function makeBody(kind: BodyKind, random: () => number): MadeBody {
  const model = MODELS[Math.floor(random() * MODELS.length)] ?? 'o3'
  // Mostly a short prompt, now and then one with an image in it.
  const padding = random() < 0.02 ? 150_000 : Math.floor(random() * 1_500)
  const text = JSON.stringify({ model, messages: [{ role: 'user', content: 'x'.repeat(padding) }] })
  const { length } = text
  switch (kind) {
    case 'string': return { body: text, length, headers: JSON_TYPE }
    case 'bytes': return { body: Buffer.from(text), length, headers: JSON_TYPE }
    case 'array-buffer-view': return { body: new DataView(new TextEncoder().encode(text).buffer), length, headers: JSON_TYPE }
    case 'blob': return { body: new Blob([text], { type: 'application/json' }), length, headers: {} }
    case 'form': return { body: fill(new FormData(), text), length: undefined, headers: {} }
    // undici's own functions cannot send Node's.
    case 'undici-form': return { body: fill(new UndiciFormData(), text), length: undefined, headers: {} }
    case 'parameters': {
      const parameters = new URLSearchParams({ text })
      return { body: parameters, length: parameters.toString().length, headers: {} }
    }
    case 'web-stream': return { body: ReadableStream.from(asBytes(pieces(text))), length, headers: JSON_TYPE }
    case 'broken-web-stream': return { body: ReadableStream.from(asBytes(breakingOff(text))), length: 'none', headers: JSON_TYPE }
    case 'node-stream': return { body: Readable.from(pieces(text), { objectMode: false }), length, headers: JSON_TYPE }
    case 'ended-node-stream': return { body: ended(text), length, headers: JSON_TYPE }
    case 'broken-node-stream': return { body: Readable.from(breakingOff(text), { objectMode: false }), length: 'none', headers: JSON_TYPE }
    case 'async-generator': return { body: asBytes(pieces(text)), length, headers: JSON_TYPE }
    case 'iterable': return { body: [Buffer.from(text.slice(0, 20)), Buffer.from(text.slice(20))], length, headers: JSON_TYPE }
    case 'none': return { body: undefined, length: 0, headers: {} }
  }
}

function fill<T extends FormData | UndiciFormData>(data: T, text: string): T {
  data.set('model', 'whisper-1')
  data.set('file', new Blob([text]), 'speech.mp3')
  return data
}

async function * pieces(text: string): AsyncGenerator<string> {
  const size = Math.ceil(text.length / 4)
  for (let at = 0; at < text.length; at += size) {
    await new Promise(setImmediate)
    yield text.slice(at, at + size)
  }
}

async function * breakingOff(text: string): AsyncGenerator<string> {
  yield text.slice(0, 10)
  await new Promise(setImmediate)
  throw new BrokenSource('the upload\'s source broke off')
}

async function * asBytes(chunks: AsyncIterable<string>): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) yield Buffer.from(chunk)
}

function ended(text: string): Readable {
  const stream = new Readable({ read() {} })
  stream.push(text)
  stream.push(null)
  return stream
}
