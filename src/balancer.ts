/**
 * The balancer as an undici Dispatcher: what stands where a dispatcher can stand, for clients that cannot be changed. Besides
 * `dispatch` it has to be everything else that undici, fetch and a WebSocket ask a dispatcher for.
 */
import type { Dispatcher as DispatcherType } from 'undici'
import type { PoolStatus } from './core/types.js'
import { Engine } from './engine.js'
import { BalancerClosedError } from './errors.js'
import { resolveOptions, type BalancerOptions, type ResolvedOptions } from './options/index.js'
import { findInnerWarning } from './options/warnings.js'
import { speakBoth } from './request/both-styles.js'
import { Agent, Dispatcher, PEER_TAKES_LEGACY_HANDLERS, type AnyHandler, type DispatchOptions, type Inner } from './request/undici.js'
import { system } from './system.js'

/** What undici tells of connections; listeners on the balancer hear what its inner dispatcher says. */
const EVENTS: readonly string[] = ['connect', 'disconnect', 'connectionError', 'drain']

/** @internal Options that were resolved by `install` already, since it has to look at them first; and what it has chosen to send through. */
export class Prepared {
  constructor(readonly options: ResolvedOptions, readonly inner: DispatcherType) {}
}

/**
 * An undici `Dispatcher` that balances what goes to its backends and passes everything else on:
 * for `setGlobalDispatcher(balancer)`, `fetch(url, { dispatcher: balancer })`, `request(url, { dispatcher: balancer })`
 * and `new OpenAI({ fetchOptions: { dispatcher: balancer } })`. It takes handlers of Node's own fetch of every
 * supported Node and of undici's own functions, in the old style and the new.
 */
export class PriorityBalancer extends Dispatcher {
  readonly #engine: Engine
  readonly #inner: InnerDispatcher
  /** Ours to close; one that was handed in stays open. */
  readonly #ownAgent: DispatcherType | undefined
  readonly #forwarders = new Map<string, (...args: unknown[]) => void>()
  #ending: Promise<void> | undefined

