/** The answer that no backend gave: everything is throttled, come back then. */
import type { CallerHandler } from './caller-handler.js'
import { toError } from './failure.js'
import type { StableController, Steered } from './stable-controller.js'

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
  readonly #caller: CallerHandler
  readonly #controller: StableController
  readonly #answer: ReturnType<typeof makeThrottledAnswer>
  #step = 0
  #onEnd: (() => void) | undefined
  #onError: ((error: Error) => void) | undefined

  constructor(caller: CallerHandler, controller: StableController, retryAfterMs: number) {
    this.#caller = caller
    this.#controller = controller
    this.#answer = makeThrottledAnswer(retryAfterMs)
  }

  /** `onError`: the caller's handler threw; it is told of it like of any failure. */
  start(onEnd: () => void, onError: (error: Error) => void): void {
    this.#onEnd = onEnd
    this.#onError = onError
    this.#controller.attach(this)
    this.#run()
  }

  #run(): void {
    const { headers, body } = this.#answer
    try {
      while (!this.#controller.paused && !this.#controller.aborted && this.#step < 3) {
        const step = this.#step++
        if (step === 0) this.#caller.headers(this.#controller, 429, rawOf(headers), headers, 'Too Many Requests')
        else if (step === 1) this.#caller.data(this.#controller, body)
        else this.#end()
      }
    } catch (error) {
      this.#onError?.(toError(error))
    }
  }

  #end(): void {
    this.#caller.end(this.#controller, [], {})
    this.#onEnd?.()
  }

  pause(): void {}

  resume(): void {
    this.#run()
  }
}

function rawOf(headers: Record<string, string>): Buffer[] {
  return Object.entries(headers).flatMap(([name, value]) => [Buffer.from(name), Buffer.from(value)])
}
