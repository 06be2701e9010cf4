/**
 * The one-liner: every fetch of the process goes through a balancer, from one line at start-up on. It has to get in the way
 * of all of them or say that it cannot, leave in force what was there before, and put it back; and several balancers in one
 * process, also of several copies of this package, must not decide on each other's requests.
 */
import type { Dispatcher as DispatcherType } from 'undici'
import { Prepared, PriorityBalancer } from './balancer.js'
import { InstallError } from './errors.js'
import { readGlobal, usableGlobal, writeGlobal, type FormerGlobal } from './global-dispatcher.js'
import { resolveOptions, type BalancerOptions, type ResolvedOptions } from './options/index.js'
import { refuse } from './request/caller.js'
import { Agent, type AnyHandler } from './request/undici.js'

/**
 * A balancer that is the process's global dispatcher, until it is uninstalled. `close()` and `destroy()` end the balancing
 * alone: requests for the backends are refused then, and all others go on.
 */
export interface InstalledBalancer extends PriorityBalancer {
  /**
   * Makes the dispatcher that was global before global again (unless another one was set since: that one stays), ends
   * requests that wait for a backend with a `BalancerClosedError`, and fulfils when those under way have ended.
   * Calling it again does nothing more.
   * @throws InstallError (rejects with it) while a balancer that was installed later sends through this one.
   */
  uninstall(): Promise<void>
}

/** All copies of this package in the process know what the others have installed, oldest first. */
const REGISTRY = Symbol.for('openai-priority-loadbalancer.installed')

/**
 * Makes a balancer and puts it in the way of every fetch of the process: Node's own and undici's, and so of all SDKs
 * that use them. Call it once, at start-up. Requests that are none of the backends' pass untouched, through the
 * dispatcher that was global before (a proxy, a mock or an Agent with settings stays in force) or `options.dispatcher`.
 * @throws InvalidOptionsError when an option is wrong.
 * @throws InstallError when another installed balancer has an `intercept` that overlaps, or fetch cannot be reached.
 * Nothing has been changed then.
 */
export function install(options: BalancerOptions): InstalledBalancer {
  return installResolved(resolveOptions(options))
}

/** `install` for options that were resolved where they came in: in a file, for `register`. */
export function installResolved(options: ResolvedOptions): InstalledBalancer {
  refuseOverlap(options, installed())
  const former = readGlobal()
  const isOnTop = options.dispatcher === undefined
  if (isOnTop) refuseLoops(options, installed())
  const handedIn = options.dispatcher ?? usableGlobal(former)
  const inner = handedIn ?? new Agent()
  const balancer = new Installed(new Prepared(options, inner), former, isOnTop, handedIn === undefined ? inner : undefined)
  balancer.put()
  return balancer
}

class Installed extends PriorityBalancer implements InstalledBalancer {
  readonly #former: FormerGlobal
  /** Sends through those that were installed before it. */
  readonly #isOnTop: boolean
  /** Ours to close, but not before `uninstall`: until then all that the process sends goes through it, also after `close()`. */
  readonly #ownAgent: DispatcherType | undefined
  #uninstalled: Promise<void> | undefined

  constructor(prepared: Prepared, former: FormerGlobal, isOnTop: boolean, ownAgent: DispatcherType | undefined) {
    super(prepared)
    this.#former = former
    this.#isOnTop = isOnTop
    this.#ownAgent = ownAgent
  }

  put(): void {
    writeGlobal([this, this])
    if (!seesFetch(this)) {
      writeGlobal(this.#former)
      void this.#end()
      throw new InstallError(
        'The global dispatcher was set, but Node\'s fetch does not go through it. Does this code run in a realm of its own (Jest, vm)? Then pass a PriorityBalancer as `dispatcher` to each client.',
      )
    }
    setInstalled([...installed(), this])
  }

  uninstall(): Promise<void> {
    if (this.#uninstalled === undefined) {
      const [first, second] = readGlobal()
      const isCovered = installed().at(-1) !== this && first !== this && second !== this
      // Not kept: once the other one is gone, asking again works.
      if (isCovered) return Promise.reject(new InstallError('A balancer that was installed later sends through this one. Uninstall that one first.'))
      this.#uninstalled = this.#uninstall(first, second)
    }
    return this.#uninstalled
  }

  async #uninstall(first: unknown, second: unknown): Promise<void> {
    writeGlobal([first === this ? this.#former[0] : first, second === this ? this.#former[1] : second])
    setInstalled(installed().filter((balancer) => balancer !== this))
    await this.#end()
  }

  async #end(): Promise<void> {
    await this.close()
    await this.#ownAgent?.close()
  }

  protected override approve(next: ResolvedOptions): void {
    const all = installed()
    refuseOverlap(next, all.filter((balancer) => balancer !== this))
    if (this.#isOnTop) refuseLoops(next, all.slice(0, Math.max(0, all.indexOf(this))))
  }
}

function installed(): readonly PriorityBalancer[] {
  return (globalThis as { [REGISTRY]?: readonly PriorityBalancer[] })[REGISTRY] ?? []
}

function setInstalled(balancers: readonly PriorityBalancer[]): void {
  Object.defineProperty(globalThis, REGISTRY, { value: balancers, writable: true, enumerable: false, configurable: true })
}

/** Two balancers for one URL would each retry what the other gives up. */
function refuseOverlap({ intercept }: ResolvedOptions, others: readonly PriorityBalancer[]): void {
  for (const { href } of intercept) {
    const taken = findOverlap(href, others)
    if (taken !== undefined) {
      throw new InstallError(`intercept: ${href} is balanced already, by a balancer that was installed for ${taken}. Uninstall that one first, or change it with update().`)
    }
  }
}

/** What one balancer has decided on, the one below it would decide on anew, and send a backend's own credential to another backend. */
function refuseLoops({ backends }: ResolvedOptions, below: readonly PriorityBalancer[]): void {
  backends.forEach(({ url }, index) => {
    const taken = findOverlap(url, below)
    if (taken !== undefined) {
      throw new InstallError(`backends[${index}].url: ${url} is balanced already, by a balancer that was installed for ${taken} and would send these requests elsewhere. Uninstall that one first, or pass a \`dispatcher\` of your own.`)
    }
  })
}

function findOverlap(href: string, balancers: readonly PriorityBalancer[]): string | undefined {
  return balancers.flatMap((balancer) => balancer.intercept).find((other) => isBaseOf(href, other) || isBaseOf(other, href))
}

function isBaseOf(base: string, href: string): boolean {
  return href === base || href.startsWith(`${base}/`)
}

/** Never reached: RFC 6761 section 6.4 keeps the domain free. */
const PROBE_URL = 'http://openai-priority-loadbalancer.invalid/'

/** Asks Node's own fetch. It calls its dispatcher before it returns, on every Node that there is. */
function seesFetch(balancer: PriorityBalancer): boolean {
  // Patched by a test library or an agent: calling it may be counted, recorded or refused there.
  if (!isNative(globalThis.fetch)) return true
  let seen = false
  balancer.dispatch = (_opts, handler) => {
    seen = true
    return refuse(handler as unknown as AnyHandler, new InstallError('Asked only whether fetch gets here.'))
  }
  globalThis.fetch(PROBE_URL).catch(() => {})
  // The method of the class again.
  delete (balancer as { dispatch?: unknown }).dispatch
  return seen
}

/** Node's own fetch is a function that loads the undici inside Node when it is first called. */
function isNative(fetch: unknown): boolean {
  return typeof fetch === 'function' && Function.prototype.toString.call(fetch).includes('internal/deps/undici')
}
