/** Two scripted backends behind a balancer, over an Agent of the undici that is tested. */
import type { TestContext } from 'node:test'
import type { Agent } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import type { Undici } from './majors.js'
import { startScriptedBackend, type ScriptedBackend } from './scripted-backend.js'
import { testCertificate } from './tls.js'

export interface Pair {
  /** Of priority 1. */
  readonly east: ScriptedBackend
  /** Of priority 2. */
  readonly west: ScriptedBackend
  readonly agent: Agent
  readonly balancer: PriorityBalancer
}

/** All of it ends with the test. */
export async function startPair (t: TestContext, undici: Undici, protocol: 'http' | 'h2' = 'http'): Promise<Pair> {
  const certificate = protocol === 'h2' ? await testCertificate() : undefined
  const options = certificate === undefined ? {} : { protocol, certificate }
  const [east, west] = await Promise.all([startScriptedBackend(options), startScriptedBackend(options)])
  const agent = new undici.Agent(certificate === undefined ? {} : { allowH2: true, connect: { ca: certificate.ca } })
  const balancer = new PriorityBalancer({ backends: [{ url: east.url, priority: 1 }, { url: west.url, priority: 2 }], dispatcher: agent, logger: false })
  t.after(async () => {
    await balancer.destroy()
    await agent.destroy()
    await Promise.all([east.close(), west.close()])
  })
  return { east, west, agent, balancer }
}
