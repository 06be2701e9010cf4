import { ScopeState, type Backend } from './backend.js'
import type { Pacer } from './pacing/pacer.js'
import { Survey } from './candidates.js'
import type { BackendConfig } from './types.js'
import { WaitQueue } from './queue.js'

/** A scope that was not used for so long is forgotten: ten times the longest rate-limit window (a minute) of the services. */
const FORGET_AFTER_MS = 10 * 60_000

/** Looking for forgotten scopes costs a pass over all of them; once a minute that is nothing. */
const SWEEP_EVERY_MS = 60_000

/** All that the requests of one scope meet: where the scope stands on every backend, and who waits for it. */
export class Lane {
  /** As the caller names it. */
  readonly scope: string
  /** By the backends' positions in the roster; `undefined` where the scope was never used. */
  states: (ScopeState | undefined)[] = []
  readonly queue = new WaitQueue()
  /** Who is neither out nor cooling down; kept from pick to pick. */
  readonly ready = new Survey()
  usedAt = -Infinity

  constructor(scope: string) {
    this.scope = scope
  }
}

/** The lanes of a pool. Finding one costs a comparison of strings, so that no backend has to look anything up by name. */
export class Lanes<B extends BackendConfig> {
  readonly #createPacer: () => Pacer | undefined
  readonly #lanes = new Map<string, Lane>()
  #backends: readonly Backend<B>[]
  #last = new Lane('')
  #sweepAt: number

  constructor(backends: readonly Backend<B>[], createPacer: () => Pacer | undefined, now: number) {
    this.#createPacer = createPacer
    this.#backends = backends
    this.#lanes.set('', this.#last)
    this.#sweepAt = now + SWEEP_EVERY_MS
  }

  of(scope: string, now: number): Lane {
    if (now >= this.#sweepAt) this.#sweep(now)
    if (this.#last.scope !== scope) this.#last = this.#lanes.get(scope) ?? this.#open(scope)
    this.#last.usedAt = now
    return this.#last
  }

  /** The scope's state on a backend that is about to be used. */
  stateOn(backend: Backend<B>, lane: Lane, now: number): ScopeState {
    const known = lane.states[backend.index]
    if (known !== undefined) return known
    const name = backend.scopeName(lane.scope)
    let state = backend.scopes.get(name)
    if (state === undefined) {
      state = new ScopeState(name, this.#createPacer(), now)
      backend.scopes.set(name, state)
    }
    this.#connectState(backend, name, state)
    return state
  }

  /** After an update the backends' positions, and what they call a scope, are others. */
  rebase(backends: readonly Backend<B>[]): void {
    this.#backends = backends
    for (const lane of this.#lanes.values()) this.#connect(lane)
  }

  /** Pacing was switched on or off: what was learned before goes. */
  repace(): void {
    for (const backend of this.#backends) {
      for (const state of backend.scopes.values()) state.pacer = this.#createPacer()
    }
  }

  #open(scope: string): Lane {
    const lane = new Lane(scope)
    this.#connect(lane)
    this.#lanes.set(scope, lane)
    return lane
  }

  #connect(lane: Lane): void {
    lane.states = this.#backends.map((backend) => backend.scopes.get(backend.scopeName(lane.scope)))
  }

  /** Callers may know one deployment by several names, all of which share its limits: but only where the backend renames any. */
  #connectState(backend: Backend<B>, name: string, state: ScopeState | undefined): void {
    // Gone with an update while its last request was on its way here.
    if (backend.index < 0) return
    const lanes = backend.config.models === undefined ? [this.#lanes.get(name)] : this.#lanes.values()
    for (const lane of lanes) {
      if (lane !== undefined && backend.scopeName(lane.scope) === name) lane.states[backend.index] = state
    }
  }

  #sweep(now: number): void {
    this.#sweepAt = now + SWEEP_EVERY_MS
    const before = now - FORGET_AFTER_MS
    for (const [scope, lane] of this.#lanes) {
      if (lane.usedAt < before && lane.queue.length === 0 && lane !== this.#last) this.#lanes.delete(scope)
    }
    for (const backend of this.#backends) {
      for (const [name, state] of backend.scopes) {
        if (state.usedAt >= before || state.inFlight > 0 || state.cooldownUntil > now) continue
        backend.scopes.delete(name)
        this.#connectState(backend, name, undefined)
      }
    }
  }
}
