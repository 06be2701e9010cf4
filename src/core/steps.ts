/**
 * From backend to backend, but not for ever: how many steps a request may take, and which of them are paid for out of the retry
 * budget, so that an outage is not multiplied by all that try to get around it.
 */
import type { Backend } from './backend.js'
import { AVAILABLE } from './health.js'
import type { Attempt, PoolRequest } from './request.js'
import type { Scope } from './scopes.js'
import type { PoolConfig } from './types.js'

/**
 * Refused at first, refused once more because another request was as quick after the wait, and a third time by bad luck: the
 * fourth is for those who wait on a single backend, of which one answers for all.
 */
const LEAST_ATTEMPTS_WITH_WAITS = 4

/** Whether a request has made all the attempts that it may make. */
export function isUsedUp(request: PoolRequest, config: PoolConfig): boolean {
  return request.attempts - uncounted(config, request) >= boundAttempts(config, request)
}

/** Who waits and is told to come back at once does as he is told: that is bounded by his patience, since the floor under such waits grows. */
function uncounted({ maxAttempts, maxWaitMs }: PoolConfig, request: PoolRequest): number {
  return request.repeats + (maxAttempts === undefined && (request.maxWaitMs ?? maxWaitMs) > 0 ? request.immediates : 0)
}

function boundAttempts(config: PoolConfig, { maxWaitMs = config.maxWaitMs }: PoolRequest): number {
  const { maxAttempts, backends } = config
  return maxAttempts ?? (maxWaitMs > 0 ? Math.max(LEAST_ATTEMPTS_WITH_WAITS, 2 * backends.length) : backends.length)
}

/**
 * A backend that resets so many requests in a row is dead rather than overloaded, and rather than the victim of a request that
 * kills it: between two of those it would answer others.
 */
const RESETS_OF_THE_DEAD = 3

/**
 * The budget limits what is added to an overload, not the way to a healthy backend: the first step after a failure, to a backend
 * that is available, is free. So is one after an attempt that had no connection, which has burdened no one, or that went down with
 * its host: hosts may die one after the other, each with all that the one before has left behind.
 */
function isFree(request: PoolRequest, last: Attempt | undefined, scope: Scope, to: Backend | undefined): boolean {
  if (to?.health.kind !== 'available' || (scope.states[to.index]?.health ?? AVAILABLE).kind !== 'available') return false
  return request.steps <= 1 || last?.setback?.wasUnconnected === true || (last?.setback?.evidence === 'reset' && last.target.resets >= RESETS_OF_THE_DEAD)
}

/** A step after a 429 is free, and so is one that `isFree`. */
export function mustPay(request: PoolRequest, scope: Scope, to: Backend | undefined): boolean {
  const { lastOutcome } = request
  if (lastOutcome === undefined || lastOutcome === 'throttled' || lastOutcome === 'ignored') return false
  return lastOutcome === 'refused' || !isFree(request, request.tried?.at(-1), scope, to)
}
