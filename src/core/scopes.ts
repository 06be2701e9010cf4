/**
 * Limits belong to a deployment or model, not to a whole backend: one that is full says nothing of its neighbour. So
 * cooldowns, pace and counters are kept per scope and backend. Callers and backends may have different names for one
 * scope (`models`): this table connects them.
 *
 * Callers may invent names without end, by mistake or in bad faith, and each would cost a few kilobytes. A name is worth
 * remembering once it meant something to a backend: an answer that is no 4xx, or a failure. Until then it stays only as long as
 * a request of it is under way, and what was counted goes to the scope of requests without a name. The number of names is bounded.
 */
import { ScopeState, type Backend } from './backend.js'
import type { Pacer } from './pacing/pacer.js'
import { Promises } from './places.js'
import { Queue } from './queue.js'
import type { Attempt } from './request.js'

/** Names on one backend; some ten times what the catalogues of OpenAI and Azure list. Past that the one whose last success is oldest goes. */
const MOST_NAMES = 1_000

/** A scope that was not used for so long is forgotten: ten times the longest rate-limit window (a minute) of the services. */
const FORGET_AFTER_MS = 10 * 60_000

/** Looking for forgotten scopes costs a pass over all of them; once a minute that is nothing. */
const SWEEP_EVERY_MS = 60_000

/** What a look over the backends has found: those that are available, in the first tier where any is. Used again, so that a pick allocates nothing. */
export class Candidates {
  /** Of those available, their positions among all backends. Only the first `count` count. */
  readonly positions: number[] = []
  /** Running sums of their shares, to draw from. */
  readonly sums: number[] = []
  count = 0
  /** Milliseconds until the first backend that said that it is full is expected to take a request; Infinity when none did. */
  throttledMs = Infinity
  /** Milliseconds until the first backend that is out may be probed. */
  ejectedMs = Infinity
  /** One that is out is being probed. */
  isProbing = false
  /** One that is out may be tried now, though not by this request. */
  isHalfOpen = false
  /** One was passed over that is in order, as far as is known for certain. */
  isDoubtful = false
  /** Milliseconds until an estimate that stands in the way lets a request go; Infinity when there is none. */
  feltMs = Infinity
  /** Where only windows stand in the way: the position of the one with the shortest wait, and that wait; -1 when there is none. */
  leastFelt = -1
  leastFeltMs = Infinity
  /** Monotonic time at which it changes by itself. */
  validUntil = -Infinity
  /** It changes with every change of health, cooldown or configuration: how many there had been. */
  changes = -1
  /** By size class: the usual time of the fastest, and when that was looked for. */
  readonly fastestMs: number[] = []
  fastestAt = -Infinity

  reset(): void {
    this.count = 0
    this.throttledMs = Infinity
    this.ejectedMs = Infinity
    this.isProbing = false
    this.isHalfOpen = false
    this.isDoubtful = false
    this.feltMs = Infinity
    this.leastFelt = -1
    this.leastFeltMs = Infinity
  }

  add(position: number, share: number): void {
    this.positions[this.count] = position
    this.sums[this.count] = share + (this.count === 0 ? 0 : this.sums[this.count - 1]!) // at least one is there
    this.count++
  }

  /** An estimate stands in the way of this one. @param testMs until it may be tested. */
  hold(position: number, feltMs: number, testMs: number): void {
    this.feltMs = Math.min(this.feltMs, feltMs, testMs)
    if (feltMs >= this.leastFeltMs) return
    this.leastFeltMs = feltMs
    this.leastFelt = position
  }

  /** @param random uniform in [0, 1); only asked when there is a choice. @returns a position among all backends. */
  draw(random: () => number): number {
    let low = 0
    if (this.count > 1) {
      // All within the first `count`. Rounding may put the point on the very end: the search stops at the last one.
      const point = random() * this.sums[this.count - 1]!
      let high = this.count - 1
      while (low < high) {
        const middle = (low + high) >>> 1
        if (point < this.sums[middle]!) high = middle
        else low = middle + 1
      }
    }
    return this.positions[low]! // below `count`, which is above 0
  }
}

/** All that the requests of one scope meet: where it stands on every backend, and the requests that wait for it. */
export class Scope {
  /** As the caller names it. */
  readonly name: string
  /** By the backends' positions; `undefined` where the scope was never used. */
  states: (ScopeState | undefined)[] = []
  readonly queue: Queue
  /** The backends that are neither out nor cooling down; kept from pick to pick. */
  readonly ready = new Candidates()
  /** Places that were promised to callers that were sent away. */
  readonly promises = new Promises()
  usedAt = -Infinity
  /** By the backends' positions: those that do not have it (`serves`). `undefined` where all do. */
  unserved: readonly boolean[] | undefined = undefined
  /** No backend has it. */
  isUnserved = false

  constructor(name: string) {
    this.name = name
    this.queue = new Queue(name)
  }
}

/** The table of scopes. */
export class Scopes {
  readonly #createPacer: () => Pacer | undefined
  readonly #scopes = new Map<string, Scope>()
  /** Of each `models` which of the callers' names lead to a name of the backend's. */
  readonly #aliases = new WeakMap<Readonly<Record<string, string>>, ReadonlyMap<string, readonly string[]>>()
  readonly #unnamed = new Scope('')
  #backends: readonly Backend[]
  #last = this.#unnamed
  #sweepAt: number

  constructor(backends: readonly Backend[], createPacer: () => Pacer | undefined, now: number) {
    this.#createPacer = createPacer
    this.#backends = backends
    this.#scopes.set('', this.#unnamed)
    this.#sweepAt = now + SWEEP_EVERY_MS
  }

