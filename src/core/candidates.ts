/**
 * What a look over the backends has found. Kept and used again, so that a pick allocates nothing.
 */

/** No backend can take the request now. */
export interface Shortage {
  readonly kind: 'shortage'
  /** At least one backend has said that it is full, or only an estimate says so: a wait may help. */
  readonly isThrottled: boolean
  /** Milliseconds until the first backend of all is expected to take the request, by its own word or out; 0 where only an estimate stands in the way, Infinity when none is. */
  readonly toldMs: number
  /** Milliseconds until the situation changes, estimates included. */
  readonly soonestMs: number
}

/** The backends that are available, in the first tier where any is. */
export class Candidates {
  /** Of those available, their positions among all backends. Only the first `count` count. */
  readonly positions: number[] = []
  /** Running sums of their shares, to draw from. */
  readonly sums: number[] = []
  count = 0
  /** Milliseconds until the first backend that said that it is full is expected to take a request; Infinity when none did. */
  throttledMs = Infinity
  /** Milliseconds until the first backend that is out may be probed; one that is being probed is known within its longest backoff. */
  ejectedMs = Infinity
  /** One that is out may be tried now, though not by this request. */
  isHalfOpen = false
  /** Milliseconds until an estimate that stands in the way lets a request go; Infinity when there is none. */
  feltMs = Infinity
  /** Where only windows stand in the way: the position of the one with the shortest wait, and that wait; -1 when there is none. */
  leastFelt = -1
  leastFeltMs = Infinity
  /** Monotonic time at which it changes by itself. */
  validUntil = -Infinity
  /** It changes with every change of health, cooldown or configuration: how many there had been. */
  changes = -1
  /** By size class: the usual time of the fastest, and when that was looked for. */
  readonly fastestMs: number[] = []
  fastestAt = -Infinity

  reset(): void {
    this.count = 0
    this.throttledMs = Infinity
    this.ejectedMs = Infinity
    this.isHalfOpen = false
    this.feltMs = Infinity
    this.leastFelt = -1
    this.leastFeltMs = Infinity
  }

  add(position: number, share: number): void {
    this.positions[this.count] = position
    this.sums[this.count] = share + (this.count === 0 ? 0 : this.sums[this.count - 1]!) // at least one is there
    this.count++
  }

  /** An estimate stands in the way of this one. @param testMs until it may be tested. */
  hold(position: number, feltMs: number, testMs: number): void {
    this.feltMs = Math.min(this.feltMs, feltMs, testMs)
    if (feltMs >= this.leastFeltMs) return
    this.leastFeltMs = feltMs
    this.leastFelt = position
  }

  /** @param random uniform in [0, 1); only asked when there is a choice. @returns a position among all backends. */
  draw(random: () => number): number {
    let low = 0
    if (this.count > 1) {
      // All within the first `count`. Rounding may put the point on the very end: the search stops at the last one.
      const point = random() * this.sums[this.count - 1]!
      let high = this.count - 1
      while (low < high) {
        const middle = (low + high) >>> 1
        if (point < this.sums[middle]!) high = middle
        else low = middle + 1
      }
    }
    return this.positions[low]! // below `count`, which is above 0
  }
}
