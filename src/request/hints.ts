/**
 * What one request says of itself: options are of a whole process, but a chat waits for seconds and a nightly job for minutes. It says so
 * in `x-balancer-*` headers, which are for us and reach no backend, or by the async context that it is made in, for clients whose
 * headers one cannot set. Headers are honoured only where the option `requestHeaders` allows it: a server may pass on those of its clients.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { ResolvedLogger } from '../logger.js'
import type { Traffic } from '../options/index.js'
import { HINT_PREFIX, isFlat, isHint, type RequestHeaders } from './headers.js'

/** Of one request, the header before the context. What is not said here is said by the options. */
export interface Hints extends Readonly<Traffic> {
  /** The request's headers without those that are for us; undefined where there were none. */
  readonly otherHeaders?: RequestHeaders
  /** It says what cannot be understood, and is not sent. */
  readonly refusal?: Refusal
}

/** What the caller's 400 says. */
export interface Refusal {
  readonly code: 'invalid_value' | 'unknown_parameter'
  /** The header. */
  readonly param: string
  readonly message: string
}

/** One thing that a request may say, the same in a header and in `withTraffic`. */
interface Hint {
  readonly header: string
  /** What holds of its value: `must be ...`. */
  readonly rule: string
  readonly accepts: (value: unknown) => boolean
  /** The value of a header; what is none becomes something that is not accepted. */
  readonly parse: (text: string) => unknown
}

/** A day: what is to be done later than that is no request that waits. */
const MOST_MS = 86_400_000

/** A hint is a row here, and a field of `Traffic`. */
export const HINTS: { readonly [K in keyof Traffic]-?: Hint } = Object.freeze({
  maxWaitMs: { header: 'x-balancer-max-wait-ms', ...milliseconds(0) },
  deadlineMs: { header: 'x-balancer-deadline-ms', ...milliseconds(1) },
  stream: { header: 'x-balancer-stream', ...oneOf('whole') },
})

const FIELDS = new Map(Object.entries(HINTS).map(([field, { header }]) => [header, field as keyof Traffic]))

const NONE: Hints = Object.freeze({})

function milliseconds(min: number): Omit<Hint, 'header'> {
  return {
    rule: `must be a whole number of milliseconds from ${min} to ${MOST_MS}`,
    accepts: (value) => Number.isInteger(value) && (value as number) >= min && (value as number) <= MOST_MS,
    parse: (text) => (/^\d+$/.test(text) ? Number(text) : undefined),
  }
}

function oneOf(...words: readonly string[]): Omit<Hint, 'header'> {
  return {
    rule: `must be ${words.map((word) => JSON.stringify(word)).join(' or ')}`,
    accepts: (value) => words.includes(value as string),
    parse: (text) => text,
  }
}

/** Under this name all copies of this package in the process find the context: who calls `withTraffic` may have another one than who installs. */
const CONTEXT = Symbol.for('openai-priority-loadbalancer.traffic')
const shared = globalThis as { readonly [CONTEXT]?: AsyncLocalStorage<Readonly<Traffic>> }

/** Made by the first call of `withTraffic`: until then no context is looked up, and Node follows none. */
let context: AsyncLocalStorage<Readonly<Traffic>> | undefined

/** Runs `fn`; all requests that are made in its async context say this, and what the contexts around it say. */
export function runWith<T>(traffic: Readonly<Traffic>, fn: () => T): T {
  context ??= shared[CONTEXT] ?? new AsyncLocalStorage()
  // Where the global object is frozen, each copy has its own.
  if (shared[CONTEXT] === undefined) Reflect.defineProperty(globalThis, CONTEXT, { value: context, configurable: true })
  return context.run(Object.freeze({ ...context.getStore(), ...traffic }), fn)
}

/** The options that it takes to read them. */
export interface HintOptions {
  readonly requestHeaders: boolean
  readonly logger: ResolvedLogger
}

/**
 * Called as the request is dispatched: later on, the context may be another one's.
 * @param hasHints there is such a header
 */
export function readHints(headers: RequestHeaders, hasHints: boolean, { requestHeaders, logger }: HintOptions): Hints {
  const around = (context ?? shared[CONTEXT])?.getStore()
  if (!hasHints) return around ?? NONE
  const otherHeaders = removeHints(headers)
  if (!requestHeaders) {
    warnOnce(logger)
    return { ...around, otherHeaders }
  }
  const said: Record<string, unknown> = {}
  for (const [header, text] of collectHints(headers)) {
    const field = FIELDS.get(header)
    const value = field === undefined ? undefined : HINTS[field].parse(text)
    if (field === undefined || !HINTS[field].accepts(value)) return { otherHeaders, refusal: refuse(header, text, field, logger) }
    said[field] = value
  }
  // Each field has what its own rule accepts.
  return { ...around, ...said as Traffic, otherHeaders }
}

let hasWarned = false

/** Once in a process, and not before there is a logger that takes it. */
function warnOnce(logger: ResolvedLogger): void {
  if (hasWarned || !logger.isLevelEnabled('warn')) return
  hasWarned = true
  logger.warn({}, `Headers of requests that begin with ${HINT_PREFIX} are removed and ignored: the option requestHeaders is false. Set it to true where only those ` +
    'whom you trust can set headers of these requests, or use withTraffic().')
}

function refuse(header: string, text: string, field: keyof Traffic | undefined, logger: ResolvedLogger): Refusal {
  const param = toPrintable(header)
  const rule = field === undefined ? `is not known (known are ${[...FIELDS.keys()].join(', ')})` : `${HINTS[field].rule}, and nothing else`
  // Not the value: what is in a request is no business of the log.
  logger.warn({ header: param }, `A request gets a 400, and is not sent: its header ${param} ${rule}`)
  return { code: field === undefined ? 'unknown_parameter' : 'invalid_value', param, message: `The header ${param} ${rule}. Received: "${toPrintable(text)}".` }
}

/** Longest piece of a header in a message, in characters: one line of a terminal. */
const MAX_SHOWN = 80

function toPrintable(text: string): string {
  const short = text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text
  return short.replace(/[^\x20-\x7e]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** All others as they were, in a list of the same kind. */
function removeHints(headers: RequestHeaders): RequestHeaders {
  if (isFlat(headers)) return headers.filter((_, i) => (i === headers.length - 1 && i % 2 === 0) || !isHint(headers[i - i % 2]))
  return Object.fromEntries(Object.entries(headers ?? {}).filter(([name]) => !isHint(name)))
}

/** By lower-case name. What is there more than once is joined by commas, as HTTP has it (RFC 9110 section 5.3). */
function collectHints(headers: RequestHeaders): Map<string, string> {
  const found = new Map<string, string>()
  const pairs = isFlat(headers) ? headers.flatMap((name, i) => (i % 2 === 0 && i + 1 < headers.length ? [[name, headers[i + 1]] as const] : [])) : Object.entries(headers ?? {})
  for (const [name, value] of pairs) {
    // undici sends none for undefined.
    if (!isHint(name) || value === undefined) continue
    const header = toText(name).toLowerCase(), before = found.get(header)
    found.set(header, before === undefined ? toText(value) : `${before}, ${toText(value)}`)
  }
  return found
}

/** As it would be sent. */
function toText(value: unknown): string {
  if (typeof value === 'string') return value.trim()
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1').trim()
  if (Array.isArray(value)) return value.map(toText).join(', ')
  if (value === null) return ''
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : `(${typeof value})`
}
