import type { PoolAttempt } from './attempt.js'
import type { Backend } from './backend.js'
import { AVAILABLE, canProbe } from './health.js'
import type { Lane } from './scopes.js'
import type { Ledger } from './outcomes.js'
import type { Roster } from './tiers.js'
import { Survey } from './candidates.js'
import type { BackendConfig, PoolRequest, System } from './types.js'

/** Nobody can take the request now. */
export interface Shortage {
  readonly kind: 'shortage'
  /** Milliseconds until the first backend that is merely throttled is expected to take the request; Infinity when none is. */
  readonly throttledMs: number
  /** Milliseconds until anything changes by itself, the end of an ejection included. */
  readonly changeMs: number
}

/**
 * A backend that answered "come back at once" is open again, only not to the request that has just been there. This is
 * the shortest wait that timers and `retry-after-ms` can express.
 */
const AT_ONCE_MS = 1

/** At the edge of their limits all have no headroom left: then this keeps weights in force. */
const LEAST_HEADROOM = 0.01

/** Draws before everybody is asked. Where half are short, 15 of 16 requests need no more. */
const DRAWS = 4

/** Chooses backends. */
export class Picker<B extends BackendConfig> {
  readonly #ledger: Pick<Ledger<B>, 'changes'>
  readonly #random: () => number
  /** The working space of a look for one request. */
  readonly #survey = new Survey()
  /** The one shortage that is ever handed out: valid until the next pick. */
  readonly #shortage = { kind: 'shortage' as const, throttledMs: Infinity, changeMs: Infinity }

  constructor(ledger: Pick<Ledger<B>, 'changes'>, system: Pick<System, 'random'>) {
    this.#ledger = ledger
    this.#random = () => system.random()
  }

  /**
   * The lowest priority number that has somebody available wins; within it chance, by weight and headroom. When nobody
   * is available and nobody is merely throttled, the least bad backend that the request has not tried is better than
   * giving up (panic mode).
   */
  pick(roster: Roster<B>, lane: Lane, request: PoolRequest, now: number): Backend<B> | Shortage {
    const isNew = request.tried === undefined && request.waitingSince === undefined
    return (isNew ? this.#drawReady(roster, lane, request, now) : undefined) ?? this.#search(roster, lane, request, now)
  }

  /**
   * Health and cooldowns change seldom, so who has them in order is kept per lane. Pace changes with every request, but
   * need not be asked of all: whoever is drawn by weight and turned down in proportion to what it lacks, is drawn by
   * weight and headroom.
   */
  #drawReady(roster: Roster<B>, lane: Lane, request: PoolRequest, now: number): Backend<B> | undefined {
    const ready = lane.ready
    if (ready.changes !== this.#ledger.changes || now >= ready.validUntil) {
      look(roster, lane, undefined, now, ready)
      ready.changes = this.#ledger.changes
      ready.validUntil = now + Math.min(ready.throttledMs, ready.ejectedMs)
    }
    for (let draws = Math.min(ready.count, DRAWS); draws > 0; draws--) {
      const position = ready.draw(this.#random)
      const state = lane.states[position]
      if (state?.guard?.spills(state.inFlight) === true) continue
      const pacer = state?.pacer
      if (pacer === undefined) return roster.backends[position]
      if (pacer.waitMs(request.bodyBytes, now) > 0) continue
      const headroom = pacer.headroom(now)
      if (ready.count === 1 || headroom >= 1 || this.#random() < Math.max(headroom, LEAST_HEADROOM)) return roster.backends[position]
    }
    return undefined
  }

  #search(roster: Roster<B>, lane: Lane, request: PoolRequest, now: number): Backend<B> | Shortage {
    const survey = this.#survey
    look(roster, lane, request, now, survey)
    const { throttledMs, ejectedMs } = survey
    const found = survey.count > 0 ? roster.backends[survey.draw(this.#random)]
      : throttledMs === Infinity ? findLeastBad(roster.backends, triedBy<B>(request)) : undefined
    if (found !== undefined) return found
    this.#shortage.throttledMs = throttledMs
    this.#shortage.changeMs = Math.min(throttledMs, ejectedMs)
    return this.#shortage
  }
}

/**
 * Goes down the tiers to the first that has somebody available.
 *
 * @param request `undefined`: for anybody, pace left aside.
 */
function look<B extends BackendConfig>(
  roster: Roster<B>, lane: Lane, request: PoolRequest | undefined, now: number, survey: Survey,
): void {
  const tried = request === undefined ? undefined : triedBy<B>(request)
  survey.reset()
  let slow = -1
  let position = 0
  for (const end of roster.tierEnds) {
    for (; position < end; position++) {
      // Tiers end within the roster.
      const backend = roster.backends[position]!
      const { health } = backend
      if (health !== AVAILABLE && health.kind !== 'available' && !canProbe(health, now)) {
        if (health.kind === 'ejected') survey.ejectedMs = Math.min(survey.ejectedMs, health.until - now)
        continue
      }
      let share = backend.config.weight
      let waitMs = 0
      const state = lane.states[position]
      if (state !== undefined) {
        waitMs = state.cooldownUntil - now
        if (request !== undefined && state.pacer !== undefined) {
          // Also beside a cooldown: who is told when to come back is told the later of both.
          waitMs = Math.max(waitMs, state.pacer.waitMs(request.bodyBytes, now))
          if (request.waitingSince !== undefined && state.reopening !== undefined) waitMs = Math.max(waitMs, state.reopening.waitMs(now))
          share *= Math.max(state.pacer.headroom(now), LEAST_HEADROOM)
        }
      }
      if (waitMs <= 0 && tried !== undefined) {
        const attempt = tried.find(({ target }) => target === backend)
        if (attempt !== undefined) waitMs = attempt.outcome === 'throttled' ? AT_ONCE_MS : Infinity
      }
      if (waitMs > 0) survey.throttledMs = Math.min(survey.throttledMs, waitMs)
      else if (request !== undefined && state?.guard?.spills(state.inFlight) === true) slow = slow < 0 ? position : slow
      else survey.add(position, share)
    }
    if (survey.count > 0) return
  }
  // Slow is better than nobody.
  if (slow >= 0) survey.add(slow, 1)
}

/** Of those that the request has not tried, all of which are out, the one that may be probed soonest; a backend that is being probed comes last. */
function findLeastBad<B extends BackendConfig>(
  backends: readonly Backend<B>[], tried: readonly PoolAttempt<B>[] | undefined,
): Backend<B> | undefined {
  let leastBad: Backend<B> | undefined
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

/** The pool puts nothing but its own attempts there. */
function triedBy<B extends BackendConfig>(request: PoolRequest): readonly PoolAttempt<B>[] | undefined {
  return request.tried as readonly PoolAttempt<B>[] | undefined
}
