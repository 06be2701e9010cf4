/**
 * A service of chat completions that breaks in a way of its own: raw enough to reset, to cut and to stall, and with its own record
 * of what was asked of it. Answers are sixty tokens, so that a short, doubled or mixed one is told from the right one.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Attempt } from './verdict.js'

export const TOKENS: readonly string[] = Array.from({ length: 60 }, (_, index) => `${index === 0 ? '' : ' '}token-${index + 1}`)
export const ANSWER = TOKENS.join('')

/** Asks for an answer without a fault, and is not recorded. */
export const HEALTHY_MODEL = 'healthy'

/** Milliseconds. */
export interface Times {
  readonly betweenTokens: number
  readonly firstToken: number
  readonly stall: number
  readonly silence: number
  readonly down: number
}

export const TIMES: Times = { betweenTokens: 15, firstToken: 20_000, stall: 30_000, silence: 120_000, down: 60_000 }

/** Answers one attempt. */
export type Fault = (exchange: Exchange) => Promise<void>

export interface Service {
  /** Base URL, with `/v1`. */
  readonly url: string
  /** What it calls itself in its answers. */
  readonly model: string
  readonly attempts: readonly Attempt[]
  close(): Promise<void>
}

interface Asked {
  readonly model?: string
  readonly stream?: boolean
  readonly stream_options?: { readonly include_usage?: boolean }
  readonly messages?: readonly { readonly role: string }[]
}

/** One attempt, as a fault handles it. */
export class Exchange {
  readonly times: Times
  /** 1 for the first attempt. */
  readonly number: number
  /** Milliseconds since the service was started. */
  readonly elapsed: number
  readonly isStream: boolean
  readonly isPrefilled: boolean
  readonly #asked: Asked
  readonly #model: string
  readonly #response: ServerResponse
  readonly #record: Attempt | undefined

  constructor(asked: Asked, response: ServerResponse, given: { times: Times, number: number, elapsed: number, model: string, record: Attempt | undefined }) {
    this.#asked = asked
    this.#response = response
    this.#model = given.model
    this.#record = given.record
    this.times = given.times
    this.number = given.number
    this.elapsed = given.elapsed
    this.isStream = asked.stream === true
    this.isPrefilled = isPrefilled(asked)
  }

  /** An error of OpenAI's shape. */
  refuse(status: number, type: string, code: string | null, headers: Readonly<Record<string, string>> = {}): void {
    this.#note('refused')
    const body = JSON.stringify({ error: { message: `refused for the test: ${code ?? type}`, type, param: null, code } })
    this.#response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), ...headers }).end(body)
  }

  /** Ends the connection: nothing more comes. */
  break(how: 'close' | 'reset'): void {
    this.#note('broken')
    if (how === 'reset') this.#response.socket?.resetAndDestroy()
    else this.#response.socket?.end()
  }

  /** Until so much time is over or the client has gone. */
  async pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const end = (): void => {
        clearTimeout(timer)
        this.#response.off('close', end)
        resolve()
      }
      const timer = setTimeout(end, ms)
      this.#response.once('close', end)
    })
  }

  /** The whole answer, in the way that was asked for. */
  async answer(): Promise<void> {
    if (!this.isStream) return this.sendBody(this.#completion())
    await this.beginStream()
    await this.sendTokens(0, TOKENS.length)
    await this.finishStream()
    await this.endStream()
  }

  /** Says how long it is and sends a share of it. */
  async sendBody(body: string, share = 1): Promise<void> {
    this.#response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }).flushHeaders()
    await this.#write(body.slice(0, Math.floor(body.length * share)))
    if (share < 1) return
    this.#note('answered')
    this.#response.end()
  }

  body(): string {
    return this.#completion()
  }

  sendStreamHeaders(): void {
    this.#response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' }).flushHeaders()
  }

  /** Headers and the chunk that names the role. */
  async beginStream(): Promise<void> {
    if (!this.#response.headersSent) this.sendStreamHeaders()
    await this.send(this.#chunk({ role: 'assistant', content: '' }))
  }

  async sendTokens(from: number, to: number): Promise<void> {
    for (const token of TOKENS.slice(from, to)) {
      if (this.#response.destroyed) return
      await this.send(this.#chunk({ content: token }))
      await this.pause(this.times.betweenTokens)
    }
  }

  /** The chunks after the last token. */
  async finishStream(): Promise<void> {
    await this.send(this.#chunk({}, 'stop'))
    if (this.#asked.stream_options?.include_usage === true) await this.send(JSON.stringify({ ...this.#frame('chat.completion.chunk'), choices: [], usage: USAGE }))
  }

  async endStream(last = '[DONE]'): Promise<void> {
    if (last !== '') await this.send(last)
    this.#note('answered')
    this.#response.end()
  }

  /** One event. */
  async send(data: string): Promise<void> {
    await this.#write(`data: ${data}\n\n`)
  }

  async #write(bytes: string): Promise<void> {
    if (!this.#response.destroyed) await new Promise<void>((resolve) => { this.#response.write(bytes, () => { resolve() }) })
  }

  #note(did: Attempt['did']): void {
    // Whoever has gone has got nothing.
    if (this.#record !== undefined && !this.#response.destroyed) this.#record.did = did
  }

  #frame(object: string): object {
    return { id: `chatcmpl-${this.#model}-${this.number}`, object, created: 1_760_000_000, model: this.#model }
  }

  #chunk(delta: object, finishReason: string | null = null): string {
    return JSON.stringify({ ...this.#frame('chat.completion.chunk'), choices: [{ index: 0, delta, finish_reason: finishReason }] })
  }

  #completion(): string {
    return JSON.stringify({
      ...this.#frame('chat.completion'), choices: [{ index: 0, message: { role: 'assistant', content: ANSWER, refusal: null }, logprobs: null, finish_reason: 'stop' }], usage: USAGE,
    })
  }
}

const USAGE = { prompt_tokens: 7, completion_tokens: TOKENS.length, total_tokens: TOKENS.length + 7 }

function isPrefilled({ messages }: Asked): boolean {
  return messages?.at(-1)?.role === 'assistant'
}

/** @param seconds since the scenario began. */
export async function startService(backend: Attempt['backend'], fault: Fault, times: Times, seconds: () => number): Promise<Service> {
  const attempts: Attempt[] = []
  const sockets = new Set<Socket>()
  const model = `model-of-${backend}`
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    // Whoever gives up in the middle is a part of most scenarios.
    response.on('error', () => {})
    const body = await readBody(request)
    if (body === undefined) return
    // What only asks whether somebody is there: such paths are unknown to the services too.
    if (request.method !== 'POST') return void response.writeHead(404).end()
    const asked = JSON.parse(body) as Asked
    const isRecorded = asked.model !== HEALTHY_MODEL
    const record: Attempt = { backend, at: seconds(), did: 'broken', isPrefilled: isPrefilled(asked) }
    if (isRecorded) attempts.push(record)
    const exchange = new Exchange(asked, response, { times, number: attempts.length, elapsed: seconds() * 1_000, model, record: isRecorded ? record : undefined })
    await (isRecorded ? fault(exchange) : exchange.answer())
  }
  // A fault that throws is a mistake of this program: the rejection is left unhandled on purpose.
  const server = createServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 }, (request, response) => void handle(request, response))
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    model,
    attempts,
    close: () => new Promise((resolve) => {
      server.close(() => { resolve() })
      for (const socket of sockets) socket.destroy()
    }),
  }
}

/** `undefined` when the client has gone before its end. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of request) chunks.push(chunk as Buffer)
    return Buffer.concat(chunks).toString()
  } catch {
    return undefined
  }
}
