/**
 * The process's global dispatcher. It stands under two symbols: Node's own fetch reads `.1` up to Node 24 and `.2` from
 * Node 26 on, undici 7 reads `.1`, undici 8 `.2`. A balancer takes handlers of both styles, so it can stand under both;
 * undici 8's own `setGlobalDispatcher` puts a wrapper under `.1` that forbids HTTP/2 and hides mocks.
 */
import type { Dispatcher as DispatcherType } from 'undici'
import { InstallError } from './errors.js'
import { Dispatcher } from './request/undici.js'

const SLOTS = [Symbol.for('undici.globalDispatcher.1'), Symbol.for('undici.globalDispatcher.2')] as const

type Slots = Partial<Record<symbol, unknown>>

/** What stood under both symbols; handed back to `restoreGlobal`. */
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
 * The dispatcher to send through when nothing else was said: the global one, so that proxies and mocks that were set
 * before stay in force. Undefined where it is only the default that another copy of undici made for itself: on Node 20
 * and 22 that is undici 6's, once fetch has been called, and it cannot take newer handlers.
 */
export function usableGlobal(slots: FormerGlobal): DispatcherType | undefined {
  // undici 8 keeps the dispatcher itself under `.2`, and a wrapper around it under `.1`.
  const found = slots.filter(isDispatcher).filter((dispatcher) => dispatcher.constructor.name !== 'Dispatcher1Wrapper')
  return found.find((dispatcher) => dispatcher.constructor.name !== 'Agent') ?? found.find((dispatcher) => dispatcher instanceof Dispatcher)
}

function isDispatcher(value: unknown): value is DispatcherType {
  return typeof value === 'object' && value !== null && typeof (value as { dispatch?: unknown }).dispatch === 'function'
}
