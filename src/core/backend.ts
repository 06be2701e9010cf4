/**
 * Where each backend stands, as a whole and with each of its scopes, and in which order backends are asked. What was learned
 * of a backend outlives an update of the options that keeps it: it is held here, apart from the configuration.
 */
import type { Callers } from './callers.js'
import { AVAILABLE, Condition, describeOut } from './health.js'
import type { Latency } from './latency.js'
import { Declared } from './pacing/declared.js'
import type { Pacer } from './pacing/pacer.js'
import { toScopeName } from './scope-name.js'
import { SlowStart } from './slow-start.js'
import type { BackendConfig, BackendStatus, PoolConfig, ScopeStatus } from './types.js'

/** A cooldown that is prolonged by less is no news, in milliseconds: the answers of one burst ask for about the same. */
const NEWS_MS = 1_000

/** Of more refusals at once the shortest are not remembered one by one: bursts are taken back together. */
const MOST_COOLDOWNS = 64

/** What asks for less, in milliseconds, asks for no pause: PTUs ask for tens of milliseconds. */
export const IMMEDIATE_MS = 10

/** In milliseconds. As long as the shortest ejection. */
const FIRST_FLOOR_MS = 250

/** Failures of so many attempts in a row, on at least two scopes, are the backend's: a host that answers 503 to twenty models is found out once. */
export const FAILURES_OF_SCOPES = 3

/** What the pool knows of one scope on one backend: its health is that of a deployment. */
export class ScopeState extends Condition {
  /** As the backend knows it. */
  readonly name: string
  /** Monotonic time; in the past when there is no cooldown. */
  cooldownUntil = -Infinity
  /** The ends of all that were asked for and are not over, the latest last: any of them may have to be taken back. */
  readonly #cooldowns: number[] = []
  attempts = 0
  successes = 0
  throttled = 0
  /** Answered, by another deployment of the same resource, since it was full itself. */
  spillovers = 0
  failures = 0
  inFlight = 0
  /** Monotonic time of the last attempt or cooldown. */
  usedAt: number
  /** Monotonic time at which the last success had come to its end. */
  succeededAt = -Infinity
  /** It meant something to the backend: it stays when its requests have ended. */
  isRemembered = false
  pacer: Pacer | undefined
  /** Usual times to the response headers, from the first success on. */
  usual: Latency | undefined = undefined
  /** The same, where speed counts in the choice among equals. */
  latency: Latency | undefined = undefined
  readonly slowStart = new SlowStart()
  /** Monotonic time at which a caller gave up waiting, with no answer of the scope since; NaN when none did. */
  abandonedAt = NaN
  /** Answers in a row that said "come back at once", to requests that went out one after the other. */
  immediate = 0
  #immediateAt = -Infinity
  /** Responses in a row that broke off after their commit point. */
  breaks = 0
  /** The end of a cooldown that the listener was told. */
  #announcedUntil = -Infinity
  /** The listener was told of a cooldown and not yet of its end. */
  #isCooling = false

  constructor(name: string, pacer: Pacer | undefined, now: number) {
    super()
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
    this.#noteCooldown(until, now)
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

  #noteCooldown(until: number, now: number): void {
    const cooldowns = this.#cooldowns
    while (cooldowns.length >= MOST_COOLDOWNS || cooldowns[0]! <= now) cooldowns.shift() // of nothing, nothing
    let at = cooldowns.length
    while (at > 0 && cooldowns[at - 1]! > until) at-- // above 0
    cooldowns.splice(at, 0, until)
  }

  /** It was not what it looked like: what others have asked for stays. @param until its end. @returns whether anything changed. */
  undoCooldown(until: number): boolean {
    const at = this.#cooldowns.indexOf(until)
    if (at < 0) return false
    this.#cooldowns.splice(at, 1)
    const before = this.cooldownUntil
    this.cooldownUntil = this.#cooldowns.at(-1) ?? -Infinity
    return this.cooldownUntil !== before
  }

