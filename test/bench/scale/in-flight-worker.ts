/** Sends many requests at once to a server that holds them, and says how much memory that takes. */
import { Agent, request, type Dispatcher } from 'undici'
import { PriorityBalancer } from '../../../src/balancer.js'
import { answerCalls } from '../support/child.js'

export type InFlightSubject = 'bare' | 'ours'

/** `announced`: an iterable whose length is known, which is what fetch makes of everything but a stream. */
export type InFlightBody = 'buffer' | 'announced' | 'stream'

export interface Memory {
  /** Of the objects and of the buffers that live, after a collection. */
  readonly liveMB: number
  readonly rssMB: number
  /** The most that the process ever had. */
  readonly peakRssMB: number
}

export interface Start {
  readonly subject: InFlightSubject
  readonly url: string
  readonly bytes: number
  readonly body: InFlightBody
}

let start: Start
let dispatcher: Dispatcher
const headers: Promise<void>[] = []
const ends: Promise<void>[] = []

const calls = {
  start(given: Start): Promise<Memory> {
    start = given
    const { subject, url } = start
    dispatcher = subject === 'bare' ? new Agent() : new PriorityBalancer({ backends: [{ url, priority: 1 }, { url, priority: 2, name: 'second' }] })
    return measure()
  },

  send(count: number): void {
    for (let i = 0; i < count; i++) sendOne()
  },

  measure,

  /** Fulfils when all responses have begun. */
  async begun(): Promise<Memory> {
    await Promise.all(headers)
    return measure()
  },

  async ended(): Promise<Memory> {
    await Promise.all(ends)
    headers.length = 0
    ends.length = 0
    return measure()
  },
}

export type InFlightCalls = typeof calls

/** Keeps no body: what lives on is what others hold. */
function sendOne(): void {
  const { url, bytes, body } = start
  const answer = request(`${url}/openai/deployments/gpt-4o/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(body === 'announced' ? { 'content-length': String(bytes) } : {}) },
    // undici takes every async iterable; its types name streams only.
    body: body === 'buffer' ? Buffer.alloc(bytes, 0x78) : makeIterable(bytes) as unknown as Buffer,
    dispatcher,
  })
  headers.push(answer.then(({ statusCode }) => {
    if (statusCode !== 200) throw new Error(`a request was answered with ${statusCode}`)
  }))
  ends.push(answer.then((response) => response.body.dump()))
}

async function* makeIterable(bytes: number): AsyncGenerator<Uint8Array> {
  yield Buffer.alloc(bytes, 0x78)
}

async function measure(): Promise<Memory> {
  globalThis.gc?.()
  // The memory of buffers is given back in the background, and by a second collection where the first found their owners.
  await new Promise((resolve) => { setTimeout(resolve, 100) })
  globalThis.gc?.()
  const { heapUsed, external, rss } = process.memoryUsage()
  return { liveMB: (heapUsed + external) / 1e6, rssMB: rss / 1e6, peakRssMB: process.resourceUsage().maxRSS * 1_024 / 1e6 }
}

answerCalls(calls)
