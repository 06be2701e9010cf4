/**
 * Where every backend is full for a while, a caller with patience is better held than refused: it goes as soon as there is room,
 * in the order in which callers came, and no SDK retries meanwhile.
 */
import type { Backend } from './backend.js'
import type { PoolRequest, Shortage } from './request.js'
import type { QueueStatus, System, Timer, WaitStatus } from './types.js'

/**
 * Most requests that may be held at once. At 100 requests a second (6,000 a minute: a large deployment's quota) and the
 * 10 s that openai's callers usually grant, a thousand is all that can still be served in time.
 */
export const MAX_WAITERS = 1_024

/** How far down the queue a request that fits may pass those before it that do not (a small one a large one). */
const FIRST_FIT_DEPTH = 16

/** The finest that Node's timers do. Also keeps a rounding error in a wait from turning into a loop. */
export const FINEST_TIMER_MS = 1

/** A queue that has not been empty for so many times the longest wait is not a burst that will pass, but standing overload. */
const STANDING_AFTER_WAITS = 3

/**
 * Under standing overload a wait buys nothing but delay (CoDel's insight): newcomers are told sooner. Not too soon,
 * for the queues of several processes take turns in being long: four of them at exactly the capacity of all serve 99 % of
 * the clairvoyant optimum when newcomers wait half as long, and 97.5 % when they wait a fifth (bench:routing).
 */
const STANDING_SHARE = 1 / 2

/** A request that is held. */
export interface Waiter {
  readonly request: PoolRequest
  readonly queue: Queue
  readonly enteredAt: number
  /** When the request began to wait, be it for another time before this one. */
  readonly since: number
  /** Monotonic time at which its wait is over, served or not. */
  readonly deadline: number
  /** `wake` was called and `acquire` has not followed yet. */
  isWoken: boolean
  isQueued: boolean
  previous: Waiter | undefined
  next: Waiter | undefined
}

/** The held requests of one scope, first come first served; anyone may leave from the middle. */
export class Queue {
  /** As the caller names it. */
  readonly scope: string
  length = 0
  head: Waiter | undefined
  #tail: Waiter | undefined
  #busySince = NaN

  constructor(scope: string) {
    this.scope = scope
  }

  get tail(): Waiter | undefined {
    return this.#tail
  }

  /** In the order in which they began to wait: a request that comes back refused takes its old place, and is not refused again and again. */
  push(request: PoolRequest, since: number, deadline: number, now: number): Waiter {
    let previous = this.#tail
    while (previous !== undefined && previous.since > since) previous = previous.previous
    const next = previous === undefined ? this.head : previous.next
    const waiter: Waiter = { request, queue: this, enteredAt: now, since, deadline, isWoken: false, isQueued: true, previous, next }
    if (this.length === 0) this.#busySince = now
    if (previous === undefined) this.head = waiter
    else previous.next = waiter
    if (next === undefined) this.#tail = waiter
    else next.previous = waiter
    this.length++
    return waiter
  }

  /** The waiter keeps its own `next`, so that a walk that stands on it can go on. */
  remove(waiter: Waiter): void {
    waiter.isQueued = false
    if (waiter.previous === undefined) this.head = waiter.next
    else waiter.previous.next = waiter.next
    if (waiter.next === undefined) this.#tail = waiter.previous
    else waiter.next.previous = waiter.previous
    this.length--
  }

  /** How long a newcomer may be held. */
  patienceMs(maxWaitMs: number, now: number): number {
    const isStanding = this.length > 0 && now - this.#busySince >= STANDING_AFTER_WAITS * maxWaitMs
    return isStanding ? maxWaitMs * STANDING_SHARE : maxWaitMs
  }
}

/** All that wait in a pool, scope by scope, and the one timer that wakes them. */
export class Queues {
  readonly #system: Pick<System, 'now' | 'setTimer'>
  readonly #ask: (request: PoolRequest, now: number) => Backend | Shortage
  /** How many wait. */
  size = 0
  readonly #waiters = new Map<PoolRequest, Waiter>()
  readonly #queues = new Set<Queue>()
  #timer: Timer | undefined
  #timerAt = Infinity
  #served = 0
  #unserved = 0
  #totalMs = 0
  #longestMs = 0

