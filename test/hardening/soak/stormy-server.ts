/** A server of the soak: keeps count of what it does, and checks that what it takes for a whole request body is one. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { Deployment, limitHeaders, refusalHeaders } from '../../../examples/demo/simulator/deployment.js'
import { WeatherReport, type Behaviour } from './weather.js'

/** Length of the body that the client means to send, in bytes; `none` for one that breaks off and must never arrive whole. */
export const EXPECTED_LENGTH = 'x-expected-length'
/** On requests that are not to be left alone for long. */
export const NO_STALL = 'x-no-stall'
/** On answers: how long the body was that arrived. */
export const RECEIVED_LENGTH = 'x-received-length'

const PIECE = Buffer.from(`data: ${JSON.stringify({ object: 'chat.completion.chunk', choices: [{ index: 0, delta: { content: 'and so on' } }] })}\n\n`)
const ANSWER = Buffer.from(JSON.stringify({ object: 'chat.completion', choices: [{ index: 0, message: { role: 'assistant', content: 'yes '.repeat(60) } }] }))
const FILLER = Buffer.alloc(100_000, 'x')

/** What a request is booked with: more or less what the callers send and ask for. */
const COST = { promptTokens: 100, outputTokens: 50 }

export class StormyServer {
  /** How often it did what. */
  readonly done = new Map<string, number>()
  /** Bodies that arrived whole and were not: each is a defect of the client. */
  readonly defects: string[] = []
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly weather: WeatherReport
  /** 2,000 requests a second: more than there are callers for, except when they all come at once. */
  readonly #deployment = new Deployment({ kind: 'standard', requestsPerMinute: 120_000, requestWindowMs: 1_000, tokensPerMinute: 90_000_000 })
  #port = 0

  constructor(seed: number, isRough: boolean) {
    this.weather = new WeatherReport(seed, isRough)
    // A connection that the server gives up while it is idle is no fault that a client can fix; 0: it never does.
    this.#server = createServer({ keepAliveTimeout: 0 }, (request, response) => { this.#take(request, response) })
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket))
    })
    // An upload that its client has broken off.
    this.#server.on('clientError', (_error, socket) => { socket.destroy() })
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/openai/v1`
  }

  get openSockets(): number {
    return this.#sockets.size
  }

  async open(): Promise<void> {
    this.#server.listen(this.#port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** Refuses connections from now on, and resets those that are open. */
  async close(): Promise<void> {
    if (!this.#server.listening) return
    const closed = once(this.#server, 'close')
    this.#server.close()
    for (const socket of this.#sockets) socket.resetAndDestroy()
    await closed
  }

  #take(request: IncomingMessage, response: ServerResponse): void {
    const expected = request.headers[EXPECTED_LENGTH]
    const behaviour = this.weather.next(request.headers[NO_STALL] === undefined)
    this.done.set(behaviour.kind, (this.done.get(behaviour.kind) ?? 0) + 1)
    let bytes = 0
    request.on('error', () => {})
    response.on('error', () => {})
    request.on('data', (chunk: Buffer) => { bytes += chunk.byteLength })
    if (behaviour.kind === 'early') this.#answer(request, response, behaviour, undefined)
    request.on('end', () => {
      if (expected !== undefined && expected !== String(bytes)) {
        this.defects.push(`${request.method} ${request.url}: ${bytes} bytes arrived as a whole body, sent were ${expected}; ${JSON.stringify(request.headers)}`)
      }
      if (behaviour.kind !== 'early') this.#answer(request, response, behaviour, bytes)
    })
  }

  #answer(request: IncomingMessage, response: ServerResponse, behaviour: Behaviour, received: number | undefined): void {
    const now = performance.now()
    const refusal = this.#deployment.admit(now, COST)
    const headers = limitHeaders(this.#deployment, 'openai', now)
    if (received !== undefined) headers[RECEIVED_LENGTH] = String(received)
    if (refusal !== undefined) {
      response.writeHead(429, { ...headers, ...refusalHeaders('openai', refusal) }).end(FILLER.subarray(0, 300))
      return
    }
    const { socket } = request
    switch (behaviour.kind) {
      case 'json':
        response.writeHead(200, headers).end(ANSWER)
        return
      case 'slow':
        setTimeout(() => { response.writeHead(200, headers).end(ANSWER) }, behaviour.delayMs)
        return
      case 'stream':
        response.writeHead(200, headers)
        writePieces(response, behaviour.pieces)
        return
      case 'early':
        response.writeHead(behaviour.status, behaviour.status === 429 ? { 'retry-after-ms': '9' } : headers).end(ANSWER)
        return
      case 'status':
        response.writeHead(behaviour.status, behaviour.headers).end(FILLER.subarray(0, behaviour.bytes))
        return
      case 'reset':
        socket.resetAndDestroy()
        return
      case 'fin':
        socket.end()
        return
      case 'half-a-status-line':
        socket.end('HTTP/1.1 20')
        return
      case 'garbage':
        socket.end('220 smtp.example ESMTP\r\n')
        return
      case 'short-body':
        response.writeHead(200, { ...headers, 'content-length': '1000' }).write(PIECE, () => { socket.end() })
        return
      case 'mid-body-reset':
        response.writeHead(200, headers).write(PIECE, () => { socket.resetAndDestroy() })
        return
      case 'stalled-headers':
        return
      case 'stalled-body':
        response.writeHead(200, headers).write(PIECE)
        return
      case 'stalled-429':
        response.writeHead(429, { 'retry-after-ms': '5', 'content-length': '1000' }).write(PIECE)
    }
  }
}

function writePieces(response: ServerResponse, left: number): void {
  if (response.destroyed) return
  if (left === 0) response.end()
  else response.write(PIECE, () => { setImmediate(writePieces, response, left - 1) })
}
