/**
 * Which backend takes a request: the paid tier first, its equals by weight, room and speed, and none that is out, cooling
 * down, or was tried by this request already. Every request asks this, so it must be quick for a thousand backends, too.
 *
 * What a backend *said* keeps requests from it. What we only *estimate* puts it behind the others, and holds a request that
 * can wait; it never keeps one from being sent where there is no other way.
 */
import type { Backend, ScopeState, Tiers } from './backend.js'
import { AVAILABLE, canProbe, LONGEST_BACKOFF_MS, type Condition } from './health.js'
import { FASTEST_KEEPS_MS, SIZE_CLASSES, sizeClassOf, speedOf } from './latency.js'
import type { Outcomes } from './outcomes.js'
import { callerOutMs, findHome, findLast, findProspect, isPassedOver, isDoubtful } from './prospect.js'
import type { Attempt, PoolRequest, Shortage } from './request.js'
import { Candidates, type Scope } from './scopes.js'
import type { System } from './types.js'

/**
 * A backend that answered "come back at once" is open again, only not to the request that has just been there. This is
 * the shortest wait that timers and `retry-after-ms` can express.
 */
const AT_ONCE_MS = 1

/**
 * A request that can wait looks every so many milliseconds whether a probe that is under way has been decided: it is woken then,
 * but not where the probe comes to nothing. As the first backoff.
 */
const PROBE_LOOK_MS = 250

/** At the edge of their limits all have no room left: then this keeps weights in force. */
const LEAST_ROOM = 0.01

/** Draws before all are asked. Where half are short, 15 of 16 requests need no more. */
const DRAWS = 4

/** A caller is better told to come back within a second, in milliseconds, than sent to a backend that has just failed. */
const LONG_MS = 1_000

/** Chooses backends. */
export class Picker {
  readonly #outcomes: Pick<Outcomes, 'changes'>
  readonly #random: () => number
  /** The working space of a look for one request. */
  readonly #candidates = new Candidates()
  /** The one shortage that is ever handed out: valid until the next pick. */
  readonly #shortage = { kind: 'shortage' as const, isThrottled: false, isInVain: false, toldMs: Infinity, soonestMs: Infinity }

  /** Whether the balancer tries by itself what cannot be reached. */
  probes = false

  constructor(outcomes: Pick<Outcomes, 'changes'>, system: Pick<System, 'random'>) {
    this.#outcomes = outcomes
    this.#random = () => system.random()
  }

