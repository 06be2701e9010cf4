/**
 * Where each backend stands, as a whole and with each of its scopes, and in which order backends are asked. What was learned
 * of a backend outlives an update of the options that keeps it: it is held here, apart from the configuration.
 */
import { AVAILABLE, transition, type Health, type HealthEvent } from './health.js'
import type { Latency } from './latency.js'
import type { Pacer } from './pacing/pacer.js'
import { SlowStart } from './slow-start.js'
import type { BackendConfig, BackendStatus, PoolConfig, ScopeStatus } from './types.js'

/** A cooldown that is prolonged by less is no news, in milliseconds: the answers of one burst ask for about the same. */
const NEWS_MS = 1_000

/** What the pool knows of one scope on one backend. */
export class ScopeState {
  /** As the backend knows it. */
  readonly name: string
  /** Monotonic time; in the past when there is no cooldown. */
  cooldownUntil = -Infinity
  attempts = 0
  successes = 0
  throttled = 0
  failures = 0
  inFlight = 0
  /** Monotonic time of the last attempt or cooldown. */
  usedAt: number
  pacer: Pacer | undefined
  /** From the first success on, unless it is switched off. */
  latency: Latency | undefined = undefined
  readonly slowStart = new SlowStart()
  /** The end of a cooldown that the listener was told. */
  #announcedUntil = -Infinity
  /** The listener was told of a cooldown and not yet of its end. */
  #isCooling = false

  constructor(name: string, pacer: Pacer | undefined, now: number) {
    this.name = name
    this.pacer = pacer
    this.usedAt = now
  }

  /**
   * Keeps requests away for a while. A shorter cooldown than the one that runs changes nothing: the answers of many
   * attempts arrive in any order, and the longest is the safe one.
   *
   * @returns whether that is news: it begins, or its end moved by more than a little.
   */
  coolDown(forMs: number, now: number): boolean {
    if (forMs <= 0) return false
    // To the millisecond: who may come back when is the slow start's business, and a window that is open should be used.
    const until = now + forMs
    if (until <= this.cooldownUntil) return false
    const isNews = this.cooldownUntil <= now || until - this.#announcedUntil > NEWS_MS
    this.cooldownUntil = until
    this.usedAt = now
    if (isNews) {
      this.#announcedUntil = until
      this.#isCooling = true
    }
    return isNews
  }

  /** Books as admitted what would have been refused by now, if it were to be. */
  admitDue(now: number): void {
    for (let due = this.slowStart.takeAdmitted(now); due !== undefined; due = this.slowStart.takeAdmitted(now)) {
      this.pacer?.admitted(due)
    }
  }

  /** @returns true once after each cooldown that was announced. */
  expireCooldown(now: number): boolean {
    if (!this.#isCooling || this.cooldownUntil > now) return false
    this.#isCooling = false
    return true
  }

  status(now: number): ScopeStatus {
    const pace = this.pacer?.pace(now) ?? []
    const cooldownMs = Math.max(0, this.cooldownUntil - now)
    const isPaced = (this.pacer?.toldMs(0, now) ?? 0) > 0
    return {
      scope: this.name,
      state: cooldownMs > 0 ? 'cooldown' : isPaced ? 'paced' : 'available',
      cooldownMs,
      attempts: this.attempts,
      successes: this.successes,
      throttled: this.throttled,
      failures: this.failures,
      inFlight: this.inFlight,
      pace,
    }
  }
}

/** What the pool knows of one backend. */
export class Backend {
  readonly kind = 'backend'
  config: BackendConfig
  /** Position among the tiers' backends; -1 when an update has removed the backend. */
  index = 0
  health: Health = AVAILABLE
  attempts = 0
  successes = 0
  throttled = 0
  failures = 0
  /** Attempts whose response body has not ended. */
  inFlight = 0
  /** Milliseconds to the response headers of the last success; NaN before the first. */
  lastLatencyMs = NaN
  /** By the names that this backend has for them. */
  readonly scopes = new Map<string, ScopeState>()

  constructor(config: BackendConfig) {
    this.config = config
  }

  /** The name that limits belong to on this backend: `models` renames what the caller says. */
  scopeName(requested: string): string {
    const models = this.config.models
    const renamed = models !== undefined && Object.hasOwn(models, requested) ? models[requested] : undefined
    return renamed ?? requested
  }

  /** @returns whether the event changed anything. */
  apply(event: HealthEvent, isProbe: boolean, now: number, random: () => number): boolean {
    const before = this.health
    this.health = transition(before, event, isProbe, now, random)
    return this.health !== before
  }

  /** A copy for people and dashboards. */
  status(now: number): BackendStatus {
    const { config, health } = this
    const scopes = [...this.scopes.values()].map((scope) => scope.status(now))
    const isCooling = scopes.length > 0 && scopes.every((scope) => scope.state === 'cooldown')
    const scopeCooldownMs = isCooling ? Math.min(...scopes.map((scope) => scope.cooldownMs)) : 0
    return {
      name: config.name,
      url: config.url,
      priority: config.priority,
      weight: config.weight,
      state: health.kind !== 'available' ? health.kind : isCooling ? 'cooldown' : 'available',
      cooldownMs: Math.max(health.kind === 'ejected' ? health.until - now : 0, scopeCooldownMs),
      inFlight: this.inFlight,
      attempts: this.attempts,
      successes: this.successes,
      throttled: this.throttled,
      failures: this.failures,
      lastLatencyMs: Number.isNaN(this.lastLatencyMs) ? undefined : this.lastLatencyMs,
      scopes,
    }
  }
}

/** The backends of a pool in the order in which they are asked, sorted once. */
export class Tiers {
  /** By priority; within one as configured. */
  readonly backends: readonly Backend[]
  /** For each priority in use the position after its last backend. */
  readonly ends: readonly number[]
  readonly home: Backend

  /** @param known from before an update: a backend of the same name and URL goes on with what was learned. */
  constructor(config: PoolConfig, known: readonly Backend[]) {
    for (const backend of known) backend.index = -1
    const kept = new Map(known.map((backend) => [identify(backend.config), backend]))
    const backends = config.backends.map((backendConfig) => {
      const backend = kept.get(identify(backendConfig)) ?? new Backend(backendConfig)
      backend.config = backendConfig
      return backend
    })
    this.backends = backends.sort((a, b) => a.config.priority - b.config.priority)
    const ends: number[] = []
    backends.forEach((backend, index) => {
      backend.index = index
      if (backend.config.priority !== backends[index + 1]?.config.priority) ends.push(index + 1)
    })
    this.ends = ends
    const home = backends.find((backend) => backend.config.name === config.home.name)
    if (home === undefined) throw new RangeError(`home: must be one of the backends, got "${config.home.name}"`)
    this.home = home
  }
}

function identify(config: BackendConfig): string {
  return `${config.name}\n${config.url}`
}
