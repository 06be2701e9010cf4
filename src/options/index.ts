/** The options: what they mean, what they are when left out, and how wrong ones are told. */
import type { Dispatcher } from 'undici'
import { Backend, type BackendOptions } from './backend.js'
import { parseBaseUrl, type BaseUrl } from './base-url.js'
import { OPTIONS, checkBoolean, checkDuration, checkInteger, checkNumber, describeKind, hasMethod, readList, readOptions } from './checks.js'
import type { PoolConfig } from '../core/types.js'
import { DEFAULTS } from './defaults.js'
import { InvalidOptionsError } from '../errors.js'
import { resolveLogger, type Logger, type ResolvedLogger } from '../logger.js'
import { findWarnings } from './pool-warnings.js'

export { Backend, type BackendOptions } from './backend.js'
export { type BaseUrl } from './base-url.js'
export { Credential, type CredentialOption } from './credential.js'
export { DEFAULTS } from './defaults.js'
export { type Logger } from '../logger.js'

/** Options of `install`, `PriorityBalancer` and `priorityInterceptor`. They are copied: later changes to the object have no effect. */
export interface BalancerOptions {
  /** The backends, at least one. Their order counts only for the home (see `backends[].home`). */
  backends: readonly BackendOptions[]
  /**
   * Base URLs whose requests are balanced, compared on whole path segments; the longest match counts. All other
   * requests pass untouched. May be a made-up origin such as `https://chat.balanced`, which fails loudly when nothing
   * is installed. No wildcards.
   * @default the URLs of the backends
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
   * @default 16777216 (16 MiB)
   */
  maxReplayBytes?: number | undefined
  /**
   * Milliseconds that a request may be held when every backend is throttled. When the soonest backend is later than
   * that, or with 0, the caller gets a 429 at once. It does not bound the time of the attempts themselves.
   * @default 0
   */
  maxWaitMs?: number | undefined
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
   * Stay below the limits that backends tell of, instead of running into 429s. Does nothing until one has spoken of limits.
   * @default true
   */
  pacing?: boolean | undefined
  /**
   * Send less to a backend that answers far slower than it used to, while another can take it. Needs `pacing`.
   * @default true, false when `pacing` is false
   */
  latencyGuard?: boolean | undefined
  /**
   * Milliseconds from the start of one attempt to its response headers; past it, the next backend. It does not bound
   * the time of the body, nor the whole request. Long generations without streaming need long ones.
   * @default none: undici's own connect and headers timeouts apply
   */
  attemptTimeoutMs?: number | undefined
  /**
   * How many retries after failures (not after throttling) may be added: a share of the requests, and what is allowed
   * every second in any case. Keeps an outage from being multiplied by retries.
   * @default { ratio: 0.2, minPerSecond: 10 }
   */
  retryBudget?: { readonly ratio?: number | undefined; readonly minPerSecond?: number | undefined } | undefined
  /**
   * A logger such as pino's, or `false` for none.
   * @default a pino logger named `openai-priority-loadbalancer` on stderr, level `warn` or what OPENAI_LOADBALANCER_LOG_LEVEL says
   */
  logger?: Logger | false | undefined
}

const KNOWN = [
  'backends', 'intercept', 'dispatcher', 'maxAttempts', 'maxReplayBytes', 'maxWaitMs', 'cooldownMs', 'maxCooldownMs',
  'pacing', 'latencyGuard', 'attemptTimeoutMs', 'retryBudget', 'logger',
] as const

type Given = Partial<Record<(typeof KNOWN)[number], unknown>>

/** Options that were checked and completed. Frozen. */
export interface ResolvedOptions extends PoolConfig {
  readonly backends: readonly Backend[]
  /** Longest base path first, so that the first match is the longest. */
  readonly intercept: readonly BaseUrl[]
  readonly dispatcher: Dispatcher | undefined
  readonly maxReplayBytes: number
  readonly attemptTimeoutMs: number | undefined
  /** Never throws; silent for `false`. */
  readonly logger: ResolvedLogger
  /** Sentences for the log: what is allowed, but hardly meant. */
  readonly warnings: readonly string[]
}

/** What the caller gave, kept for `updateOptions` where nothing that is printed leads to it: it holds secrets. */
const GIVEN = new WeakMap<ResolvedOptions, Given>()

/**
 * Checks, completes, copies and freezes options.
 * @throws InvalidOptionsError at the first thing that is wrong.
 */
export function resolveOptions(options: BalancerOptions): ResolvedOptions {
  return resolve(readOptions(options, OPTIONS, KNOWN), [])
}

/**
 * The options after a change. Without `intercept`, the base URLs of backends that were there stay intercepted: a
 * client that was set up with one of them must not fall out of the balancing because that backend was removed.
 * @throws InvalidOptionsError
 */
export function updateOptions(current: ResolvedOptions, changes: Partial<BalancerOptions>): ResolvedOptions {
  return resolve({ ...GIVEN.get(current), ...readOptions(changes, OPTIONS, KNOWN) }, current.intercept)
}

