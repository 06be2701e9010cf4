/** The caller gives up: surfaced at once, once, with the caller's own reason, and nothing is left behind. */
import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, test, type TestContext } from 'node:test'
import { PriorityBalancer } from '../../src/balancer.js'
import type { BackendOptions, BalancerOptions } from '../../src/options/index.js'
import { gate } from '../support/gate.js'
import { MAJORS, undici7, type Undici } from '../support/majors.js'
import { startRawServer } from '../support/raw-server.js'
import { startScriptedBackend, type ScriptedBackend } from '../support/scripted-backend.js'
import { turns, until, within } from '../support/until.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'

type Balancer = Pick<PriorityBalancer, 'dispatch' | 'status' | 'destroy'>

/** One way to ask. `body` reads the whole body; what either rejects with is what the caller sees. */
interface Way {
  readonly name: string
  readonly undici: Undici
  /** Whether the body comes to the dispatcher as the caller gave it. */
  readonly givesSource: boolean
  send(url: string, balancer: Balancer, signal: AbortSignal, body?: unknown): Promise<{ readonly status: number, readonly body: () => Promise<string> }>
}

const throughFetch = (name: string, undici: Undici, fetch: typeof globalThis.fetch): Way => ({
  name, undici, givesSource: false,
  async send(url, balancer, signal, body) {
    const response = await fetch(url, { method: 'POST', body: body ?? 'ping', signal, duplex: 'half', dispatcher: balancer } as unknown as RequestInit)
    return { status: response.status, body: () => response.text() }
  },
})

const throughRequest = (name: string, undici: Undici): Way => ({
  name, undici, givesSource: true,
  async send(url, balancer, signal, body = 'ping') {
    const response = await undici.request(url, { method: 'POST', body: body as string, signal, dispatcher: balancer as PriorityBalancer })
    return { status: response.statusCode, body: () => response.body.text() }
  },
})

const WAYS: readonly Way[] = [
  throughFetch('Node\'s own fetch', undici7, globalThis.fetch),
  ...MAJORS.flatMap(([name, undici]) => [throughFetch(`${name}: fetch`, undici, undici.fetch as unknown as typeof globalThis.fetch), throughRequest(`${name}: request`, undici)]),
]

/** What nobody has handled, and what Node warns of, while the test runs. */
function watchProcess(t: TestContext): { assertQuiet(): Promise<void> } {
  const heard: unknown[] = []
  const hear = (what: unknown): void => { heard.push(what) }
  process.on('unhandledRejection', hear).on('warning', hear)
  t.after(() => process.off('unhandledRejection', hear).off('warning', hear))
  return {
    async assertQuiet() {
      await turns(5)
      assert.deepEqual(heard, [])
    },
  }
}

interface World {
  readonly east: ScriptedBackend
  readonly west: ScriptedBackend
  readonly balancer: Balancer
  readonly url: string
}

async function setUp(t: TestContext, { undici }: Way, options: Partial<BalancerOptions> = {}, ofEast: Partial<BackendOptions> = {}): Promise<World> {
  const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
  const agent = new undici.Agent()
  const balancer = new PriorityBalancer({ backends: [{ url: east.url, priority: 1, ...ofEast }, { url: west.url, priority: 2 }], dispatcher: agent, logger: false, ...options })
  t.after(async () => {
    await balancer.destroy()
    await agent.destroy()
    await Promise.all([east.close(), west.close()])
  })
  return { east, west, balancer, url: `${east.url}/x` }
}

