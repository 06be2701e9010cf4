import { Backend } from './backend.js'
import type { BackendConfig, PoolConfig } from './types.js'

/** The backends of a pool in the order in which they are asked, sorted once. */
export class Roster<B extends BackendConfig> {
  /** By priority; within one as configured. */
  readonly backends: readonly Backend<B>[]
  /** For each priority in use the position after its last backend. */
  readonly tierEnds: readonly number[]
  readonly home: Backend<B>

  /** @param known from before an update: a backend of the same name and URL goes on with what was learned. */
  constructor(config: PoolConfig<B>, known: readonly Backend<B>[]) {
    for (const backend of known) backend.index = -1
    const kept = new Map(known.map((backend) => [identify(backend.config), backend]))
    const backends = config.backends.map((backendConfig) => {
      const backend = kept.get(identify(backendConfig)) ?? new Backend(backendConfig)
      backend.config = backendConfig
      return backend
    })
    this.backends = backends.sort((a, b) => a.config.priority - b.config.priority)
    const tierEnds: number[] = []
    backends.forEach((backend, index) => {
      backend.index = index
      if (backend.config.priority !== backends[index + 1]?.config.priority) tierEnds.push(index + 1)
    })
    this.tierEnds = tierEnds
    const home = backends.find((backend) => backend.config.name === config.home.name)
    if (home === undefined) throw new RangeError(`home: must be one of the backends, got "${config.home.name}"`)
    this.home = home
  }
}

function identify(config: BackendConfig): string {
  return `${config.name}\n${config.url}`
}
