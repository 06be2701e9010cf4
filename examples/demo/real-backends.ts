import { readConfigFile } from '../../src/options/config-file.js'
import type { BackendOptions, BalancerOptions } from '../../src/options/index.js'
import { UsageError, type Settings } from './arguments.js'

/**
 * The options for real backends, from a file or from the environment.
 * @throws UsageError or InvalidOptionsError
 */
export function readRealOptions(source: NonNullable<Settings['real']>, env: NodeJS.ProcessEnv): BalancerOptions {
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
