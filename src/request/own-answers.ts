/**
 * The answer that no backend gave: all are full, come back then. Told to the caller's handler as undici would tell of a response,
 * pauses and aborts included.
 */
import type { Caller, StableController, Steered } from './caller.js'
import { toError } from './failure.js'

/**
 * Header and body of a 429 as OpenAI gives it, so that every SDK knows what to do: `retry-after-ms` in whole
 * milliseconds (Azure OpenAI, openai-node), `retry-after` in whole seconds, rounded up (RFC 9110 section 10.2.3).
 */
export function makeThrottledAnswer(retryAfterMs: number): { readonly headers: Record<string, string>; readonly body: Buffer } {
  const ms = Math.max(1, Math.ceil(retryAfterMs))
  const seconds = Math.ceil(ms / 1000)
  const body = Buffer.from(JSON.stringify({
    error: {
      message: `openai-priority-loadbalancer: no backend is available right now, all are throttled. Please retry after ${ms} milliseconds.`,
      type: 'rate_limit_error',
      param: null,
      code: 'rate_limit_exceeded',
    },
  }))
  return {
    headers: {
      'content-type': 'application/json',
      'content-length': String(body.byteLength),
      'retry-after': String(seconds),
      'retry-after-ms': String(ms),
    },
    body,
  }
}

/** Hands the answer to the caller's handler step by step, with regard to a pause between the steps. */
export class SyntheticResponse implements Steered {
  readonly #caller: Caller
  readonly #controller: StableController
  readonly #answer: ReturnType<typeof makeThrottledAnswer>
  readonly #hasBody: boolean
  #step = 0
  #running = false
  #end: (() => void) | undefined
  #fail: ((error: Error) => void) | undefined

  /** @param hasBody false for a HEAD request */
  constructor(caller: Caller, controller: StableController, retryAfterMs: number, hasBody: boolean) {
    this.#caller = caller
    this.#controller = controller
    this.#answer = makeThrottledAnswer(retryAfterMs)
    this.#hasBody = hasBody
  }

  /**
   * @param end is to tell the caller of the end
   * @param fail the caller's handler threw; it is told of it like of any failure
   */
  start(end: () => void, fail: (error: Error) => void): void {
    this.#end = end
    this.#fail = fail
    this.#controller.attach(this)
    this.#run()
  }

  #run(): void {
    // Resumed from inside a callback: the loop below us on the stack goes on when that has returned.
    if (this.#running) return
    this.#running = true
    try {
      while (this.#controller.steers(this) && !this.#controller.paused && this.#step < 3) this.#tell(this.#step++)
    } catch (error) {
      this.#fail?.(toError(error))
    }
    this.#running = false
  }

  #tell(step: number): void {
    const { headers, body } = this.#answer
    if (step === 0) this.#caller.headers(this.#controller, 429, rawOf(headers), headers, 'Too Many Requests')
    else if (step === 1 && this.#hasBody) this.#caller.data(this.#controller, body)
    else if (step === 2) this.#end?.()
  }

  pause(): void {}

  resume(): void {
    this.#run()
  }
}

function rawOf(headers: Record<string, string>): Buffer[] {
  return Object.entries(headers).flatMap(([name, value]) => [Buffer.from(name), Buffer.from(value)])
}