for (const way of WAYS) {
  describe(way.name, () => {
    const reason = new Error('the user has left')

    /** Runs a request that is given up when `act` is over, and looks at what comes of it. */
    async function giveUp(t: TestContext, world: World, act: (answer: Promise<unknown>) => Promise<unknown>, body?: unknown): Promise<void> {
      const quiet = watchProcess(t)
      const controller = new AbortController()
      const answer = way.send(world.url, world.balancer, controller.signal, body)
      let settled = false
      answer.then(() => { settled = true }, () => { settled = true })
      await act(answer)
      assert.equal(settled, false, 'not over before it is given up')
      controller.abort(reason)
      await turns(2)
      assert.equal(settled, true, 'surfaced at once')
      assert.equal(await answer.catch((error: unknown) => error), reason)
      assert.deepEqual(world.balancer.status().backends.map(({ inFlight, failures }) => [inFlight, failures]), [[0, 0], [0, 0]])
      await quiet.assertQuiet()
    }

    test('before the request is made', async (t) => {
      const world = await setUp(t, way)
      await assert.rejects(way.send(world.url, world.balancer, AbortSignal.abort(reason)), reason)
      await turns(5)
      assert.equal(world.east.calls.length, 0)
    })

    test('while the body is read', async (t) => {
      const world = await setUp(t, way)
      const stream = new PassThrough()
      stream.write('begun')
      await giveUp(t, world, async () => { (await world.east.next()).request.stream.resume() }, stream)
      // fetch keeps the source to itself, and does not tell it; so it is without a balancer.
      if (way.givesSource) await until(() => stream.destroyed, 'the source is told')
      await until(() => world.east.connections.open === 0, 'the socket is free')
    })

    test('while a credential is fetched', async (t) => {
      const asked = gate()
      const token = gate<string>()
      const world = await setUp(t, way, {}, { bearerToken: () => { asked.open(); return token.promise } })
      await giveUp(t, world, () => asked.promise)
      token.open('too late')
      await turns(5)
      assert.equal(world.east.calls.length, 0)
    })

    test('while the connection is made', async (t) => {
      // TLS to a server that accepts and says nothing: connected, and not connected.
      const accepted = gate()
      const silent = await startRawServer(async (connection) => { accepted.open(); await connection.hold() })
      t.after(() => silent.close())
      const world = await setUp(t, way)
      const url = silent.url.replace('http:', 'https:')
      const agent = new way.undici.Agent()
      const balancer = new PriorityBalancer({ backends: [{ url, priority: 1 }, { url: world.west.url, priority: 2 }], dispatcher: agent, logger: false })
      t.after(async () => { await balancer.destroy(); await agent.destroy() })
      await giveUp(t, { ...world, balancer, url: `${url}/x` }, () => accepted.promise)
      assert.equal(world.west.calls.length, 0)
    })

    test('in the first attempt, before its headers', async (t) => {
      const world = await setUp(t, way)
      await giveUp(t, world, () => world.east.next())
      await until(() => world.east.calls[0]?.isAborted, 'the server sees it')
      assert.equal(world.west.calls.length, 0)
    })

    test('in the second attempt', async (t) => {
      const world = await setUp(t, way)
      await giveUp(t, world, async () => {
        (await world.east.next()).respond(429, { 'retry-after': '1' })
        await world.west.next()
      })
      await until(() => world.west.calls[0]?.isAborted, 'the server sees it')
      assert.deepEqual([world.east.calls.length, world.west.calls.length], [1, 1])
    })

    test('while it waits for a backend', async (t) => {
      const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
      const balancer = new VirtualBalancer({ backends: [{ url: east.url, priority: 1 }, { url: west.url, priority: 2 }], logger: false, maxWaitMs: 30_000 })
      t.after(async () => {
        await balancer.destroy()
        await Promise.all([east.close(), west.close()])
      })
      for (const backend of [east, west]) backend.always((call) => { call.respond(429, { 'retry-after': '20' }) })
      await giveUp(t, { east, west, balancer, url: `${east.url}/x` }, () => until(() => balancer.status().waiting === 1, 'it waits'))
      assert.equal(balancer.status().waiting, 0)
      await until(() => { balancer.system.advance(60_000); return balancer.system.pending === 0 }, 'no timer is left')
      assert.deepEqual([east.calls.length, west.calls.length], [1, 1])
    })

    test('in the body', async (t) => {
      const quiet = watchProcess(t)
      const world = await setUp(t, way)
      const controller = new AbortController()
      const answer = way.send(world.url, world.balancer, controller.signal)
      const call = await world.east.next()
      call.head(200)
      await call.write('half of it')
      const { body } = await answer
      const reading = body()
      reading.catch(() => {})
      await turns(5)
      assert.equal(world.balancer.status().backends[0]?.inFlight, 1)
      controller.abort(reason)
      await assert.rejects(reading, reason)
      assert.equal(world.balancer.status().backends[0]?.inFlight, 0)
      await within(call.aborted, 'the server sees it')
      await quiet.assertQuiet()
    })

    test('after the end: nothing happens, and the connection lives on', async (t) => {
      const quiet = watchProcess(t)
      const world = await setUp(t, way)
      const controller = new AbortController()
      world.east.always((call) => { call.respond(200, {}, 'fine') })
      assert.equal(await (await way.send(world.url, world.balancer, controller.signal)).body(), 'fine')
      controller.abort(reason)
      await turns(5)
      assert.equal(await (await way.send(world.url, world.balancer, new AbortController().signal)).body(), 'fine')
      assert.equal(world.east.connections.opened, 1)
      assert.deepEqual(world.balancer.status().backends.map(({ inFlight, failures }) => [inFlight, failures]), [[0, 0], [0, 0]])
      await quiet.assertQuiet()
    })

    test('a reason that is no error is the reason all the same', async (t) => {
      const world = await setUp(t, way)
      const controller = new AbortController()
      const answer = way.send(world.url, world.balancer, controller.signal)
      answer.catch(() => {})
      await world.east.next()
      controller.abort('just so')
      assert.equal(await answer.catch((error: unknown) => error), 'just so')
    })

    test('fifty failovers of one request leave no listener behind, and the abort after them works', async (t) => {
      const quiet = watchProcess(t)
      const last = await startScriptedBackend()
      const throttled = await startScriptedBackend()
      throttled.always((call) => { call.respond(429, { 'retry-after': '1' }, 'no') })
      const agent = new way.undici.Agent()
      const backends = Array.from({ length: 50 }, (_, i) => ({ url: `${throttled.url}/${i}`, priority: i + 1 }))
      const balancer = new PriorityBalancer({ backends: [...backends, { url: last.url, priority: 99 }], dispatcher: agent, logger: false })
      t.after(async () => {
        await balancer.destroy()
        await agent.destroy()
        await Promise.all([last.close(), throttled.close()])
      })
      const controller = new AbortController()
      const answer = way.send(`${throttled.url}/0/x`, balancer, controller.signal)
      answer.catch(() => {})
      const call = await last.next()
      assert.equal(throttled.calls.length, 50)
      controller.abort(reason)
      await assert.rejects(answer, reason)
      await within(call.aborted, 'the server sees it')
      await until(() => balancer.status().backends.every(({ inFlight }) => inFlight === 0), 'nothing in flight')
      await quiet.assertQuiet()
    })

    test('an attempt that takes too long is given up instead, and the caller sees the next one', async (t) => {
      const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
      const balancer = new VirtualBalancer({ backends: [{ url: east.url, priority: 1, name: 'east' }, { url: west.url, priority: 2 }], logger: false, attemptTimeoutMs: 5_000 })
      t.after(async () => {
        await balancer.destroy()
        await Promise.all([east.close(), west.close()])
      })
      const answer = way.send(`${east.url}/x`, balancer, new AbortController().signal)
      const slow = await east.next()
      balancer.system.advance(5_000)
      const next = await west.next()
      await within(slow.aborted, 'the slow server sees it')
      next.head(200)
      await next.write('one ')
      const { body } = await answer
      balancer.system.advance(60_000)
      next.end('two')
      assert.equal(await body(), 'one two')
      assert.equal(balancer.status().backends[0]?.failures, 1)
      assert.equal(balancer.system.pending, 0)
    })
  })
}
