import { install } from '../../src/index.js'
import type { Settings } from './arguments.js'
import { createSender } from './client.js'
import { openPool, type PooledBackend } from './pool.js'
import { RunLog } from './run-log.js'
import { sendAll } from './send-all.js'
import { WireTap } from './wire-tap.js'
import type { PlannedCall } from './workload.js'

/** What is done with the work. */
export interface RunPlan {
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
    onStart({ plan, planned: work.length, backends, log })
    const send = createSender(first, settings.target, () => { log.throttledSeen += 1 })
    await sendAll(work, send, log, { concurrency: settings.concurrency, signal })
  } finally {
    tap.close()
    await balancer?.uninstall()
    await pool.close()
  }
}
