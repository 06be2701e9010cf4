import type { Duplex } from 'node:stream'
import { util } from 'undici'
import type { Engine } from '../../src/engine.js'
import type { AnyHandler, AnyHeaders, Controller, ModernHandler, DispatchOptions, LegacyHandler, ParsedHeaders, RawHeaders } from '../../src/request/undici.js'
import type { Style } from './recording-handler.js'

/** What the balancer sends with. */
export type Inner = Parameters<Engine['dispatch']>[0]

/** A dispatcher that the test plays by hand: what undici says to a handler, in the style of either major, without sockets. */
export class FakeInner implements Inner {
  /** Whether it is known to take handlers of the old style. */
  takesLegacy: boolean
  isMockActive = false
  readonly calls: FakeCall[] = []
  readonly #style: Style
  /** Called inside `dispatch`. */
  onDispatch: ((call: FakeCall) => void) | undefined
  /** What `dispatch` returns. */
  result = true

  constructor(style: Style) {
    this.#style = style
    this.takesLegacy = style === 'old'
  }

  readonly dispatch = (opts: DispatchOptions, handler: AnyHandler): boolean => {
    const call = new FakeCall(opts, handler, this.#style)
    this.calls.push(call)
    this.onDispatch?.(call)
    return this.result
  }

  /** The attempt that was begun last. */
  get last(): FakeCall {
    const call = this.calls.at(-1)
    if (call === undefined) throw new Error('nothing was dispatched')
    return call
  }
}

/** One attempt on the wire that is not there. An abort is reported back at once, as undici does it. */
export class FakeCall {
  readonly opts: DispatchOptions
  readonly handler: ModernHandler & LegacyHandler
  readonly #style: Style
  readonly #controller: FakeController
  /** Reasons of aborts, in order. */
  readonly aborts: unknown[] = []
  /** Whether undici would have stopped to read. */
  paused = false
  resumes = 0
  #over = false

  constructor(opts: DispatchOptions, handler: AnyHandler, style: Style) {
    this.opts = opts
    this.handler = handler
    this.#style = style
    this.#controller = new FakeController(this)
  }

  get headers(): string[] {
    return (this.opts.headers as string[] | undefined) ?? []
  }

  start(): this {
    if (this.#style === 'new') this.handler.onRequestStart?.(this.#controller, null)
    else this.handler.onConnect?.((reason) => { this.abort(reason) })
    return this
  }

  respond(status: number, headers: AnyHeaders = {}, message = ''): this {
    if (this.#style === 'new') {
      this.#controller.rawHeaders = headers
      this.handler.onResponseStart?.(this.#controller, status, toParsed(headers), message)
    } else if (this.handler.onHeaders?.(status, toRaw(headers), () => { this.#resume() }, message) === false) this.paused = true
    return this
  }

  data(text: string | Buffer): this {
    const chunk = typeof text === 'string' ? Buffer.from(text) : text
    if (this.#style === 'new') this.handler.onResponseData?.(this.#controller, chunk)
    else if (this.handler.onData?.(chunk) === false) this.paused = true
    return this
  }

  end(trailers: AnyHeaders = {}): this {
    this.#over = true
    if (this.#style === 'new') {
      this.#controller.rawTrailers = trailers
      this.handler.onResponseEnd?.(this.#controller, toParsed(trailers))
    } else this.handler.onComplete?.(toRaw(trailers))
    return this
  }

  upgrade(status: number, headers: AnyHeaders, socket: Duplex): unknown {
    if (this.#style === 'old') return this.handler.onUpgrade?.(status, toRaw(headers), socket)
    this.#controller.rawHeaders = headers
    return this.handler.onRequestUpgrade?.(this.#controller, status, toParsed(headers), socket)
  }

  fail(error: unknown): this {
    this.#over = true
    if (this.#style === 'new') this.handler.onResponseError?.(this.#controller, error as Error)
    else this.handler.onError?.(error as Error)
    return this
  }

  /** What undici does when a handler throws in a callback: it ends the request with that. */
  callback(play: () => unknown): this {
    try {
      play()
    } catch (error) {
      this.#over = false
      this.abort(error)
    }
    return this
  }

  abort(reason: unknown): void {
    if (this.#over) return
    this.aborts.push(reason)
    this.fail(reason)
  }

  pauseReading(): void {
    this.paused = true
  }

  resumeReading(): void {
    this.#resume()
  }

  #resume(): void {
    this.paused = false
    this.resumes++
  }
}

class FakeController implements Controller {
  readonly #call: FakeCall
  rawHeaders: AnyHeaders | null = null
  rawTrailers: AnyHeaders | null = null
  aborted = false
  reason: Error | null = null

  constructor(call: FakeCall) {
    this.#call = call
  }

  get paused(): boolean {
    return this.#call.paused
  }

  abort(reason?: Error): void {
    if (this.aborted) return
    this.aborted = true
    this.reason = reason ?? null
    this.#call.abort(reason)
  }

  pause(): void {
    this.#call.pauseReading()
  }

  resume(): void {
    if (this.#call.paused) this.#call.resumeReading()
  }
}

/** As undici parses what came over the wire. */
function toParsed(headers: AnyHeaders): ParsedHeaders {
  return Array.isArray(headers) ? util.parseHeaders(headers as Buffer[]) as ParsedHeaders : headers as ParsedHeaders
}

/** As it would come over the wire: a pair for each repetition. */
function toRaw(headers: AnyHeaders): RawHeaders {
  if (Array.isArray(headers)) return headers as RawHeaders
  const pairs = Object.entries(headers as ParsedHeaders).flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).map((one) => [name, one ?? '']))
  return pairs.flat().map((text) => Buffer.from(text, 'latin1'))
}
