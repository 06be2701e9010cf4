/** What the examples run on when there is no Azure and no OpenAI: one local server for each host that they name. */
import { AzureSimulator, type SimulatedBackend, type SimulatedBackendConfig } from '../demo/simulator/azure-simulator.js'
import { divert } from './divert.js'

export type LocalServers = Readonly<Record<string, Omit<SimulatedBackendConfig, 'name'>>>

/** The servers while an example runs: to break them, and to see what reached them. */
export interface Local {
  /** @param host as the example names it: 'contoso-east.openai.azure.com'. */
  server(host: string): SimulatedBackend
}

/**
 * Starts a server for each host, sends the process's requests for these hosts there, runs the example, and says at the
 * end what each server saw. `environment` is what a user's environment variables would hold.
 */
export async function runLocally(
  servers: LocalServers, example: (local: Local) => Promise<void>, environment: Readonly<Record<string, string>> = {},
): Promise<void> {
  const hosts = Object.keys(servers)
  const simulator = await AzureSimulator.start({ backends: Object.entries(servers).map(([name, server]) => ({ name, ...server })) })
  Object.assign(process.env, environment)
  const diversion = divert(Object.fromEntries(hosts.map((host) => [host, simulator.backend(host).origin])))
  try {
    await example({ server: (host) => simulator.backend(host) })
    console.log('\nWhat the servers saw:')
    for (const host of hosts) console.log(`  ${host}: ${describe(simulator.backend(host))}`)
  } finally {
    await diversion.destroy()
    await simulator.close()
  }
}

function describe({ counters }: SimulatedBackend): string {
  const answers = [...counters.statuses].sort(([a], [b]) => a - b).map(([status, count]) => `${count} x ${status}`)
  return `${counters.requests} request${counters.requests === 1 ? '' : 's'}${answers.length === 0 ? '' : ` (${answers.join(', ')})`}`
}
