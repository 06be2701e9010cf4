/** Hosts that do not exist, on the test's own clock: what a connection to one of them comes to, and when. */
import { buildConnector, errors } from 'undici'
import type { VirtualSystem } from './virtual-system.js'

/** What a connection comes to, and after how many milliseconds; nothing: it is made. */
export interface Fate {
  readonly afterMs?: number
  readonly error: Error
}

/** A host that swallows packets: undici gives up after ten seconds. */
export const swallowed = (): Fate => ({ afterMs: 10_000, error: new errors.ConnectTimeoutError('Connect Timeout Error') })

export const failing = (code: string): Fate => ({ error: Object.assign(new Error(`connect ${code}`), { code }) })

/**
 * For an Agent's `connect`.
 * @param system of the balancer that the agent belongs to, which may be made later.
 * @param fateOf by host name or port.
 */
export function connectTo(system: () => VirtualSystem, fateOf: (host: string, port: string) => Fate | undefined): buildConnector.connector {
  const connector = buildConnector({})
  return (options, callback) => {
    const fate = fateOf(options.hostname, options.port)
    if (fate === undefined) return connector(options, callback)
    system().setTimer(() => { callback(fate.error, null) }, fate.afterMs ?? 0)
  }
}
