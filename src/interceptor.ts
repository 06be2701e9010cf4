/**
 * The balancer as an interceptor, for `compose`: for programs that make their dispatcher themselves (a proxy, a mock), and
 * want balancing to be one layer of it.
 */
import type { Dispatcher } from 'undici'
import type { PoolStatus } from './core/types.js'
import { Engine } from './engine.js'
import { InvalidOptionsError } from './errors.js'
import { resolveOptions, type BalancerOptions } from './options/index.js'
import { findInnerWarning } from './options/warnings.js'
import { PEER_TAKES_LEGACY_HANDLERS, type AnyHandler, type DispatchOptions } from './request/undici.js'

/** One pool of backends, shared by all dispatchers that are composed with the same interceptor. */
export interface PriorityInterceptor {
  (dispatch: Dispatcher.Dispatch): Dispatcher.Dispatch
  /** See `PriorityBalancer.status`. */
  status(): PoolStatus
  /** See `PriorityBalancer.update`. */
  update(changes: Partial<Omit<BalancerOptions, 'dispatcher' | 'logger'>>): void
  /** Takes no more requests for the backends and ends those that wait; fulfils when those under way have ended. */
  close(): Promise<void>
}

/**
 * Balances the requests of the dispatcher that it is composed with: `new Agent().compose(priorityInterceptor(options))`,
 * `mockAgent.compose(priorityInterceptor(options))`.
 *
 * For the whole process use `install`, which also sees what a composed global dispatcher misses on some pairs of Node
 * and undici.
 * @throws InvalidOptionsError
 */
export function priorityInterceptor(options: Omit<BalancerOptions, 'dispatcher'>): PriorityInterceptor {
  const resolved = resolveOptions(options)
  if (resolved.dispatcher !== undefined) {
    throw new InvalidOptionsError('dispatcher', 'has no place here: an interceptor sends through what it is composed with', 'a dispatcher')
  }
  const engine = new Engine(resolved)
  const interceptor = (dispatch: Dispatcher.Dispatch): Dispatcher.Dispatch => {
    const warning = findInnerWarning(dispatch)
    if (warning !== undefined) resolved.logger.warn({}, warning)
    const inner = {
      dispatch: (opts: DispatchOptions, handler: AnyHandler) => dispatch(opts as Dispatcher.DispatchOptions, handler as never),
      takesLegacy: PEER_TAKES_LEGACY_HANDLERS,
      // Not to be seen from inside compose(); undici hands the mock's body over by itself there.
      isMockActive: false,
    }
    // undici asks for exactly two parameters.
    return (opts, handler) => engine.dispatch(inner, opts as DispatchOptions, handler as unknown as AnyHandler)
  }
  return Object.assign(interceptor, {
    status: () => engine.status(),
    update: (changes: Partial<BalancerOptions>) => { engine.update(changes) },
    close: () => engine.close(),
  })
}
