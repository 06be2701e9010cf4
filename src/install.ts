/** The one-liner: every fetch of the process goes through a balancer. */
import { PriorityBalancer } from './balancer.js'
import { InstallError } from './errors.js'
import { readGlobal, usableGlobal, writeGlobal, type FormerGlobal } from './global-dispatcher.js'
import { resolveOptions, type BalancerOptions, type BaseUrl } from './options.js'
import { refuse } from './undici/caller-handler.js'
import { fromUndici } from './undici/handlers.js'

/** A balancer that is the process's global dispatcher, until it is uninstalled. */
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
 * dispatcher that was global before (a proxy or a mock stays in force) or `options.dispatcher`.
 * @throws InvalidOptionsError when an option is wrong.
 * @throws InstallError when another installed balancer has an `intercept` that overlaps, or fetch cannot be reached.
 * Nothing has been changed then.
 */
export function install(options: BalancerOptions): InstalledBalancer {
  const { intercept } = resolveOptions(options)
  refuseOverlap(intercept)
  const former = readGlobal()
  const dispatcher = options.dispatcher ?? usableGlobal(former)
  const balancer = new Installed(dispatcher === undefined ? options : { ...options, dispatcher }, former)
  balancer.put()
  return balancer
}

class Installed extends PriorityBalancer implements InstalledBalancer {
  readonly #former: FormerGlobal
  #uninstalled: Promise<void> | undefined

  constructor(options: BalancerOptions, former: FormerGlobal) {
    super(options)
    this.#former = former
  }

  put(): void {
    writeGlobal([this, this])
    if (!seesFetch(this)) {
      writeGlobal(this.#former)
      void this.close()
      throw new InstallError(
        'The global dispatcher was set, but Node\'s fetch does not go through it. Does this code run in a realm of its own (Jest, vm)? Then pass a PriorityBalancer as `dispatcher` to each client.',
      )
    }
    installed().push(this)
  }

  uninstall(): Promise<void> {
    return (this.#uninstalled ??= this.#uninstall())
  }

  async #uninstall(): Promise<void> {
    const all = installed()
    const later = all.indexOf(this) < all.length - 1
    const [first, second] = readGlobal()
    if (later && first !== this && second !== this) {
      this.#uninstalled = undefined
      throw new InstallError('A balancer that was installed later sends through this one. Uninstall that one first.')
    }
    all.splice(all.indexOf(this), 1)
    writeGlobal([first === this ? this.#former[0] : first, second === this ? this.#former[1] : second])
    await this.close()
  }
}

function installed(): PriorityBalancer[] {
  const shared = globalThis as { [REGISTRY]?: PriorityBalancer[] }
  return (shared[REGISTRY] ??= [])
}

/** Two balancers for one URL would each retry what the other gives up. */
function refuseOverlap(intercept: readonly BaseUrl[]): void {
  for (const other of installed().flatMap((balancer) => balancer.intercept)) {
    for (const { href } of intercept) {
      if (isBaseOf(href, other) || isBaseOf(other, href)) {
        throw new InstallError(`intercept: ${href} is balanced already, by a balancer that was installed for ${other}. Uninstall that one first, or change it with update().`)
      }
    }
  }
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
    return refuse(fromUndici(handler), new InstallError('Asked only whether fetch gets here.'))
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