  /**
   * @throws InvalidOptionsError when an option is wrong; nothing has happened then.
   */
  constructor(options: BalancerOptions)
  /** @internal */
  constructor(prepared: Prepared)
  constructor(given: BalancerOptions | Prepared) {
    super()
    const options = given instanceof Prepared ? given.options : resolveOptions(given)
    const handedIn = given instanceof Prepared ? given.inner : options.dispatcher
    const inner = handedIn ?? new Agent()
    this.#ownAgent = handedIn === undefined ? inner : undefined
    this.#engine = new Engine(options)
    this.#inner = new InnerDispatcher(inner)
    const warning = findInnerWarning(inner)
    if (warning !== undefined) options.logger.warn({}, warning)
    const self: NodeJS.EventEmitter = this
    // Only where something listens: undici says `drain` after nearly every request.
    self.on('newListener', (event) => { this.#forward(String(event)) })
  }

  /** Called by undici and by fetch. Errors of a request go to its handler, as with every dispatcher of undici's. */
  override dispatch(opts: DispatcherType.DispatchOptions, handler: DispatcherType.DispatchHandler): boolean {
    return this.#engine.dispatch(this.#inner, opts as DispatchOptions, handler as unknown as AnyHandler)
  }

  /** What is known of the backends right now: a snapshot, cheap enough for every health check. Shows no secret. */
  status(): PoolStatus {
    return this.#engine.status()
  }

  /**
   * Changes options while requests are under way. Backends that stay (same name and URL) keep their state, new ones
   * start fresh, removed ones get no new attempt and end what they have begun. Options that are left out stay as they are.
   * @throws InvalidOptionsError when an option is wrong; nothing has changed then. `dispatcher` and `logger` cannot be changed.
   */
  update(changes: Partial<Omit<BalancerOptions, 'dispatcher' | 'logger'>>): void {
    this.#engine.update(changes, (next) => { this.approve(next) })
  }

  /** @internal Called by `update` with the options as they will be, before anything has changed; may throw. */
  protected approve(_next: ResolvedOptions): void {}

  /**
   * Takes no more requests for the backends, ends those that wait for one with a `BalancerClosedError`, and fulfils when
   * those under way have ended. A dispatcher that was handed in stays open.
   */
  override close(): Promise<void>
  override close(callback: () => void): void
  override close(callback?: () => void): Promise<void> | void {
    return settle(this.#end(() => this.#engine.close(), (agent) => agent.close()), callback)
  }

  /** Like `close`, but aborts what is under way with `error`, by default a `BalancerClosedError`. */
  override destroy(): Promise<void>
  override destroy(error: Error | null): Promise<void>
  override destroy(callback: () => void): void
  override destroy(error: Error | null, callback: () => void): void
  override destroy(errorOrCallback?: Error | null | (() => void), callback?: () => void): Promise<void> | void {
    const [error, done] = typeof errorOrCallback === 'function' ? [null, errorOrCallback] : [errorOrCallback ?? null, callback]
    // Also after close(): it turns a patient end into a quick one.
    this.#ending = undefined
    const reason = error ?? new BalancerClosedError('The balancer was destroyed while the request was under way.')
    return settle(this.#end(() => this.#engine.destroy(reason), (agent) => agent.destroy(reason)), done)
  }

  /** The base URLs whose requests are balanced, in normal form. */
  get intercept(): readonly string[] {
    return this.#engine.options.intercept.map((base) => base.href)
  }

  get closed(): boolean {
    return this.#engine.closed
  }

  get destroyed(): boolean {
    return this.#engine.closed && this.#engine.requests.size === 0
  }

  /** Fetch hands a mock the body as the test wrote it: only where it is told of the mock inside. */
  get isMockActive(): boolean {
    return this.#inner.isMockActive
  }

  /** Limits for received WebSocket messages, which undici asks its global dispatcher for. */
  get webSocketOptions(): unknown {
    return this.#inner.read('webSocketOptions')
  }

  /** The same for server-sent events. */
  get eventSourceOptions(): unknown {
    return this.#inner.read('eventSourceOptions')
  }

  #forward(event: string): void {
    if (!EVENTS.includes(event) || this.#forwarders.has(event) || this.destroyed) return
    const self: NodeJS.EventEmitter = this
    const forward = (...args: unknown[]): void => { self.emit(event, ...args) }
    this.#forwarders.set(event, forward)
    this.#inner.emitter?.on(event, forward)
  }

  #end(end: () => Promise<void>, endAgent: (agent: DispatcherType) => Promise<void>): Promise<void> {
    this.#ending ??= end().then(async () => {
      for (const [event, forward] of this.#forwarders) this.#inner.emitter?.off(event, forward)
      this.#inner.release()
      if (this.#ownAgent !== undefined) await endAgent(this.#ownAgent)
    })
    return this.#ending
  }
}

/** Origins whose last connection is remembered; a process that speaks to more starts over. */
const KNOWN_ORIGINS = 1_000

/** The inner dispatcher, as the requests need it. */
class InnerDispatcher implements Inner {
  readonly #target: DispatcherType
  readonly takesLegacy: boolean
  readonly dispatch: Inner['dispatch']
  readonly emitter: NodeJS.EventEmitter | undefined
  readonly connectedSince: (origin: string, since: number) => boolean | undefined
  /** Monotonic time of the last connection, by origin. */
  #connectedAt = new Map<string, number>()

  constructor(target: DispatcherType) {
    this.#target = target
    const isOurs = target instanceof Dispatcher
    // One of another copy of undici may be of any version.
    this.takesLegacy = PEER_TAKES_LEGACY_HANDLERS && isOurs
    // Looked up at every request, as undici does: a dispatcher may be patched or composed in place.
    this.dispatch = (opts, handler) => target.dispatch(opts as DispatcherType.DispatchOptions, (isOurs ? handler : speakBoth(handler)) as never)
    this.emitter = typeof (target as { on?: unknown }).on === 'function' ? (target as unknown as NodeJS.EventEmitter) : undefined
    this.connectedSince = (origin, since) => {
      // One that tells of no connection at all, such as a proxy's, does not say that there was none.
      const at = this.#connectedAt.get(origin)
      return at === undefined ? undefined : at >= since
    }
    this.emitter?.on('connect', this.#onConnect)
  }

  /** Nothing is listened for any more. */
  release(): void {
    this.emitter?.off('connect', this.#onConnect)
  }

  readonly #onConnect = (origin: unknown): void => {
    if (this.#connectedAt.size >= KNOWN_ORIGINS) this.#connectedAt = new Map()
    this.#connectedAt.set(String(origin).replace(/\/$/, ''), system.now())
  }

  get isMockActive(): boolean {
    return (this.#target as { readonly isMockActive?: unknown }).isMockActive === true
  }

  read(property: 'webSocketOptions' | 'eventSourceOptions'): unknown {
    return (this.#target as unknown as Record<string, unknown>)[property]
  }
}

function settle(ending: Promise<void>, callback: (() => void) | undefined): Promise<void> | void {
  if (callback === undefined) return ending
  ending.then(() => { callback() }, () => { callback() })
}
