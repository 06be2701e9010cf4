/** The real clock, random numbers and timers. Nothing else in the package touches them, so tests can replay everything else. */
// By its module, since the global of this name is a getter that costs a fifth of what the clock itself does.
import { performance } from 'node:perf_hooks'
import type { System, Timer } from './core/types.js'

/** Longest delay of a Node timer, in milliseconds (a signed 32 bit integer, 24.8 days); a longer one would fire at once. */
export const MAX_TIMER_MS = 2_147_483_647

class NodeTimer implements Timer {
  readonly #handle: NodeJS.Timeout

  constructor(callback: () => void, delayMs: number) {
    // Node counts a timer's time in whole milliseconds on both ends, so it can fire up to 1 ms early: who asked to
    // be woken when a cooldown is over would find it not over, and wait again.
    this.#handle = setTimeout(callback, Math.min(Math.ceil(delayMs) + 1, MAX_TIMER_MS))
  }

  unref(): void {
    this.#handle.unref()
  }

  cancel(): void {
    clearTimeout(this.#handle)
  }
}

export const system: System = {
  now: () => performance.now(),
  wallNow: () => Date.now(),
  random: () => Math.random(),
  setTimer: (callback, delayMs) => new NodeTimer(callback, delayMs),
}