  /**
   * "Come back at once" is a word to be taken, but not for ever: from the second in a row on there is a floor, doubled each time.
   * @param sentAt monotonic time: those that were under way together count as one.
   */
  floorMs(askedMs: number, sentAt: number, now: number): number {
    if (askedMs >= IMMEDIATE_MS) {
      this.immediate = 0
      return 0
    }
    if (this.immediate === 0 || sentAt >= this.#immediateAt) {
      this.immediate++
      this.#immediateAt = now
    }
    return this.immediate < 2 ? 0 : FIRST_FLOOR_MS * 2 ** (this.immediate - 2)
  }

  /** Nothing that was observed has to be remembered. */
  isInOrder(now: number): boolean {
    return this.health === AVAILABLE && this.cooldownUntil <= now && Number.isNaN(this.abandonedAt)
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

  /**
   * @param isBackendPaced a limit that is declared of the whole backend is reached.
   * @param epoch milliseconds since the Unix epoch at monotonic 0.
   */
  status(isBackendPaced: boolean, now: number, epoch: number): ScopeStatus {
    const pace = this.pacer?.pace(now) ?? []
    const cooldownMs = Math.max(0, this.cooldownUntil - now)
    const isPaced = isBackendPaced || (this.pacer?.toldMs(0, now) ?? 0) > 0
    const { health } = this
    return {
      scope: this.name,
      state: health.kind !== 'available' ? health.kind : cooldownMs > 0 ? 'cooldown' : isPaced ? 'paced' : 'available',
      cooldownMs: Math.max(cooldownMs, this.outMs(now)),
      reason: health.kind === 'available' ? undefined : health.reason,
      ...describeOut(this, this.cooldownUntil, now, epoch),
      attempts: this.attempts,
      successes: this.successes,
      throttled: this.throttled,
      spillovers: this.spillovers,
      failures: this.failures,
      inFlight: this.inFlight,
      pace,
    }
  }
}

/** What the pool knows of one backend: its health is that of the host, or of the account. */
export class Backend extends Condition {
  readonly kind = 'backend'
  config: BackendConfig
  /** Position among the tiers' backends; -1 when an update has removed the backend, or taken it out. */
  index = 0
  attempts = 0
  successes = 0
  throttled = 0
  /** Answered, by another deployment of the same resource, since it was full itself. */
  spillovers = 0
  failures = 0
  /** Attempts whose response body has not ended. */
  inFlight = 0
  /** Milliseconds to the response headers of the last success; NaN before the first. */
  lastLatencyMs = NaN
  /** By the names that this backend has for them. */
  readonly scopes = new Map<string, ScopeState>()
  /** How many of these are remembered, the one without a name aside. */
  namesRemembered = 0

  /** What counts towards the limits that are declared of it. */
  #declared: Declared | undefined

  /** The callers' credentials for which it is out. */
  callers: Callers | undefined

  /** Requests in a row that it reset, without any answer between. */
  resets = 0

  /** The inner dispatcher takes no probe of ours (a mock without a route for it): requests are the probes then. */
  refusesProbes = false
  /** The scopes of the last failures in a row, without a success of the backend in between. */
  readonly #failedScopes: ScopeState[] = []

  constructor(config: BackendConfig) {
    super()
    this.config = config
  }

  /** The name that limits belong to on this backend: `models` renames what the caller says. */
  scopeName(requested: string): string {
    const models = this.config.models
    const renamed = models !== undefined && Object.hasOwn(models, requested) ? models[requested] : undefined
    return renamed ?? requested
  }

  /** Whether it has this deployment or model, by the caller's name or its own. What names none may be anything. */
  serves(requested: string): boolean {
    const { serves } = this.config
    if (serves === undefined || requested === '') return true
    const own = this.scopeName(requested)
    return serves.some((pattern) => isServedName(requested, pattern) || (own !== requested && isServedName(own, pattern)))
  }

  /** Milliseconds until a request of this size is within the limits that are declared; 0: now. */
  declaredMs(bodyBytes: number, now: number): number {
    const { limits } = this.config
    return limits === undefined || this.#declared === undefined ? 0 : this.#declared.waitMs(limits, this.inFlight, bodyBytes, now)
  }

  /** Out for want of a connection: for the balancer's own probes, where those are on. What answers, and answers wrongly, is for requests to try. */
  get needsOwnProbe(): boolean {
    const { health } = this
    return !this.refusesProbes && health.kind !== 'available' && (health.reason === 'unreachable' || health.reason === 'local')
  }

