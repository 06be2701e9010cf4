import { STANDSTILL_MS, type System, type Timer, type TimerCallback } from '../../src/core/types.js'

interface PendingTimer {
  at: number
  readonly order: number
  readonly callback: TimerCallback
}

/**
 * Time and chance under the test's control: a clock that moves only by `advance`, timers that fire in order on the way,
 * and random numbers from a seed.
 */
export class VirtualSystem implements System {
  /** How often the clock was read. */
  reads = 0
  /** How often chance was asked. */
  draws = 0
  #now: number
  #wall: number
  #state: number
  #order = 0
  readonly #timers = new Set<PendingTimer>()

  /** @param wall what the wall clock shows at the start, in milliseconds since the Unix epoch. */
  constructor(seed = 1, now = 1_000, wall = Date.UTC(2026, 0, 1)) {
    this.#state = seed >>> 0
    this.#now = now
    this.#wall = wall
  }

  now(): number {
    this.reads++
    return this.#now
  }

  wallNow(): number {
    return this.#wall
  }

  /** mulberry32: small, and good enough for a hundred thousand draws. */
  random(): number {
    this.draws++
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  setTimer(callback: TimerCallback, delayMs: number): Timer {
    if (!(delayMs >= 0 && delayMs < Infinity)) throw new RangeError(`a timer needs a delay, got ${delayMs}`)
    const timer: PendingTimer = { at: this.#now + delayMs, order: this.#order++, callback }
    this.#timers.add(timer)
    return { cancel: () => void this.#timers.delete(timer) }
  }

  /** Of the real event loop, which sockets live by. */
  nextTurn(callback: () => void): void {
    setImmediate(callback)
  }

  /** Timers that have neither fired nor been cancelled. */
  get pending(): number {
    return this.#timers.size
  }

  /** Moves time on; what is due on the way fires at its own time, timers set meanwhile included. */
  advance(ms: number): void {
    const until = this.#now + ms
    for (let due = this.#next(until); due !== undefined; due = this.#next(until)) {
      this.#timers.delete(due)
      this.#pass(Math.max(0, due.at - this.#now))
      due.callback(false)
    }
    this.#pass(Math.max(0, until - this.#now))
  }

  /**
   * The process stands still for so long: nothing happens meanwhile. What was due fires afterwards, in two turns of the real event
   * loop where it is late by more than a little, as the real system does it.
   */
  freeze(ms: number): void {
    this.#pass(ms)
    for (let due = this.#next(this.#now); due !== undefined; due = this.#next(this.#now)) {
      const late = due
      if (this.#now - late.at <= STANDSTILL_MS) {
        this.#timers.delete(late)
        late.callback(false)
        continue
      }
      late.at = Infinity
      setImmediate(() => setImmediate(() => { if (this.#timers.delete(late)) late.callback(true) }))
    }
  }

  /** Sets the wall clock, as an administrator or NTP does; the monotonic one does not care. */
  setWall(wall: number): void {
    this.#wall = wall
  }

  #pass(ms: number): void {
    this.#now += ms
    this.#wall += ms
  }

  #next(until: number): PendingTimer | undefined {
    let next: PendingTimer | undefined
    for (const timer of this.#timers) {
      if (timer.at > until) continue
      if (next === undefined || timer.at < next.at || (timer.at === next.at && timer.order < next.order)) next = timer
    }
    return next
  }
}
