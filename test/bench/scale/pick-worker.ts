/** Whole dispatches over pools of many sizes, in turn. */
import { Dispatcher } from 'undici'
import { PriorityBalancer } from '../../../src/balancer.js'
import { createCaller } from '../pure/caller.js'
import { createNullDispatcher } from '../pure/null-dispatcher.js'
import { ANSWER, makeRequest } from '../pure/requests.js'
import { answerCalls } from '../support/child.js'

export interface Size {
  readonly backends: number
  readonly scopes: number
  /** Every second backend has answered with a 429, and cools down. */
  readonly halfThrottled: boolean
}

export interface PickCost {
  /** For each dispatch, in the best of all rounds. */
  readonly ns: number
  /** What the pool holds on to after the first requests, over what it did before. */
  readonly heapKB: number
}

/** Enough that what is learned of scopes and backends weighs something. */
const FIRST_REQUESTS = 20_000

const caller = createCaller()

const calls = {
  async measure({ sizes, rounds, count }: { sizes: readonly Size[]; rounds: number; count: number }): Promise<PickCost[]> {
    const pools = sizes.map((size) => {
      const before = measureHeap()
      const pool = createPool(size)
      pool.run(Math.min(FIRST_REQUESTS, count * 10))
      return { ...pool, heapKB: (measureHeap() - before) / 1_000, best: Infinity }
    })
    for (let round = 0; round < rounds; round++) {
      for (const pool of pools) pool.best = Math.min(pool.best, pool.run(count) * 1e6 / count)
      // Lets the timers of swallowed answers go.
      await new Promise((resolve) => { setImmediate(resolve) })
    }
    return pools.map(({ best, heapKB }) => ({ ns: best, heapKB }))
  },
}

export type PickCalls = typeof calls

/** A function that sends so many requests, of one scope after the other, and says how many milliseconds that took. */
function createPool({ backends, scopes, halfThrottled }: Size): { run: (count: number) => number } {
  const urls = Array.from({ length: backends }, (_, index) => `https://backend-${index}.openai.azure.com`)
  const requests = Array.from({ length: scopes }, (_, index) => makeRequest(`/openai/deployments/scope-${index}/chat/completions`, { origin: urls[0] ?? '' }))
  const throttled = new Set(halfThrottled ? urls.filter((_, index) => index % 2 === 1) : [])
  const balancer = new PriorityBalancer({ backends: urls.map((url) => ({ url, priority: 1 })), dispatcher: new PartlyThrottled(throttled), logger: false })
  let at = 0
  return {
    run: (count) => {
      const { ended } = caller
      const began = performance.now()
      for (let i = 0; i < count; i++) {
        balancer.dispatch(requests[at] as never, caller.handler)
        at = (at + 1) % scopes
      }
      const took = performance.now() - began
      if (caller.ended - ended !== count) throw new Error(`${caller.ended - ended} of ${count} requests were answered with 200`)
      return took
    },
  }
}

class PartlyThrottled extends Dispatcher {
  readonly #throttled: ReadonlySet<string>
  readonly #good = createNullDispatcher(ANSWER)
  readonly #refusing = createNullDispatcher({ 'retry-after': '60' }, 429)

  constructor(throttled: ReadonlySet<string>) {
    super()
    this.#throttled = throttled
  }

  override dispatch(opts: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    return (this.#throttled.has(String(opts.origin)) ? this.#refusing : this.#good).dispatch(opts, handler)
  }
}

function measureHeap(): number {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

answerCalls(calls)
