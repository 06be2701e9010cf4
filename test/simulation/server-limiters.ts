/** The limiters on the server's side. They know everything; a client only sees what their headers say. */

export interface ServerLimiter {
  /** 0 when a request of `cost` would be admitted now, else milliseconds until it would, if nothing else came. */
  waitFor(now: number, cost: number): number
  /** Records an admitted (or counted) request. */
  take(now: number, cost: number): void
  /** What a `remaining` header shows. */
  remaining(now: number): number
  /** Milliseconds until full again: what a `reset` header shows. */
  resetMs(now: number): number
}

/** A counter that starts anew each window (Azure: tokens per minute; requests in slices of 1 s or 10 s). */
export class FixedWindow implements ServerLimiter {
  readonly #limit: number
  readonly #windowMs: number
  readonly #phase: number
  #window = -1
  #count = 0

  constructor({ limit, windowMs, phase = 0 }: { limit: number; windowMs: number; phase?: number }) {
    this.#limit = limit
    this.#windowMs = windowMs
    this.#phase = phase
  }

  #roll(now: number): void {
    const window = Math.floor((now - this.#phase) / this.#windowMs)
    if (window === this.#window) return
    this.#window = window
    this.#count = 0
  }

  resetMs(now: number): number {
    this.#roll(now)
    return this.#phase + (this.#window + 1) * this.#windowMs - now
  }

  /** Admitted while the count is below the limit: the last request of a window may overshoot. */
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
}

/** A sliding log, as microsoft/aoai-api-simulator has it (60 s of tokens, 10 s of requests). */
export class SlidingLog implements ServerLimiter {
  readonly #limit: number
  readonly #windowMs: number
  #log: { t: number; cost: number }[] = []
  #head = 0
  #sum = 0

  constructor({ limit, windowMs }: { limit: number; windowMs: number }) {
    this.#limit = limit
    this.#windowMs = windowMs
  }

  #purge(now: number): void {
    const cut = now - this.#windowMs
    for (let first = this.#log[this.#head]; first !== undefined && first.t <= cut; first = this.#log[this.#head]) {
      this.#sum -= first.cost
      this.#head++
    }
    if (this.#head > 4096 && this.#head * 2 > this.#log.length) {
      this.#log = this.#log.slice(this.#head)
      this.#head = 0
    }
  }

  waitFor(now: number, cost: number): number {
    this.#purge(now)
    if (this.#head === this.#log.length || this.#sum + cost <= this.#limit) return 0
    let sum = this.#sum
    for (let i = this.#head; i < this.#log.length; i++) {
      const entry = this.#log[i]
      if (entry === undefined) break
      sum -= entry.cost
      if (sum + cost <= this.#limit || i === this.#log.length - 1) return entry.t + this.#windowMs - now + 1e-6
    }
    return 0
  }

  take(now: number, cost: number): void {
    this.#purge(now)
    this.#log.push({ t: now, cost })
    this.#sum += cost
  }

  remaining(now: number): number {
    this.#purge(now)
    return Math.max(0, this.#limit - this.#sum)
  }

  resetMs(now: number): number {
    this.#purge(now)
    const last = this.#log.at(-1)
    return this.#head < this.#log.length && last !== undefined ? last.t + this.#windowMs - now : 0
  }
}

/** A bucket that is refilled all the time (OpenAI). */
export class TokenBucket implements ServerLimiter {
  readonly #ratePerMs: number
  readonly #burst: number
  #level: number
  #t = 0

  constructor({ ratePerMs, burst }: { ratePerMs: number; burst: number }) {
    this.#ratePerMs = ratePerMs
    this.#burst = burst
    this.#level = burst
  }

  #roll(now: number): void {
    this.#level = Math.min(this.#burst, this.#level + (now - this.#t) * this.#ratePerMs)
    this.#t = now
  }

  waitFor(now: number, cost: number): number {
    this.#roll(now)
    const need = Math.min(cost, this.#burst)
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
}

/**
 * Utilization of provisioned throughput (Azure's provisioned documentation): admitted below 100 %; the estimate
 * (prompt and max_tokens) is added at admission and corrected at completion; it drains at a constant rate.
 */
export class Utilization {
  readonly ratePerMs: number
  readonly #full: number
  #level = 0
  #t = 0
  /** Capacity that nobody used, in the units of the cost. */
  lost = 0

  constructor({ ratePerMs, depthMs }: { ratePerMs: number; depthMs: number }) {
    this.ratePerMs = ratePerMs
    this.#full = ratePerMs * depthMs
  }

  roll(now: number): void {
    const drained = (now - this.#t) * this.ratePerMs
    if (drained > this.#level) {
      this.lost += drained - this.#level
      this.#level = 0
    } else {
      this.#level -= drained
    }
    this.#t = now
  }

  waitFor(now: number): number {
    this.roll(now)
    return this.#level < this.#full ? 0 : (this.#level - this.#full) / this.ratePerMs + 1e-3
  }

  take(now: number, cost: number): void {
    this.roll(now)
    this.#level += cost
  }

  correct(now: number, delta: number): void {
    this.roll(now)
    this.#level = Math.max(0, this.#level + delta)
  }

  percent(now: number): number {
    this.roll(now)
    return (100 * this.#level) / this.#full
  }
}
