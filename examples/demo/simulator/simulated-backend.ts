import type { IncomingMessage, ServerResponse } from 'node:http'
import { composeAnswer } from './answers.js'
import type { Call } from './call.js'
import type { SimulatorClock } from './clock.js'
import { Counters } from './counters.js'
import { readCredential } from './credentials.js'
import { faultBody } from './errors.js'
import { FaultPlan, type Fault } from './faults.js'
import { LoopbackServer } from './loopback-server.js'
import { SimulatedService, type ReceivedRequest, type ServiceConfig } from './service.js'

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
      if (index === 1 && fault?.kind === 'reset-mid-stream') return reset(response)
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
