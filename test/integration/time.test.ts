/** Whose time it is: that of a backend, of a connection that is not free yet, or of our own process that stood still. */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import type { Agent as AgentType } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import type { BalancerOptions } from '../../src/options/index.js'
import { MAJORS, type Undici } from '../support/majors.js'
import { startScriptedBackend, type ScriptedBackend } from '../support/scripted-backend.js'
import { until, within } from '../support/until.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'

interface World {
  readonly balancer: VirtualBalancer
  readonly east: ScriptedBackend
  readonly west: ScriptedBackend
  /** The status of so many requests that are sent at once. */
  send(count: number): Promise<number[]>
}

async function setUp(t: TestContext, { Agent, request }: Undici, options: Partial<BalancerOptions> = {}, agentOptions: AgentType.Options = {}): Promise<World> {
  const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
  const backends = [{ name: 'east', url: east.url, priority: 1 }, { name: 'west', url: west.url, priority: 2 }]
  const balancer = new VirtualBalancer({ backends, dispatcher: new Agent(agentOptions), logger: false, ...options })
  t.after(async () => {
    await balancer.destroy()
    await Promise.all([east.close(), west.close()])
  })
  return {
    balancer, east, west,
    send: (count) => within(Promise.all(Array.from({ length: count }, async () => {
      const response = await request(`${east.url}/x`, { method: 'POST', body: '{}', dispatcher: balancer })
      await response.body.dump()
      return response.statusCode
    })), 'the answers'),
  }
}

const states = (balancer: VirtualBalancer): string[] => balancer.status().backends.map(({ state, failures }) => `${state}, ${failures} failures`)
const HEALTHY = ['available, 0 failures', 'available, 0 failures']

for (const [name, undici] of MAJORS) {
  describe(`${name}: time`, () => {
    test('that requests wait for one of four connections is not that of an attempt: 40 at once of 300 ms each within 1000 ms all succeed', async (t) => {
      const { balancer, east, west, send } = await setUp(t, undici, { attemptTimeoutMs: 1_000 }, { connections: 4 })
      const answers = send(40)
      for (let batch = 0; batch < 10; batch++) {
        const calls = [await east.next(), await east.next(), await east.next(), await east.next()]
        balancer.system.advance(300)
        for (const call of calls) call.respond(200)
      }
      assert.deepEqual(await answers, Array(40).fill(200))
      assert.deepEqual([states(balancer), west.calls.length], [HEALTHY, 0])
    })

    test('that an attempt spends on its connection counts, and the next backend answers', async (t) => {
      const { balancer, east, west, send } = await setUp(t, undici, { attemptTimeoutMs: 1_000 }, { connections: 4 })
      west.always((call) => call.respond(200))
      const answers = send(1)
      await east.next()
      balancer.system.advance(1_000)
      assert.deepEqual([await answers, west.calls.length], [[200], 1])
    })

    test('in which our own process stood still is no backend\'s: ten in flight are answered by the backend that they were sent to', async (t) => {
      const { balancer, east, west, send } = await setUp(t, undici, { attemptTimeoutMs: 1_000 })
      const answers = send(10)
      await until(() => east.calls.length === 10)
      balancer.system.freeze(2_000)
      east.always((call) => call.respond(200))
      assert.deepEqual(await answers, Array(10).fill(200))
      assert.deepEqual([states(balancer), east.calls.length, west.calls.length], [HEALTHY, 10, 0])
    })

    test('that a frozen process has spent does not refuse those who wait: all are served when all is free again', async (t) => {
      const { balancer, east, west, send } = await setUp(t, undici, { maxWaitMs: 10_000 })
      for (const backend of [east, west]) backend.always((call) => call.respond(429, { 'retry-after': '5' }))
      const answers = send(10)
      await until(() => balancer.status().waiting === 10)
      for (const backend of [east, west]) backend.always((call) => call.respond(200))
      balancer.system.freeze(12_000)
      assert.deepEqual(await answers, Array(10).fill(200))
    })
  })
}

test('a busy loop of ours ejects no backend, and all that was in flight is answered', async (t) => {
  const east = await startScriptedBackend()
  const balancer = new PriorityBalancer({ backends: [{ url: east.url, priority: 1 }], attemptTimeoutMs: 100, logger: false })
  t.after(async () => {
    await balancer.destroy()
    await east.close()
  })
  const answers = Array.from({ length: 10 }, () => fetch(`${east.url}/x`, { dispatcher: balancer as never }).then((response) => response.status))
  await until(() => east.calls.length === 10)
  for (const busyUntil = performance.now() + 350; performance.now() < busyUntil;);
  east.always((call) => call.respond(200))
  assert.deepEqual(await within(Promise.all(answers), 'the answers'), Array(10).fill(200))
  assert.deepEqual(balancer.status().backends.map(({ state, attempts, failures }) => [state, attempts, failures]), [['available', 10, 0]])
})
