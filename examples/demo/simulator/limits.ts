/**
 * The three ways in which the services count. Each limit answers how long a request would have to wait, and books
 * the requests that were let in. All times in milliseconds, the clock is handed in.
 */
export interface Limit {
  /** What may be used up per minute; what `x-ratelimit-limit-*` shows. */
  readonly perMinute: number
  /** 0 when a request of this cost is admitted now, else the time until it would be if nobody else came. */
  waitFor(now: number, cost: number): number
  take(now: number, cost: number): void
  /** What `x-ratelimit-remaining-*` shows. */
  remaining(now: number): number
  /** Time until the limit is whole again; what `x-ratelimit-reset-*` shows. */
  resetMs(now: number): number
}

/**
 * A counter that starts anew with each window. Azure OpenAI: tokens are "reset each minute", requests are evaluated
 * "over a small period of time, typically 1 or 10 seconds" (Manage Azure OpenAI quota). A request is let in while the
 * count is below the limit, so the last one may overshoot it.
 */
export class WindowLimit implements Limit {
  readonly perMinute: number
  readonly #perWindow: number
  readonly #windowMs: number
  #window = -1
  #count = 0

  constructor(perMinute: number, windowMs: number) {
    this.perMinute = perMinute
    this.#windowMs = windowMs
    this.#perWindow = Math.max(1, Math.round(perMinute * windowMs / 60_000))
  }

  waitFor(now: number): number {
    this.#roll(now)
    return this.#count < this.#perWindow ? 0 : this.resetMs(now)
  }

  take(now: number, cost: number): void {
    this.#roll(now)
    this.#count += cost
  }

  remaining(now: number): number {
    this.#roll(now)
    return Math.max(0, this.#perWindow - this.#count)
  }

  resetMs(now: number): number {
    this.#roll(now)
    return (this.#window + 1) * this.#windowMs - now
  }

  #roll(now: number): void {
    const window = Math.floor(now / this.#windowMs)
    if (window === this.#window) return
    this.#window = window
    this.#count = 0
  }
}

/** A bucket that refills all the time, as OpenAI has one per model for requests and one for tokens. It holds one minute's worth. */
export class BucketLimit implements Limit {
  readonly perMinute: number
  #level: number
  #at = 0

  constructor(perMinute: number) {
    this.perMinute = perMinute
    this.#level = perMinute
  }

  waitFor(now: number, cost: number): number {
    this.#roll(now)
    // More than the bucket holds waits for a full one, else it would wait for ever.
    const missing = Math.min(cost, this.perMinute) - this.#level
    // A millionth of a unit is rounding, not a shortage.
    return missing <= 1e-6 ? 0 : missing * 60_000 / this.perMinute
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
    return (this.perMinute - this.#level) * 60_000 / this.perMinute
  }

  #roll(now: number): void {
    this.#level = Math.min(this.perMinute, this.#level + (now - this.#at) * this.perMinute / 60_000)
    this.#at = now
  }
}

/**
 * Provisioned throughput: a leaky bucket. The estimated cost goes in when a request is admitted, is corrected when
 * it is done, and leaks out at the provisioned rate. Below 100 % everything is let in; above, nothing is until enough
 * has leaked. The depth is not documented.
 */
export class UtilizationLimit {
  readonly #perMs: number
  readonly #depth: number
  #level = 0
  #at = 0

  constructor(tokensPerSecond: number, depthMs: number) {
    this.#perMs = tokensPerSecond / 1000
    this.#depth = this.#perMs * depthMs
  }

  waitFor(now: number): number {
    this.#roll(now)
    return this.#level < this.#depth ? 0 : Math.max(1, (this.#level - this.#depth) / this.#perMs)
  }

  take(now: number, cost: number): void {
    this.#roll(now)
    this.#level += cost
  }

  /** The real cost is known: `difference` is real minus estimated. */
  correct(now: number, difference: number): void {
    this.#roll(now)
    this.#level = Math.max(0, this.#level + difference)
  }

  /** 100 and more: full. */
  percent(now: number): number {
    this.#roll(now)
    return 100 * this.#level / this.#depth
  }

  #roll(now: number): void {
    this.#level = Math.max(0, this.#level - (now - this.#at) * this.#perMs)
    this.#at = now
  }
}
