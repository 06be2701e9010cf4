/**
 * A demo, and a test of a client, need several services that are limited together, under one clock and one seed. This is
 * the simulator's front door.
 */
import { SimulatedBackend, type Fault, type SimulatedBackendConfig, type SimulatorClock } from './backend.js'

export type { DeploymentLimits, ProvisionedLimits, StandardLimits } from './deployment.js'
export { SimulatedBackend, type Fault, type SimulatedBackendConfig, type SimulatorClock } from './backend.js'

interface SimulatorOptions {
  readonly backends: readonly SimulatedBackendConfig[]
  /** Time for limits and latencies. Default real time. */
  readonly clock?: SimulatorClock
  /** Seed of the latencies. Default 1. */
  readonly seed?: number
}

/**
 * Azure OpenAI without Azure: one HTTP server on loopback per backend, with the routes, limits, headers, error
 * bodies and failures of the real ones, close enough for the `openai` package and for a load balancer.
 *
 * ```ts
 * const simulator = await AzureSimulator.start({
 *   backends: [
 *     { name: 'ptu', apiKeys: ['key-1'], limits: { kind: 'provisioned', tokensPerSecond: 2000, depthMs: 2000 } },
 *     { name: 'west', limits: { kind: 'standard', requestsPerMinute: 600, requestWindowMs: 1000 } },
 *   ],
 * })
 * const client = new OpenAI({ baseURL: simulator.backend('ptu').url, apiKey: 'key-1' })
 * simulator.inject('ptu', { kind: 'status', status: 503, retryAfter: '2' }, 3)  // the next three requests
 * await simulator.backend('west').close()                                       // connection refused ...
 * await simulator.backend('west').open()                                        // ... and back, on the same port
 * simulator.backend('ptu').counters.throttled                                   // 429s that it really sent
 * await simulator.close()
 * ```
 *
 * Routes: `/openai/deployments/{deployment}/chat/completions` and `/embeddings`; `/openai/v1/` (or `/v1/`) with
 * `chat/completions`, `responses` and `embeddings`; chat and responses as JSON and as server-sent events.
 * With a `ManualClock` nothing takes time until the test says so: limits refill and delays end on `advance`.
 */
export class AzureSimulator {
  readonly backends: readonly SimulatedBackend[]

  private constructor(backends: readonly SimulatedBackend[]) {
    this.backends = backends
  }

  /** Starts a server per backend, each on a free port. When one cannot, none is left behind. */
  static async start(options: SimulatorOptions): Promise<AzureSimulator> {
    const random = createRandom(options.seed ?? 1)
    const backends = options.backends.map((config) => new SimulatedBackend(config, options.clock ?? wallClock, random))
    const simulator = new AzureSimulator(backends)
    try {
      await Promise.all(backends.map((backend) => backend.open()))
    } catch (error) {
      await simulator.close()
      throw error
    }
    return simulator
  }

  /** @throws RangeError when there is no backend of that name. */
  backend(name: string): SimulatedBackend {
    const found = this.backends.find((backend) => backend.name === name)
    if (found === undefined) {
      throw new RangeError(`there is no backend '${name}', only ${this.backends.map((backend) => `'${backend.name}'`).join(', ')}`)
    }
    return found
  }

  /** Orders a fault for the next `times` requests to a backend (default: for all from now on). */
  inject(name: string, fault: Fault, times = Infinity): void {
    this.backend(name).inject(fault, times)
  }

  /** Cuts all connections and closes all servers. Calling it again does nothing. */
  async close(): Promise<void> {
    await Promise.all(this.backends.map((backend) => backend.close()))
  }
}

/** Real time. */
const wallClock: SimulatorClock = {
  now: () => performance.now(),
  delay: (delayMs, signal) => new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const finish = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', finish)
      resolve()
    }
    const timer = setTimeout(finish, delayMs)
    signal.addEventListener('abort', finish, { once: true })
  }),
}

/** Time that stands still until a test moves it. */
export class ManualClock implements SimulatorClock {
  #now = 0
  readonly #sleepers = new Set<{ readonly dueAt: number, readonly wake: () => void }>()

  now(): number {
    return this.#now
  }

  /** How many requests wait for time to pass. */
  get sleeping(): number {
    return this.#sleepers.size
  }

  /** Moves time on and wakes whatever is due. */
  advance(byMs: number): void {
    this.#now += byMs
    for (const sleeper of [...this.#sleepers]) if (sleeper.dueAt <= this.#now) sleeper.wake()
  }

  delay(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#sleepers.delete(sleeper)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      const sleeper = { dueAt: this.#now + delayMs, wake }
      if (signal.aborted || delayMs <= 0) return resolve()
      this.#sleepers.add(sleeper)
      signal.addEventListener('abort', wake, { once: true })
    })
  }
}

/** Mulberry32: uniform in [0, 1), the same sequence for the same seed, so that both runs get the same work. */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
