/**
 * The clocks of a request. They measure others, not us: time in which our own process stood still (a busy loop, a frozen container)
 * is no one else's fault, since an answer may have come that could not be read.
 */
import type { BackendCredential, System, Timer } from '../core/types.js'
import { toError } from './failure.js'

/** Runs out only while our process was there to hear the answer. */
export class FairTimer implements Timer {
  readonly #system: Pick<System, 'setTimer'>
  readonly #callback: () => void
  readonly #delayMs: number
  #timer: Timer

  constructor(system: Pick<System, 'setTimer'>, callback: () => void, delayMs: number) {
    this.#system = system
    this.#callback = callback
    this.#delayMs = delayMs
    this.#timer = system.setTimer(this.#fire, delayMs)
  }

  cancel(): void {
    this.#timer.cancel()
  }

  readonly #fire = (stoodStill = false): void => {
    // For the whole time again: how much of it had passed before is not known.
    if (stoodStill) this.#timer = this.#system.setTimer(this.#fire, this.#delayMs)
    else this.#callback()
  }
}

/** Waits for a credential that has to be fetched, as long as that may take. @returns what gives it up. */
export function awaitCredential(
  system: System, source: BackendCredential, value: Promise<string>, now: number, done: (value: string) => void, fail: (error: Error) => void,
): Timer {
  const timer = new FairTimer(system, () => { fail(source.expire()) }, source.leftMs(now))
  value.then((header) => {
    timer.cancel()
    done(header)
  }, (error: unknown) => { fail(toError(error)) })
  return timer
}
