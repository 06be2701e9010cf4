/** The requests under way. An array whose gaps are filled from its end: a Set costs more than all else of a request's start and end. */
export interface ActiveRequest {
  /** Its place in the array; -1 when it is not under way. */
  slot: number
  abort(reason: Error): void
}

export class ActiveRequests {
  readonly #requests: ActiveRequest[] = []

  get size(): number {
    return this.#requests.length
  }

  add(request: ActiveRequest): void {
    request.slot = this.#requests.length
    this.#requests.push(request)
  }

  /** A second time does nothing. */
  remove(request: ActiveRequest): void {
    if (request.slot === -1) return
    const last = this.#requests.pop()
    if (last !== undefined && last !== request) {
      this.#requests[request.slot] = last
      last.slot = request.slot
    }
    request.slot = -1
  }

  /** Aborts all that are under way now. */
  abortAll(reason: Error): void {
    for (const request of [...this.#requests]) {
      try {
        request.abort(reason)
      } catch (error) {
        // What one caller's handler throws must not keep the others from hearing of their end.
        queueMicrotask(() => { throw error })
      }
    }
  }
}