  /**
   * The lowest priority number that has a backend with room wins, then one that may be tested; within it chance, by weight,
   * room and speed. When none is available and none has said that it is full, the least bad backend that the request has
   * not tried is better than giving up (panic mode).
   *
   * @param canWait whether the request may be held: then estimates do hold it, and a probe is waited for.
   */
  pick(tiers: Tiers, scope: Scope, request: PoolRequest, canWait: boolean, now: number): Backend | Shortage {
    return (request.tried === undefined ? this.#drawReady(tiers, scope, request, canWait, now) : undefined) ?? this.#search(tiers, scope, request, canWait, now)
  }

  /**
   * Health and cooldowns change seldom, so the backends that have them in order are kept per scope. Pace changes with every
   * request, but need not be asked of all: a backend drawn by weight, and passed over in proportion to the room and speed that
   * it lacks, is drawn by weight, room and speed. With a thousand backends a request takes 0.8 microseconds longer so than with two (`npm run bench -- --part scale`).
   */
  #drawReady(tiers: Tiers, scope: Scope, request: PoolRequest, canWait: boolean, now: number): Backend | undefined {
    const ready = this.#readyOf(tiers, scope, now)
    for (let draws = Math.min(ready.count, DRAWS); draws > 0; draws--) {
      const position = ready.draw(this.#random)
      const state = scope.states[position]
      const backend = tiers.backends[position]! // drawn from them
      if (backend.declaredMs(request.bodyBytes, now) > 0 || callerOutMs(backend, request, now) > 0 || isPassedOver(backend, request)) continue
      if (state === undefined) return backend
      if (isDoubtful(state, request)) continue
      state.admitDue(now)
      if (canWait && state.slowStart.waitMs(now) > 0) continue
      const { pacer } = state
      if (pacer !== undefined && (pacer.toldMs(request.bodyBytes, now) > 0 || pacer.feltMs(request.bodyBytes, now) > 0)) continue
      const share = ready.count === 1 ? 1 : shareOf(state, request, ready, now)
      if (share >= 1 || this.#random() < share) return backend
    }
    return undefined
  }

  /** The backends of the best tier whose health and cooldowns are in order. */
  #readyOf(tiers: Tiers, scope: Scope, now: number): Candidates {
    const { ready } = scope
    if (ready.changes !== this.#outcomes.changes || now >= ready.validUntil) {
      collectReady(tiers, scope, this.probes, ready, now)
      ready.changes = this.#outcomes.changes
      ready.validUntil = now + Math.min(ready.throttledMs, ready.ejectedMs)
      ready.fastestAt = -Infinity
    }
    if (now - ready.fastestAt >= FASTEST_KEEPS_MS) findFastest(scope, ready, now)
    return ready
  }

  #search(tiers: Tiers, scope: Scope, request: PoolRequest, canWait: boolean, now: number): Backend | Shortage {
    const ready = this.#readyOf(tiers, scope, now)
    const found = this.#candidates
    collectCandidates(tiers, scope, request, canWait, this.probes, true, ready, found, now)
    if (found.count === 0 && found.isDoubtful) collectCandidates(tiers, scope, request, canWait, this.probes, false, ready, found, now)
    if (found.count > 0) return tiers.backends[found.draw(this.#random)]! // drawn from them
    if (!canWait && found.leastFelt >= 0) return tiers.backends[found.leastFelt]! // found among them
    // Better than to wait, and than a 429: one that failed, but may be back.
    const halfOpen = found.isHalfOpen ? findLeastBad(tiers.backends, scope, request, now, now) : undefined
    if (halfOpen !== undefined) return halfOpen
    const isFull = found.throttledMs !== Infinity || found.leastFelt >= 0
    const prospect = isFull ? 'hope' : findProspect(tiers.backends, scope, request, now)
    // One answer says it: of the home, since that is where it will be made.
    if ((prospect === 'missing' || prospect === 'none') && request.attempts === 0) return findHome(tiers, scope, request)
    const leastBad = prospect === 'missing' || (canWait && prospect === 'hope') ? undefined : isFull ? findInstead(tiers.backends, scope, request, now) : findLeastBad(tiers.backends, scope, request, Infinity, now)
    if (leastBad !== undefined) return leastBad
    const shortage = this.#shortage
    // A probe has not said that a backend is full: who can wait is not refused while one is under way.
    const outMs = found.isProbing ? Math.min(found.ejectedMs, canWait ? PROBE_LOOK_MS : LONGEST_BACKOFF_MS) : found.ejectedMs
    shortage.isThrottled = isFull
    shortage.isInVain = prospect !== 'hope'
    shortage.toldMs = found.feltMs === Infinity ? Math.min(found.throttledMs, outMs) : 0
    shortage.soonestMs = Math.min(found.throttledMs, outMs, found.feltMs)
    return shortage
  }
}

/** What is left of a backend's weight, by its room and speed. */
function shareOf(state: ScopeState, request: PoolRequest, ready: Candidates, now: number): number {
  let share = state.pacer === undefined ? 1 : Math.max(LEAST_ROOM, state.pacer.room(now))
  if (state.latency !== undefined) {
    const sizeClass = sizeClassOf(request.bodyBytes)
    const fastestMs = ready.fastestMs[sizeClass]
    if (fastestMs !== undefined) share *= speedOf(state.latency.usualMs(sizeClass), fastestMs)
  }
  return share
}

function findFastest(scope: Scope, ready: Candidates, now: number): void {
  ready.fastestAt = now
  for (let sizeClass = 0; sizeClass < SIZE_CLASSES; sizeClass++) {
    let fastestMs = Infinity
    for (let k = 0; k < ready.count; k++) {
      const usualMs = scope.states[ready.positions[k]!]?.latency?.usualMs(sizeClass) // below the count
      if (usualMs !== undefined && usualMs < fastestMs) fastestMs = usualMs
    }
    ready.fastestMs[sizeClass] = fastestMs
  }
}

/**
 * Whether a backend, or a scope on it, may be asked, as far as its health goes. What is half-open is asked by a request that has
 * not failed yet; what cannot be reached is not asked at all, as long as the balancer tries it by itself.
 */
function isHealthy(condition: Condition, mayProbe: boolean, found: Candidates, now: number): boolean {
  const { health } = condition
  if (health === AVAILABLE || health.kind === 'available') return true
  const isDue = canProbe(health, now)
  if (isDue && mayProbe) return true
  found.isHalfOpen ||= isDue
  if (health.kind === 'probing') found.isProbing = true
  else found.ejectedMs = Math.min(found.ejectedMs, Math.max(AT_ONCE_MS, health.until - now))
  return false
}

/** Goes down the tiers to the first that has a backend in order, for any request; pace is left aside. */
function collectReady(tiers: Tiers, scope: Scope, probes: boolean, found: Candidates, now: number): void {
  found.reset()
  let position = 0
  for (const end of tiers.ends) {
    for (; position < end; position++) {
      const backend = tiers.backends[position]! // tiers end within the backends
      if (scope.unserved?.[position] === true) continue
      const state = scope.states[position]
      if (!isHealthy(backend, !(probes && backend.needsOwnProbe), found, now) || (state !== undefined && !isHealthy(state, true, found, now))) continue
      const cooldownMs = (state?.cooldownUntil ?? now) - now
      if (cooldownMs > 0) found.throttledMs = Math.min(found.throttledMs, cooldownMs)
      else found.add(position, backend.config.weight)
    }
    if (found.count > 0) return
  }
}

/** Goes down the tiers to the first that has a backend with room for this request, or one whose estimate may be tested. */
function collectCandidates(
  tiers: Tiers, scope: Scope, request: PoolRequest, canWait: boolean, probes: boolean, doubts: boolean, ready: Candidates, found: Candidates, now: number,
): void {
  found.reset()
  // A request that has failed once already is no probe.
  const mayProbe = request.failures === 0
  let position = 0
  for (const end of tiers.ends) {
    let test = -1
    for (; position < end; position++) {
      const backend = tiers.backends[position]! // tiers end within the backends
      if (scope.unserved?.[position] === true) continue
      if (!isHealthy(backend, mayProbe && !(probes && backend.needsOwnProbe), found, now) || isPassedOver(backend, request)) continue
      const state = scope.states[position]
      if (state !== undefined && !isHealthy(state, mayProbe, found, now)) continue
      if (doubts && state !== undefined && isDoubtful(state, request)) {
        found.isDoubtful = true
        continue
      }
      const callerMs = callerOutMs(backend, request, now)
      if (callerMs > 0) {
        found.ejectedMs = Math.min(found.ejectedMs, callerMs)
        continue
      }
      state?.admitDue(now)
      // Also beside a cooldown: who is told when to come back is told the later of both.
      const toldMs = Math.max(toldOf(state, request, now), backend.declaredMs(request.bodyBytes, now))
      // Also where the name is forgotten already, since it meant nothing to the backend.
      const tried = findLast(request.tried, backend)
      const closedMs = tried === undefined ? 0 : reopensIn(tried, request, canWait, now)
      if (closedMs > 0 && tried?.outcome !== 'throttled' && toldMs <= 0) {
        if (canWait) found.ejectedMs = Math.min(found.ejectedMs, closedMs)
        continue
      }
      const fullMs = Math.max(toldMs, closedMs)
      if (fullMs > 0) {
        found.throttledMs = Math.min(found.throttledMs, fullMs)
        continue
      }
      if (state === undefined) {
        found.add(position, backend.config.weight)
        continue
      }
      const openingMs = canWait ? state.slowStart.waitMs(now) : 0
      if (openingMs > 0) {
        found.hold(position, openingMs, Infinity)
        continue
      }
      const feltMs = state.pacer?.feltMs(request.bodyBytes, now) ?? 0
      if (feltMs <= 0) {
        found.add(position, backend.config.weight * shareOf(state, request, ready, now))
        continue
      }
      const testMs = state.pacer!.testMs(now) // where something is felt, it is there
      if (testMs > 0) found.hold(position, feltMs, testMs)
      else if (test < 0) test = position
    }
    if (found.count > 0) return
    if (test >= 0) return found.add(test, 1)
  }
}

/** Milliseconds for which the scope has said that it is full. */
function toldOf(state: ScopeState | undefined, { bodyBytes }: PoolRequest, now: number): number {
  return state === undefined ? 0 : Math.max(state.cooldownUntil - now, state.pacer?.toldMs(bodyBytes, now) ?? 0)
}

/** Milliseconds until a backend that this request has tried is open to it again: only after a wait, when its cooldown or backoff is over. */
function reopensIn(tried: Attempt, request: PoolRequest, canWait: boolean, now: number): number {
  const reopensMs = tried.setback!.reopensAt - now // written down with every attempt that was tried
  if (request.waitingSince !== undefined) return Math.max(0, reopensMs)
  if (canWait) return Math.max(AT_ONCE_MS, reopensMs)
  return tried.outcome === 'throttled' ? AT_ONCE_MS : Infinity
}

/**
 * Of those that are open to the request, all of which are out, the one that may be probed soonest, by a time at most; none that is
 * being probed. One that the request has tried is open again to one that waits, when its backoff is over.
 */
function findLeastBad(backends: readonly Backend[], scope: Scope, request: PoolRequest, by: number, now: number): Backend | undefined {
  let leastBad: Backend | undefined
  let soonest = Infinity
  for (let position = 0; position < backends.length; position++) {
    const backend = backends[position]! // below the length
    if (scope.unserved?.[position] === true) continue
    const state = scope.states[position]
    const callerMs = callerOutMs(backend, request, now)
    const isOut = callerMs > 0 || backend.health.kind !== 'available' || (state !== undefined && state.health.kind !== 'available')
    const tried = findLast(request.tried, backend)
    const isClosed = tried !== undefined && (by > now || reopensIn(tried, request, false, now) > 0)
    if (!isOut || isClosed || isPassedOver(backend, request)) continue
    const until = Math.max(now + callerMs, outUntil(backend), state === undefined ? -Infinity : Math.max(outUntil(state), state.cooldownUntil))
    if (until <= by && (leastBad === undefined || until < soonest)) {
      leastBad = backend
      soonest = until
    }
  }
  return leastBad
}

/**
 * In the place of a 429 of ours: a backend that failed and is out for long is tried before its time, by one request at a time. What
 * hung for 8 s is left alone for 24; where the others are full meanwhile that costs callers. (Measured, all hang for 20 s, windows:
 * 93.8 % of the calls answered with this, 92.3 without; with waits 96.9 and 95.7.)
 */
function findInstead(backends: readonly Backend[], scope: Scope, request: PoolRequest, now: number): Backend | undefined {
  return backends.find((backend, position) => {
    if (scope.unserved?.[position] === true) return false
    if (backend.inFlight > 0 || findLast(request.tried, backend) !== undefined || isPassedOver(backend, request) || callerOutMs(backend, request, now) > 0) return false
    const state = scope.states[position]
    if (state !== undefined && state.cooldownUntil > now) return false
    const longestMs = Math.max(failedFor(backend, now), state === undefined ? 0 : failedFor(state, now))
    return longestMs > LONG_MS && longestMs < Infinity
  })
}

/** Milliseconds for which it is out as failed, 0 where it is not; Infinity where no request should find that out. */
function failedFor({ health }: Condition, now: number): number {
  if (health.kind === 'available') return 0
  const isOfHost = health.reason === 'failed' || health.reason === 'unreachable' || health.reason === 'abandoned'
  return health.kind === 'ejected' && isOfHost ? health.until - now : Infinity
}

function outUntil({ health }: Condition): number {
  return health.kind === 'available' ? -Infinity : health.kind === 'ejected' ? health.until : Infinity
}
