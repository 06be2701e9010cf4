/** Times failovers as undici itself tells of them: from the headers of the 429 to the next attempt, handed to undici and written. */
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

/** Milliseconds after the 429's headers, of each failover. */
export interface Failovers {
  /** Until undici has the next attempt. */
  readonly handedOn: number[]
  /** Until its headers are written. */
  readonly written: number[]
}

interface Told {
  readonly request: { readonly origin: string; readonly path: string }
}

let balancer: Dispatcher
/** URL of the backend that refuses: what the requests ask for. */
let first = ''
/** When the 429 came, by the path of the request. */
const refusedAt = new Map<string, number>()
let failovers: Failovers = { handedOn: [], written: [] }

subscribe('undici:request:headers', (message) => {
  const { request: { path }, response } = message as Told & { readonly response: { readonly statusCode: number } }
  if (response.statusCode === 429) refusedAt.set(path, performance.now())
})

subscribe('undici:request:create', (message) => {
  const at = refusedAt.get((message as Told).request.path)
  if (at !== undefined) failovers.handedOn.push(performance.now() - at)
})

subscribe('undici:client:sendHeaders', (message) => {
  const { path } = (message as Told).request
  const at = refusedAt.get(path)
  if (at !== undefined) failovers.written.push(performance.now() - at)
  refusedAt.delete(path)
})

const calls = {
  /** A pool whose first backend always refuses and asks for no rest, so that every request goes through a failover. */
  start({ throttled, healthy }: { throttled: string; healthy: string }): void {
    balancer = new PriorityBalancer({ backends: [{ url: throttled, priority: 1 }, { url: healthy, priority: 2 }], pacing: false, logger: false })
    first = throttled
  },

  async run({ api, body, bytes, count, concurrency }: Run): Promise<Failovers> {
    failovers = { handedOn: [], written: [] }
    const payload = Buffer.alloc(bytes, 0x78)
    let next = 0
    await Promise.all(Array.from({ length: concurrency }, async () => {
      while (next < count) await send(api, `${first}/openai/deployments/gpt-4o/chat/completions?n=${next++}`, body === 'stream' ? pieces(payload) : payload)
    }))
    const { handedOn, written } = failovers
    if (handedOn.length !== count || written.length !== count) throw new Error(`${handedOn.length} and ${written.length} failovers for ${count} requests`)
    return failovers
  },
}

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
