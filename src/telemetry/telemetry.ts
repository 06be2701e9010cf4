/**
 * Turns what the pool tells into events, for subscribers of a channel and for the logger: one table says for each event how
 * severe it is, what its payload is, and the sentence of its log line. Where no one listens, nothing is put together.
 */
import type { Channel } from 'node:diagnostics_channel'
import type { Attempt, PoolEvents, PoolListener, PoolRequest } from '../core/request.js'
import type { AnswerError, BackendConfig } from '../core/types.js'
import type { LogLevel, ResolvedLogger } from '../logger.js'
import { channels, type BalancerEventName, type BalancerEvents } from './events.js'

interface Telling<K extends BalancerEventName> {
  readonly level: LogLevel
  readonly payload: (facts: PoolEvents[K]) => BalancerEvents[K]
  readonly sentence: (event: BalancerEvents[K]) => string
}

export const EVENTS: { readonly [K in BalancerEventName]: Telling<K> } = Object.freeze({
  picked: {
    level: 'debug',
    payload: ({ attempt }) => describeAttempt(attempt),
    sentence: ({ backend, attempt }) => `Attempt ${attempt} goes to backend "${backend}"`,
  },
  answered: {
    level: 'debug',
    payload: ({ attempt }) => ({ ...describeAttempt(attempt), status: attempt.status, latencyMs: attempt.latencyMs }),
    sentence: ({ backend, status, latencyMs }) => `Backend "${backend}" answered ${status} after ${round(latencyMs)} ms`,
  },
  failover: {
    level: 'info',
    payload: ({ attempt, to }) => ({ ...describeAttempt(attempt), outcome: attempt.outcome, ...describeError(attempt.error), to: to?.name }),
    sentence: ({ backend, attempt, outcome, errorCode, to }) =>
      `Attempt ${attempt} on backend "${backend}": ${outcome}${inBrackets(errorCode)}; ${to === undefined ? 'the request waits' : `on to "${to}"`}`,
  },
  cooldown: {
    level: 'warn',
    payload: ({ backend, error, ...facts }) => ({ ...describeBackend(backend), ...facts, ...describeError(error) }),
    sentence: ({ backend, scope, cooldownMs, status, source }) =>
      `Backend "${backend}"${inScope(scope)} cools down for ${round(cooldownMs)} ms (${status}, ${source})`,
  },
  ejected: {
    level: 'warn',
    payload: ({ backend, error, ...facts }) => ({ ...describeBackend(backend), ...facts, ...describeError(error) }),
    sentence: ({ backend, scope, cooldownMs, reason, tookMs, errorCode }) =>
      `Backend "${backend}"${inScope(scope)} ${EJECTED[reason](tookMs)}${inBrackets(errorCode)}; out for ${round(cooldownMs)} ms`,
  },
  'caller-out': {
    level: 'warn',
    payload: ({ attempt, cooldownMs }) => ({ ...describeAttempt(attempt), outcome: attempt.outcome, ...describeError(attempt.error), cooldownMs }),
    sentence: ({ backend, outcome, errorCode, cooldownMs }) =>
      `Backend "${backend}" ${outcome === 'exhausted' ? 'says that the account of a caller is exhausted' : 'refused the credential of a caller'}${inBrackets(errorCode)}; `
      + `out for this credential alone for ${round(cooldownMs)} ms`,
  },
  broken: {
    level: 'warn',
    payload: ({ attempt }) => ({ ...describeAttempt(attempt), status: attempt.status }),
    sentence: ({ backend, status }) => `The response of backend "${backend}" (${status}) broke off: the caller has a part of it, and the request cannot move any more`,
  },
  'suspect-request': {
    level: 'warn',
    payload: ({ attempt, evidence }) => ({ ...describeAttempt(attempt), evidence }),
    sentence: ({ backend, evidence }) => `Backend "${backend}" failed the request as another one did (${evidence}): the request is at fault, and no backend is held responsible`,
  },
  readmitted: {
    level: 'info',
    payload: ({ backend, ...facts }) => ({ ...describeBackend(backend), ...facts }),
    sentence: ({ backend, scope, after }) =>
      `Backend "${backend}"${inScope(scope)} is available again after its ${after === 'ejected' ? 'ejection' : 'cooldown'}`,
  },
  waiting: {
    level: 'debug',
    payload: ({ request, queueLength }) => ({ ...describeRequest(request), queueLength }),
    sentence: ({ queueLength }) => `Every backend is throttled: the request waits (waiting now: ${queueLength})`,
  },
  waited: {
    level: 'debug',
    payload: ({ request, waitedMs, queueLength }) => ({ ...describeRequest(request), waitedMs, queueLength }),
    sentence: ({ waitedMs, queueLength }) => `The request goes on after waiting ${round(waitedMs)} ms (waiting now: ${queueLength})`,
  },
  exhausted: {
    level: 'error',
    payload: ({ request, retryAfterMs, reason }) => ({ ...describeRequest(request), attempts: request.attempts, retryAfterMs, reason }),
    sentence: ({ retryAfterMs, reason, scope }) => reason === 'not-served' ? `No backend serves ${JSON.stringify(scope)}: the caller gets a 404` : retryAfterMs === undefined
      ? `No further attempt: ${EXHAUSTED[reason]}; the caller gets the last answer or error`
      : `No backend is available: ${EXHAUSTED[reason]}; the caller gets a 429, retry after ${round(retryAfterMs)} ms`,
  },
})