function resolve(given: Given, formerIntercept: readonly BaseUrl[]): ResolvedOptions {
  const backends = readBackends(given.backends)
  const intercept = readIntercept(given.intercept, [...formerIntercept, ...backends.map((backend) => backend.base)])
  const { maxAttempts, attemptTimeoutMs, maxReplayBytes = DEFAULTS.maxReplayBytes, maxWaitMs = DEFAULTS.maxWaitMs } = given
  const resolved: ResolvedOptions = Object.freeze({
    backends,
    home: findHome(backends),
    intercept,
    dispatcher: readDispatcher(given.dispatcher),
    maxAttempts: maxAttempts === undefined ? undefined : checkInteger(maxAttempts, 'maxAttempts', 1),
    maxReplayBytes: checkInteger(maxReplayBytes, 'maxReplayBytes', 0),
    maxWaitMs: checkDuration(maxWaitMs, 'maxWaitMs', { zero: true }),
    ...readCooldowns(given),
    ...readPacing(given),
    attemptTimeoutMs: attemptTimeoutMs === undefined ? undefined : checkDuration(attemptTimeoutMs, 'attemptTimeoutMs', { zero: false }),
    retryBudget: readRetryBudget(given.retryBudget),
    logger: resolveLogger(given.logger, process.env),
    warnings: findWarnings(backends, intercept),
  })
  GIVEN.set(resolved, given)
  return resolved
}

function readBackends(value: unknown): readonly Backend[] {
  const backends = readList(value, 'backends').map((backend, index) => new Backend(backend, `backends[${index}]`))
  const indexes = new Map<string, number>()
  for (const [index, { name }] of backends.entries()) {
    const first = indexes.get(name)
    if (first !== undefined) {
      throw new InvalidOptionsError(`backends[${index}].name`, `must be unique (backends of one URL need a name each), but is that of backends[${first}]`, JSON.stringify(name))
    }
    indexes.set(name, index)
  }
  return Object.freeze(backends)
}

function findHome(backends: readonly Backend[]): Backend {
  const [home, second] = backends.filter((backend) => backend.home)
  if (second !== undefined) throw new InvalidOptionsError(`backends[${backends.indexOf(second)}].home`, 'must be true for one backend at most', 'true')
  return home ?? backends.reduce((best, backend) => (backend.priority < best.priority ? backend : best))
}

function readIntercept(value: unknown, fallback: readonly BaseUrl[]): readonly BaseUrl[] {
  const bases = value === undefined ? fallback : readList(value, 'intercept').map((url, index) => parseBaseUrl(url, `intercept[${index}]`))
  const unique = [...new Map(bases.map((base) => [base.href, base])).values()]
  return Object.freeze(unique.sort((a, b) => b.basePath.length - a.basePath.length))
}

function readDispatcher(value: unknown): Dispatcher | undefined {
  if (value === undefined || hasMethod(value, 'dispatch', 'dispatcher')) return value as Dispatcher | undefined
  throw new InvalidOptionsError('dispatcher', 'must be an undici Dispatcher: an object with dispatch()', describeKind(value))
}

function readCooldowns(given: Given): Pick<ResolvedOptions, 'cooldownMs' | 'maxCooldownMs'> {
  const { maxCooldownMs: max = DEFAULTS.maxCooldownMs } = given
  const maxCooldownMs = checkDuration(max, 'maxCooldownMs', { zero: false })
  const { cooldownMs: usual = Math.min(DEFAULTS.cooldownMs, maxCooldownMs) } = given
  const cooldownMs = checkDuration(usual, 'cooldownMs', { zero: false })
  if (cooldownMs <= maxCooldownMs) return { cooldownMs, maxCooldownMs }
  throw new InvalidOptionsError('cooldownMs', `must not be above maxCooldownMs (${maxCooldownMs})`, String(cooldownMs))
}

function readPacing(given: Given): Pick<ResolvedOptions, 'pacing' | 'latencyGuard'> {
  const { pacing: wanted = DEFAULTS.pacing } = given
  const pacing = checkBoolean(wanted, 'pacing')
  const { latencyGuard: guard = pacing && DEFAULTS.latencyGuard } = given
  const latencyGuard = checkBoolean(guard, 'latencyGuard')
  if (pacing || !latencyGuard) return { pacing, latencyGuard }
  throw new InvalidOptionsError('latencyGuard', 'needs pacing, which is false', 'true')
}

function readRetryBudget(value: unknown): ResolvedOptions['retryBudget'] {
  const given = value === undefined ? {} : readOptions(value, 'retryBudget', ['ratio', 'minPerSecond'])
  const { ratio = DEFAULTS.retryBudget.ratio, minPerSecond = DEFAULTS.retryBudget.minPerSecond } = given
  return Object.freeze({
    ratio: checkNumber(ratio, 'retryBudget.ratio', { min: 0 }),
    minPerSecond: checkNumber(minPerSecond, 'retryBudget.minPerSecond', { min: 0 }),
  })
}
