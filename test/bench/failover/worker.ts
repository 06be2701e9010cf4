/** Times failovers as undici itself tells of them: from the headers of the 429 to the headers of the next attempt being written. */
import { subscribe } from 'node:diagnostics_channel'
import { request, type Dispatcher } from 'undici'
import { PriorityBalancer } from '../../../src/balancer.js'
import { answerCalls } from '../support/child.js'

export interface Run {
  readonly api: 'request' | 'fetch'
  /** `stream`: its length is not known beforehand. */
  readonly body: 'in hand' | 'stream'
  readonly bytes: number
  readonly count: number
  readonly concurrency: number
}

interface Told {
  readonly request: { readonly origin: string; readonly path: string }
}

let balancer: Dispatcher
/** When the 429 came, by the path of the request. */
const refusedAt = new Map<string, number>()
let tookMs: number[] = []

subscribe('undici:request:headers', (message) => {
  const { request: { path }, response } = message as Told & { readonly response: { readonly statusCode: number } }
  if (response.statusCode === 429) refusedAt.set(path, performance.now())
})

subscribe('undici:client:sendHeaders', (message) => {
  const { path } = (message as Told).request
  const at = refusedAt.get(path)
  if (at !== undefined) tookMs.push(performance.now() - at)
  refusedAt.delete(path)
})

const calls = {
  /** A pool whose first backend always refuses and asks for no rest, so that every request goes through a failover. */
  start({ throttled, healthy }: { throttled: string; healthy: string }): void {
    balancer = new PriorityBalancer({ backends: [{ url: throttled, priority: 1 }, { url: healthy, priority: 2 }], pacing: false, logger: false })
    first = throttled
  },

  /** @returns milliseconds of each failover. */
  async run({ api, body, bytes, count, concurrency }: Run): Promise<number[]> {
    tookMs = []
    const payload = Buffer.alloc(bytes, 0x78)
    let next = 0
    await Promise.all(Array.from({ length: concurrency }, async () => {
      while (next < count) await send(api, `${first}/openai/deployments/gpt-4o/chat/completions?n=${next++}`, body === 'stream' ? pieces(payload) : payload)
    }))
    if (tookMs.length !== count) throw new Error(`${tookMs.length} failovers for ${count} requests`)
    return tookMs
  },
}

let first = ''

export type FailoverCalls = typeof calls

async function send(api: Run['api'], url: string, body: Buffer | AsyncIterable<Uint8Array>): Promise<void> {
  if (api === 'request') {
    // undici takes every async iterable; its types name streams only.
    const answer = await request(url, { method: 'POST', body: body as Buffer, dispatcher: balancer })
    await answer.body.dump()
    if (answer.statusCode !== 200) throw new Error(`a request was answered with ${answer.statusCode}`)
  } else {
    const answer = await fetch(url, { method: 'POST', body, duplex: 'half', dispatcher: balancer } as unknown as RequestInit)
    await answer.arrayBuffer()
    if (answer.status !== 200) throw new Error(`a request was answered with ${answer.status}`)
  }
}

async function* pieces(payload: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < payload.byteLength; at += 16_384) yield payload.subarray(at, at + 16_384)
}

answerCalls(calls)
