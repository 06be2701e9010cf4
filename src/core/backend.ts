import { AVAILABLE, transition, type Health, type HealthEvent } from './health.js'
import { largestJitterMs } from './jitter.js'
import type { LatencyGuard } from './latency.js'
import type { Pacer } from './pacing/pacer.js'
import type { Reopening } from './slow-start.js'
import type { BackendConfig } from './types.js'

/** Longer than any jitter. */
const NEWS_MS = 1_000

/** What the pool knows of one scope on one backend. */
export class ScopeState {
  /** As the backend knows it. */
  readonly name: string
  /** Monotonic time; in the past when there is no cooldown. */
  cooldownUntil = -Infinity
  /** The end that the listener was told. */
  announcedUntil = -Infinity
  /** The listener was told of a cooldown and not yet of its end. */
  isCooling = false
  attempts = 0
  successes = 0
  throttled = 0
  failures = 0
  inFlight = 0
  /** Monotonic time of the last attempt or cooldown. */
  usedAt: number
  pacer: Pacer | undefined
  /** From the first success on, unless it is switched off. */
  guard: LatencyGuard | undefined = undefined
  /** Since the last refusal. */
  reopening: Reopening | undefined = undefined

  constructor(name: string, pacer: Pacer | undefined, now: number) {
    this.name = name
    this.pacer = pacer
    this.usedAt = now
  }

  /**
   * Keeps requests away for a while. A shorter cooldown than the one that runs changes nothing: the answers of many
   * attempts arrive in any order, and the longest is the safe one.
   *
   * @param random uniform in [0, 1).
   * @returns whether that is news: it begins, or its end moved by more than jitter does.
   */
  coolDown(forMs: number, random: () => number, now: number): boolean {
    if (forMs <= 0) return false
    const until = now + forMs + random() * largestJitterMs(forMs)
    if (until <= this.cooldownUntil) return false
    const isNews = this.cooldownUntil <= now || until - this.announcedUntil > NEWS_MS
    this.cooldownUntil = until
    this.usedAt = now
    if (isNews) {
      this.announcedUntil = until
      this.isCooling = true
    }
    return isNews
  }

  /** @returns true once after each cooldown that was announced. */
  noticeEnd(now: number): boolean {
    if (!this.isCooling || this.cooldownUntil > now) return false
    this.isCooling = false
    return true
  }
}

/** What the pool knows of one backend. Lives on when an update keeps the backend. */
export class Backend<B extends BackendConfig> {
  readonly kind = 'backend'
  config: B
  /** Position in the roster; -1 when an update has removed the backend. */
  index = 0
  health: Health = AVAILABLE
  attempts = 0
  successes = 0
  throttled = 0
  failures = 0
  inFlight = 0
  /** Of the last success; NaN before the first. */
  lastLatencyMs = NaN
  readonly scopes = new Map<string, ScopeState>()

  constructor(config: B) {
    this.config = config
  }

  /** The name that limits belong to on this backend: `models` renames what the caller says. */
  scopeName(requested: string): string {
    const models = this.config.models
    const renamed = models !== undefined && Object.hasOwn(models, requested) ? models[requested] : undefined
    return renamed ?? requested
  }

  /** @returns whether anything changed. */
  feed(event: HealthEvent, isProbe: boolean, now: number, random: () => number): boolean {
    const before = this.health
    this.health = transition(before, event, isProbe, now, random)
    return this.health !== before
  }
}
