import type { Backend } from './backend.js'
import type { Lane } from './scopes.js'
import type { Shortage } from './pick.js'
import type { BackendConfig, PoolRequest, QueueStatus, System, Timer, WaitStatus } from './types.js'
import type { Waiter } from './queue.js'

/**
 * Most requests that may be held at once. At 100 requests a second (6,000 a minute: a large deployment's quota) and the
 * 10 s that openai's callers usually grant, a thousand is all that can still be served in time.
 */
export const MAX_WAITERS = 1_024

/** How far down the queue a request that fits may pass those before it that do not (a small one a large one). */
const FIRST_FIT_DEPTH = 16

/** The finest that Node's timers do. Also keeps a rounding error in a wait from turning into a loop. */
const FINEST_TIMER_MS = 1

/** All that wait in a pool, and the one timer that wakes them. */
export class WaitRoom<B extends BackendConfig> {
  readonly #system: Pick<System, 'now' | 'setTimer'>
  readonly #ask: (lane: Lane, request: PoolRequest, now: number) => Backend<B> | Shortage
  readonly #waiters = new Map<PoolRequest, Waiter>()
  readonly #lanes = new Set<Lane>()
  #timer: Timer | undefined
  #timerAt = Infinity
  #served = 0
  #inVain = 0
  #totalMs = 0
  #longestMs = 0

  /** @param ask who would take this request now. */
  constructor(
    system: Pick<System, 'now' | 'setTimer'>, ask: (lane: Lane, request: PoolRequest, now: number) => Backend<B> | Shortage,
  ) {
    this.#system = system
    this.#ask = ask
  }

  get size(): number {
    return this.#waiters.size
  }

  get waits(): WaitStatus {
    return { served: this.#served, inVain: this.#inVain, totalMs: this.#totalMs, longestMs: this.#longestMs }
  }

  queues(now: number): QueueStatus[] {
    return [...this.#lanes].flatMap(({ scope, queue }) => {
      return queue.head === undefined ? [] : [{ scope, waiting: queue.length, firstWaitedMs: now - queue.head.since }]
    })
  }

  find(request: PoolRequest): Waiter | undefined {
    return this.#waiters.get(request)
  }

  /** @param lookAt monotonic time at which the request's turn may have come. */
  enter(lane: Lane, request: PoolRequest, deadline: number, forgiveAt: number, lookAt: number, now: number): void {
    this.#waiters.set(request, lane.queue.push(request, deadline, forgiveAt, now))
    this.#lanes.add(lane)
    this.wakeBy(Math.min(lookAt, deadline), now)
  }

  /** Goes without having been served. */
  leave(waiter: Waiter, now: number): void {
    this.#inVain++
    waiter.queue.remove(waiter)
    this.#forget(waiter, now)
  }

  serve(waiter: Waiter, now: number): void {
    const waitedMs = now - waiter.enteredAt
    this.#served++
    this.#totalMs += waitedMs
    this.#longestMs = Math.max(this.#longestMs, waitedMs)
    waiter.queue.serve(waiter, now)
    this.#forget(waiter, now)
  }

  /** Looks after the waiters at this time at the latest. Never at once: `wake` runs code of the caller. */
  wakeBy(at: number, now: number): void {
    if (this.#waiters.size === 0 || at >= this.#timerAt) return
    this.#timer?.cancel()
    this.#timerAt = at
    this.#timer = this.#system.setTimer(this.#look, Math.max(0, at - now))
  }

  /** Wakes everybody, whatever they will find. */
  wakeAll(): void {
    for (const { request } of [...this.#waiters.values()]) request.wake()
  }

  #forget(waiter: Waiter, now: number): void {
    this.#waiters.delete(waiter.request)
    if (this.#waiters.size === 0) {
      this.#timer?.cancel()
      this.#timer = undefined
      this.#timerAt = Infinity
      this.#lanes.clear()
    } else if (waiter.queue.length >= FIRST_FIT_DEPTH) {
      // Everybody behind moves up, somebody into the first-fit window.
      this.wakeBy(now, now)
    }
  }

  readonly #look = (): void => {
    this.#timer = undefined
    this.#timerAt = Infinity
    const now = this.#system.now()
    let nextAt = Infinity
    for (const lane of this.#lanes) {
      nextAt = Math.min(nextAt, this.#lookAfter(lane, now))
      if (lane.queue.length === 0) this.#lanes.delete(lane)
    }
    this.wakeBy(Math.max(nextAt, now + FINEST_TIMER_MS), now)
  }

  /** Wakes who can go or has waited in vain; says when to look again. */
  #lookAfter(lane: Lane, now: number): number {
    let nextAt = Infinity
    let position = 0
    // Those who come while this walk wakes others are not looked at: their own `enter` has seen to the timer.
    const last = lane.queue.tail
    for (let waiter = lane.queue.head; waiter !== undefined; waiter = waiter === last ? undefined : waiter.next) {
      if (waiter.isQueued && !waiter.isWoken) {
        const turnAt = now >= waiter.deadline ? now : position < FIRST_FIT_DEPTH ? this.#turnAt(lane, waiter, now) : Infinity
        if (turnAt <= now) {
          waiter.isWoken = true
          waiter.request.wake()
        } else nextAt = Math.min(nextAt, turnAt, waiter.deadline)
      }
      if (waiter.isQueued) position++
    }
    return nextAt
  }

  /** When the waiter may be able to go, or is better told at once that it will not: in the future, or now. */
  #turnAt(lane: Lane, waiter: Waiter, now: number): number {
    if (now >= waiter.forgiveAt) waiter.request.tried = undefined
    const found = this.#ask(lane, waiter.request, now)
    if (found.kind === 'backend') return now
    if (found.throttledMs !== Infinity && now + found.throttledMs > waiter.deadline) return now
    const changeAt = now + found.changeMs
    return now < waiter.forgiveAt ? Math.min(changeAt, waiter.forgiveAt) : changeAt
  }
}
