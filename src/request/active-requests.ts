/**
 * The requests under way, for the end of the balancer. An array whose gaps are filled from its end: with a Set, taking a request
 * out was an eighth of its whole cost (a CPU profile of the row "one backend" of `npm run bench -- --part pure`).
 */
export class ActiveRequests<R extends { slot: number }> {
  readonly #requests: R[] = []

  get size(): number {
    return this.#requests.length
  }

  add(request: R): void {
    request.slot = this.#requests.push(request) - 1
  }

  /** A second time does nothing. */
  remove(request: R): void {
    if (request.slot < 0) return
    const last = this.#requests.pop()
    if (last !== undefined && last !== request) {
      this.#requests[request.slot] = last
      last.slot = request.slot
    }
    request.slot = -1
  }

  [Symbol.iterator](): Iterator<R> {
    return [...this.#requests][Symbol.iterator]()
  }
}
