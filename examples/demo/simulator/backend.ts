/**
 * One server on loopback that answers like a service, fails when it is told to, and counts what really arrived: what a
 * client under test cannot be asked, since it may be wrong about it.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { composeAnswer } from './answers.js'
import { faultBody, readCredential, SimulatedService, type Call, type ReceivedRequest, type ServiceConfig } from './service.js'

/** What the simulator knows of time. The limits and the latencies ask nothing else, so a test can do without waiting. */
export interface SimulatorClock {
  /** Milliseconds, monotonic; the zero means nothing. */
  now(): number
  /** Resolves after `delayMs`, or at once when `signal` aborts. Never rejects. */
  delay(delayMs: number, signal: AbortSignal): Promise<void>
}

/** One backend as the demo or a test wants it. */
export interface SimulatedBackendConfig extends ServiceConfig {
  /** What `simulator.backend(name)` finds it by. */
  readonly name: string
  /** Time to the first token and for each one more. Default 0 and 0; an answer takes 0.7 to 1.3 times that, by chance. */
  readonly latency?: { readonly firstTokenMs: number, readonly perTokenMs: number }
}

/** A test looks at the last few requests; older ones are dropped, so that a long run stays small. */
const RECEIVED_KEPT = 100

/** One Azure OpenAI (or OpenAI) server on loopback. Made by `AzureSimulator`. */
export class SimulatedBackend {
  readonly name: string
  readonly counters = new Counters()
  /** The latest requests, oldest first, 100 at most. */
  readonly received: ReceivedRequest[] = []
  readonly #latency: { readonly firstTokenMs: number, readonly perTokenMs: number }
  readonly #clock: SimulatorClock
  readonly #random: () => number
  readonly #faults = new FaultPlan()
  readonly #service: SimulatedService
  readonly #server: LoopbackServer

  constructor(config: SimulatedBackendConfig, clock: SimulatorClock, random: () => number) {
    this.name = config.name
    this.#latency = config.latency ?? { firstTokenMs: 0, perTokenMs: 0 }
    this.#clock = clock
    this.#random = random
    this.#service = new SimulatedService(config)
    this.#server = new LoopbackServer(
      (request, response, body) => this.#serve(request, response, body),
      () => { this.counters.connections += 1 },
      (request, response) => { this.#count(request, response) },
    )
  }

  /** `http://127.0.0.1:port`: the resource, above `/openai/deployments/...`. */
  get origin(): string {
    return this.#server.origin
  }

  /** The base URL of the v1 API, for the `openai` package's `baseURL`. */
  get url(): string {
    return `${this.origin}/openai/v1`
  }

  /** Orders a fault for the next `times` requests (default: for all from now on), after those ordered before. */
  inject(fault: Fault, times = Infinity): void {
    this.#faults.order(fault, times)
  }

  /** Takes all ordered faults back. */
  clearFaults(): void {
    this.#faults.clear()
  }

  /** Refuses connections and cuts those that are open, until `open`. */
  close(): Promise<void> {
    return this.#server.close()
  }

  /** Listens (again, on the same port). */
  open(): Promise<void> {
    return this.#server.open()
  }

  #count(request: IncomingMessage, response: ServerResponse): void {
    this.counters.requests += 1
    const credential = readCredential(request.headers)
    if (credential !== undefined) this.counters.keys.add(credential.value)
    response.once('close', () => { if (!response.writableFinished) this.counters.broken += 1 })
  }

  async #serve(request: IncomingMessage, response: ServerResponse, body: Buffer): Promise<void> {
    const received = { method: request.method ?? '', path: request.url ?? '', headers: request.headers, body }
    this.received.push(received)
    if (this.received.length > RECEIVED_KEPT) this.received.shift()
    const id = `${this.name}-${this.counters.requests}`
    setHeaders(response, { 'apim-request-id': id, 'x-request-id': id, 'x-ms-region': this.name })
    const gone = new AbortController()
    response.once('close', () => { gone.abort() })

    const fault = this.#faults.take()
    if (fault !== undefined && await this.#failsAtOnce(fault, response, gone.signal)) return
    const decision = this.#service.decide(received, this.#clock.now())
    setHeaders(response, decision.headers)
    if (!decision.admitted) return this.#send(response, decision.status, decision.body)
    response.once('close', () => { decision.complete(this.#clock.now()) })
    await this.#answer(response, decision.call, id, fault, gone.signal)
  }

  /** Plays a fault that comes before the answer; true when no answer is left to give. */
  async #failsAtOnce(fault: Fault, response: ServerResponse, gone: AbortSignal): Promise<boolean> {
    switch (fault.kind) {
      case 'status':
        if (fault.retryAfterMs !== undefined) response.setHeader('retry-after-ms', String(fault.retryAfterMs))
        if (fault.retryAfter !== undefined) response.setHeader('retry-after', fault.retryAfter)
        this.#send(response, fault.status, fault.body ?? faultBody(fault.status))
        return true
      case 'reset-before-headers':
        reset(response)
        return true
      case 'stall-before-headers':
        return true
      case 'slow-headers':
        await this.#clock.delay(fault.delayMs, gone)
        return gone.aborted
      case 'reset-mid-stream':
      case 'stall-mid-stream':
        return false
    }
  }

  async #answer(response: ServerResponse, call: Call, id: string, fault: Fault | undefined, gone: AbortSignal): Promise<void> {
    const answer = composeAnswer(call, id, Math.floor(Date.now() / 1000))
    const pace = 0.7 + 0.6 * this.#random()
    const wait = async (ms: number): Promise<void> => { if (ms > 0) await this.#clock.delay(ms * pace, gone) }
    const { firstTokenMs, perTokenMs } = this.#latency

    // An answer that is not streamed leaves when all of it is there, its headers too.
    await wait(firstTokenMs + (call.stream ? 0 : perTokenMs * call.real.outputTokens))
    if (gone.aborted) return
    this.counters.answered(200)
    response.writeHead(200, { 'content-type': answer.contentType })
    for (const [index, part] of answer.parts.entries()) {
      if (call.stream) await wait(perTokenMs * part.tokens)
      if (gone.aborted) return
      if (index === 1 && fault?.kind === 'stall-mid-stream') return
      if (fault?.kind === 'reset-mid-stream' && index === (fault.afterParts ?? 1)) return reset(response)
      // Written out before it may be cut off: otherwise a reset overtakes what was to arrive before it.
      await new Promise<void>((resolve) => { response.write(part.text, () => { resolve() }) })
    }
    response.end()
  }

  #send(response: ServerResponse, status: number, body: unknown): void {
    this.counters.answered(status)
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(body))
  }
}

