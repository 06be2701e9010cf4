import type { PoolAttempt } from './attempt.js'
import type { Backend } from './backend.js'
import { AVAILABLE, canProbe } from './health.js'
import type { Lane } from './lane.js'
import type { Roster } from './roster.js'
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

/** Chooses backends. Keeps its working space between picks, so that a pick allocates nothing. */
export class Picker<B extends BackendConfig> {
  readonly #system: Pick<System, 'random'>
  readonly #candidates: Backend<B>[] = []
  /** Running sum of the candidates' shares. */
  readonly #sums: number[] = []
  /** The one shortage that is ever handed out: valid until the next pick. */
  readonly #shortage = { kind: 'shortage' as const, throttledMs: Infinity, changeMs: Infinity }

  constructor(system: Pick<System, 'random'>) {
    this.#system = system
  }

  /**
   * The lowest priority number that has somebody available wins; within it chance, by weight. When nobody is available
   * and nobody is merely throttled, the least bad backend that the request has not tried is better than giving up
   * (panic mode).
   */
  pick(roster: Roster<B>, lane: Lane, request: PoolRequest, now: number): Backend<B> | Shortage {
    const { backends, tierEnds } = roster
    const tried = request.tried as PoolAttempt<B>[] | undefined
    const candidates = this.#candidates
    let throttledMs = Infinity
    let changeMs = Infinity
    let at = 0
    for (const end of tierEnds) {
      let count = 0
      let sum = 0
      for (; at < end; at++) {
        // Both arrays are as long as the roster, and tiers end within it.
        const backend = backends[at]!
        const health = backend.health
        if (health !== AVAILABLE && health.kind !== 'available' && !canProbe(health, now)) {
          if (health.kind === 'ejected' && health.until - now < changeMs) changeMs = health.until - now
          continue
        }
        const state = lane.states[at]
        let share = backend.config.weight
        if (state !== undefined) {
          let waitMs = state.cooldownUntil - now
          if (waitMs <= 0 && state.pacer !== undefined) {
            waitMs = state.pacer.waitMs(request.bodyBytes, now)
            share *= state.pacer.headroom(now)
          }
          if (waitMs > 0) {
            if (waitMs < throttledMs) throttledMs = waitMs
            continue
          }
        }
        const earlier = tried === undefined ? undefined : tried.find((attempt) => attempt.target === backend)
        if (earlier !== undefined) {
          if (earlier.outcome === 'throttled' && AT_ONCE_MS < throttledMs) throttledMs = AT_ONCE_MS
          continue
        }
        sum += share
        candidates[count] = backend
        this.#sums[count] = sum
        count++
      }
      if (count > 0) return this.#draw(count, sum)
    }
    if (throttledMs === Infinity) {
      const leastBad = findLeastBad(backends, tried)
      if (leastBad !== undefined) return leastBad
    }
    this.#shortage.throttledMs = throttledMs
    this.#shortage.changeMs = Math.min(throttledMs, changeMs)
    return this.#shortage
  }

  #draw(count: number, sum: number): Backend<B> {
    let chosen = 0
    if (count > 1) {
      const point = this.#system.random() * sum
      // Bounded by the last one, which a rounding error in the sums could pass.
      while (chosen < count - 1 && point >= this.#sums[chosen]!) chosen++
    }
    return this.#candidates[chosen]!
  }
}

/** Of those out, the one that may be probed soonest; a backend that is being probed comes last. */
function findLeastBad<B extends BackendConfig>(
  backends: readonly Backend<B>[], tried: readonly PoolAttempt<B>[] | undefined,
): Backend<B> | undefined {
  let leastBad: Backend<B> | undefined
  let soonest = Infinity
  for (const backend of backends) {
    const health = backend.health
    if (health.kind === 'available' || tried?.some((attempt) => attempt.target === backend) === true) continue
    const until = health.kind === 'ejected' ? health.until : Infinity
    if (leastBad === undefined || until < soonest) {
      leastBad = backend
      soonest = until
    }
  }
  return leastBad
}
