/**
 * The backends of a run: a fresh simulator, a file or the environment, seen in two ways. `install` takes options; the
 * standard run, which has no balancer, has to know URL, name of the model and key of the first backend by itself.
 */
import { readConfigFile } from '../../src/options/config-file.js'
import { resolveOptions, type BackendOptions, type BalancerOptions } from '../../src/options/index.js'
import { UsageError, type Settings, type Target } from './arguments.js'
import { TOPOLOGY } from './scenario.js'
import { AzureSimulator } from './simulator/azure-simulator.js'

/** The backends of one run. */
export interface Pool {
  /** For `install`. */
  readonly options: BalancerOptions
  /** In the order in which they are preferred. */
  readonly backends: readonly PooledBackend[]
  /** Takes all backends out (connections are refused), or back in; only a simulator can. */
  setReachable(isReachable: boolean): Promise<void>
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
    const setReachable = (): Promise<void> => Promise.reject(new Error('real backends cannot be taken out'))
    return { options, backends: describeBackends(options), setReachable, close: () => Promise.resolve() }
  }
  const simulator = await AzureSimulator.start({ backends: TOPOLOGY.map((backend) => backend.simulated) })
  const options = simulatedOptions(simulator, settings.target)
  const setReachable = async (isReachable: boolean): Promise<void> => {
    await Promise.all(simulator.backends.map((backend) => isReachable ? backend.open() : backend.close()))
  }
  return { options, backends: describeBackends(options), setReachable, close: () => simulator.close() }
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

/**
 * The options for real backends, from a file or from the environment.
 * @throws UsageError or InvalidOptionsError
 */
function readRealOptions(source: NonNullable<Settings['real']>, env: NodeJS.ProcessEnv): BalancerOptions {
  return source.kind === 'file' ? readConfigFile(source.path, env).given : { backends: readEnvironment(env) }
}

function readEnvironment(env: NodeJS.ProcessEnv): BackendOptions[] {
  const backends: BackendOptions[] = []
  for (let n = 1; ; n += 1) {
    const url = env[`BACKEND_${n}_URL`]
    if (url === undefined) return backends
    const apiKey = env[`BACKEND_${n}_API_KEY`]
    const bearerToken = env[`BACKEND_${n}_BEARER_TOKEN`]
    if (!apiKey && !bearerToken) throw new UsageError(`BACKEND_${n}_URL needs BACKEND_${n}_API_KEY or BACKEND_${n}_BEARER_TOKEN beside it`)
    const priority = Number(env[`BACKEND_${n}_PRIORITY`] ?? 1)
    backends.push({ url, priority, ...(apiKey && { apiKey }), ...(bearerToken && { bearerToken }) })
  }
}
