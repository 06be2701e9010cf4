/** What a run is judged by. Counted in a window that leaves out the warm-up and the tail of the trace. */
import type { Answer } from './contract.js'
import type { SimulatedBackend } from './simulated-backend.js'
import type { Arrival } from './workload.js'

export interface Metrics {
  /** Share of the nominal capacity that successes used: independent of the mix of request sizes. */
  readonly capUsed: number
  readonly used: readonly number[]
  readonly capacity: number
  readonly arrivals: number
  readonly offeredRps: number
  readonly goodRps: number
  /** Tokens per second of calls that succeeded within the deadline of added delay. */
  readonly goodTps: number
  /** Share of the calls whose SDK gave up. */
  readonly failed: number
  readonly late: number
  /** Real 429s per success. */
  readonly waste: number
  /** 5xx and connection errors per success. */
  readonly otherWaste: number
  readonly ptuCostPerSec: number
  readonly byBackend: readonly number[]
  readonly r429: readonly number[]
  readonly addedP50: number
  readonly addedP99: number
  readonly totalP50: number
  readonly totalP99: number
  readonly attemptsPerCall: number
  readonly sdkRetriesPerCall: number
  readonly maxAttempts: number
  readonly rejectsPerCall: number
}

/** The counters that one call of the application carries. */
export interface CallCounts {
  readonly arrival: Arrival
  sdkTry: number
  attempts: number
  rejects: number
}

export class MetricsRecorder {
  readonly #backends: readonly SimulatedBackend[]
  readonly #from: number
  readonly #to: number
  readonly #deadlineMs: number
  readonly #added: number[] = []
  readonly #total: number[] = []
  readonly #byBackend: number[]
  readonly #rejected: number[]
  readonly #use: { tokens: number; requests: number }[]
  #arrivals = 0
  #ok = 0
  #good = 0
  #late = 0
  #failed = 0
  #goodTokens = 0
  #attempts = 0
  #sdkRetries = 0
  #rejects = 0
  #maxAttempts = 0
  #ptuCost = 0
  #served = 0
  #throttled = 0
  #otherFailures = 0

  constructor(backends: readonly SimulatedBackend[], from: number, to: number, deadlineMs: number) {
    this.#backends = backends
    this.#from = from
    this.#to = to
    this.#deadlineMs = deadlineMs
    this.#byBackend = backends.map(() => 0)
    this.#rejected = backends.map(() => 0)
    this.#use = backends.map(() => ({ tokens: 0, requests: 0 }))
  }

  #isCounted(t: number): boolean {
    return t >= this.#from && t < this.#to
  }

  admitted(backend: SimulatedBackend, r: Arrival, sentAt: number): void {
    const use = this.#use[backend.index]
    if (use === undefined || !this.#isCounted(sentAt)) return
    use.tokens += r.estTokens
    use.requests++
  }

  served(backend: SimulatedBackend, r: Arrival, sentAt: number): void {
    if (!this.#isCounted(sentAt)) return
    this.#served++
    if (backend.utilization) this.#ptuCost += backend.actualCost(r)
  }

  failedAttempt(backend: SimulatedBackend, answer: Answer, sentAt: number): void {
    if (!this.#isCounted(sentAt)) return
    if (answer.status === 429) {
      this.#throttled++
      this.#rejected[backend.index] = (this.#rejected[backend.index] ?? 0) + 1
    } else {
      this.#otherFailures++
    }
  }

  /** A call is over; `success` says when and to whom its last attempt was sent. */
  done(call: CallCounts, success: { sentAt: number; backend: number } | undefined, now: number): void {
    const r = call.arrival
    if (!this.#isCounted(r.t)) return
    this.#arrivals++
    this.#attempts += call.attempts
    this.#sdkRetries += call.sdkTry
    this.#rejects += call.rejects
    this.#maxAttempts = Math.max(this.#maxAttempts, call.attempts)
    if (success === undefined) {
      this.#failed++
      return
    }
    this.#ok++
    this.#byBackend[success.backend] = (this.#byBackend[success.backend] ?? 0) + 1
    const added = success.sentAt - r.t
    this.#added.push(added)
    this.#total.push(now - r.t)
    if (added <= this.#deadlineMs) {
      this.#good++
      this.#goodTokens += r.prompt + r.output
    } else {
      this.#late++
    }
  }

  report(capacity: number): Metrics {
    const seconds = (this.#to - this.#from) / 1000
    this.#added.sort((a, b) => a - b)
    this.#total.sort((a, b) => a - b)
    const used = this.#backends.map((b, i) => this.#usedShare(b, i, seconds))
    return {
      capUsed: used.reduce((sum, share, i) => sum + share * (this.#backends[i]?.spec.rps ?? 0), 0) / capacity,
      used, capacity, arrivals: this.#arrivals,
      offeredRps: this.#arrivals / seconds, goodRps: this.#good / seconds, goodTps: this.#goodTokens / seconds,
      failed: this.#failed / this.#arrivals, late: this.#late / this.#arrivals,
      waste: this.#throttled / Math.max(1, this.#served), otherWaste: this.#otherFailures / Math.max(1, this.#served),
      ptuCostPerSec: this.#ptuCost / seconds, byBackend: this.#byBackend.map((x) => x / Math.max(1, this.#ok)), r429: this.#rejected,
      addedP50: quantile(this.#added, 0.5), addedP99: quantile(this.#added, 0.99),
      totalP50: quantile(this.#total, 0.5), totalP99: quantile(this.#total, 0.99),
      attemptsPerCall: this.#attempts / this.#arrivals, sdkRetriesPerCall: this.#sdkRetries / this.#arrivals,
      maxAttempts: this.#maxAttempts, rejectsPerCall: this.#rejects / this.#arrivals,
    }
  }

  /** Share of a backend's capacity, in the unit that binds it. */
  #usedShare(backend: SimulatedBackend, index: number, seconds: number): number {
    if (backend.utilization) return this.#ptuCost / seconds / (backend.utilization.ratePerMs * 1000)
    const use = this.#use[index]
    if (use === undefined || backend.limits === undefined) return 0
    return Math.max(((use.tokens / seconds) * 60) / backend.limits.tpm, ((use.requests / seconds) * 60) / backend.limits.rpm)
  }
}

function quantile(sorted: readonly number[], p: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? NaN
}
