/**
 * How a deployment of Azure OpenAI, or a model of OpenAI, limits its callers, and what it tells them of it.
 *
 * A client sees only headers: a number that remains, perhaps a time, and a 429 when it misjudged them. Behind them are
 * four kinds of counters that behave differently at the edge, and three dialects (`deployment.ts`) that reveal more or less.
 * To find out whether a client copes takes those on the other side, so the demo's servers, the simulation's and the soak's
 * all count with what is here. Nothing in it has a clock, a socket or chance of its own: time comes in as `now`, in
 * milliseconds.
 */

/** One counter. */
export interface Limiter {
  /** 0 when a request of this cost would be admitted now, else the milliseconds until it would be, if no other came. */
  waitFor(now: number, cost: number): number
  /** Books a request that was admitted (or counts although it was refused). */
  take(now: number, cost: number): void
  /** What `x-ratelimit-remaining-*` shows. */
  remaining(now: number): number
  /** Milliseconds until nothing is used up any more: what `x-ratelimit-reset-*` shows. */
  resetMs(now: number): number
}

/**
 * A counter that starts anew with each window. Azure OpenAI: tokens are "reset each minute", requests are evaluated
 * "over a small period of time, typically 1 or 10 seconds" (Manage Azure OpenAI quota). A request is admitted while the
 * count is below the limit, so the last one may overshoot it.
 */
export class FixedWindow implements Limiter {
  readonly #limit: number
  readonly #windowMs: number
  readonly #phase: number
  #window = -1
  #count = 0

  /** @param phase Where a window begins; a server's minutes are not the client's. */
  constructor({ limit, windowMs, phase = 0 }: { limit: number, windowMs: number, phase?: number | undefined }) {
    this.#limit = limit
    this.#windowMs = windowMs
    this.#phase = phase
  }

  waitFor(now: number): number {
    this.#roll(now)
    return this.#count < this.#limit ? 0 : this.resetMs(now)
  }

  take(now: number, cost: number): void {
    this.#roll(now)
    this.#count += cost
  }

  remaining(now: number): number {
    this.#roll(now)
    return Math.max(0, this.#limit - this.#count)
  }

  resetMs(now: number): number {
    this.#roll(now)
    return this.#phase + (this.#window + 1) * this.#windowMs - now
  }

  #roll(now: number): void {
    const window = Math.floor((now - this.#phase) / this.#windowMs)
    if (window === this.#window) return
    this.#window = window
    this.#count = 0
  }
}

/** A log of the last window, as microsoft/aoai-api-simulator keeps one: each request leaves it a window after it came. */
export class SlidingWindow implements Limiter {
  readonly #limit: number
  readonly #windowMs: number
  #log: { readonly at: number, readonly cost: number }[] = []
  #head = 0
  #sum = 0

  constructor({ limit, windowMs }: { limit: number, windowMs: number }) {
    this.#limit = limit
    this.#windowMs = windowMs
  }

  waitFor(now: number, cost: number): number {
    this.#purge(now)
    if (this.#head === this.#log.length || this.#sum + cost <= this.#limit) return 0
    let sum = this.#sum
    for (let i = this.#head; i < this.#log.length; i++) {
      const entry = this.#log[i]
      if (entry === undefined) break
      sum -= entry.cost
      // What is above the limit by itself is admitted into an empty window. A nanosecond later, so that rounding cannot lose it.
      if (sum + cost <= this.#limit || i === this.#log.length - 1) return entry.at + this.#windowMs - now + 1e-6
    }
    return 0
  }

  take(now: number, cost: number): void {
    this.#purge(now)
    this.#log.push({ at: now, cost })
    this.#sum += cost
  }

  remaining(now: number): number {
    this.#purge(now)
    return Math.max(0, this.#limit - this.#sum)
  }

  resetMs(now: number): number {
    this.#purge(now)
    const last = this.#log.at(-1)
    return this.#head < this.#log.length && last !== undefined ? last.at + this.#windowMs - now : 0
  }

  #purge(now: number): void {
    const cut = now - this.#windowMs
    for (let first = this.#log[this.#head]; first !== undefined && first.at <= cut; first = this.#log[this.#head]) {
      this.#sum -= first.cost
      this.#head++
    }
    // 4,096 entries: rare enough that moving the rest costs nothing for each request.
    if (this.#head > 4096 && this.#head * 2 > this.#log.length) {
      this.#log = this.#log.slice(this.#head)
      this.#head = 0
    }
  }
}

/** A bucket that is refilled all the time, as OpenAI has one for each model's requests and one for its tokens. */
export class TokenBucket implements Limiter {
  readonly #ratePerMs: number
  readonly #burst: number
  #level: number
  #at = 0

  constructor({ ratePerMs, burst }: { ratePerMs: number, burst: number }) {
    this.#ratePerMs = ratePerMs
    this.#burst = burst
    this.#level = burst
  }

  waitFor(now: number, cost: number): number {
    this.#roll(now)
    // More than the bucket holds waits for a full one, else it would wait for ever.
    const need = Math.min(cost, this.#burst)
    // A billionth is rounding, not a shortage.
    return this.#level >= need - 1e-9 ? 0 : (need - this.#level) / this.#ratePerMs
  }

  take(now: number, cost: number): void {
    this.#roll(now)
    this.#level -= cost
  }

  remaining(now: number): number {
    this.#roll(now)
    return Math.max(0, this.#level)
  }

  resetMs(now: number): number {
    this.#roll(now)
    return (this.#burst - this.#level) / this.#ratePerMs
  }

  #roll(now: number): void {
    this.#level = Math.min(this.#burst, this.#level + (now - this.#at) * this.#ratePerMs)
    this.#at = now
  }
}

/**
 * Provisioned throughput: the estimated cost goes in when a request is admitted, is corrected when it is done, and
 * drains at the provisioned rate. Below 100 % everything is admitted, at 100 % nothing, until enough has drained. How
 * much time it takes to drain from 100 %, the depth, is not documented.
 */
export class Utilization {
  /** What drains in a millisecond, in the units of the cost. */
  readonly ratePerMs: number
  readonly #full: number
  #level = 0
  #at = 0
  /** Capacity that no request used, in the units of the cost. */
  lost = 0

  constructor({ ratePerMs, depthMs }: { ratePerMs: number, depthMs: number }) {
    this.ratePerMs = ratePerMs
    this.#full = ratePerMs * depthMs
  }

  /** A microsecond more than it takes to drain to 100 %, since that is still full. */
  waitFor(now: number): number {
    this.roll(now)
    return this.#level < this.#full ? 0 : (this.#level - this.#full) / this.ratePerMs + 1e-3
  }

  take(now: number, cost: number): void {
    this.roll(now)
    this.#level += cost
  }

  /** The real cost is known: `difference` is real minus estimated. */
  correct(now: number, difference: number): void {
    this.roll(now)
    this.#level = Math.max(0, this.#level + difference)
  }

  /** What `azure-openai-deployment-utilization` shows; 100 and more: full. */
  percent(now: number): number {
    this.roll(now)
    return (100 * this.#level) / this.#full
  }

  roll(now: number): void {
    const drained = (now - this.#at) * this.ratePerMs
    if (drained > this.#level) {
      this.lost += drained - this.#level
      this.#level = 0
    } else {
      this.#level -= drained
    }
    this.#at = now
  }
}
