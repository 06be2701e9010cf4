/**
 * The process's global dispatcher: where it stands, and whether it was anyone's choice.
 *
 * It stands under two symbols: Node's own fetch reads `.1` up to Node 24 and `.2` from Node 26 on, undici 7 reads `.1`,
 * undici 8 `.2`. A balancer takes handlers of both styles, so it can stand under both; undici 8's own
 * `setGlobalDispatcher` puts a wrapper under `.1` that forbids HTTP/2 and hides mocks.
 *
 * What stands there may be a proxy, a mock or an Agent with certificates and limits, made by any copy of undici: all
 * traffic has to go on through it. Or it is the plain Agent that a copy of undici has put there when it was loaded, which
 * says nothing of anyone's wishes.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Dispatcher as DispatcherType } from 'undici'
import { InstallError } from './errors.js'
import { Dispatcher } from './request/undici.js'

const SLOTS = [Symbol.for('undici.globalDispatcher.1'), Symbol.for('undici.globalDispatcher.2')] as const

type Slots = Partial<Record<symbol, unknown>>

/** What stood under both symbols; handed back to `writeGlobal`. */
export type FormerGlobal = readonly [unknown, unknown]

export function readGlobal(): FormerGlobal {
  const slots = globalThis as Slots
  return [slots[SLOTS[0]], slots[SLOTS[1]]]
}

/** @throws InstallError when the global object does not take it. */
export function writeGlobal(values: FormerGlobal): void {
  SLOTS.forEach((slot, index) => {
    try {
      // As undici defines them; a plain assignment would make them enumerable where they are new.
      Object.defineProperty(globalThis, slot, { value: values[index], writable: true, enumerable: false, configurable: false })
    } catch (cause) {
      throw new InstallError('The global dispatcher cannot be set, because globalThis is frozen. Install before it is frozen, or pass a PriorityBalancer as `dispatcher` to each client.', { cause })
    }
  })
}

/**
 * The dispatcher to send through when nothing else was said: the global one that was chosen, so that it stays in force; of
 * two, that of Node's own fetch. Else the plain one of our undici, or of another copy. Undefined where there is only the one
 * that Node has made for itself: on Node 20 and 22 it is undici 6's, and sends everything by HTTP/1.1 whatever is installed.
 */
export function usableGlobal(slots: FormerGlobal): DispatcherType | undefined {
  const inOrder: readonly unknown[] = readsSecond ? [...slots].reverse() : slots
  // undici 8 keeps the dispatcher itself under `.2`, and a wrapper around it under `.1`.
  const found = inOrder.filter(isDispatcher).filter((dispatcher) => nameOf(dispatcher.constructor) !== 'Dispatcher1Wrapper')
  const chosen = found.find((dispatcher) => !isPlain(dispatcher))
  return chosen ?? found.find((dispatcher) => dispatcher instanceof Dispatcher) ?? found.find((dispatcher) => !isOfNode(dispatcher))
}

/** Whether Node's own fetch looks under `.2`: it carries undici 8 from Node 26 on. */
const readsSecond = Number(process.versions.node.split('.')[0]) >= 26

function isDispatcher(value: unknown): value is DispatcherType {
  return typeof value === 'object' && value !== null && typeof (value as { dispatch?: unknown }).dispatch === 'function'
}

/** Where an Agent of any undici keeps what its constructor was given, by the descriptions of the symbols. */
const CONFIGURATION: readonly (string | undefined)[] = ['options', 'factory', 'maxRedirections', 'webSocketOptions', 'eventSourceOptions']

/** An Agent as `new Agent()` makes it. What cannot be told counts as chosen: to use it is never wrong. */
function isPlain(dispatcher: DispatcherType): boolean {
  const { constructor } = dispatcher
  // undici's own class, not one that is derived from it: it is about to be constructed.
  if (nameOf(constructor) !== 'Agent' || nameOf(Object.getPrototypeOf(constructor)) !== 'DispatcherBase') return false
  // Composed, or patched in place.
  if (dispatcher.dispatch !== (constructor.prototype as DispatcherType).dispatch) return false
  try {
    return isDeepStrictEqual(readConfiguration(dispatcher), readConfiguration(new (constructor as new () => object)()))
  } catch {
    return false
  }
}

/** Anything that has a `dispatch` may stand under the symbols, also without a class. */
function nameOf(type: unknown): unknown {
  return (type as { readonly name?: unknown } | null | undefined)?.name
}

function readConfiguration(agent: object): Record<string, unknown> {
  const symbols = Object.getOwnPropertySymbols(agent).filter(({ description }) => CONFIGURATION.includes(description))
  return Object.fromEntries(symbols.map((symbol) => [symbol.description, (agent as Slots)[symbol]])) as Record<string, unknown>
}

/**
 * Whether a plain Agent is of the undici inside Node. Its class is not to be had from outside, but the error that it throws
 * where it is given no handler says in which file that happened.
 */
function isOfNode(agent: DispatcherType): boolean {
  const prepare = Object.getOwnPropertyDescriptor(Error, 'prepareStackTrace')
  const limit = Error.stackTraceLimit
  try {
    Error.prepareStackTrace = (_error, [top]): unknown => top?.getFileName()
    Error.stackTraceLimit = 1
    agent.dispatch({} as DispatcherType.DispatchOptions, undefined as unknown as DispatcherType.DispatchHandler)
    return false
  } catch (error) {
    return String((error as { stack?: unknown }).stack).startsWith('node:internal/')
  } finally {
    // Frozen with --frozen-intrinsics: nothing was changed then.
    if (!Object.isFrozen(Error)) {
      Error.stackTraceLimit = limit
      if (prepare === undefined) Reflect.deleteProperty(Error, 'prepareStackTrace')
      else Object.defineProperty(Error, 'prepareStackTrace', prepare)
    }
  }
}