  /** By the caller's name for it. */
  of(name: string, now: number): Scope {
    if (now >= this.#sweepAt) this.#sweep(now)
    if (this.#last.name !== name) this.#change(name)
    this.#last.usedAt = now
    return this.#last
  }

  /** The scope's state on a backend that is about to be used. */
  stateOn(backend: Backend, scope: Scope, now: number): ScopeState {
    const known = scope.states[backend.index]
    if (known !== undefined) return known
    const name = backend.scopeName(scope.name)
    const state = backend.scopes.get(name) ?? this.#create(backend, name, now)
    this.#connectState(backend, name, state)
    return state
  }

  /** An attempt has come to its end: its name is worth remembering, or, where nothing else of it is under way, forgotten. */
  settled({ target, scope: state, outcome }: Attempt, now: number): void {
    if (outcome === 'success') state.succeededAt = now
    if (state.isRemembered || target.scopes.get(state.name) !== state) return
    if (outcome === 'success' || outcome === 'throttled' || outcome === 'failed' || !state.isInOrder(now)) this.#remember(target, state)
    else if (state.inFlight === 0) this.#fold(target, state, now)
  }

  /** After an update the backends' positions, and what they call a scope, are others. */
  rebase(backends: readonly Backend[]): void {
    this.#backends = backends
    for (const scope of this.#scopes.values()) this.#connect(scope)
  }

  /** Pacing was switched on or off: what was learned before goes. */
  repace(backends: readonly Backend[]): void {
    for (const backend of backends) {
      for (const state of backend.scopes.values()) state.pacer = this.#createPacer()
    }
  }

  #change(name: string): void {
    const before = this.#last
    this.#last = this.#scopes.get(name) ?? this.#open(name)
    this.#drop(before)
  }

  #open(name: string): Scope {
    const scope = new Scope(name)
    this.#connect(scope)
    this.#scopes.set(name, scope)
    return scope
  }

  #create(backend: Backend, name: string, now: number): ScopeState {
    const state = new ScopeState(name, this.#createPacer(), now)
    backend.scopes.set(name, state)
    return state
  }

  #connect(scope: Scope): void {
    scope.states = this.#backends.map((backend) => backend.scopes.get(backend.scopeName(scope.name)))
    const unserved = this.#backends.map((backend) => !backend.serves(scope.name))
    scope.unserved = unserved.includes(true) ? unserved : undefined
    scope.isUnserved = !unserved.includes(false)
  }

  /** Callers may know one deployment by several names, all of which share its limits: but only where the backend renames any. */
  #connectState(backend: Backend, name: string, state: ScopeState | undefined): void {
    // Gone with an update while its last request was on its way here.
    if (backend.index < 0) return
    this.#connectName(backend, name, name, state)
    const { models } = backend.config
    if (models !== undefined) for (const alias of this.#aliasesOf(models).get(name) ?? []) this.#connectName(backend, alias, name, state)
  }

  #connectName(backend: Backend, requested: string, name: string, state: ScopeState | undefined): void {
    const scope = this.#scopes.get(requested)
    if (scope === undefined || backend.scopeName(requested) !== name) return
    scope.states[backend.index] = state
    if (state === undefined) this.#drop(scope)
  }

  #aliasesOf(models: Readonly<Record<string, string>>): ReadonlyMap<string, readonly string[]> {
    let aliases = this.#aliases.get(models)
    if (aliases === undefined) {
      const byName = new Map<string, string[]>()
      for (const [requested, name] of Object.entries(models)) byName.set(name, [...(byName.get(name) ?? []), requested])
      this.#aliases.set(models, aliases = byName)
    }
    return aliases
  }

  #remember(backend: Backend, state: ScopeState): void {
    state.isRemembered = true
    if (state.name !== '' && ++backend.namesRemembered > MOST_NAMES) this.#forgetOldest(backend)
  }

  /** One of which a request is under way is not forgotten: there are no more of these than requests. */
  #forgetOldest(backend: Backend): void {
    let oldest: ScopeState | undefined
    for (const state of backend.scopes.values()) {
      if (!state.isRemembered || state.inFlight > 0 || state.name === '') continue
      if (oldest === undefined || state.succeededAt < oldest.succeededAt) oldest = state
    }
    if (oldest !== undefined) this.#forget(backend, oldest)
  }

  #forget(backend: Backend, state: ScopeState): void {
    if (state.isRemembered && state.name !== '') backend.namesRemembered--
    backend.scopes.delete(state.name)
    this.#connectState(backend, state.name, undefined)
  }

  /** What was counted of a name that meant nothing is kept with that of requests without one. */
  #fold(backend: Backend, state: ScopeState, now: number): void {
    if (state.name === '') return
    const unnamed = this.stateOn(backend, this.#unnamed, now)
    unnamed.attempts += state.attempts
    unnamed.failures += state.failures
    unnamed.usedAt = now
    this.#forget(backend, state)
  }

  /** Nothing is known of it on any backend, and nothing waits for it. */
  #drop(scope: Scope): void {
    if (scope === this.#unnamed || scope.queue.length > 0 || scope.states.some((state) => state !== undefined)) return
    this.#scopes.delete(scope.name)
    if (scope === this.#last) this.#last = this.#unnamed
  }

  #sweep(now: number): void {
    this.#sweepAt = now + SWEEP_EVERY_MS
    const before = now - FORGET_AFTER_MS
    for (const [name, scope] of this.#scopes) {
      if (scope.usedAt < before && scope.queue.length === 0 && scope !== this.#last && scope !== this.#unnamed) this.#scopes.delete(name)
    }
    for (const backend of this.#backends) {
      for (const state of backend.scopes.values()) {
        if (state.usedAt < before && state.inFlight === 0 && state.cooldownUntil <= now) this.#forget(backend, state)
      }
    }
  }
}
