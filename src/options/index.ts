/**
 * What the user may say, and what holds where nothing is said. Everything else in the package is handed options that are
 * checked, complete, copied and frozen: they are read once, at the edge where they come in (`install`, a constructor,
 * `update`), for a getter may answer otherwise the second time, and an object may be changed between two looks.
 */
import type { Dispatcher } from 'undici'
import { BACKEND_DEFAULTS, ConfiguredBackend, type BackendOptions } from './backend.js'
import { parseBaseUrl, type BaseUrl } from './base-url.js'
import { OPTIONS, checkBoolean, checkDuration, checkInteger, checkNumber, describe, describeKind, hasMethod, readList, readOptions } from './checks.js'
import type { PoolConfig } from '../core/types.js'
import { InvalidOptionsError } from '../errors.js'
import { DEFAULT_LOG_LEVEL, resolveLogger, type Logger, type ResolvedLogger } from '../logger.js'
import type { StreamGuard } from './traffic.js'
import { findWarnings } from './warnings.js'

export { ConfiguredBackend, type BackendOptions, type LimitsOption } from './backend.js'
export { type BaseUrl } from './base-url.js'
export { Credential, type CredentialOption } from './credential.js'
export { type Logger } from '../logger.js'
export { type StreamGuard, type Traffic } from './traffic.js'

/** Options of `install`, `PriorityBalancer` and `priorityInterceptor`. They are copied: later changes to the object have no effect. */
export interface BalancerOptions {
  /** The backends, at least one. Their order counts only for the home (see `backends[].home`). */
  backends: readonly BackendOptions[]
  /**
   * Base URLs whose requests are balanced, compared on whole path segments; the longest match counts. All other
   * requests pass untouched. May be a made-up origin such as `https://chat.balanced`, which fails loudly when nothing
   * is installed. No wildcards.
   * @default the URLs of the backends, and for an hour those of backends that `update()` has removed
   */
  intercept?: readonly string[] | undefined
  /**
   * What really sends. It is not closed by us.
   * @default for `install` the global dispatcher at that moment; for `PriorityBalancer` a new `Agent`
   */
  dispatcher?: Dispatcher | undefined
  /**
   * Upper bound on the attempts of one request, the first included. A backend is not tried twice, except after a wait.
   * @default one per backend; twice that, and at least 4, when `maxWaitMs` is above 0
   */
  maxAttempts?: number | undefined
  /**
   * Bytes of a request body that are kept so that it can be sent again. A larger body streams through and gets one
   * attempt, unless nothing of it was consumed yet. 0: no body is kept.
   * @default 33554432 (32 MiB)
   */
  maxReplayBytes?: number | undefined
  /**
   * Milliseconds that a request may be held when every backend is throttled. When the soonest backend is later than
   * that, or with 0, the caller gets a 429 at once. It does not bound the time of the attempts themselves.
   * @default 0
   */
  maxWaitMs?: number | undefined
  /**
   * Milliseconds for one request as a whole, waits and attempts included, up to the headers of the answer that is delivered.
   * Past it a request that waits gets its 429; an attempt under way is given up, and the caller gets the last real answer,
   * else an error as with `attemptTimeoutMs`; no attempt begins. It does not bound the time of the body. The own timeout of
   * the `openai` package ends waits without it, where a call has one of 5 s or more: one second before.
   * @default none
   */
  deadlineMs?: number | undefined
  /**
   * Milliseconds that a throttled backend is left alone when its answer does not say for how long.
   * @default 10000, or `maxCooldownMs` where that is less
   */
  cooldownMs?: number | undefined
  /**
   * Milliseconds that an answer's headers may impose at most; not less than `cooldownMs`.
   * @default 60000
   */
  maxCooldownMs?: number | undefined
  /**
   * Learn limits, and ask backends first that are expected to have room. Does nothing until one has spoken of limits. What is
   * only estimated orders backends and holds requests that may wait; it refuses none.
   * @default true
   */
  pacing?: boolean | undefined
  /**
   * Send less to a backend that takes more than a quarter longer than the fastest of its equals.
   * @default true
   */
  latencyGuard?: boolean | undefined
  /**
   * Try backends that cannot be reached by a `HEAD` of their base URL, without credential, body or query, so that no request
   * waits to find out that they are still down. None while all can be reached, and none while no request comes for a minute.
   * With `false`, and where `dispatcher` does not take it (a mock without a route for it), requests find out.
   * @default true
   */
  probe?: boolean | undefined
  /**
   * Milliseconds from the moment at which one attempt is on a connection to its response headers, of an event stream to its first
   * output (see `streamGuard`); past it, the next backend. It bounds neither the body, nor the wait for a free connection or a
   * credential, nor the whole request (see `deadlineMs`). Time in which our own process stood still does not count. Long
   * generations without streaming need long ones.
   * @default none: undici's own connect and headers timeouts apply
   */
  attemptTimeoutMs?: number | undefined
  /**
   * How far an event stream is looked into before the caller gets it. `'output'`: up to its first output, for at most a second, so that
   * an error in its place moves the request on. `'whole'`: until it has ended well, so that a cut, a stall (`streamIdleMs`) or a
   * broken event moves it on as well; the caller sees nothing until then, so its client's timeout must allow for the whole answer.
   * At most 8 MiB a stream and 64 MiB a process are held; what is longer, and what lets a tool act, is delivered from there on.
   * `false`: not at all, the response headers decide.
   * @default 'output'
   */
  streamGuard?: StreamGuard | undefined
  /**
   * Milliseconds of silence within an event stream after which it counts as cut, also before its first output. With
   * `streamGuard: 'whole'` the next backend is asked; else a caller that has a part of it gets an error.
   * @default none: the dispatcher's own body timeout applies (300 s)
   */
  streamIdleMs?: number | undefined
  /**
   * How many retries after failures (not after throttling) may be added: a share of the requests, and what is allowed
   * every second in any case. Keeps an outage from being multiplied by retries.
   * @default { ratio: 0.2, minPerSecond: 10 }
   */
  retryBudget?: { readonly ratio?: number | undefined; readonly minPerSecond?: number | undefined } | undefined
  /**
   * Whether `x-balancer-*` headers of requests are honoured (`x-balancer-max-wait-ms`, `x-balancer-deadline-ms`, `x-balancer-stream`:
   * see `Traffic`). They are removed from balanced requests in any case. Not where a server passes on headers of clients that
   * you do not trust: they could wait as long as they like. `withTraffic` works without it.
   * @default false
   */
  requestHeaders?: boolean | undefined
  /**
   * A logger such as pino's, or `false` for none.
   * @default a pino logger named `openai-priority-loadbalancer` on stderr, level `warn` or what OPENAI_LOADBALANCER_LOG_LEVEL says
   */
  logger?: Logger | false | undefined
}

