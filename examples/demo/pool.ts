import { resolveOptions, type BalancerOptions } from '../../src/options/index.js'
import { UsageError, type Settings, type Target } from './arguments.js'
import { readRealOptions } from './real-backends.js'
import { AzureSimulator } from './simulator/azure-simulator.js'
import { TOPOLOGY } from './topology.js'

/** The backends of one run. */
export interface Pool {
  /** For `install`. */
  readonly options: BalancerOptions
  /** In the order in which they are preferred. */
  readonly backends: readonly PooledBackend[]
  close(): Promise<void>
}

export interface PooledBackend {
  readonly name: string
  readonly url: string
  readonly priority: number
  readonly models: Readonly<Record<string, string>> | undefined
  readonly query: readonly (readonly [string, string])[] | undefined
  readonly credential: { readonly scheme: 'api-key' | 'bearer', readonly value: string }
}

/**
 * Starts a fresh simulator, so that no run begins with limits that the other one has used up; or takes the real backends.
 * @throws UsageError or InvalidOptionsError
 */
export async function openPool(settings: Pick<Settings, 'real' | 'target'>, env: NodeJS.ProcessEnv): Promise<Pool> {
  if (settings.real !== undefined) {
    const options = readRealOptions(settings.real, env)
    return { options, backends: describeBackends(options), close: () => Promise.resolve() }
  }
  const simulator = await AzureSimulator.start({ backends: TOPOLOGY.map((backend) => backend.simulated) })
  const options = simulatedOptions(simulator, settings.target)
  return { options, backends: describeBackends(options), close: () => simulator.close() }
}

function simulatedOptions(simulator: AzureSimulator, target: Target): BalancerOptions {
  return {
    backends: TOPOLOGY.map(({ priority, simulated: { name, apiKeys } }) => {
      const backend = simulator.backend(name)
      return { name, priority, url: target.kind === 'model' ? backend.url : backend.origin, apiKey: apiKeys?.[0] ?? '' }
    }),
  }
}

function describeBackends(options: BalancerOptions): PooledBackend[] {
  return resolveOptions(options).backends
    .map((backend, index) => ({ ...backend, query: backend.query, credential: readCredential(options, index) }))
    .sort((a, b) => a.priority - b.priority)
}

function readCredential(options: BalancerOptions, index: number): PooledBackend['credential'] {
  const { apiKey, bearerToken } = options.backends[index] ?? {}
  if (typeof apiKey === 'string') return { scheme: 'api-key', value: apiKey }
  if (typeof bearerToken === 'string') return { scheme: 'bearer', value: bearerToken }
  throw new UsageError(`backends[${index}] needs an apiKey or a bearerToken: the standard run asks a backend without a balancer's help`)
}