const EJECTED: { readonly [K in BalancerEvents['ejected']['reason']]: (tookMs: number) => string } = {
  failed: () => 'failed repeatedly',
  unreachable: () => 'cannot be reached',
  local: () => 'cannot be looked up: this machine\'s resolver gives no answer',
  abandoned: (tookMs) => `let callers wait until they gave up, the last one after ${round(tookMs)} ms (attemptTimeoutMs sends them on instead)`,
  misconfigured: () => 'refused its credential (401 or 403): please check it',
  exhausted: () => 'says that its account is exhausted: quota, credit or spend limit',
  missing: () => 'does not have this deployment or model',
  credential: () => 'has no credential that works: its apiKey or bearerToken function failed, or what it gave was refused (401 or 403)',
}

const EXHAUSTED: { readonly [K in BalancerEvents['exhausted']['reason']]: string } = {
  deadline: 'its time is over (deadlineMs, or the timeout of its SDK)',
  attempts: 'its attempts are used up (maxAttempts; by default one per backend)',
  budget: 'the retry budget is used up (retryBudget)',
  'no-backend': 'no other backend is left to try',
  bound: 'its path belongs to the home backend alone',
  'creates-state': 'it may have begun what must not be begun twice',
  'not-replayable': 'its body was not kept (maxReplayBytes), so it cannot be sent again',
  throttled: 'every backend is throttled',
  'not-served': 'no backend serves the model',
  'queue-full': 'too many requests are waiting already',
}

/**
 * Who may hear of each event. A map, and not the two tables by their keys: a name that comes in a variable is found in a map in half
 * the time. Every request asks twice; this takes 40 of 740 ns from it (`npm run bench -- --part pure`, one backend).
 */
const EARS: ReadonlyMap<string, { readonly channel: Channel; readonly level: LogLevel }> = new Map(
  (Object.keys(EVENTS) as BalancerEventName[]).map((name) => [name, {
    channel: channels[name],
    // The one event whose level depends on its facts may be more severe than the table says.
    level: name === 'ejected' ? 'error' : EVENTS[name].level,
  }]),
)

export class Telemetry implements PoolListener {
  readonly #logger: ResolvedLogger

  constructor(logger: ResolvedLogger) {
    this.#logger = logger
  }

  hears(name: BalancerEventName): boolean {
    const { channel, level } = EARS.get(name)! // has all names
    return channel.hasSubscribers || this.#logger.isLevelEnabled(level)
  }

  tell<K extends BalancerEventName>(name: K, facts: PoolEvents[K]): void {
    const { level: usual, payload, sentence } = EVENTS[name]
    const event = payload(facts)
    // Our own credential was refused, or what it pays with is used up: no wait puts that right.
    const level = 'reason' in event && (event.reason === 'misconfigured' || event.reason === 'credential' || event.reason === 'exhausted') ? 'error' : usual
    if (this.#logger.isLevelEnabled(level)) this.#logger[level]({ event: name, ...event }, sentence(event))
    channels[name].publish(event)
  }
}

/** Numbers are given out when a request is first told of: a process that tells no one pays nothing for them. */
const requestIds = new WeakMap<PoolRequest, number>()
let lastRequestId = 0

function identify(request: PoolRequest): number {
  let id = requestIds.get(request)
  if (id === undefined) requestIds.set(request, id = ++lastRequestId)
  return id
}

function describeRequest(request: PoolRequest) {
  return { requestId: identify(request), scope: request.scope }
}

function describeBackend({ name, url, priority }: BackendConfig) {
  return { backend: name, url, priority }
}

function describeAttempt({ request, backend, number }: Attempt) {
  return { ...describeRequest(request), ...describeBackend(backend), attempt: number }
}

function describeError(error: AnswerError | undefined): { readonly errorCode?: string | undefined; readonly errorType?: string | undefined } {
  return error === undefined ? {} : { errorCode: error.code, errorType: error.type }
}

function inBrackets(code: string | undefined): string {
  return code === undefined ? '' : ` (${code})`
}

function inScope(scope: string | undefined): string {
  return scope === undefined || scope === '' ? '' : ` (${scope})`
}

/** Whole milliseconds, but never a wait of 0 that is one. */
function round(ms: number): number {
  return Math.ceil(ms)
}