/** What an option is when it is not given, in one place. Options that are not here have no default, or one that depends on others. */
export const DEFAULTS = Object.freeze({
  ...BACKEND_DEFAULTS,
  /** Bytes; 32 MiB: above a prompt with images and the longest recording that OpenAI takes (25 MB), below what a process would miss. */
  maxReplayBytes: 32 * 1024 * 1024,
  /** Milliseconds. A balancer should not turn throttling into latency unless it is asked to. */
  maxWaitMs: 0,
  /** Milliseconds. Azure's limits on requests are enforced over slices of 1 s or 10 s: after the longer one, a backend that said nothing is worth a try. */
  cooldownMs: 10_000,
  /** Milliseconds. Limits are per minute: whatever a header says, after a minute the counter has begun anew. */
  maxCooldownMs: 60_000,
  pacing: true,
  latencyGuard: true,
  probe: true,
  streamGuard: 'output' as StreamGuard,
  /** Retries per request, and per second. Finagle's: a fifth on top of the traffic, and enough for a process with little traffic to fail over at all. */
  retryBudget: Object.freeze({ ratio: 0.2, minPerSecond: 10 }),
  /** Headers may be those of a server's own clients, who are not to say how they are served. */
  requestHeaders: false,
  logLevel: DEFAULT_LOG_LEVEL,
})

/** Each option by itself: what it must be, and the copy that is kept of it. What depends on two of them is in `complete`. */
const CHECKS = Object.freeze({
  backends: readBackends,
  intercept: (value: unknown) => readList(value, 'intercept').map((url, index) => parseBaseUrl(url, `intercept[${index}]`)),
  dispatcher: readDispatcher,
  maxAttempts: (value: unknown) => checkInteger(value, 'maxAttempts', 1),
  maxReplayBytes: (value: unknown) => checkInteger(value, 'maxReplayBytes', 0),
  maxWaitMs: (value: unknown) => checkDuration(value, 'maxWaitMs', { zero: true }),
  cooldownMs: (value: unknown) => checkDuration(value, 'cooldownMs', { zero: false }),
  maxCooldownMs: (value: unknown) => checkDuration(value, 'maxCooldownMs', { zero: false }),
  pacing: (value: unknown) => checkBoolean(value, 'pacing'),
  latencyGuard: (value: unknown) => checkBoolean(value, 'latencyGuard'),
  probe: (value: unknown) => checkBoolean(value, 'probe'),
  deadlineMs: (value: unknown) => checkDuration(value, 'deadlineMs', { zero: false }),
  attemptTimeoutMs: (value: unknown) => checkDuration(value, 'attemptTimeoutMs', { zero: false }),
  streamGuard: readStreamGuard,
  streamIdleMs: (value: unknown) => checkDuration(value, 'streamIdleMs', { zero: false }),
  retryBudget: readRetryBudget,
  requestHeaders: (value: unknown) => checkBoolean(value, 'requestHeaders'),
  logger: (value: unknown) => resolveLogger(value, process.env),
}) satisfies Readonly<Record<keyof BalancerOptions, (value: unknown) => unknown>>

