/** The backends of the benchmarks: a program of its own, so that its work is not counted as the client's. */
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { answerCalls } from './child.js'

const JSON_BODY = Buffer.from(JSON.stringify({ id: 'chatcmpl-1', choices: [{ message: { role: 'assistant', content: 'Hello.' } }] }))
const EVENT = `data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', choices: [{ delta: { content: ' token' } }] })}\n\n`

/** A short answer of a chat model. */
const EVENTS = 64

/** What Azure sends before there is any output: what its filter thinks of the prompt, and the role. */
const PRELUDE = [
  { choices: [], created: 0, id: '', model: '', object: '', prompt_filter_results: [{ prompt_index: 0, content_filter_results: { hate: { filtered: false, severity: 'safe' } } }] },
  { choices: [{ content_filter_results: {}, delta: { content: '', refusal: null, role: 'assistant' }, finish_reason: null, index: 0 }], created: 1_760_000_000, id: 'chatcmpl-1', object: 'chat.completion.chunk' },
].map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`)

/** Milliseconds from the prelude to the first output, where a model thinks. Real ones take longer: the more of that, the less is seen of anything else. */
const THINKS_MS = 2

/**
 * Whole answers at once, an event stream, one that begins with a prelude and has its first output at once or after a while, always a
 * 429 that says "at once", or an answer that waits to be let go.
 */
export type Manner = 'json' | 'events' | 'prelude' | 'prelude-and-pause' | 'throttled' | 'held'

/** Requests that have arrived whole and wait for their answer, or for its end. */
const held: ServerResponse[] = []
let awaited: { count: number; resolve: () => void } | undefined

const MANNERS: Readonly<Record<Manner, (response: ServerResponse) => void>> = {
  json(response) {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': JSON_BODY.byteLength }).end(JSON_BODY)
  },
  events(response) {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    let left = EVENTS
    const next = (): void => {
      if (left-- === 0) response.end('data: [DONE]\n\n')
      else response.write(EVENT, () => setImmediate(next))
    }
    next()
  },
  'prelude'(response) {
    begin(response)
    response.end(`${EVENT}data: [DONE]\n\n`)
  },
  'prelude-and-pause'(response) {
    begin(response)
    setTimeout(() => { response.end(`${EVENT}data: [DONE]\n\n`) }, THINKS_MS)
  },
  throttled(response) {
    // Room is left, and no time is named: the one request is too large, and the backend stays open to the next.
    response.writeHead(429, { 'x-ratelimit-remaining-tokens': '1', 'content-length': '2' }).end('{}')
  },
  held(response) {
    held.push(response)
    if (held.length === awaited?.count) awaited.resolve()
  },
}

function begin(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  for (const chunk of PRELUDE) response.write(chunk)
}

const calls = {
  /** @returns the base URL of a server that answers in this manner once it has read the request. */
  async listen(manner: Manner): Promise<string> {
    const answer = MANNERS[manner]
    const listener: RequestListener = (request: IncomingMessage, response) => {
      // The client may be stopped in the middle.
      response.on('error', () => {})
      request.on('end', () => { answer(response) }).on('error', () => {}).resume()
    }
    const server = createServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 }, listener)
    await new Promise<void>((resolve) => { server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 }, resolve) })
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  },

  /** Fulfils when so many requests are held. */
  async arrived(count: number): Promise<void> {
    if (held.length < count) await new Promise<void>((resolve) => { awaited = { count, resolve } })
  },

  /** Sends the headers to all that are held, and nothing more. */
  begin(): void {
    for (const response of held) response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
  },

  end(): void {
    for (const response of held.splice(0)) response.end('data: [DONE]\n\n')
  },
}

export type ServerCalls = typeof calls

answerCalls(calls)
