/** Dispatchers that send nothing and answer before `dispatch` returns: what is left is what stands in front of them. */
import { createRequire } from 'node:module'
import { Dispatcher } from 'undici'
import { type AnyHandler, type Controller, type DispatchOptions, type LegacyHandler, type ModernHandler, type ParsedHeaders, PEER_TAKES_LEGACY_HANDLERS } from '../../../src/request/undici.js'

export type Answer = Readonly<Record<string, string>>

const BODY = Buffer.from('{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hello."}}]}')

/** Answers with this status, these headers and a `content-length`, in the style of the undici that is the peer. */
export function createNullDispatcher(headers: Answer, status = 200): Dispatcher {
  const answer = { 'content-length': String(BODY.byteLength), ...headers }
  return PEER_TAKES_LEGACY_HANDLERS ? new LegacyNull(answer, status) : new ModernNull(answer, status)
}

abstract class NullDispatcher extends Dispatcher {
  override dispatch(opts: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    const { body } = opts as DispatchOptions
    if (isAsyncIterable(body)) void this.#readAndAnswer(body, handler)
    else this.answer(handler)
    return true
  }

  protected abstract answer(handler: unknown): void

  async #readAndAnswer(body: AsyncIterable<unknown>, handler: unknown): Promise<void> {
    const reader = body[Symbol.asyncIterator]()
    while ((await reader.next()).done !== true);
    this.answer(handler)
  }
}

/** undici 7's own dispatchers speak the old style, and adapt handlers of the new one with this. */
interface UnwrapHandler {
  unwrap(handler: AnyHandler): LegacyHandler
}

class LegacyNull extends NullDispatcher {
  readonly #status: number
  readonly #raw: Buffer[]
  readonly #adapter = createRequire(import.meta.url)('undici/lib/handler/unwrap-handler.js') as UnwrapHandler

  constructor(answer: Answer, status: number) {
    super()
    this.#status = status
    this.#raw = toRaw(answer)
  }

  protected answer(given: AnyHandler): void {
    const handler = this.#adapter.unwrap(given)
    handler.onConnect?.(doNothing)
    handler.onResponseStarted?.()
    handler.onHeaders?.(this.#status, this.#raw, doNothing, 'OK')
    handler.onData?.(BODY)
    handler.onComplete?.([])
  }
}

class ModernNull extends NullDispatcher {
  readonly #status: number
  readonly #controller: Controller
  readonly #headers: ParsedHeaders

  constructor(answer: Answer, status: number) {
    super()
    this.#status = status
    this.#headers = answer
    this.#controller = {
      aborted: false, paused: false, reason: null, rawHeaders: toRaw(answer), rawTrailers: [], abort: doNothing, pause: doNothing, resume: doNothing,
    }
  }

  protected answer(handler: ModernHandler): void {
    handler.onRequestStart?.(this.#controller, null)
    handler.onResponseStarted?.()
    handler.onResponseStart?.(this.#controller, this.#status, this.#headers, 'OK')
    handler.onResponseData?.(this.#controller, BODY)
    handler.onResponseEnd?.(this.#controller, {})
  }
}

function toRaw(answer: Answer): Buffer[] {
  return Object.entries(answer).flatMap(([name, value]) => [Buffer.from(name), Buffer.from(value)])
}

function isAsyncIterable(body: unknown): body is AsyncIterable<unknown> {
  return typeof body === 'object' && body !== null && Symbol.asyncIterator in body
}

function doNothing(): void {}
