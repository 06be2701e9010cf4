/** The request's body as the plan has it, and what became of its source. */
import { Readable } from 'node:stream'
import type { Undici } from '../../support/majors.js'
import type { BodyPlan } from './exchange.js'
import type { Signals } from './signals.js'

export interface RequestBody {
  readonly value: unknown
  /** Of the body as a whole, where it is bytes. */
  readonly byteLength: number
  /** What the source was asked for and told, in turn. */
  readonly source: readonly string[]
}

export const SOURCE_ERROR = 'the source of the body failed'

/** @param undici whose FormData is made; undefined: Node's own */
export function makeBody (plan: BodyPlan, undici: Undici | undefined, signals: Signals): RequestBody {
  const chunks = plan.chunks.map((chunk) => Buffer.from(chunk, 'latin1'))
  const all = Buffer.concat(chunks)
  const source: string[] = []
  const make = (): unknown => {
    switch (plan.kind) {
      case 'none': return undefined
      case 'string': return all.toString('latin1')
      case 'Buffer': return all
      case 'Uint8Array': return Uint8Array.from(all)
      case 'DataView': { const bytes = Uint8Array.from([7, ...all, 7]); return new DataView(bytes.buffer, 1, all.length) }
      case 'ArrayBuffer': return Uint8Array.from(all).buffer
      case 'Blob': return new Blob(chunks, { type: 'text/x-blob' })
      case 'FormData': {
        const form = undici === undefined ? new FormData() : new undici.FormData()
        chunks.forEach((chunk, i) => { if (i % 2 === 0) form.append(`field ${i}`, chunk.toString('latin1')); else form.append('file', new Blob([chunk]) as never, `file ${i}`) })
        return form
      }
      case 'URLSearchParams': return new URLSearchParams(Object.fromEntries(chunks.map((chunk, i) => [`field ${i}`, chunk.toString('latin1')])))
      case 'Readable': return readable(read(plan, chunks, source, signals), source)
      case 'async iterable': return read(plan, chunks, source, signals)
      case 'sync iterable': return readNow(plan, chunks, source)
      case 'web stream': return webStream(read(plan, chunks, source, signals), source)
      case 'a number': return 7
    }
  }
  const value = make()
  return { value, byteLength: plan.kind === 'string' ? Buffer.byteLength(value as string) : all.length, source }
}

async function * read ({ waits, fails }: BodyPlan, chunks: readonly Buffer[], source: string[], signals: Signals): AsyncGenerator<Buffer, void, undefined> {
  let ended = false
  try {
    for (const [i, chunk] of chunks.entries()) {
      const isLast = i === chunks.length - 1
      if (isLast && waits) await signals.told('headers')
      if (isLast && fails) throw new Error(SOURCE_ERROR)
      yield chunk
    }
    ended = true
  } finally {
    source.push(ended ? 'read to its end' : 'not read to its end')
  }
}

function * readNow ({ fails }: BodyPlan, chunks: readonly Buffer[], source: string[]): Generator<Buffer, void, undefined> {
  let ended = false
  try {
    for (const [i, chunk] of chunks.entries()) {
      if (i === chunks.length - 1 && fails) throw new Error(SOURCE_ERROR)
      yield chunk
    }
    ended = true
  } finally {
    source.push(ended ? 'read to its end' : 'not read to its end')
  }
}

function readable (chunks: AsyncIterable<Buffer>, source: string[]): Readable {
  const stream = Readable.from(chunks, { objectMode: false })
  stream.on('error', (error) => { source.push(`error: ${error.message}`) })
  stream.on('close', () => { source.push('closed') })
  return stream
}

function webStream (chunks: AsyncGenerator<Buffer, void, undefined>, source: string[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull (controller) {
      const { done, value } = await chunks.next()
      if (done === true) controller.close()
      else if (value.length > 0) controller.enqueue(value)
      else await this.pull?.(controller)
    },
    async cancel (reason) {
      source.push(`cancelled: ${reason instanceof Error ? reason.message : String(reason)}`)
      await chunks.return()
    },
  })
}
