/**
 * Where a request may go at all, and what it may hope for where no backend takes it: not to an account that its caller was refused, not
 * to one that is as short for it as the one before, not again where it was. And no wait puts right a key, a bill or its own length.
 */
import type { Backend, ScopeState, Tiers } from './backend.js'
import type { Condition, EjectionReason } from './health.js'
import type { Attempt, PoolRequest } from './request.js'
import type { Scope } from './scopes.js'

/** Milliseconds for which the backend is out for the caller's credential alone. */
export function callerOutMs(backend: Backend, request: PoolRequest, now: number): number {
  return backend.callers === undefined || backend.config.ownsCredential ? 0 : backend.callers.outMs(request.callerKey, now)
}

/** After two failures on one origin the rest of that origin is passed over: what failed was the host. */
const FAILURES_OF_ORIGIN = 2

export function isPassedOver(backend: Backend, request: PoolRequest): boolean {
  if (request.isRefused && backend.config.ownsCredential) return true
  if (request.needsLarger && backend.config.largerContext !== true) return true
  if (request.failures < FAILURES_OF_ORIGIN || request.tried === undefined) return false
  let failures = 0
  for (const { outcome, backend: { origin } } of request.tried) if (outcome === 'failed' && origin === backend.config.origin) failures++
  return failures >= FAILURES_OF_ORIGIN
}

/** To how many backends the request might go, were none of them out. @param canWait then also to those that it has tried. */
export function countOpen(backends: readonly Backend[], request: PoolRequest, canWait: boolean): number {
  return backends.filter((backend) => (canWait || findLast(request.tried, backend) === undefined) && backend.serves(request.scope) && !isPassedOver(backend, request)).length
}

export function findLast(tried: readonly Attempt[] | undefined, backend: Backend): Attempt | undefined {
  if (tried === undefined) return undefined
  for (let k = tried.length - 1; k >= 0; k--) if (tried[k]!.target === backend) return tried[k] // below the length
  return undefined
}

/**
 * What a request may hope for that finds no backend, and none that is full.
 * - `hope`: some backend may be well again, or is being probed.
 * - `vain`: what is wrong with each is nothing that a wait puts right: a key, a bill, the length of this request.
 * - `missing`: each has said that it does not have the deployment or model.
 * - `none`: there is no backend that it may go to.
 */
type Prospect = 'hope' | 'vain' | 'missing' | 'none'

export function findProspect(backends: readonly Backend[], scope: Scope, request: PoolRequest, now: number): Prospect {
  let prospect: Prospect = 'none'
  for (let position = 0; position < backends.length; position++) {
    const backend = backends[position]! // below the length
    if (scope.unserved?.[position] === true || isPassedOver(backend, request)) continue
    const state = scope.states[position]
    if (state !== undefined && isMissing(state)) prospect = prospect === 'vain' ? 'vain' : 'missing'
    else if (isInVain(backend, state, request, now)) prospect = 'vain'
    else return 'hope'
  }
  return prospect
}

function isInVain(backend: Backend, state: ScopeState | undefined, request: PoolRequest, now: number): boolean {
  if (callerOutMs(backend, request, now) > 0 || isOutAs('exhausted', backend) || isOutAs('misconfigured', backend) || isOutAs('misconfigured', state)) return true
  const tried = findLast(request.tried, backend)
  // A function may give another credential by then.
  return tried !== undefined && tried.outcome !== 'failed' && tried.outcome !== 'throttled' && tried.backend.credential?.isFetched !== true
}

/** Also while that is being asked once more, which hardly ever ends otherwise. */
function isMissing({ health }: Condition): boolean {
  return health.kind !== 'available' && health.reason === 'missing'
}

/** Not while it is being probed: that may end well. */
function isOutAs(reason: EjectionReason, condition: Condition | undefined): boolean {
  return condition?.health.kind === 'ejected' && condition.health.reason === reason
}

/** Where an answer is to be had of which it is known that it will be none: at the home, as far as the request may go there. */
export function findHome(tiers: Tiers, scope: Scope, request: PoolRequest): Backend {
  const { backends, home } = tiers
  const isOpen = (backend: Backend): boolean => scope.unserved?.[backend.index] !== true && !isPassedOver(backend, request)
  // A refused credential is refused where it came from, even for a model that is not there: it is known of a backend that has no other.
  return isOpen(home) ? home : backends.find(isOpen) ?? backends.find((backend) => !isPassedOver(backend, request))!
}

/**
 * A caller gave up waiting for it, which alone says little; a client that tries again may well be that caller, and better served
 * elsewhere, where there is an elsewhere.
 */
export function isDoubtful(state: ScopeState, request: PoolRequest): boolean {
  return !Number.isNaN(state.abandonedAt) && request.isRepeat
}
