/**
 * No caller should pay for finding out that a backend is back: with a host that swallows packets that costs ten seconds. So what
 * cannot be reached is tried by the balancer itself, with a request that asks for nothing, while requests go elsewhere. One at
 * a time for each backend, with the backoff of its health; none where the pool is idle, for then there is no one to save.
 */
import type { Backend } from './backend.js'
import type { Probing } from './health.js'
import type { Outcomes } from './outcomes.js'
import type { BackendConfig, System, Timer } from './types.js'

/** Without requests for so long a pool is idle, in milliseconds. */
const IDLE_AFTER_MS = 60_000

/**
 * A probe that has come to no end by then has failed, in milliseconds. The dispatcher bounds the connection and the answer with ten
 * seconds each; this is for one that does not, or that has no connection to spare.
 */
const LONGEST_PROBE_MS = 30_000

/** How a probe went: any answer at all, none, or the probe itself was not taken. */
export type ProbeResult = 'reached' | 'failed' | 'refused'

/** Sends a probe. Calls back, never before it returns; a second time is of no interest. */
export type SendProbe = (backend: BackendConfig, done: (result: ProbeResult) => void) => void

export class Probes {
  readonly #system: Pick<System, 'now' | 'setTimer'>
  readonly #outcomes: Outcomes
  readonly #send: SendProbe
  readonly #onDone: (now: number) => void
  #backends: readonly Backend[] = []
  #isOn = true
  /** Monotonic time of the last request. */
  usedAt = -Infinity
  /** The pool was idle: to be woken by the next request. */
  isAsleep = false
  #isClosed = false
  /** How many changes there had been when it was last looked who is out. */
  #seen = 0
  #timer: Timer | undefined
  #timerAt = Infinity

  /** @param onDone is called when a probe has come to its end: those who wait may have somewhere to go. */
  constructor(system: Pick<System, 'now' | 'setTimer'>, outcomes: Outcomes, send: SendProbe, onDone: (now: number) => void) {
    this.#system = system
    this.#outcomes = outcomes
    this.#send = send
    this.#onDone = onDone
  }

  /** After an update. */
  take(backends: readonly Backend[], isOn: boolean): void {
    this.#backends = backends
    this.#isOn = isOn
    this.#stop()
    this.#arm(this.#system.now())
  }

  /** A request came in, after a time without any. */
  wakeUp(now: number): void {
    this.isAsleep = false
    this.#arm(now)
  }

  /** Something may have become unreachable. */
  look(now: number): void {
    if (this.#outcomes.changes !== this.#seen) this.#arm(now)
  }

  #arm(now: number): void {
    this.#seen = this.#outcomes.changes
    if (!this.#isOn || this.#isClosed) return
    let at = Infinity
    for (const backend of this.#backends) if (backend.needsOwnProbe && backend.health.kind === 'ejected') at = Math.min(at, backend.health.until)
    if (at >= this.#timerAt) return
    this.#timer?.cancel()
    this.#timerAt = at
    this.#timer = this.#system.setTimer(this.#probeDue, Math.max(0, at - now))
    this.#timer.unref?.()
  }

  /** None from here on. */
  close(): void {
    this.#isClosed = true
    this.#stop()
  }

  #stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#timerAt = Infinity
  }

  readonly #probeDue = (): void => {
    this.#stop()
    const now = this.#system.now()
    this.isAsleep = now - this.usedAt > IDLE_AFTER_MS
    if (this.isAsleep) return
    for (const backend of this.#backends) {
      const probe = backend.needsOwnProbe ? this.#outcomes.takeProbe(backend, now) : undefined
      if (probe !== undefined) this.#probe(backend, probe, now)
    }
    this.#arm(now)
  }

  #probe(backend: Backend, probe: Probing, now: number): void {
    let isDone = false
    const done = (result: ProbeResult): void => {
      if (isDone) return
      isDone = true
      timeout.cancel()
      this.#done(backend, probe, result, now)
    }
    const timeout = this.#system.setTimer(() => { done('failed') }, LONGEST_PROBE_MS)
    timeout.unref?.()
    this.#send(backend.config, done)
  }

  #done(backend: Backend, probe: Probing, result: ProbeResult, sentAt: number): void {
    // Of a backend that is gone there is nothing to tell.
    if (this.#isClosed || backend.index < 0) return
    const now = this.#system.now()
    if (result === 'refused') {
      backend.refusesProbes = true
      this.#outcomes.probeRefused(backend, probe, now)
    } else this.#outcomes.probed(backend, probe, result === 'reached', now - sentAt, now)
    this.#arm(now)
    this.#onDone(now)
  }
}
