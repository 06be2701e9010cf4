/**
 * Where backends get the callers' own credentials, one caller's may be refused, or its account exhausted, while all others are served.
 * That must not take the backend out for everybody: it is remembered of that credential alone. Of a credential a salted hash is all
 * that is known here.
 */
import { BY_PEOPLE, doubled, type Backoff } from './health.js'

/** Credentials that are remembered of one backend; past that the oldest goes, and costs its caller an attempt. */
const MOST_CALLERS = 256

export type CallerReason = 'refused' | 'exhausted'

const BACKOFFS: Readonly<Record<CallerReason, Backoff>> = {
  // A role is given, or a token renewed, within seconds or not at all.
  refused: { firstMs: 1_000, longestMs: 60_000 },
  // As for a backend as a whole.
  exhausted: BY_PEOPLE.exhausted,
}

interface CallerOut {
  /** Monotonic time from which one request may find out whether it is over. */
  until: number
  /** Monotonic time at which that became known: requests that went out before are no news. */
  readonly since: number
  readonly reason: CallerReason
  /** In a row. 0: refused, and yet not out. */
  readonly times: number
}

export class Callers {
  readonly #out = new Map<string, CallerOut>()

  /** For how many it is out, or was until lately. */
  get size(): number {
    let size = 0
    for (const { times } of this.#out.values()) if (times > 0) size++
    return size
  }

  /** Milliseconds until a request with this credential may be tried again; 0: now. */
  outMs(key: string, now: number): number {
    return Math.max(0, (this.#out.get(key)?.until ?? now) - now)
  }

  /** Whether this credential was refused, and has not been taken since. */
  isRefused(key: string): boolean {
    return this.#out.get(key)?.reason === 'refused'
  }

  /** @param sentAt monotonic time: of several requests that were under way together one counts. @returns for how long, in milliseconds; 0: it was out already. */
  takeOut(key: string, reason: CallerReason, sentAt: number, now: number): number {
    const known = this.#out.get(key)
    if (known !== undefined && sentAt < known.since) return 0
    const times = known?.reason === reason ? known.times + 1 : 1
    const ms = doubled(BACKOFFS[reason], times)
    this.#remember(key, { until: now + ms, since: now, reason, times })
    return ms
  }

  /** It was refused in a way that says nothing of other requests, or is told as it is: it is not out, and known to be refused all the same. */
  mark(key: string): void {
    if (!this.isRefused(key)) this.#remember(key, { until: -Infinity, since: -Infinity, reason: 'refused', times: 0 })
  }

  /** A request with this credential goes out. Where it was out, those that follow wait for what comes of it, for as long as it had been out at first. */
  tried(key: string, now: number): void {
    const known = this.#out.get(key)
    if (known !== undefined && known.times > 0 && known.until <= now) known.until = now + BACKOFFS[known.reason].firstMs
  }

  /** It is taken. */
  readmit(key: string): void {
    this.#out.delete(key)
  }

  /** A map keeps the order in which keys came. */
  #remember(key: string, out: CallerOut): void {
    this.#out.delete(key)
    this.#out.set(key, out)
    if (this.#out.size > MOST_CALLERS) this.#out.delete(this.#out.keys().next().value!) // there is one
  }
}
