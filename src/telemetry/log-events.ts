/** The events as log lines: a level and a sentence for each. The fields of the line are those of the event. */
import type { LogLevel, ResolvedLogger } from '../logger.js'
import type { BalancerEventName, BalancerEvents } from './events.js'

/** The level of each event; `ejected` is `error` when the reason is our own credential, since waiting will not mend it. */
export const EVENT_LEVELS = Object.freeze({
  picked: 'debug',
  answered: 'debug',
  failover: 'info',
  cooldown: 'warn',
  ejected: 'warn',
  readmitted: 'info',
  waiting: 'debug',
  waited: 'debug',
  exhausted: 'error',
}) satisfies { readonly [K in BalancerEventName]: LogLevel }

const SENTENCES: { readonly [K in BalancerEventName]: (event: BalancerEvents[K]) => string } = {
  picked: ({ backend, attempt }) => `Attempt ${attempt} goes to backend "${backend}"`,
  answered: ({ backend, status, latencyMs }) => `Backend "${backend}" answered ${status} after ${round(latencyMs)} ms`,
  failover: ({ backend, attempt, outcome, to }) =>
    `Attempt ${attempt} on backend "${backend}": ${outcome}; ${to === undefined ? 'the request waits' : `on to "${to}"`}`,
  cooldown: ({ backend, scope, cooldownMs, status, source }) =>
    `Backend "${backend}"${inScope(scope)} cools down for ${round(cooldownMs)} ms (${status}, ${source})`,
  ejected: ({ backend, cooldownMs, reason }) => `Backend "${backend}" ${EJECTED[reason]}; out for ${round(cooldownMs)} ms`,
  readmitted: ({ backend, scope, after }) =>
    `Backend "${backend}"${inScope(scope)} is available again after its ${after === 'ejected' ? 'ejection' : 'cooldown'}`,
  waiting: ({ queueLength }) => `Every backend is throttled: the request waits (waiting now: ${queueLength})`,
  waited: ({ waitedMs, queueLength }) => `The request goes on after waiting ${round(waitedMs)} ms (waiting now: ${queueLength})`,
  exhausted: ({ retryAfterMs, reason }) => retryAfterMs === undefined
    ? `No further attempt: ${EXHAUSTED[reason]}; the caller gets the last answer or error`
    : `No backend is available: ${EXHAUSTED[reason]}; the caller gets a 429, retry after ${round(retryAfterMs)} ms`,
}

const EJECTED: { readonly [K in BalancerEvents['ejected']['reason']]: string } = {
  failed: 'failed repeatedly',
  unreachable: 'cannot be reached',
  misconfigured: 'refused its apiKey or bearerToken (401 or 403): please check it',
}

const EXHAUSTED: { readonly [K in BalancerEvents['exhausted']['reason']]: string } = {
  attempts: 'its attempts are used up (maxAttempts; by default one per backend)',
  budget: 'the retry budget is used up (retryBudget)',
  'no-backend': 'no other backend is left to try',
  pinned: 'it belongs to the home backend',
  throttled: 'every backend is throttled',
  'queue-full': 'too many requests are waiting already',
}

/** Writes the line of an event. */
export function logEvent<K extends BalancerEventName>(logger: ResolvedLogger, level: LogLevel, name: K, event: BalancerEvents[K]): void {
  logger[level]({ event: name, ...event }, SENTENCES[name](event))
}

function inScope(scope: string | undefined): string {
  return scope === undefined || scope === '' ? '' : ` (${scope})`
}

/** Whole milliseconds, but never a wait of 0 that is one. */
function round(ms: number): number {
  return Math.ceil(ms)
}
