/** What the simulator knows of time. The limits and the latencies ask nothing else, so a test can do without waiting. */
export interface SimulatorClock {
  /** Milliseconds, monotonic; the zero means nothing. */
  now(): number
  /** Resolves after `delayMs`, or at once when `signal` aborts. Never rejects. */
  delay(delayMs: number, signal: AbortSignal): Promise<void>
}

/** Real time. */
export const wallClock: SimulatorClock = {
  now: () => performance.now(),
  delay: (delayMs, signal) => new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const finish = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', finish)
      resolve()
    }
    const timer = setTimeout(finish, delayMs)
    signal.addEventListener('abort', finish, { once: true })
  }),
}

/** Time that stands still until a test moves it. */
export class ManualClock implements SimulatorClock {
  #now = 0
  readonly #sleepers = new Set<{ readonly dueAt: number, readonly wake: () => void }>()

  now(): number {
    return this.#now
  }

  /** How many requests wait for time to pass. */
  get sleeping(): number {
    return this.#sleepers.size
  }

  /** Moves time on and wakes whatever is due. */
  advance(byMs: number): void {
    this.#now += byMs
    for (const sleeper of [...this.#sleepers]) if (sleeper.dueAt <= this.#now) sleeper.wake()
  }

  delay(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#sleepers.delete(sleeper)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      const sleeper = { dueAt: this.#now + delayMs, wake }
      if (signal.aborted || delayMs <= 0) return resolve()
      this.#sleepers.add(sleeper)
      signal.addEventListener('abort', wake, { once: true })
    })
  }
}
