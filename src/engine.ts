/**
 * One pool behind every way in. The dispatcher and the interceptor hand all requests over; here it is decided whether one is
 * for the backends or only passes through, which options hold right now, and when the last request is over.
 */
import { Pool } from './core/pool.js'
import type { PoolStatus, System } from './core/types.js'
import { BalancerClosedError } from './errors.js'
import { forgetGone, nextForgetting, updateOptions, type BalancerOptions, type ResolvedOptions } from './options/index.js'
import { system } from './system.js'
import { ActiveRequests } from './request/active-requests.js'
import { refuse } from './request/caller.js'
import { toError } from './request/failure.js'
import { adaptHandler, adaptOptions } from './request/pass-through.js'
import { sendProbe } from './request/probe.js'
import type { RequestContext } from './request/exchange.js'
import { BalancedRequest } from './request/request.js'
import { UrlMatcher } from './request/route.js'
import { checkHandler, type AnyHandler, type DispatchOptions, type Inner } from './request/undici.js'
import { Telemetry } from './telemetry/telemetry.js'

export class Engine implements RequestContext {
  readonly system: System
  readonly pool: Pool
  readonly requests = new ActiveRequests<BalancedRequest>()

  /** As they are now; only this class replaces them. */
  current: ResolvedOptions
  #matcher: UrlMatcher
  #inner: Inner | undefined
  /** When a base URL whose backend is gone has to be forgotten. Looked at as requests come, for a timer would keep the process alive. */
  #forgetAt = Infinity
  #closed = false
  /** Warnings that came with requests. */
  readonly #told = new Set<string>()
  onIdle: (() => void) | undefined

  constructor(options: ResolvedOptions, world: System = system) {
    this.system = world
    this.current = options
    this.#matcher = new UrlMatcher(options.intercept)
    this.pool = new Pool(options, world, new Telemetry(options.logger), (backend, done) => {
      // Through what requests go through: there was one, or nothing would be out.
      if (this.#inner !== undefined) sendProbe(this.#inner, backend, done)
    })
    this.#warn([])
  }

  get options(): ResolvedOptions {
    this.#forgetGone()
    return this.current
  }

  get closed(): boolean {
    return this.#closed
  }

  /** A request for the pool goes through the backends; any other one goes on to `inner` as it came. */
  dispatch(inner: Inner, given: DispatchOptions, handler: AnyHandler): boolean {
    const opts = adaptOptions(given, handler, inner.takesLegacy)
    // Nearly always there is nothing to forget: the clock is not even looked at then.
    if (this.#forgetAt !== Infinity) this.#forgetGone()
    const route = this.#matcher.match(opts)
    if (route === undefined) return inner.dispatch(opts, inner.takesLegacy ? handler : adaptHandler(handler))
    if (this.#closed) return refuse(handler, new BalancerClosedError())
    this.#inner = inner
    let request: BalancedRequest
    try {
      checkHandler(handler, opts)
      request = new BalancedRequest(this, inner, opts, route, handler)
    } catch (error) {
      // No handler, or one that lacks what it will be told; headers that throw when they are read: told as undici tells it.
      return refuse(handler, toError(error))
    }
    return request.start()
  }

  /** See `PriorityBalancer.status`. */
  status(): PoolStatus {
    return this.pool.status(this.system.now())
  }

  /** See `PriorityBalancer.update`. @param approve throws when the options are not to be taken; nothing has changed then. */
  update(changes: Partial<BalancerOptions>, approve: (options: ResolvedOptions) => void = () => {}): void {
    const now = this.system.now()
    const options = updateOptions(this.current, changes, now)
    approve(options)
    const known = this.current.warnings
    this.#take(options)
    this.pool.update(options, now)
    this.#warn(known)
  }

  #forgetGone(): void {
    if (this.system.now() >= this.#forgetAt) this.#take(forgetGone(this.current, this.system.now()))
  }

  #take(options: ResolvedOptions): void {
    this.current = options
    this.#matcher = new UrlMatcher(options.intercept)
    this.#forgetAt = nextForgetting(options)
  }

  /** Takes no more requests and ends those that wait for a backend; fulfils when those under way have ended. */
  close(): Promise<void> {
    this.#closed = true
    this.pool.close()
    return this.#whenIdle()
  }

  /** Like `close`, but requests under way are aborted with this error. */
  destroy(error: Error): Promise<void> {
    const idle = this.close()
    for (const request of this.requests) {
      try {
        request.abort(error)
      } catch (thrown) {
        // What one caller's handler throws must not keep the others from hearing of their end.
        queueMicrotask(() => { throw thrown })
      }
    }
    return idle
  }

  #whenIdle(): Promise<void> {
    return this.requests.size === 0 ? Promise.resolve() : new Promise((resolve) => {
      const before = this.onIdle
      this.onIdle = () => {
        before?.()
        resolve()
      }
    })
  }

  warnOnce(warning: string): void {
    if (this.#told.has(warning)) return
    this.#told.add(warning)
    this.current.logger.warn({}, warning)
  }

  /** Tells each warning once, also over updates. */
  #warn(known: readonly string[]): void {
    const { warnings, logger } = this.current
    for (const warning of warnings) if (!known.includes(warning)) logger.warn({}, warning)
  }
}
