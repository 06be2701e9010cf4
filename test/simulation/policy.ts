/** The library's own pool as a policy of the simulator: nothing of it is re-implemented, only its words are translated. */
import { Pool } from '../../src/core/pool.js'
import type { Attempt, AttemptEnd, BackendConfig, PoolConfig, PoolListener, PoolRequest, OutcomeClass } from '../../src/core/types.js'
import type { AttemptResult, Decision, Policy, PolicyContext, PolicyEnv, PolicyInstance, RequestView } from './contract.js'

interface SimulatedConfig extends BackendConfig {
  readonly index: number
}

/** A request as the undici shell would present it. */
class Call implements PoolRequest {
  readonly scope = 'gpt-4o'
  readonly pinned = false
  readonly bodyBytes: number
  attempts = 0
  tried: unknown[] | undefined = undefined
  lastOutcome: OutcomeClass | undefined = undefined
  waitingSince: number | undefined
  attempt: Attempt<SimulatedConfig> | undefined
  readonly #env: PolicyEnv
  readonly #view: RequestView

  constructor(env: PolicyEnv, view: RequestView) {
    this.#env = env
    this.#view = view
    this.bodyBytes = view.bodyBytes
  }

  wake(): void {
    this.#env.wake(this.#view)
  }
}

class PoolPolicy implements PolicyInstance {
  readonly #env: PolicyEnv
  readonly #pool: Pool<SimulatedConfig>
  readonly #calls = new WeakMap<RequestView, Call>()

  constructor({ backends, env }: PolicyContext, options: Partial<PoolConfig>) {
    const configs = backends.map(({ index, name, priority }): SimulatedConfig => ({
      index, name, priority, url: `https://${name}.example`, weight: 1, ownsCredential: true, models: undefined,
    }))
    const [home] = configs
    if (home === undefined) throw new RangeError('no backends')
    this.#env = env
    const system = { now: () => env.now(), wallNow: () => env.now(), random: () => env.random(), setTimer: env.setTimer }
    this.#pool = new Pool({ ...CONFIG, ...options, backends: configs, home }, system, SILENT)
  }

  pick(now: number, view: RequestView): Decision {
    let call = this.#calls.get(view)
    if (call === undefined) this.#calls.set(view, call = new Call(this.#env, view))
    const answer = this.#pool.acquire(call, now)
    switch (answer.kind) {
      case 'send':
        call.attempt = answer
        return answer.backend.index
      case 'wait': return { queue: true }
      case 'reject': return { reject: answer.retryAfterMs }
      case 'surface': return { surface: true }
      case 'closed': throw new Error('the pool is closed')
    }
  }

  onHeaders(now: number, _backend: number, view: RequestView, result: AttemptResult): void {
    this.#pool.headers(this.#attemptOf(view), result.status, result.headers, now)
  }

  onResult(now: number, _backend: number, view: RequestView, result: AttemptResult): void {
    const attempt = this.#attemptOf(view)
    if (result.error === undefined && result.status !== 200) this.#pool.headers(attempt, result.status, result.headers, now)
    this.#pool.settle(attempt, endOf(result), now)
  }

  #attemptOf(view: RequestView): Attempt<SimulatedConfig> {
    const attempt = this.#calls.get(view)?.attempt
    if (attempt === undefined) throw new Error(`request ${view.id} was never sent`)
    return attempt
  }
}

function endOf({ error }: AttemptResult): AttemptEnd {
  if (error === undefined) return 'completed'
  return error.endsWith('TIMEOUT') ? 'timeout' : 'connection'
}

/** The defaults of the options, but for a wait of up to 10 s. */
const CONFIG = {
  maxAttempts: undefined, maxWaitMs: 10_000, cooldownMs: 10_000, maxCooldownMs: 60_000, pacing: true, latencyGuard: true,
  retryBudget: { ratio: 0.2, minPerSecond: 10 },
} satisfies Partial<PoolConfig>

const nothing = (): void => {}
const SILENT: PoolListener<SimulatedConfig> = {
  picked: nothing, answered: nothing, failover: nothing, cooldown: nothing, ejected: nothing, readmitted: nothing,
  waiting: nothing, waited: nothing, exhausted: nothing,
}

export function createPolicy(name: string, options: Partial<PoolConfig> = {}): Policy {
  return { name, create: (context) => new PoolPolicy(context, options) }
}

export const { name, create } = createPolicy('balancer')
