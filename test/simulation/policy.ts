/** The library's own pool as a policy of the simulator: nothing of it is re-implemented, only its words are translated. */
import { Pool } from '../../src/core/pool.js'
import { PoolRequest, type Attempt, type PoolListener } from '../../src/core/request.js'
import type { AttemptEnd, BackendConfig, PoolConfig, ResponseHeaders } from '../../src/core/types.js'
import type { AttemptResult, Decision, Policy, PolicyContext, PolicyEnv, PolicyInstance, RequestView } from './contract.js'

/** A request as the undici shell would present it. */
class Call extends PoolRequest {
  override readonly scope = 'gpt-4o'
  override readonly bodyBytes: number
  readonly pinned = false
  attempt: Attempt | undefined
  readonly #env: PolicyEnv
  readonly #view: RequestView

  constructor(env: PolicyEnv, view: RequestView) {
    super()
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
  readonly #pool: Pool
  readonly #indexes: ReadonlyMap<string, number>
  readonly #calls = new WeakMap<RequestView, Call>()

  constructor({ backends, env }: PolicyContext, options: Partial<PoolConfig>) {
    const configs = backends.map(({ name, priority }): BackendConfig => {
      const origin = `https://${name}.example`
      return { name, priority, url: origin, weight: 1, ownsCredential: true, models: undefined, origin, basePath: '', query: undefined, credential: undefined }
    })
    this.#indexes = new Map(backends.map(({ name, index }) => [name, index]))
    const [home] = configs
    if (home === undefined) throw new RangeError('no backends')
    this.#env = env
    const system = { now: () => env.now(), wallNow: () => env.now(), random: () => env.random(), setTimer: env.setTimer, nextTurn: () => {} }
    this.#pool = new Pool({ ...CONFIG, ...options, backends: configs, home }, system, SILENT)
  }

  pick(now: number, view: RequestView): Decision {
    let call = this.#calls.get(view)
    if (call === undefined) this.#calls.set(view, call = new Call(this.#env, view))
    const answer = this.#pool.acquire(call, now)
    switch (answer.kind) {
      case 'send':
        call.attempt = answer
        return this.#indexes.get(answer.backend.name) as number // named by the simulation
      case 'wait': return { queue: true }
      case 'reject': return { reject: answer.retryAfterMs }
      case 'surface': return { surface: true }
      case 'unserved': throw new Error('every backend serves every model')
      case 'closed': throw new Error('the pool is closed')
    }
  }

  onHeaders(now: number, _backend: number, view: RequestView, result: AttemptResult): void {
    this.#answer(this.#attemptOf(view), result, now)
  }

  onResult(now: number, _backend: number, view: RequestView, result: AttemptResult): void {
    const attempt = this.#attemptOf(view)
    if (result.error === undefined && result.status !== 200) this.#answer(attempt, result, now)
    this.#pool.settle(attempt, endOf(result), now)
  }

  #answer(attempt: Attempt, { status, headers }: { status: number, headers: ResponseHeaders }, now: number): void {
    this.#pool.conclude(attempt, this.#pool.headers(attempt, status, headers, now), now)
  }

  #attemptOf(view: RequestView): Attempt {
    const attempt = this.#calls.get(view)?.attempt
    if (attempt === undefined) throw new Error(`request ${view.id} was never sent`)
    return attempt
  }
}

function endOf({ error }: AttemptResult): AttemptEnd {
  if (error === undefined) return 'completed'
  return 'connection'
}

/** The defaults of the options, but for a wait of up to 10 s. */
const CONFIG = {
  maxAttempts: undefined, maxWaitMs: 10_000, cooldownMs: 10_000, maxCooldownMs: 60_000, pacing: true, latencyGuard: true, probe: true,
  retryBudget: { ratio: 0.2, minPerSecond: 10 },
} satisfies Partial<PoolConfig>

const SILENT: PoolListener = { hears: () => false, tell: () => {} }

export function createPolicy(name: string, options: Partial<PoolConfig> = {}): Policy {
  return { name, create: (context) => new PoolPolicy(context, options) }
}

export const { name, create } = createPolicy('balancer')
