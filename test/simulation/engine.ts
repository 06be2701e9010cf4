/** Discrete-event engine: a virtual clock in milliseconds and a binary heap, first in first out among equal times. */

export interface ScheduledEvent {
  readonly t: number
  cancel(): void
}

class Event implements ScheduledEvent {
  cancelled = false
  constructor(readonly t: number, readonly sequence: number, readonly run: () => void) {}
  cancel(): void {
    this.cancelled = true
  }
}

export class Engine {
  now = 0
  #sequence = 0
  readonly #heap: Event[] = []

  after(delayMs: number, run: () => void): ScheduledEvent {
    return this.at(this.now + Math.max(0, delayMs), run)
  }

  at(t: number, run: () => void): ScheduledEvent {
    const event = new Event(Math.max(t, this.now), this.#sequence++, run)
    const heap = this.#heap
    let i = heap.length
    heap.push(event)
    while (i > 0) {
      const up = (i - 1) >> 1
      const parent = heap[up]
      if (parent === undefined || isBefore(parent, event)) break
      heap[i] = parent
      i = up
    }
    heap[i] = event
    return event
  }

  run(until = Infinity): void {
    for (let top = this.#heap[0]; top !== undefined; top = this.#heap[0]) {
      if (top.t > until) {
        this.now = until
        return
      }
      this.#removeTop()
      if (top.cancelled) continue
      this.now = top.t
      top.run()
    }
  }

  #removeTop(): void {
    const heap = this.#heap
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let i = 0
    for (;;) {
      let down = 2 * i + 1
      let child = heap[down]
      if (child === undefined) break
      const right = heap[down + 1]
      if (right !== undefined && isBefore(right, child)) {
        child = right
        down++
      }
      if (isBefore(last, child)) break
      heap[i] = child
      i = down
    }
    heap[i] = last
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.t < b.t || (a.t === b.t && a.sequence < b.sequence)
}
