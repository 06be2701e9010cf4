/** What really arrived at one backend, and what became of it. */
export class Counters {
  /** Requests whose headers arrived. */
  requests = 0
  /** Answers begun, by status. */
  readonly statuses = new Map<number, number>()
  /** Requests whose answer did not go out whole: reset, stalled until the client left, or given up by the client. */
  broken = 0
  connections = 0
  /** Every credential that was shown, bare: values of `api-key` and bearer tokens. */
  readonly keys = new Set<string>()

  /** 200s. */
  get succeeded(): number {
    return this.count(200)
  }

  /** 429s. */
  get throttled(): number {
    return this.count(429)
  }

  /** Answers with one status. */
  count(status: number): number {
    return this.statuses.get(status) ?? 0
  }

  answered(status: number): void {
    this.statuses.set(status, this.count(status) + 1)
  }
}