type Name = keyof typeof CHECKS

const NAMES = Object.keys(CHECKS) as Name[]

/** What was said, checked and copied. An option that is `undefined` here was taken back to its default. */
type Given = { readonly [K in Name]?: ReturnType<(typeof CHECKS)[K]> | undefined }

/** Options that were checked and completed. Frozen. */
export interface ResolvedOptions extends PoolConfig {
  readonly backends: readonly ConfiguredBackend[]
  /** Longest base path first, so that the first match is the longest. */
  readonly intercept: readonly BaseUrl[]
  readonly dispatcher: Dispatcher | undefined
  readonly maxReplayBytes: number
  /** Some backend renames models, or has only some of them: it is worth finding out which one a request is for. */
  readonly usesModels: boolean
  readonly attemptTimeoutMs: number | undefined
  readonly deadlineMs: number | undefined
  readonly streamGuard: StreamGuard
  readonly streamIdleMs: number | undefined
  readonly requestHeaders: boolean
  /** Never throws; silent for `false`. */
  readonly logger: ResolvedLogger
  /** Sentences for the log: what is allowed, but hardly meant. */
  readonly warnings: readonly string[]
}

/**
 * How long the base URL of a backend that is gone stays intercepted, in milliseconds. An hour: a client that was set up with
 * it is replaced in a deployment's time, and hosts that change every minute leave 60 entries, which a request does not notice.
 */
const KEEP_INTERCEPT_MS = 3_600_000

/** By base URL: until when it is intercepted although its backend is gone. */
type Gone = ReadonlyMap<string, { readonly base: BaseUrl; readonly until: number }>

/** What the caller gave, and what is left of earlier updates. Kept where nothing that is printed leads to it: it holds secrets. */
const ORIGINS = new WeakMap<ResolvedOptions, { readonly given: Given; readonly gone: Gone }>()

/**
 * Reads, checks, completes, copies and freezes options.
 * @throws InvalidOptionsError at the first thing that is wrong.
 */
export function resolveOptions(options: BalancerOptions): ResolvedOptions {
  return complete(checkEach(readOptions(options, OPTIONS, NAMES)), new Map())
}

/** A dispatcher and a logger are in use as long as the balancer is. */
const FIXED = ['dispatcher', 'logger'] as const

/**
 * The options after a change. Without `intercept`, the base URLs of backends that were there stay intercepted for an hour: a
 * client that was set up with one of them must not fall out of the balancing because that backend was removed.
 * @param now monotonic time in milliseconds
 * @throws InvalidOptionsError
 */
export function updateOptions(current: ResolvedOptions, changes: Partial<BalancerOptions>, now: number): ResolvedOptions {
  const read = readOptions(changes, OPTIONS, NAMES)
  for (const fixed of FIXED) {
    if (fixed in read) throw new InvalidOptionsError(fixed, 'cannot be changed by update(): make a new balancer', 'a new value')
  }
  const { given, gone } = originOf(current)
  const next = { ...given, ...checkEach(read) }
  return complete(next, next.intercept === undefined ? findGone(current.intercept, gone, next.backends ?? current.backends, now) : new Map())
}

/** When the next base URL has to be forgotten by `forgetGone`; `Infinity` when there is none whose backend is gone. */
export function nextForgetting(options: ResolvedOptions): number {
  return Math.min(...[...originOf(options).gone.values()].map(({ until }) => until))
}

/** The options without the base URLs of backends that are gone for an hour. */
export function forgetGone(current: ResolvedOptions, now: number): ResolvedOptions {
  return updateOptions(current, {}, now)
}

function originOf(options: ResolvedOptions): { readonly given: Given; readonly gone: Gone } {
  // There for all that `complete` has made, and nothing else makes options.
  return ORIGINS.get(options)!
}

function findGone(intercept: readonly BaseUrl[], before: Gone, backends: readonly ConfiguredBackend[], now: number): Gone {
  const present = new Set(backends.map((backend) => backend.url))
  const gone = intercept.filter((base) => !present.has(base.href)).map((base) => [base.href, before.get(base.href) ?? { base, until: now + KEEP_INTERCEPT_MS }] as const)
  return new Map(gone.filter(([, { until }]) => until > now))
}

function checkEach(read: Partial<Record<Name, unknown>>): Given {
  // The pairs fit together, which `Object.fromEntries` cannot say.
  return Object.fromEntries(Object.entries(read).map(([name, value]) => [name, value === undefined ? undefined : CHECKS[name as Name](value)])) as Given
}

