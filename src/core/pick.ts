/**
 * Which backend takes a request: the paid tier first, its equals by weight and by the room that they have, and none that is out,
 * cooling down, or was tried by this request already. Every request asks this, so it must be quick for a thousand backends, too.
 */
import type { Backend, Tiers } from './backend.js'
import { Candidates, type Shortage } from './candidates.js'
import { AVAILABLE, canProbe, LONGEST_BACKOFF_MS } from './health.js'
import type { Outcomes } from './outcomes.js'
import type { Attempt, PoolRequest } from './request.js'
import type { Scope } from './scopes.js'
import type { System } from './types.js'

/**
 * A backend that answered "come back at once" is open again, only not to the request that has just been there. This is
 * the shortest wait that timers and `retry-after-ms` can express.
 */
const AT_ONCE_MS = 1

/** At the edge of their limits all have no headroom left: then this keeps weights in force. */
const LEAST_HEADROOM = 0.01

/** Draws before all are asked. Where half are short, 15 of 16 requests need no more. */
const DRAWS = 4

/** Chooses backends. */
export class Picker {
  readonly #outcomes: Pick<Outcomes, 'changes'>
  readonly #random: () => number
  /** The working space of a look for one request. */
  readonly #candidates = new Candidates()
  /** The one shortage that is ever handed out: valid until the next pick. */
  readonly #shortage = { kind: 'shortage' as const, isThrottled: false, soonestMs: Infinity }

  constructor(outcomes: Pick<Outcomes, 'changes'>, system: Pick<System, 'random'>) {
    this.#outcomes = outcomes
    this.#random = () => system.random()
  }

  /**
   * The lowest priority number that has a backend available wins; within it chance, by weight and headroom. When none
   * is available and none is merely throttled, the least bad backend that the request has not tried is better than
   * giving up (panic mode).
   */
  pick(tiers: Tiers, scope: Scope, request: PoolRequest, now: number): Backend | Shortage {
    const isNew = request.tried === undefined && request.waitingSince === undefined
    return (isNew ? this.#drawReady(tiers, scope, request, now) : undefined) ?? this.#search(tiers, scope, request, now)
  }

  /**
   * Health and cooldowns change seldom, so the backends that have them in order are kept per scope. Pace changes with every
   * request, but need not be asked of all: a backend drawn by weight, and passed over in proportion to the room that it
   * lacks, is drawn by weight and headroom. Of a thousand backends a pick takes 1.1 microseconds so (`npm run bench -- --part scale`).
   */
  #drawReady(tiers: Tiers, scope: Scope, request: PoolRequest, now: number): Backend | undefined {
    const ready = scope.ready
    if (ready.changes !== this.#outcomes.changes || now >= ready.validUntil) {
      collectCandidates(tiers, scope, undefined, now, ready)
      ready.changes = this.#outcomes.changes
      ready.validUntil = now + Math.min(ready.throttledMs, ready.ejectedMs)
    }
    for (let draws = Math.min(ready.count, DRAWS); draws > 0; draws--) {
      const position = ready.draw(this.#random)
      const state = scope.states[position]
      if (state?.guard?.spills(state.inFlight) === true) continue
      const pacer = state?.pacer
      if (pacer === undefined) return tiers.backends[position]
      if (pacer.waitMs(request.bodyBytes, now) > 0) continue
      const headroom = pacer.headroom(now)
      if (ready.count === 1 || headroom >= 1 || this.#random() < Math.max(headroom, LEAST_HEADROOM)) return tiers.backends[position]
    }
    return undefined
  }

  #search(tiers: Tiers, scope: Scope, request: PoolRequest, now: number): Backend | Shortage {
    const candidates = this.#candidates
    collectCandidates(tiers, scope, request, now, candidates)
    const { throttledMs, ejectedMs } = candidates
    const found = candidates.count > 0 ? tiers.backends[candidates.draw(this.#random)]
      : throttledMs === Infinity ? findLeastBad(tiers.backends, request.tried) : undefined
    if (found !== undefined) return found
    this.#shortage.isThrottled = throttledMs !== Infinity
    this.#shortage.soonestMs = Math.min(throttledMs, ejectedMs)
    return this.#shortage
  }
}

/**
 * Goes down the tiers to the first that has a backend available.
 *
 * @param request `undefined`: for any request, pace left aside.
 */
function collectCandidates(tiers: Tiers, scope: Scope, request: PoolRequest | undefined, now: number, candidates: Candidates): void {
  const tried = request?.tried
  candidates.reset()
  let slow = -1
  let position = 0
  for (const end of tiers.ends) {
    for (; position < end; position++) {
      // Tiers end within the backends.
      const backend = tiers.backends[position]!
      const { health } = backend
      if (health !== AVAILABLE && health.kind !== 'available' && !canProbe(health, now)) {
        candidates.ejectedMs = Math.min(candidates.ejectedMs, health.kind === 'ejected' ? health.until - now : LONGEST_BACKOFF_MS)
        continue
      }
      let share = backend.config.weight
      let waitMs = 0
      const state = scope.states[position]
      if (state !== undefined) {
        waitMs = state.cooldownUntil - now
        if (request !== undefined && state.pacer !== undefined) {
          // Also beside a cooldown: who is told when to come back is told the later of both.
          waitMs = Math.max(waitMs, state.pacer.waitMs(request.bodyBytes, now))
          if (request.waitingSince !== undefined && state.slowStart !== undefined) waitMs = Math.max(waitMs, state.slowStart.waitMs(now))
          share *= Math.max(state.pacer.headroom(now), LEAST_HEADROOM)
        }
      }
      if (waitMs <= 0 && tried !== undefined) {
        const attempt = tried.find(({ target }) => target === backend)
        if (attempt !== undefined) waitMs = attempt.outcome === 'throttled' ? AT_ONCE_MS : Infinity
      }
      if (waitMs > 0) candidates.throttledMs = Math.min(candidates.throttledMs, waitMs)
      else if (request !== undefined && state?.guard?.spills(state.inFlight) === true) slow = slow < 0 ? position : slow
      else candidates.add(position, share)
    }
    if (candidates.count > 0) return
  }
  // A slow one is better than none.
  if (slow >= 0) candidates.add(slow, 1)
}

/** Of those that the request has not tried, all of which are out, the one that may be probed soonest; a backend that is being probed comes last. */
function findLeastBad(backends: readonly Backend[], tried: readonly Attempt[] | undefined): Backend | undefined {
  let leastBad: Backend | undefined
  let soonest = Infinity
  for (const backend of backends) {
    const { health } = backend
    if (tried?.some(({ target }) => target === backend) === true) continue
    const until = health.kind === 'ejected' ? health.until : Infinity
    if (leastBad === undefined || until < soonest) {
      leastBad = backend
      soonest = until
    }
  }
  return leastBad
}