  /** An attempt begins. @returns what it costs of a declared limit of tokens; -1 where none is declared, and nothing is counted. */
  sent(bodyBytes: number, now: number): number {
    this.inFlight++
    if (this.config.limits === undefined) return -1
    return (this.#declared ??= new Declared()).sent(bodyBytes, now)
  }

  /** It counts towards no limit. */
  undone(cost: number, sentAt: number, now: number): void {
    if (cost >= 0) this.#declared?.undone(cost, sentAt, now)
  }

  /** Its body has ended. */
  ended(sentAt: number, now: number): void {
    this.inFlight--
    this.#declared?.ended(now - sentAt)
  }

  /** A scope of it failed. @returns whether that makes it the backend's failure. */
  failedOn(scope: ScopeState): boolean {
    const scopes = this.#failedScopes
    scopes.push(scope)
    if (scopes.length > FAILURES_OF_SCOPES) scopes.shift()
    return scopes.length === FAILURES_OF_SCOPES && scopes.some((one) => one !== scope)
  }

  /** The last failure on this scope was not the scope's fault. */
  notFailedOn(scope: ScopeState): void {
    const at = this.#failedScopes.lastIndexOf(scope)
    if (at >= 0) this.#failedScopes.splice(at, 1)
  }

  succeeded(): void {
    if (this.#failedScopes.length > 0) this.#failedScopes.length = 0
  }

  /** A copy for people and dashboards. @param epoch milliseconds since the Unix epoch at monotonic 0. */
  status(now: number, epoch: number): BackendStatus {
    const { config, health } = this
    const isPaced = this.declaredMs(0, now) > 0
    const scopes = [...this.scopes.values()].map((scope) => scope.status(isPaced, now, epoch))
    const isCooling = scopes.length > 0 && scopes.every((scope) => scope.state === 'cooldown')
    const scopeCooldownMs = isCooling ? Math.min(...scopes.map((scope) => scope.cooldownMs)) : 0
    return {
      name: config.name,
      url: config.url,
      priority: config.priority,
      weight: config.weight,
      state: config.enabled === false ? 'disabled' : health.kind !== 'available' ? health.kind : isCooling ? 'cooldown' : 'available',
      cooldownMs: Math.max(this.outMs(now), scopeCooldownMs),
      reason: health.kind === 'available' ? undefined : health.reason,
      ...describeOut(this, -Infinity, now, epoch),
      callersOut: this.callers?.size ?? 0,
      inFlight: this.inFlight,
      attempts: this.attempts,
      successes: this.successes,
      throttled: this.throttled,
      spillovers: this.spillovers,
      failures: this.failures,
      lastLatencyMs: Number.isNaN(this.lastLatencyMs) ? undefined : this.lastLatencyMs,
      scopes,
    }
  }
}

function isServedName(name: string, pattern: string): boolean {
  return pattern.endsWith('*') ? name.startsWith(toScopeName(pattern.slice(0, -1))) : name === toScopeName(pattern)
}

/** The backends of a pool in the order in which they are asked, sorted once. */
export class Tiers {
  /** Those that are enabled, by priority; within one as configured. */
  readonly backends: readonly Backend[]
  /** The same with those that are not: they keep what was learned, and end what they have begun. */
  readonly all: readonly Backend[]
  /** For each priority in use the position after its last backend. */
  readonly ends: readonly number[]
  readonly home: Backend

  /** @param known from before an update: a backend of the same name and URL goes on with what was learned. */
  constructor(config: PoolConfig, known: readonly Backend[]) {
    for (const backend of known) backend.index = -1
    const kept = new Map(known.map((backend) => [identify(backend.config), backend]))
    const all = config.backends.map((backendConfig) => {
      const backend = kept.get(identify(backendConfig)) ?? new Backend(backendConfig)
      backend.config = backendConfig
      return backend
    })
    this.all = all.sort((a, b) => a.config.priority - b.config.priority)
    const backends = all.filter((backend) => backend.config.enabled !== false)
    this.backends = backends
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
