import { Agent, Dispatcher } from 'undici'
import type { PoolStatus } from '../../src/core/types.js'
import { Engine } from '../../src/engine.js'
import { resolveOptions, type BalancerOptions } from '../../src/options/index.js'
import type { Inner } from './fake-inner.js'
import { PEER_TAKES_LEGACY_HANDLERS } from './undici-style.js'
import { VirtualSystem } from './virtual-system.js'

/**
 * The balancer over real sockets, but on the test's own clock and chance: cooldowns, backoffs and waits end when the
 * test says so. Otherwise it does what `PriorityBalancer` does.
 */
export class VirtualBalancer extends Dispatcher {
  readonly system: VirtualSystem
  readonly engine: Engine
  readonly #agent: Dispatcher
  readonly #inner: Inner

  constructor(options: BalancerOptions, seed = 1) {
    super()
    this.system = new VirtualSystem(seed)
    this.engine = new Engine(resolveOptions(options), this.system)
    const agent = options.dispatcher ?? new Agent()
    this.#agent = agent
    this.#inner = {
      dispatch: (opts, handler) => agent.dispatch(opts as Dispatcher.DispatchOptions, handler as unknown as Dispatcher.DispatchHandler),
      takesLegacy: PEER_TAKES_LEGACY_HANDLERS && agent instanceof Dispatcher, isMockActive: false,
    }
  }

  override dispatch(opts: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    return this.engine.dispatch(this.#inner, opts as Parameters<Engine['dispatch']>[1], handler as unknown as Parameters<Engine['dispatch']>[2])
  }

  status(): PoolStatus {
    return this.engine.status()
  }

  /** Ends everything at once, the connections included. */
  override async destroy(): Promise<void> {
    await this.engine.destroy(new Error('the test is over'))
    await this.#agent.destroy()
  }
}
