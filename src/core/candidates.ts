/** What a look over the backends has found: who is available, in the first tier where anybody is. Reused, so that a pick allocates nothing. */
export class Survey {
  /** Of those available, their positions in the roster. Only the first `count` count. */
  readonly positions: number[] = []
  /** Running sums of their shares, to draw from. */
  readonly sums: number[] = []
  count = 0
  /** Milliseconds until the first backend that is merely throttled is expected to take a request; Infinity when none is. */
  throttledMs = Infinity
  /** Milliseconds until the first backend that is out may be probed. */
  ejectedMs = Infinity
  /** Monotonic time at which it changes by itself. */
  validUntil = -Infinity
  /** It changes with every change of health, cooldown or configuration: how many there had been. */
  changes = -1

  reset(): void {
    this.count = 0
    this.throttledMs = Infinity
    this.ejectedMs = Infinity
  }

  add(position: number, share: number): void {
    this.positions[this.count] = position
    this.sums[this.count] = share + (this.count === 0 ? 0 : this.sums[this.count - 1]!) // at least one is there
    this.count++
  }

  /** @param random uniform in [0, 1); only asked when there is a choice. @returns a position in the roster. */
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
