/** A server of the soak: keeps count of what it does, and checks that what it takes for a whole request body is one. */
import { Deployment, limitHeaders, refusalHeaders } from '../../../examples/demo/simulator/deployment.js'
import { startScriptedBackend, type ScriptedBackend, type ScriptedCall } from '../../support/scripted-backend.js'
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
  readonly weather: WeatherReport
  /** 2,000 requests a second: more than there are callers for, except when they all come at once. */
  readonly #deployment = new Deployment({ kind: 'standard', requestsPerMinute: 120_000, requestWindowMs: 1_000, tokensPerMinute: 90_000_000 })
  #backend: ScriptedBackend | undefined
  #port = 0

  constructor(seed: number, isRough: boolean) {
    this.weather = new WeatherReport(seed, isRough)
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/openai/v1`
  }

  /** Again on the same port, when it was open before. */
  async open(): Promise<void> {
    this.#backend = await startScriptedBackend({ port: this.#port, keepsCalls: false })
    this.#port = this.#backend.port
    this.#backend.always((call) => { this.#take(call) })
  }

  /** Refuses connections from now on, and resets those that are open. */
  async close(): Promise<void> {
    await this.#backend?.close('reset')
  }

  #take(call: ScriptedCall): void {
    const { method, path, headers, stream } = call.request
    const expected = headers[EXPECTED_LENGTH]
    const behaviour = this.weather.next(headers[NO_STALL] === undefined)
    this.done.set(behaviour.kind, (this.done.get(behaviour.kind) ?? 0) + 1)
    let bytes = 0
    stream.on('data', (chunk: Buffer) => { bytes += chunk.byteLength })
    if (behaviour.kind === 'early') this.#answer(call, behaviour, undefined)
    stream.on('end', () => {
      if (expected !== undefined && expected !== String(bytes)) {
        this.defects.push(`${method} ${path}: ${bytes} bytes arrived as a whole body, sent were ${String(expected)}; ${JSON.stringify(headers)}`)
      }
      if (behaviour.kind !== 'early') this.#answer(call, behaviour, bytes)
    })
  }

  #answer(call: ScriptedCall, behaviour: Behaviour, received: number | undefined): void {
    const now = performance.now()
    const refusal = this.#deployment.admit(now, COST)
    const headers = limitHeaders(this.#deployment, 'openai', now)
    if (received !== undefined) headers[RECEIVED_LENGTH] = String(received)
    if (refusal !== undefined) {
      call.respond(429, { ...headers, ...refusalHeaders('openai', refusal) }, FILLER.subarray(0, 300))
      return
    }
    const { socket } = call.request.stream
    switch (behaviour.kind) {
      case 'json':
        call.respond(200, headers, ANSWER)
        return
      case 'slow':
        setTimeout(() => { call.respond(200, headers, ANSWER) }, behaviour.delayMs)
        return
      case 'stream':
        call.head(200, headers)
        writePieces(call, behaviour.pieces)
        return
      case 'early':
        call.respond(behaviour.status, behaviour.status === 429 ? { 'retry-after-ms': '9' } : headers, ANSWER)
        return
      case 'status':
        call.respond(behaviour.status, { ...behaviour.headers }, FILLER.subarray(0, behaviour.bytes))
        return
      case 'reset':
        call.reset()
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
        call.head(200, { ...headers, 'content-length': '1000' })
        writePiece(call, () => { socket.end() })
        return
      case 'mid-body-reset':
        call.head(200, headers)
        writePiece(call, () => { call.reset() })
        return
      case 'stalled-headers':
        return
      case 'stalled-body':
        call.head(200, headers)
        writePiece(call)
        return
      case 'stalled-429':
        call.head(429, { 'retry-after-ms': '5', 'content-length': '1000' })
        writePiece(call)
    }
  }
}

/** A client that is gone by then is none of the server's business. */
function writePiece(call: ScriptedCall, then: () => void = () => {}): void {
  call.write(PIECE).then(then, () => {})
}

function writePieces(call: ScriptedCall, left: number): void {
  if (call.isAborted) return
  if (left === 0) call.end()
  else writePiece(call, () => { setImmediate(writePieces, call, left - 1) })
}
