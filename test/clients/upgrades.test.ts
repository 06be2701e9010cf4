/** A connection that is upgraded and does not last: what was taken for a success was none. */
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { describe, test, type TestContext } from 'node:test'
import { upgrade, WebSocket, type Dispatcher } from 'undici'
import { startEastAndWest, type EastAndWest } from '../support/east-and-west.js'
import { gate } from '../support/gate.js'
import { recordingHandler, STYLES } from '../support/recording-handler.js'
import { until, within } from '../support/until.js'

const SWITCH = 'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n'

/** The sockets on east's side, one for each connection that it was asked for. */
async function start (t: TestContext): Promise<{ it: EastAndWest, connect: () => Promise<[ours: Duplex, theirs: Duplex]> }> {
  const it = await startEastAndWest(t)
  const ours: Duplex[] = []
  t.after(() => { for (const socket of ours) socket.destroy() })
  return {
    it,
    async connect () {
      const arrived = gate<Duplex>()
      it.east.onUpgrade((_request, socket) => {
        socket.on('error', () => {})
        socket.write(SWITCH)
        arrived.open(socket)
      })
      const { socket } = await upgrade(`${it.east.url}/openai/realtime?deployment=gpt-4o-realtime`, { protocol: 'echo', dispatcher: it.balancer })
      ours.push(socket)
      socket.on('error', () => {}).resume()
      return [socket, await within(arrived.promise, 'the upgrade')]
    },
  }
}

const counts = (it: EastAndWest): (number | string | undefined)[] => {
  const [{ successes, failures, inFlight, scopes: [scope] }] = it.status()
  return [successes, failures, inFlight, scope?.state]
}

describe('a connection that was upgraded', () => {
  for (const [how, close] of [['closes', (socket: Duplex) => { socket.end() }], ['resets', (socket: Duplex) => { (socket as unknown as { resetAndDestroy (): void }).resetAndDestroy() }]] as const) {
    test(`and that the service ${how} within a second was no success, and the second in a row takes the scope out`, async (t) => {
      const { it, connect } = await start(t)
      for (let i = 1; i <= 2; i++) {
        const [, theirs] = await connect()
        assert.deepEqual(counts(it).slice(0, 3), [1, i - 1, 1])
        it.balancer.system.advance(999)
        close(theirs)
        await until(() => it.status()[0].inFlight === 0)
        assert.deepEqual(counts(it).slice(0, 3), [0, i, 0])
      }
      assert.equal(counts(it)[3], 'ejected')
    })
  }

  test('and on which both have spoken was a success, however soon the service closes it: the closing of a WebSocket ends so', async (t) => {
    const { it, connect } = await start(t)
    for (let i = 1; i <= 3; i++) {
      const [ours, theirs] = await connect()
      ours.write('hello')
      await within(once(theirs, 'data'), 'what the caller says')
      theirs.end('HELLO')
      await until(() => it.status()[0].inFlight === 0)
      assert.deepEqual(counts(it).slice(0, 3), [i, 0, 0])
    }
  })

  test('and on which only the caller has spoken, or only the service, was none', async (t) => {
    const { it, connect } = await start(t)
    const [ours, theirs] = await connect()
    ours.write('hello')
    await within(once(theirs, 'data'), 'what the caller says')
    theirs.end()
    await until(() => it.status()[0].inFlight === 0)
    assert.deepEqual(counts(it).slice(0, 3), [0, 1, 0])
    const [, others] = await connect()
    others.end('going away')
    await until(() => it.status()[0].inFlight === 0)
    assert.deepEqual(counts(it).slice(0, 3), [0, 2, 0])
  })

  test('and lasts for a second was a success, however it ends', async (t) => {
    const { it, connect } = await start(t)
    for (let i = 1; i <= 3; i++) {
      const [, theirs] = await connect()
      it.balancer.system.advance(1_000)
      theirs.destroy()
      await until(() => it.status()[0].inFlight === 0)
      assert.deepEqual(counts(it).slice(0, 3), [i, 0, 0])
    }
  })

  test('and that the caller ends at once was a success', async (t) => {
    const { it, connect } = await start(t)
    for (const [i, end] of [(socket: Duplex) => { socket.destroy() }, (socket: Duplex) => { socket.end() }].entries()) {
      const [ours, theirs] = await connect()
      theirs.resume().on('end', () => { theirs.end() })
      end(ours)
      await until(() => it.status()[0].inFlight === 0)
      assert.deepEqual(counts(it).slice(0, 3), [i + 1, 0, 0])
    }
  })

  for (const style of STYLES) {
    test(`and given up by a listener to "answered", reaches no handler of the ${style} style, and is closed`, async (t) => {
      const { it } = await start(t)
      const arrived = gate<Duplex>()
      it.east.onUpgrade((_request, socket) => {
        socket.on('error', () => {}).write(SWITCH)
        arrived.open(socket.resume())
      })
      const recorder = recordingHandler(style, { optional: [] })
      const hear = (): void => { recorder.abort(new Error('enough')) }
      subscribe('openai-priority-loadbalancer:answered', hear)
      t.after(() => unsubscribe('openai-priority-loadbalancer:answered', hear))
      it.balancer.dispatch({ origin: it.east.url, path: '/openai/realtime?model=m', method: 'GET', upgrade: 'echo' } as Dispatcher.DispatchOptions, recorder.handler as unknown as Dispatcher.DispatchHandler)
      const theirs = await within(arrived.promise, 'the upgrade')
      await until(() => theirs.readableEnded || theirs.destroyed)
      assert.deepEqual(recorder.events.map(([kind]) => kind), ['start', 'error'])
      assert.deepEqual([recorder.terminals, counts(it)[2]], [1, 0])
    })
  }

  test('is told as broken, and a WebSocket is one like any other', async (t) => {
    const { it } = await start(t)
    const broken: unknown[] = []
    const hear = (event: unknown): void => { broken.push(event) }
    subscribe('openai-priority-loadbalancer:broken', hear)
    t.after(() => unsubscribe('openai-priority-loadbalancer:broken', hear))
    it.east.onUpgrade((_request, socket) => { socket.end('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n') })
    const socket = new WebSocket(`${it.east.url.replace('http', 'ws')}/openai/realtime?deployment=gpt-4o-realtime`, { dispatcher: it.balancer })
    socket.addEventListener('error', () => {})
    await until(() => it.status()[0].inFlight === 0 && it.status()[0].attempts === 1)
    assert.equal(counts(it)[0], 0)
    assert.equal(broken.length, 1)
  })
})
