/**
 * The clocks of a request. They measure others, not us: time in which our own process stood still (a busy loop, a frozen container)
 * is no one else's fault, since an answer may have come that could not be read.
 */
import type { BackendCredential, System, Timer } from '../core/types.js'
import { toError } from './failure.js'
import { findHeader, type RequestHeaders } from './headers.js'
import { describeSilence } from './look/verdict.js'
import { errors } from './undici.js'

/** Runs out only while our process was there to hear the answer. */
export class FairTimer implements Timer {
  /** Monotonic time. */
  dueAt: number
  readonly #system: Pick<System, 'now' | 'setTimer'>
  readonly #callback: () => void
  readonly #delayMs: number
  #timer: Timer

  constructor(system: Pick<System, 'now' | 'setTimer'>, callback: () => void, delayMs: number) {
    this.#system = system
    this.#callback = callback
    this.#delayMs = delayMs
    this.dueAt = system.now() + delayMs
    this.#timer = system.setTimer(this.#fire, delayMs)
  }

  cancel(): void {
    this.#timer.cancel()
  }

  readonly #fire = (stoodStill = false): void => {
    if (!stoodStill) return this.#callback()
    // For the whole time again: how much of it had passed before is not known.
    this.dueAt = this.#system.now() + this.#delayMs
    this.#timer = this.#system.setTimer(this.#fire, this.#delayMs)
  }
}

/** Not a class of its own: undici's errors take those of a derived class, and of the class itself, for the same. */
const deadlineErrors = new WeakSet<Error>()

/** `deadlineMs` is over. */
export function makeDeadlineError(deadlineMs: number): Error {
  const error = new errors.HeadersTimeoutError(`No backend sent response headers within deadlineMs (${deadlineMs} ms).`)
  deadlineErrors.add(error)
  return error
}

export function isDeadlineError(error: Error): boolean {
  return deadlineErrors.has(error)
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

/** Of the `openai` package, whose whole seconds make 0 of 400 ms and 1 of 1,900: below this they say too little. */
const LEAST_SDK_TIMEOUT_S = 5

/** What an SDK's own timeout leaves for the answer of an attempt, or of ours, to reach it. */
const SDK_MARGIN_MS = 1_000

/** Whether the `openai` package tries again, by itself (`x-stainless-retry-count`, from 0; openai-node 4 to 7). */
export function isSdkRetry(headers: RequestHeaders): boolean {
  const said = findHeader(headers, 'x-stainless-retry-count')
  return typeof said === 'string' && /^[1-9]\d{0,8}$/.test(said)
}

/** Milliseconds for which the caller's SDK, as it says itself, has use for another attempt; Infinity where it says nothing. */
export function readSdkPatienceMs(headers: RequestHeaders): number {
  const said = findHeader(headers, 'x-stainless-timeout')
  const seconds = typeof said === 'string' && /^\d{1,9}$/.test(said) ? Number(said) : 0
  return seconds >= LEAST_SDK_TIMEOUT_S ? seconds * 1_000 - SDK_MARGIN_MS : Infinity
}

/** Runs out when nothing is heard for so long, in milliseconds, of a stream that its caller reads. */
export class SilenceTimer implements Timer {
  readonly #stream: { readonly system: System; readonly paused: boolean }
  readonly #idleMs: number
  readonly #onSilence: () => void
  #timer: Timer | undefined

  constructor(stream: { readonly system: System; readonly paused: boolean }, idleMs: number, onSilence: () => void) {
    this.#stream = stream
    this.#idleMs = idleMs
    this.#onSilence = onSilence
    this.heard()
  }

  heard(): void {
    this.#timer?.cancel()
    this.#timer = this.#stream.system.setTimer(() => {
      // What the caller does not take is no silence of the backend.
      if (this.#stream.paused) this.heard()
      else this.#onSilence()
    }, this.#idleMs)
  }

  cancel(): void {
    this.#timer?.cancel()
  }
}

export function makeSilenceError(idleMs: number): Error {
  return new errors.BodyTimeoutError(describeSilence(idleMs))
}