function complete(given: Given, gone: Gone): ResolvedOptions {
  const { backends = readBackends(undefined), logger = resolveLogger(undefined, process.env) } = given
  const intercept = sortBases(given.intercept ?? [...[...gone.values()].map(({ base }) => base), ...backends.map((backend) => backend.base)])
  const home = findHome(backends)
  const resolved: ResolvedOptions = Object.freeze({
    backends,
    home,
    intercept,
    dispatcher: given.dispatcher,
    maxAttempts: given.maxAttempts,
    maxReplayBytes: given.maxReplayBytes ?? DEFAULTS.maxReplayBytes,
    usesModels: backends.some(({ models, serves }) => models !== undefined || serves !== undefined),
    maxWaitMs: given.maxWaitMs ?? DEFAULTS.maxWaitMs,
    ...completeCooldowns(given),
    pacing: given.pacing ?? DEFAULTS.pacing,
    latencyGuard: given.latencyGuard ?? DEFAULTS.latencyGuard,
    probe: given.probe ?? DEFAULTS.probe,
    attemptTimeoutMs: given.attemptTimeoutMs,
    deadlineMs: given.deadlineMs,
    streamGuard: given.streamGuard ?? DEFAULTS.streamGuard,
    streamIdleMs: given.streamIdleMs,
    retryBudget: given.retryBudget ?? DEFAULTS.retryBudget,
    requestHeaders: given.requestHeaders ?? DEFAULTS.requestHeaders,
    logger,
    warnings: findWarnings(backends, intercept, home),
  })
  ORIGINS.set(resolved, { given: { ...given, logger }, gone })
  return resolved
}

function readBackends(value: unknown): readonly ConfiguredBackend[] {
  const backends = readList(value, 'backends').map((backend, index) => new ConfiguredBackend(backend, `backends[${index}]`))
  const indexes = new Map<string, number>()
  for (const [index, { name }] of backends.entries()) {
    const first = indexes.get(name)
    if (first !== undefined) {
      throw new InvalidOptionsError(`backends[${index}].name`, `must be unique (backends of one URL need a name each), but is that of backends[${first}]`, JSON.stringify(name))
    }
    indexes.set(name, index)
  }
  const [, second] = backends.filter((backend) => backend.home)
  if (second !== undefined) throw new InvalidOptionsError(`backends[${backends.indexOf(second)}].home`, 'must be true for one backend at most', 'true')
  if (!backends.some((backend) => backend.enabled)) throw new InvalidOptionsError('backends', 'must have at least one backend that is enabled', 'none')
  return Object.freeze(backends)
}

/** Of those that are enabled. */
function findHome(backends: readonly ConfiguredBackend[]): ConfiguredBackend {
  const enabled = backends.filter((backend) => backend.enabled)
  return enabled.find((backend) => backend.home) ?? enabled.reduce((best, backend) => (backend.priority < best.priority ? backend : best))
}

function readStreamGuard(value: unknown): StreamGuard {
  if (value === 'output' || value === 'whole' || value === false) return value
  throw new InvalidOptionsError('streamGuard', 'must be "output", "whole" or false', describe(value))
}

/** Each once, longest base path first. */
function sortBases(bases: readonly BaseUrl[]): readonly BaseUrl[] {
  const unique = [...new Map(bases.map((base) => [base.href, base])).values()]
  return Object.freeze(unique.sort((a, b) => b.basePath.length - a.basePath.length))
}

function readDispatcher(value: unknown): Dispatcher {
  if (hasMethod(value, 'dispatch', 'dispatcher')) return value as Dispatcher
  throw new InvalidOptionsError('dispatcher', 'must be an undici Dispatcher: an object with dispatch()', describeKind(value))
}

function completeCooldowns({ maxCooldownMs = DEFAULTS.maxCooldownMs, ...given }: Given): Pick<ResolvedOptions, 'cooldownMs' | 'maxCooldownMs'> {
  const { cooldownMs = Math.min(DEFAULTS.cooldownMs, maxCooldownMs) } = given
  if (cooldownMs <= maxCooldownMs) return { cooldownMs, maxCooldownMs }
  throw new InvalidOptionsError('cooldownMs', `must not be above maxCooldownMs (${maxCooldownMs})`, String(cooldownMs))
}

function readRetryBudget(value: unknown): ResolvedOptions['retryBudget'] {
  const { ratio = DEFAULTS.retryBudget.ratio, minPerSecond = DEFAULTS.retryBudget.minPerSecond } = readOptions(value, 'retryBudget', ['ratio', 'minPerSecond'])
  return Object.freeze({
    ratio: checkNumber(ratio, 'retryBudget.ratio', { min: 0 }),
    minPerSecond: checkNumber(minPerSecond, 'retryBudget.minPerSecond', { min: 0 }),
  })
}