function reset(response: ServerResponse): void {
  response.socket?.resetAndDestroy()
}

function setHeaders(response: ServerResponse, headers: Record<string, string>): void {
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
}

/** What can be ordered to go wrong with a request that has arrived whole. */
export type Fault =
  /** Answers with this status and the body that the service has for it. 429 here means high demand, not your quota. */
  | {
    readonly kind: 'status'
    readonly status: 400 | 403 | 408 | 409 | 429 | 500 | 502 | 503 | 504
    /** `retry-after-ms`; none when left out. */
    readonly retryAfterMs?: number
    /** `retry-after`, verbatim, so that dates and nonsense can be tried; none when left out. */
    readonly retryAfter?: string
    /** Instead of the service's own body. */
    readonly body?: unknown
  }
  /** RST in place of an answer. */
  | { readonly kind: 'reset-before-headers' }
  /** A good answer whose connection is reset after so many of its parts; default 1, which has no output yet where it is a stream. */
  | { readonly kind: 'reset-mid-stream', readonly afterParts?: number }
  /** A good answer, so much later (milliseconds). */
  | { readonly kind: 'slow-headers', readonly delayMs: number }
  /** Never answers. */
  | { readonly kind: 'stall-before-headers' }
  /** A good answer that stands still after its first part. */
  | { readonly kind: 'stall-mid-stream' }

/** The faults that are ordered for one backend, first come first served. */
class FaultPlan {
  #orders: { readonly fault: Fault, left: number }[] = []

  order(fault: Fault, times: number): void {
    if (!(times > 0)) throw new RangeError(`times must be at least 1, got ${times}`)
    this.#orders.push({ fault, left: times })
  }

  clear(): void {
    this.#orders = []
  }

  /** The fault for the next request, if one is due. */
  take(): Fault | undefined {
    const order = this.#orders[0]
    if (order === undefined) return undefined
    order.left -= 1
    if (order.left <= 0) this.#orders.shift()
    return order.fault
  }
}

/** What really arrived at one backend, and what became of it. */
class Counters {
  /** Requests whose headers arrived. */
  requests = 0
  /** Answers begun, by status. */
  readonly statuses = new Map<number, number>()
  /** Requests whose answer did not go out whole: reset, stalled until the client left, or given up by the client. */
  broken = 0
  connections = 0
  /** Every credential that was shown, bare: values of `api-key` and bearer tokens. */
  readonly keys = new Set<string>()

  /** 200s. */
  get succeeded(): number {
    return this.count(200)
  }

  /** 429s. */
  get throttled(): number {
    return this.count(429)
  }

  /** Answers with one status. */
  count(status: number): number {
    return this.statuses.get(status) ?? 0
  }

  answered(status: number): void {
    this.statuses.set(status, this.count(status) + 1)
  }
}

/** Called with requests that arrived whole. */
export type RequestListener = (request: IncomingMessage, response: ServerResponse, body: Buffer) => Promise<void>

/** Called when the headers are in. */
type ArrivalListener = (request: IncomingMessage, response: ServerResponse) => void

/** No client keeps a connection idle for so long: otherwise a request can meet a connection that is just being closed. */
const KEEP_ALIVE_MS = 120_000

/** An HTTP server on 127.0.0.1 that can be closed and opened again on the port that it was first given. */
class LoopbackServer {
  readonly #server: Server
  #port = 0

  constructor(listener: RequestListener, onConnection: () => void, onArrival: ArrivalListener) {
    this.#server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
      onArrival(request, response)
      // A body that does not arrive whole: the client left while it was sending. An error of the listener is a bug and must be loud.
      void readBody(request).then((body) => listener(request, response, body), () => { response.destroy() })
    })
    this.#server.on('connection', onConnection)
  }

  get origin(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  async open(): Promise<void> {
    if (this.#server.listening) return
    this.#server.listen(this.#port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** Refuses new connections and cuts the open ones. */
  async close(): Promise<void> {
    if (!this.#server.listening) return
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
