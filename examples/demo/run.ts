/**
 * One run: fresh backends, a balancer or none, all of the work, and a look at the wire. The application's own log cannot
 * show what the comparison is about, namely which backend was asked how often, since retries and failovers are hidden
 * from it.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { setTimeout as sleep } from 'node:timers/promises'
import { install } from '../../src/index.js'
import { createSender, RunLog, sendAll } from './application.js'
import type { Settings } from './arguments.js'
import { openPool, type Pool, type PooledBackend } from './backends.js'
import { outageMs, type PlannedCall } from './scenario.js'

/** What is done with the work. */
interface RunPlan {
  readonly name: 'standard' | 'balanced' | 'unpaced' | 'paced'
  readonly title: string
  /** `undefined`: no balancer. */
  readonly balancing: { readonly pacing: boolean } | undefined
}

/** A run that is under way or over. */
export interface Run {
  readonly plan: RunPlan
  readonly planned: number
  /** Those that were used, preferred ones first. */
  readonly backends: readonly PooledBackend[]
  readonly log: RunLog
}

/** The two runs that are compared. */
export function planRuns(settings: Pick<Settings, 'compare' | 'pacing'>): RunPlan[] {
  if (settings.compare === 'pacing') {
    return [
      { name: 'unpaced', title: 'all backends, without pacing', balancing: { pacing: false } },
      { name: 'paced', title: 'all backends, with pacing', balancing: { pacing: true } },
    ]
  }
  return [
    { name: 'standard', title: 'one backend, with the retries of the openai package', balancing: undefined },
    {
      name: 'balanced',
      title: `all backends, through the balancer${settings.pacing ? '' : ' without pacing'}`,
      balancing: { pacing: settings.pacing },
    },
  ]
}

/** Does the work once, from fresh backends to none left behind. `onStart` gets the run as soon as there is one to watch. */
export async function performRun(
  plan: RunPlan, work: readonly PlannedCall[], settings: Settings, env: NodeJS.ProcessEnv,
  signal: AbortSignal, onStart: (run: Run) => void,
): Promise<void> {
  const pool = await openPool(settings, env)
  const [first] = pool.backends
  if (first === undefined) throw new Error('a pool without backends')
  const balancer = plan.balancing && install({
    ...pool.options,
    pacing: plan.balancing.pacing,
    ...(settings.maxWaitMs > 0 && { maxWaitMs: settings.maxWaitMs }),
    ...(!settings.verbose && { logger: false as const }),
  })
  const log = new RunLog()
  const backends = balancer === undefined ? [first] : pool.backends
  const tap = new WireTap(backends, log)
  try {
    const outMs = outageMs(settings)
    if (outMs > 0) await pool.setReachable(false)
    onStart({ plan, planned: work.length, backends, log })
    const send = createSender(first, settings.target, () => { log.throttledSeen += 1 })
    const sent = sendAll(work, send, log, { concurrency: settings.concurrency, signal })
    await Promise.all([sent, outMs > 0 ? endOutage(pool, outMs, signal) : undefined])
  } finally {
    tap.close()
    await balancer?.uninstall()
    await pool.close()
  }
}

async function endOutage(pool: Pool, afterMs: number, signal: AbortSignal): Promise<void> {
  // An interruption ends the run, and the outage with it.
  await sleep(afterMs, undefined, { signal }).catch(() => undefined)
  if (!signal.aborted) await pool.setReachable(true)
}

/** The part of undici's request object that its diagnostics channels document. */
interface WireRequest {
  readonly method: string
  readonly origin: string | URL
  readonly path: string
}

interface TappedBackend {
  readonly name: string
  readonly url: string
}

/**
 * Writes into a log what really goes over the wire, with a balancer or without one: undici, Node's own copy of it
 * included, tells of every request on `undici:request:headers` and `undici:request:error`.
 */
class WireTap {
  readonly #log: RunLog
  readonly #backends: readonly { readonly name: string, readonly origin: string, readonly path: string }[]
  readonly #answered = new WeakSet<WireRequest>()

  constructor(backends: readonly TappedBackend[], log: RunLog) {
    this.#log = log
    this.#backends = backends.map(({ name, url }) => {
      const { origin, pathname } = new URL(url)
      return { name, origin, path: pathname.replace(/\/$/, '') }
    })
    subscribe('undici:request:headers', this.#onHeaders)
    subscribe('undici:request:error', this.#onError)
  }

  close(): void {
    unsubscribe('undici:request:headers', this.#onHeaders)
    unsubscribe('undici:request:error', this.#onError)
  }

  readonly #onHeaders = (message: unknown): void => {
    const { request, response } = message as { request: WireRequest, response: { statusCode: number } }
    // An interim answer (103) is not the answer.
    if (response.statusCode < 200) return
    this.#answered.add(request)
    this.#record(request, response.statusCode)
  }

  readonly #onError = (message: unknown): void => {
    const { request, error } = message as { request: WireRequest, error: Error }
    // What breaks after the headers was counted with them; what was given up here is no failure.
    if (this.#answered.has(request) || error.name === 'AbortError') return
    this.#record(request, undefined)
  }

  #record(request: WireRequest, status: number | undefined): void {
    // The balancer's own question whether a backend is there again: no call is behind it.
    if (request.method === 'HEAD') return
    const { origin } = new URL(request.origin)
    const backend = this.#backends.find((one) => one.origin === origin && request.path.startsWith(`${one.path}/`))
    if (backend !== undefined) this.#log.attempts.push({ atMs: this.#log.nowMs(), backend: backend.name, status })
  }
}
