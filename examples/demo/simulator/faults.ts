/** What can be ordered to go wrong with a request that has arrived whole. */
export type Fault =
  /** Answers with this status and the body that the service has for it. 429 here means high demand, not your quota. */
  | {
    readonly kind: 'status'
    readonly status: 400 | 403 | 408 | 409 | 429 | 500 | 502 | 503 | 504
    /** `retry-after-ms`; none when left out. */
    readonly retryAfterMs?: number
    /** `retry-after`, verbatim, so that dates and nonsense can be tried; none when left out. */
    readonly retryAfter?: string
    /** Instead of the service's own body. */
    readonly body?: unknown
  }
  /** RST in place of an answer. */
  | { readonly kind: 'reset-before-headers' }
  /** A good answer whose connection is reset after its first part. */
  | { readonly kind: 'reset-mid-stream' }
  /** A good answer, so much later (milliseconds). */
  | { readonly kind: 'slow-headers', readonly delayMs: number }
  /** Never answers. */
  | { readonly kind: 'stall-before-headers' }
  /** A good answer that stands still after its first part. */
  | { readonly kind: 'stall-mid-stream' }

/** The faults that are ordered for one backend, first come first served. */
export class FaultPlan {
  #orders: { readonly fault: Fault, left: number }[] = []

  order(fault: Fault, times: number): void {
    if (!(times > 0)) throw new RangeError(`times must be at least 1, got ${times}`)
    this.#orders.push({ fault, left: times })
  }

  clear(): void {
    this.#orders = []
  }

  /** The fault for the next request, if one is due. */
  take(): Fault | undefined {
    const order = this.#orders[0]
    if (order === undefined) return undefined
    order.left -= 1
    if (order.left <= 0) this.#orders.shift()
    return order.fault
  }
}
