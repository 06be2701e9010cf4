/** One call of the application, however many attempts it took. */
export interface CallRecord {
  readonly startedAtMs: number
  /** `undefined`: still open, or given up on Ctrl-C. */
  endedAtMs: number | undefined
  /** What the openai package finally threw; `undefined` for a success. */
  failure: string | undefined
}

/** One request on the wire, and what came back. */
export interface AttemptRecord {
  /** When the response headers, or the error, came. */
  readonly atMs: number
  readonly backend: string
  /** `undefined`: no answer at all. */
  readonly status: number | undefined
}

/** What is known of a run while it is under way and afterwards. Times count from its start. */
export class RunLog {
  readonly calls: CallRecord[] = []
  readonly attempts: AttemptRecord[] = []
  /** 429s that the openai package was shown, be they a backend's or the balancer's. */
  throttledSeen = 0
  /** `undefined` until the run is over. */
  durationMs: number | undefined
  interrupted = false
  readonly #startedAt = performance.now()

  nowMs(): number {
    return performance.now() - this.#startedAt
  }
}
