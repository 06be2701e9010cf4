/** What a dispatcher says to a handler, call by call: a dispatcher in front of another one that writes it down. */
import type { Dispatcher } from 'undici'
import type { Signals } from './signals.js'

/** Name of the handler's method, and its arguments in a form that can be compared. */
export type Call = readonly [method: string, ...args: unknown[]]

export interface Trace {
  readonly calls: Call[]
  /** What `dispatch` returned, or threw. */
  returned: unknown
}

type Handler = Record<string, unknown>
type Dispatch = Dispatcher['dispatch']

/** Every handler that comes by is written down in `traces`, in the order of the calls of `dispatch`. */
export function traced (inner: { dispatch: Dispatch }, traces: Trace[], signals: Signals): { dispatch: Dispatch } {
  return {
    dispatch (opts, given) {
      const trace: Trace = { calls: [], returned: undefined }
      traces.push(trace)
      const handler = typeof given === 'object' && given !== null ? watch(given as Handler, trace, signals) : given
      try {
        const returned = inner.dispatch(opts, handler as never)
        trace.returned = returned
        return returned
      } catch (error) {
        trace.returned = describeError(error)
        throw error
      }
    },
  }
}

/** The same handler to whoever looks at it: which methods it has decides what undici calls. */
function watch (handler: Handler, { calls }: Trace, signals: Signals): Handler {
  return new Proxy(handler, {
    get (target, name) {
      const method: unknown = Reflect.get(target, name, target)
      if (typeof method !== 'function' || typeof name !== 'string' || !name.startsWith('on')) return method
      return (...args: unknown[]): unknown => {
        note(calls, name, args)
        // An answer begins: informational ones are followed by it.
        const isFinal = (name === 'onHeaders' && Number(args[0]) >= 200) || (name === 'onResponseStart' && Number(args[1]) >= 200)
        if (isFinal) signals.tell('headers')
        if (name === 'onData' || name === 'onResponseData') signals.tell('data')
        return (method as (...args: unknown[]) => unknown).apply(target, args)
      }
    },
  })
}

/** Where TCP or undici cut the bytes is chance: those that come in a row are one call. */
const JOINED = new Set(['onData', 'onResponseData', 'onBodySent'])

function note (calls: Call[], name: string, args: readonly unknown[]): void {
  const last = calls.at(-1)
  if (JOINED.has(name) && last?.[0] === name) {
    const bytes = String(last.at(-1)) + String(describe(args.at(-1)))
    calls[calls.length - 1] = [name, ...last.slice(1, -1), bytes]
  } else calls.push([name, ...withoutContext(name, args).map(describe)])
}

/** What undici calls the context of a request is undefined in 7 and null in 8, and filled by its redirect interceptor alone. */
function withoutContext (name: string, args: readonly unknown[]): readonly unknown[] {
  return (name === 'onConnect' || name === 'onRequestStart') && args[1] == null ? args.slice(0, 1) : args
}

function describe (value: unknown): unknown {
  if (typeof value === 'function') return '[function]'
  if (value instanceof Uint8Array) return withoutBoundary(Buffer.from(value).toString('latin1'))
  if (typeof value === 'string' || typeof value !== 'object' || value === null) return value
  if (value instanceof Error) return describeError(value)
  if (Array.isArray(value)) return value.map(describeRaw)
  if ('abort' in value) return describeController(value as Record<string, unknown>)
  // Of an upgrade; what is said over it is the exchange's affair.
  if ('write' in value) return '[socket]'
  // Parsed headers: in their order, and whether a name like `constructor` finds something that no server sent.
  return { entries: Object.entries(value), hasPrototype: Object.getPrototypeOf(value) !== null }
}

/** undici makes one up for every FormData: chance, on both sides. */
export function withoutBoundary (text: string): string {
  return text.replaceAll(/-{4}formdata-undici-0\d{11}/g, '----formdata-undici-boundary')
}

/** Buffers stay apart from strings: undici's own callers call `toString` with an encoding. */
function describeRaw (value: unknown): unknown {
  if (Array.isArray(value)) return value.map(describeRaw)
  return value instanceof Uint8Array ? { bytes: Buffer.from(value).toString('latin1') } : value
}

function describeController ({ aborted, paused, reason, rawHeaders, rawTrailers }: Record<string, unknown>): unknown {
  return { aborted, paused, reason: describe(reason), rawHeaders: describe(rawHeaders), rawTrailers: describe(rawTrailers) }
}

/** Not the stack, which names our files, and not the `socket` of a SocketError: ports and counters of one connection. */
const IGNORED = new Set(['stack', 'socket', 'name', 'message', 'cause'])

export function describeError (error: unknown): unknown {
  if (!(error instanceof Error)) return { thrown: String(error) }
  const own = Object.fromEntries(Object.entries(error).filter(([key, value]) => !IGNORED.has(key) && (typeof value !== 'object' || value === null)))
  return { class: error.constructor.name, name: error.name, message: error.message, ...own, ...(error.cause === undefined ? {} : { cause: describeError(error.cause) }) }
}