  /** @param ask who would take this request now. */
  constructor(
    system: Pick<System, 'now' | 'setTimer'>, ask: (request: PoolRequest, now: number) => Backend | Shortage,
  ) {
    this.#system = system
    this.#ask = ask
  }

  get waits(): WaitStatus {
    return { served: this.#served, unserved: this.#unserved, totalMs: this.#totalMs, longestMs: this.#longestMs }
  }

  status(now: number): QueueStatus[] {
    return [...this.#queues].flatMap(({ scope, head, length }) => {
      return head === undefined ? [] : [{ scope, waiting: length, firstWaitedMs: now - head.since }]
    })
  }

  find(request: PoolRequest): Waiter | undefined {
    return this.#waiters.get(request)
  }

  /** @param soonestAt monotonic time at which the request's turn may have come. */
  enter(queue: Queue, request: PoolRequest, since: number, deadline: number, soonestAt: number, now: number): void {
    this.size++
    this.#waiters.set(request, queue.push(request, since, deadline, now))
    this.#queues.add(queue)
    this.wakeBy(Math.min(soonestAt, deadline), now)
  }

  /** Goes without having been served. */
  leave(waiter: Waiter, now: number): void {
    this.#unserved++
    waiter.queue.remove(waiter)
    this.#forget(waiter, now)
  }

  serve(waiter: Waiter, now: number): void {
    const waitedMs = now - waiter.enteredAt
    this.#served++
    this.#totalMs += waitedMs
    this.#longestMs = Math.max(this.#longestMs, waitedMs)
    waiter.queue.remove(waiter)
    this.#forget(waiter, now)
  }

  /** Wakes those who can go at this time at the latest. Never at once: `wake` runs code of the caller. */
  wakeBy(at: number, now: number): void {
    if (this.size === 0 || at >= this.#timerAt) return
    this.#timer?.cancel()
    this.#timerAt = at
    this.#timer = this.#system.setTimer(this.#wakeReady, Math.max(0, at - now))
  }

  /** Wakes all, whatever they will find. */
  wakeAll(): void {
    for (const { request } of [...this.#waiters.values()]) request.wake()
  }

  #forget(waiter: Waiter, now: number): void {
    if (this.#waiters.delete(waiter.request)) this.size--
    if (this.size === 0) {
      this.#timer?.cancel()
      this.#timer = undefined
      this.#timerAt = Infinity
      this.#queues.clear()
    } else if (waiter.queue.length >= FIRST_FIT_DEPTH) {
      // All behind move up, one of them into the first-fit window.
      this.wakeBy(now, now)
    }
  }

  readonly #wakeReady = (): void => {
    this.#timer = undefined
    this.#timerAt = Infinity
    const now = this.#system.now()
    let nextAt = Infinity
    for (const queue of this.#queues) {
      nextAt = Math.min(nextAt, this.#wakeQueue(queue, now))
      if (queue.length === 0) this.#queues.delete(queue)
    }
    this.wakeBy(Math.max(nextAt, now + FINEST_TIMER_MS), now)
  }

  /** Wakes those who can go or whose time is over; says when to look again. */
  #wakeQueue(queue: Queue, now: number): number {
    let nextAt = Infinity
    let position = 0
    // Those who come while this walk wakes others are not looked at: their own `enter` has seen to the timer.
    const last = queue.tail
    for (let waiter = queue.head; waiter !== undefined; waiter = waiter === last ? undefined : waiter.next) {
      if (waiter.isQueued && !waiter.isWoken) {
        const turnAt = now >= waiter.deadline ? now : position < FIRST_FIT_DEPTH ? this.#turnAt(waiter, now) : Infinity
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
  #turnAt(waiter: Waiter, now: number): number {
    const found = this.#ask(waiter.request, now)
    if (found.kind === 'backend') return now
    return found.isInVain || (found.isThrottled && now + found.toldMs > waiter.deadline) ? now : now + found.soonestMs
  }
}
