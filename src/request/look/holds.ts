/**
 * What is in the same packet as the headers decides nearly all looks, within the very turn: a timer for each would cost more than the
 * look itself (650 of 1,900 ns a dispatch, where small answers are looked into). So those that are still held when the turn is over
 * get their timers then, all at once.
 */
import { ActiveRequests } from '../active-requests.js'

interface Held {
  /** Its place among those that are held since this turn began; -1 when it is none. */
  slot: number
  /** The turn is over, and nothing is decided yet. */
  armLook(): void
}

class Holds {
  readonly #held = new ActiveRequests<Held>()
  #isDue = false
  /** A number that is another one in each turn in which something was held. */
  turn = 0

  add(one: Held): void {
    this.#held.add(one)
    if (this.#isDue) return
    this.#isDue = true
    queueMicrotask(() => {
      this.#isDue = false
      this.turn++
      for (const held of this.#held) {
        this.#held.remove(held)
        held.armLook()
      }
    })
  }

  remove(one: Held): void {
    this.#held.remove(one)
  }
}

export const holds = new Holds()
