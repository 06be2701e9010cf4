/**
 * What the balancer tells while it works: the payload of each event, the same for log lines and for Node's
 * `diagnostics_channel`, which carries it to metrics and tracing of your own. No payload holds headers, credentials, bodies or
 * a request's URL.
 */
import { channel, subscribe as subscribeTo, unsubscribe, type Channel } from 'node:diagnostics_channel'
import type { CooldownSource, OutcomeClass, OutReason, SurfaceReason } from '../core/types.js'

interface RequestFields {
  /** Tells the events of one request from those of others in this process; counted from 1 as requests are first told of. */
  readonly requestId: number
  /** Deployment or model that the caller asked for; `''` when unknown. */
  readonly scope: string
}

interface BackendFields {
  /** The backend's name. */
  readonly backend: string
  /** The backend's base URL. */
  readonly url: string
  readonly priority: number
}

interface AttemptFields extends RequestFields, BackendFields {
  /** 1 for the first attempt of a request. */
  readonly attempt: number
}

/** An attempt begins. */
export interface PickedEvent extends AttemptFields {}

/** Response headers go to the caller. */
export interface AnsweredEvent extends AttemptFields {
  readonly status: number
  /** Milliseconds from the start of the attempt to its commit point: the response headers, of an event stream its first output. */
  readonly latencyMs: number
}

/** What an answer said of itself, where that was read: never its text, which quotes what callers wrote. */
interface ErrorFields {
  /** `error.code` of a body or an event, whole. */
  readonly errorCode?: string | undefined
  readonly errorType?: string | undefined
}

/** An attempt did not work, and the request goes on. */
export interface FailoverEvent extends AttemptFields, ErrorFields {
  readonly outcome: OutcomeClass
  /** Name of the next backend; `undefined` when the request has to wait for one. */
  readonly to: string | undefined
}

/** A backend, or one scope of it, was throttled and is left alone. */
export interface CooldownEvent extends BackendFields, ErrorFields {
  /** Deployment or model as the backend knows it; `''` stands for requests whose scope is unknown. */
  readonly scope: string
  readonly cooldownMs: number
  /** The header that told how long, or `default` for the option `cooldownMs`. */
  readonly source: CooldownSource
  readonly status: number
}

/** A backend, or one scope of it, is out; one probe decides when it is back. */
export interface EjectedEvent extends BackendFields, ErrorFields {
  /** Deployment or model as the backend knows it; `undefined`: the whole backend. */
  readonly scope: string | undefined
  readonly cooldownMs: number
  /**
   * - `failed`: 408, 5xx or no answer in time, repeatedly.
   * - `unreachable`: no connection, or one that broke off before an answer. `local`: this machine's resolver had no answer.
   * - `abandoned`: callers gave up waiting, twice in a row.
   * - `misconfigured`: it refused its credential (401 or 403). `credential`: the same of one that a function gave, or the function failed.
   * - `exhausted`: its account has no money left. `missing`: it does not have this deployment or model.
   */
  readonly reason: OutReason
  /** Milliseconds that the attempt took which put it out; of `abandoned`, how long the caller waited. */
  readonly tookMs: number
}

/** A caller's own credential was refused, or its account is exhausted: the backend is out for that credential, and for no other. */
export interface CallerOutEvent extends AttemptFields, ErrorFields {
  /** `refused` or `exhausted`. */
  readonly outcome: OutcomeClass
  readonly cooldownMs: number
}

/** A response broke off after a part of it had reached the caller. */
export interface BrokenEvent extends AttemptFields {
  readonly status: number
}

/** Two backends failed one request in the same way: the request is at fault, and no backend is held responsible. */
export interface SuspectRequestEvent extends AttemptFields {
  /** What both said: a status, or `timeout` or `reset`. */
  readonly evidence: number | string
}

/** A backend, or one scope of it, takes requests again. */
export interface ReadmittedEvent extends BackendFields {
  /** `undefined`: the whole backend. */
  readonly scope: string | undefined
  readonly after: 'ejected' | 'cooldown'
}

/** A request is held, since every backend is throttled. */
export interface WaitingEvent extends RequestFields {
  /** Requests that are held now, this one included. */
  readonly queueLength: number
}

/** A request that was held goes on. */
export interface WaitedEvent extends RequestFields {
  readonly waitedMs: number
  /** Requests that are still held. */
  readonly queueLength: number
}

/** The caller is told that nothing is available. */
export interface ExhaustedEvent extends RequestFields {
  /** Attempts that were made. */
  readonly attempts: number
  /** What the 429 says, in milliseconds; `undefined` when the caller gets the last real answer or error instead. */
  readonly retryAfterMs: number | undefined
  readonly reason: SurfaceReason | 'throttled' | 'queue-full' | 'not-served'
}

/** Name and payload of every event. */
export interface BalancerEvents {
  readonly picked: PickedEvent
  readonly answered: AnsweredEvent
  readonly failover: FailoverEvent
  readonly cooldown: CooldownEvent
  readonly ejected: EjectedEvent
  readonly 'caller-out': CallerOutEvent
  readonly broken: BrokenEvent
  readonly readmitted: ReadmittedEvent
  readonly 'suspect-request': SuspectRequestEvent
  readonly waiting: WaitingEvent
  readonly waited: WaitedEvent
  readonly exhausted: ExhaustedEvent
}

export type BalancerEventName = keyof BalancerEvents

/** What the names of all channels begin with: `openai-priority-loadbalancer:picked`. */
export const CHANNEL_PREFIX = 'openai-priority-loadbalancer:'

/** The channel of each event. They are the process's own: every balancer in it publishes there. */
export const channels: { readonly [K in BalancerEventName]: Channel } = Object.freeze({
  picked: channel(`${CHANNEL_PREFIX}picked`),
  answered: channel(`${CHANNEL_PREFIX}answered`),
  failover: channel(`${CHANNEL_PREFIX}failover`),
  cooldown: channel(`${CHANNEL_PREFIX}cooldown`),
  ejected: channel(`${CHANNEL_PREFIX}ejected`),
  'caller-out': channel(`${CHANNEL_PREFIX}caller-out`),
  broken: channel(`${CHANNEL_PREFIX}broken`),
  readmitted: channel(`${CHANNEL_PREFIX}readmitted`),
  'suspect-request': channel(`${CHANNEL_PREFIX}suspect-request`),
  waiting: channel(`${CHANNEL_PREFIX}waiting`),
  waited: channel(`${CHANNEL_PREFIX}waited`),
  exhausted: channel(`${CHANNEL_PREFIX}exhausted`),
})

/**
 * Calls back for every event of one kind, at the moment it happens and before the request goes on: be quick. What a
 * listener throws becomes an uncaught exception of the process (Node's rule for these channels), never a failed request.
 * @returns a function that ends it.
 * @example const stop = subscribe('failover', ({ backend, to, outcome }) => failovers.add(1, { backend, to, outcome }))
 */
export function subscribe<K extends BalancerEventName>(event: K, listener: (payload: BalancerEvents[K]) => void): () => void {
  const onMessage = (message: unknown): void => listener(message as BalancerEvents[K])
  // Not `channel.subscribe`: before Node 22 a channel that nothing else holds could be collected with its subscribers.
  subscribeTo(CHANNEL_PREFIX + event, onMessage)
  return () => { unsubscribe(CHANNEL_PREFIX + event, onMessage) }
}
