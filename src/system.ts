/** The real clock, random numbers and timers. Nothing else in the package touches them, so tests can replay everything else. */
// By its module, since the global of this name is a getter that costs a fifth of what the clock itself does.
import { performance } from 'node:perf_hooks'
import { STANDSTILL_MS, type System, type Timer, type TimerCallback } from './core/types.js'

/** Longest delay of a Node timer, in milliseconds (a signed 32 bit integer, 24.8 days); a longer one would fire at once. */
export const MAX_TIMER_MS = 2_147_483_647

class NodeTimer implements Timer {
  readonly #callback: TimerCallback
  readonly #dueAt: number
  readonly #timeout: NodeJS.Timeout
  #turn: NodeJS.Immediate | undefined

  constructor(callback: TimerCallback, delayMs: number) {
    this.#callback = callback
    // Node counts a timer's time in whole milliseconds on both ends, so it can fire up to 1 ms early: a request
    // that is woken when a cooldown is over would find it not over, and wait again.
    const wholeMs = Math.min(Math.ceil(delayMs) + 1, MAX_TIMER_MS)
    this.#dueAt = performance.now() + wholeMs
    this.#timeout = setTimeout(this.#fire, wholeMs)
  }

  unref(): void {
    this.#timeout.unref()
  }

  cancel(): void {
    clearTimeout(this.#timeout)
    clearImmediate(this.#turn)
  }

  readonly #fire = (): void => {
    if (performance.now() - this.#dueAt <= STANDSTILL_MS) return this.#callback(false)
    // Answers may have come while we stood still, but timers are looked at before sockets. The first turn reads what has come;
    // the second what that has led to, such as an answer whose headers and body came apart.
    this.#turn = setImmediate(() => { this.#turn = setImmediate(() => { this.#callback(true) }) })
  }
}

export const system: System = {
  now: () => performance.now(),
  wallNow: () => Date.now(),
  random: () => Math.random(),
  setTimer: (callback, delayMs) => new NodeTimer(callback, delayMs),
  nextTurn: (callback) => { setImmediate(callback) },
}
