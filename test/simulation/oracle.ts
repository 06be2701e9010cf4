/**
 * The clairvoyant reference: reads every limiter, never wastes an attempt, honours priority, sends at the instant at
 * which something fits, first-fit over the head of its queue, and gives up at its patience. No proven optimum.
 */
import type { Policy, PolicyContext, PolicyInstance, RequestView } from './contract.js'
import type { Arrival } from './workload.js'

class Oracle implements PolicyInstance {
  readonly #context: PolicyContext
  readonly #order: readonly number[]
  readonly #patienceMs: number
  readonly #isFinal: boolean
  readonly #queue: RequestView[] = []
  readonly #deadlines = new WeakMap<RequestView, number>()
  readonly #expired = new Set<RequestView>()
  #timer: { cancel(): void } | undefined
  #waking: { view: RequestView; index: number } | undefined

  constructor(context: PolicyContext, patienceMs: number, isFinal: boolean) {
    this.#context = context
    this.#order = [...context.backends].sort((a, b) => a.priority - b.priority).map((b) => b.index)
    this.#patienceMs = patienceMs
    this.#isFinal = isFinal
  }

  pick(now: number, view: RequestView) {
    if (this.#expired.delete(view)) return { reject: this.#soonest(now, truthOf(view)), final: this.#isFinal }
    if (this.#waking?.view === view) {
      const { index } = this.#waking
      this.#waking = undefined
      return index
    }
    if (this.#queue.length === 0) {
      const index = this.#fit(now, truthOf(view))
      if (index !== undefined) return index
    }
    if (this.#patienceMs === 0) return { reject: this.#soonest(now, truthOf(view)), final: this.#isFinal }
    if (!this.#deadlines.has(view)) this.#deadlines.set(view, now + this.#patienceMs)
    this.#queue.push(view)
    this.#context.env.setTimer(this.#drain, 0)
    return { queue: true as const }
  }

  onResult(): void {
    if (this.#queue.length > 0) this.#context.env.setTimer(this.#drain, 0)
  }

  readonly #drain = (): void => {
    const { env } = this.#context
    const now = env.now()
    const queue = this.#queue
    for (let first = queue[0]; first !== undefined && this.#deadlineOf(first) <= now; first = queue[0]) {
      queue.shift()
      this.#expired.add(first)
      env.wake(first)
    }
    for (const [k, view] of queue.slice(0, 32).entries()) {
      const index = this.#fit(now, truthOf(view))
      if (index === undefined) continue
      queue.splice(k, 1)
      this.#waking = { view, index }
      env.wake(view) // sent at once, and admitted at +0
      env.setTimer(this.#drain, 0) // after the admission was recorded
      return
    }
    this.#arm(now)
  }

  #arm(now: number): void {
    this.#timer?.cancel()
    const first = this.#queue[0]
    if (first === undefined) return
    const soonest = Math.min(...this.#queue.slice(0, 8).map((view) => this.#soonest(now, truthOf(view))))
    this.#timer = this.#context.env.setTimer(this.#drain, Math.max(0.05, Math.min(soonest, this.#deadlineOf(first) - now)))
  }

  #deadlineOf(view: RequestView): number {
    return this.#deadlines.get(view) ?? Infinity
  }

  #waitOn(index: number, now: number, r: Arrival): number {
    return this.#context.world?.backends[index]?.waitFor(now, r) ?? Infinity
  }

  #fit(now: number, r: Arrival): number | undefined {
    return this.#order.find((index) => this.#waitOn(index, now, r) <= 0)
  }

  #soonest(now: number, r: Arrival): number {
    return Math.min(...this.#order.map((index) => this.#waitOn(index, now, r)))
  }
}

function truthOf(view: RequestView): Arrival {
  if (view.truth === undefined) throw new TypeError('the oracle was not told the truth')
  return view.truth
}

function makeOracle(name: string, patienceMs: number, isFinal: boolean): Policy {
  return { name, clairvoyant: true, create: (context) => new Oracle(context, patienceMs, isFinal) }
}

/** The reference for goodput; the application sees its failures at once. */
export const oracle = makeOracle('ORACLE(60s)', 60_000, true)
/** Has none, and says when the first backend has room again. */
export const impatientOracle = makeOracle('oracle(0s)', 0, false)
/** Has the patience of a practical library and lets the SDK come back. */
export const patientOracle = makeOracle('oracle(10s)', 10_000, false)
