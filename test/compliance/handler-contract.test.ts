/** A handler hears through the balancer what it hears of undici alone, whichever style it is written in, also after a failover. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { describe, test, type TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { Dispatcher } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import type { LegacyHandler } from '../../src/request/undici.js'
import { PEER_TAKES_LEGACY_HANDLERS } from '../support/undici-style.js'
import { MAJORS, type Undici } from '../support/majors.js'
import { startPair } from '../support/pair.js'
import { answer, answerAndClose, informational, malformedChunk, oddHeaders, ok, shortBody, trailers } from '../support/raw-scripts.js'
import { startRawServer, type RawScript, type RawServer } from '../support/raw-server.js'
import { recordingHandler, STYLES, type Event, type Hooks, type Recorder, type Style } from '../support/recording-handler.js'
import type { ScriptedBackend } from '../support/scripted-backend.js'
import { turns, until, within } from '../support/until.js'

type Opts = Omit<Dispatcher.DispatchOptions, 'origin'>

const ALL = ['onBodySent', 'onRequestSent', 'onResponseStarted'] as const

/** Of the new style's callbacks undici 7 itself passes on one alone. A balancer with undici 8 as its peer speaks that style, whoever calls it. */
const asksOf = (name: string, style: Style): readonly (typeof ALL)[number][] => (name === 'undici 7' && (style === 'new' || !PEER_TAKES_LEGACY_HANDLERS) ? ['onResponseStarted'] : ALL)

const NO_HOOKS: Hooks = {}

/** Both majors' agents, in the form that takes handlers of this style. */
function bare(undici: Undici, agent: Dispatcher, style: Style): Dispatcher {
  const { Dispatcher1Wrapper } = undici as unknown as { Dispatcher1Wrapper?: new (inner: Dispatcher) => Dispatcher }
  return style === 'old' && Dispatcher1Wrapper !== undefined ? new Dispatcher1Wrapper(agent) : agent
}

async function play(dispatcher: Pick<Dispatcher, 'dispatch'>, style: Style, url: string, opts: Opts, hooks: Hooks, optional: readonly (typeof ALL)[number][] = ALL): Promise<Recorder> {
  const recorder = recordingHandler(style, { hooks, optional })
  dispatcher.dispatch({ origin: url, ...opts }, recorder.handler as unknown as Dispatcher.DispatchHandler)
  await within(recorder.done, 'the end')
  // Whatever undici still says after the end would show.
  await turns(5)
  return recorder
}

/**
 * Errors by what a program goes by. One thing is undici's affair: it tells that a request was sent when that has failed
 * already.
 */
function comparable(events: readonly Event[]): unknown[] {
  const first = (kind: Event[0]): number => events.findIndex((event) => event[0] === kind)
  return events
    .filter(([kind], i) => kind !== 'request sent' || first('error') === -1 || i < first('error'))
    .map((event) => {
      if (event[0] !== 'error') return event
      const { name, code, message } = event[1] as { name: string, code?: string, message: string }
      return ['error', name, code, message]
    })
}

interface Case {
  readonly what: string
  readonly script: RawScript
  readonly opts?: Partial<Opts>
  readonly hooks?: Hooks
  /** Part of what has to be there, so that two empty traces do not count as equal. */
  readonly expected: readonly string[]
}

const thrown = new Error('thrown by the caller')
const throws = (): void => { throw thrown }
const gzipped = gzipSync('compressed')

const CASES: readonly Case[] = [
  { what: '200 with a body', script: ok('pong'), expected: ['start', 'body sent', 'request sent', 'response started', 'headers', 'data', 'end'] },
  { what: 'a request without a body', script: ok('pong'), opts: { method: 'GET', body: null }, expected: ['start', 'request sent', 'response started', 'headers', 'data', 'end'] },
  { what: 'a body from a generator', script: ok('pong'), opts: { body: (function * () { yield 'pi'; yield 'ng' })() as never }, expected: ['start', 'body sent', 'request sent', 'response started', 'headers', 'data', 'end'] },
  { what: 'repeated set-cookie, latin-1 bytes, odd spelling', script: oddHeaders(), expected: ['headers', 'data', 'end'] },
  { what: 'trailers', script: trailers(), expected: ['headers', 'data', 'end'] },
  { what: '102 and 103, then 200', script: informational(), expected: ['response started', 'headers', 'response started', 'headers', 'response started', 'headers', 'data', 'end'] },
  { what: '204', script: answer('HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n'), expected: ['headers', 'end'] },
  { what: '304', script: answer('HTTP/1.1 304 Not Modified\r\netag: "x"\r\n\r\n'), expected: ['headers', 'end'] },
  { what: 'a redirect, which is not followed', script: answer('HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n'), expected: ['headers', 'end'] },
  { what: 'HEAD', script: answer('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n'), opts: { method: 'HEAD', body: null }, expected: ['headers', 'end'] },
  { what: 'chunks', script: answer('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n', '3;ext=1\r\ncde\r\n0\r\n\r\n'), expected: ['headers', 'data', 'end'] },
  { what: 'gzip, which is not ours to decode', script: answer(`HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: ${gzipped.length}\r\n\r\n`, gzipped), expected: ['headers', 'data', 'end'] },
  { what: 'a body that ends with the connection', script: answerAndClose('HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end'), expected: ['headers', 'data', 'end'] },
  { what: 'a status without a text', script: answer('HTTP/1.1 299\r\ncontent-length: 0\r\n\r\n'), expected: ['headers', 'end'] },
  { what: '400, which is the caller\'s', script: answer('HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno'), expected: ['headers', 'data', 'end'] },
  { what: 'a body that is too short', script: shortBody(), expected: ['headers', 'data', 'error'] },
  { what: 'a malformed chunk', script: malformedChunk(), expected: ['headers', 'data', 'error'] },
  { what: 'a throw at the start', script: ok(), hooks: { start: throws }, expected: ['error'] },
  { what: 'a throw when the body was sent', script: ok(), hooks: { bodySent: throws }, expected: ['start', 'error'] },
  { what: 'a throw when the request was sent', script: ok(), hooks: { requestSent: throws }, expected: ['start', 'body sent', 'error'] },
  { what: 'a throw when the response begins', script: ok(), hooks: { responseStarted: throws }, expected: ['start', 'body sent', 'request sent', 'error'] },
  { what: 'a throw at informational headers', script: informational(), hooks: { headers: throws }, expected: ['response started', 'error'] },
  { what: 'a throw at headers', script: ok(), hooks: { headers: throws }, expected: ['response started', 'error'] },
  { what: 'a throw at data', script: ok(), hooks: { data: throws }, expected: ['headers', 'error'] },
  { what: 'a throw at the end', script: ok(), hooks: { end: throws }, expected: ['headers', 'data', 'error'] },
  { what: 'an abort at the start', script: ok(), hooks: { start: (it) => { it.abort(thrown) } }, expected: ['error', 'start'] },
  { what: 'an abort at headers', script: ok(), hooks: { headers: (it) => { it.abort(thrown) } }, expected: ['error', 'headers'] },
  { what: 'an abort at data', script: ok(), hooks: { data: (it) => { it.abort(thrown) } }, expected: ['headers', 'error', 'data'] },
  { what: 'an abort at the end, which is too late', script: ok(), hooks: { end: (it) => { it.abort(thrown) } }, expected: ['headers', 'data', 'end'] },
]

/** Server and balancer of one case: west answers by the script, and east not at all, or 429. */
async function setUp(t: TestContext, undici: Undici, script: RawScript): Promise<{ agent: Dispatcher, west: RawServer, straight: PriorityBalancer, moving: PriorityBalancer, east: RawServer }> {
  const agent = new undici.Agent()
  const east = await startRawServer(answer('HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 3\r\nset-cookie: east\r\n\r\nno!'))
  const west = await startRawServer(script)
  const straight = new PriorityBalancer({ backends: [{ url: west.url, priority: 1 }], dispatcher: agent, logger: false })
  const moving = new PriorityBalancer({ backends: [{ url: east.url, priority: 1 }, { url: west.url, priority: 2 }], dispatcher: agent, logger: false })
  t.after(async () => {
    await Promise.all([straight.destroy(), moving.destroy()])
    await agent.destroy()
    await Promise.all([east.close(), west.close()])
  })
  return { agent, west, straight, moving, east }
}

for (const [name, undici] of MAJORS) {
  test(`${name}, a handler of the old style that says false to informational headers, as fetch does, gets the answer even so`, async (t) => {
    const { agent, west, straight } = await setUp(t, undici, answer('HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n', 'HTTP/1.1 204 No Content\r\n\r\n'))
    const passing = new PriorityBalancer({ backends: [{ url: 'http://elsewhere.example', priority: 1 }], dispatcher: agent, logger: false })
    // What undici 8 puts before its Agent for such a handler waits for ever.
    for (const dispatcher of name === 'undici 7' ? [agent, straight, passing] : [straight, passing]) {
      const statuses: number[] = []
      await within(new Promise<void>((resolve, reject) => {
        const handler: LegacyHandler = {
          onConnect() {}, onData: () => true, onError: reject, onComplete() { resolve() },
          onHeaders(status) { statuses.push(status); return status >= 200 },
        }
        dispatcher.dispatch({ origin: west.url, path: '/x', method: 'GET' }, handler as unknown as Dispatcher.DispatchHandler)
      }), 'the end')
      assert.deepEqual(statuses, [103, 204])
    }
  })

  for (const style of STYLES) {
    describe(`${name}, a handler of the ${style} style`, () => {
      const optional = asksOf(name, style)
      const isTold = (kind: string): boolean => optional.length === ALL.length || (kind !== 'body sent' && kind !== 'request sent')
      const cases = CASES.filter(({ hooks = NO_HOOKS }) => optional.length === ALL.length || (hooks.bodySent === undefined && hooks.requestSent === undefined))

      for (const { what, script, opts, hooks = NO_HOOKS, expected } of cases) {
        test(what, async (t) => {
          const { agent, west, straight, moving, east } = await setUp(t, undici, script)
          // A generator is good for one reading.
          const body = (): unknown => (typeof opts?.body === 'object' && opts.body !== null ? (function * () { yield 'pi'; yield 'ng' })() : opts?.body === undefined ? 'ping' : opts.body)
          const request = (): Opts => ({ path: '/x', method: 'POST', headers: { 'x-a': '1' }, ...opts, body: body() as string })
          const alone = comparable((await play(bare(undici, agent, style), style, west.url, request(), hooks, optional)).events)
          const kinds = alone.map((event) => (event as Event)[0])
          assert.deepEqual(kinds.slice(-expected.filter(isTold).length), expected.filter(isTold))

          assert.deepEqual(comparable((await play(straight, style, west.url, request(), hooks, optional)).events), alone, 'through the balancer')
          const moved = await play(moving, style, east.url, request(), hooks, optional)
          // A callback that throws before east has answered ends it there.
          assert.deepEqual(comparable(moved.events), alone, 'after a failover')
          assert.equal(moved.terminals, 1)
          for (const balancer of [straight, moving]) {
            await until(() => balancer.status().backends.every(({ inFlight }) => inFlight === 0), 'nothing in flight')
            const blamed = balancer.status().backends.reduce((sum, { failures }) => sum + failures, 0)
            assert.equal(blamed, what.startsWith('a body that is too short') || what.startsWith('a malformed') ? 1 : 0)
          }
        })
      }

      test('a handler without the optional callbacks is asked for none of them', async (t) => {
        const { agent, west, straight } = await setUp(t, undici, ok('pong'))
        const opts = { path: '/x', method: 'POST', body: 'ping' } as const
        const alone = await play(bare(undici, agent, style), style, west.url, opts, NO_HOOKS, [])
        const balanced = await play(straight, style, west.url, opts, NO_HOOKS, [])
        assert.deepEqual(balanced.events, alone.events)
        assert.deepEqual(balanced.events.map(([kind]) => kind), ['start', 'headers', 'data', 'end'])
      })

      test('a pause reaches the wire, and the end of it too', async (t) => {
        const { east, west, balancer } = await startPair(t, undici)
        east.always((call) => { call.respond(429, { 'retry-after': '1' }) })
        const total = 64 * 1_048_576
        const recorder = recordingHandler(style, { hooks: { data: (it) => { if (it.bytes === 0) it.pause() } } })
        balancer.dispatch({ origin: east.url, path: '/x', method: 'GET' }, recorder.handler as unknown as Dispatcher.DispatchHandler)
        const call = await west.next()
        call.head(200)
        let written = 0
        const writing = (async () => {
          for (; written < total; written += 1_048_576) await call.write(Buffer.alloc(1_048_576))
          call.end()
        })()
        let before = -1
        await until(async () => { before = written; await turns(50); return recorder.bytes > 0 && written === before }, 'the server comes to rest')
        assert.ok(written < total / 2, `${written} bytes went out while nobody read`)
        const received = recorder.bytes
        await turns(20)
        assert.equal(recorder.bytes, received)
        recorder.resume()
        await within(recorder.done, 'the end')
        await writing
        assert.equal(recorder.bytes, total)
        assert.deepEqual(recorder.events.map(([kind]) => kind).filter((kind) => kind !== 'response started'), ['start', 'headers', 'data', 'end'])
      })

      test('an upgrade is handed over with its socket, also when the first backend refuses it', async (t) => {
        const upgrade = 'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\nset-cookie: a\r\nset-cookie: b\r\n\r\n'
        const script: RawScript = async (connection) => {
          await connection.request()
          await connection.write(upgrade)
          await connection.hold()
        }
        const { agent, west, straight } = await setUp(t, undici, script)
        const refusing = await startRawServer(answer('HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno'))
        const moving = new PriorityBalancer({ backends: [{ url: refusing.url, priority: 1 }, { url: west.url, priority: 2 }], dispatcher: agent, logger: false })
        t.after(async () => { await moving.destroy(); await refusing.close() })
        const traces: unknown[] = []
        for (const [dispatcher, url] of [[bare(undici, agent, style), west.url], [straight, west.url], [moving, refusing.url]] as const) {
          let socket: Duplex | undefined
          const recorder = await play(dispatcher, style, url, { path: '/x', method: 'GET', upgrade: 'echo' }, { upgrade: (_it, given) => { socket = given as Duplex } }, optional)
          traces.push(comparable(recorder.events))
          if (dispatcher instanceof PriorityBalancer) {
            assert.equal(dispatcher.status().backends.at(-1)?.inFlight, 1)
            socket?.destroy()
            await until(() => dispatcher.status().backends.at(-1)?.inFlight === 0, 'it ends with its socket')
          } else socket?.destroy()
        }
        assert.deepEqual(traces[1], traces[0])
        assert.deepEqual(traces[2], traces[0])
        assert.deepEqual((traces[0] as Event[]).at(-1), ['upgrade', 101, ['connection', 'upgrade', 'upgrade', 'echo', 'set-cookie', 'a', 'set-cookie', 'b']])
      })

      test('a throw at an upgrade is told as undici tells it', async (t) => {
        const { agent, west, straight } = await setUp(t, undici, async (connection) => {
          await connection.request()
          await connection.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n')
          await connection.hold()
        })
        const opts = { path: '/x', method: 'GET', upgrade: 'echo' } as const
        const alone = await play(bare(undici, agent, style), style, west.url, opts, { upgrade: throws }, optional)
        const balanced = await play(straight, style, west.url, opts, { upgrade: throws }, optional)
        assert.deepEqual(comparable(balanced.events), comparable(alone.events))
        assert.equal(balanced.error, thrown)
        await until(() => straight.status().backends[0]?.inFlight === 0, 'nothing in flight')
      })

      test('HTTP/2: headers, cookies, body and trailers', async (t) => {
        const { east, west, agent, balancer } = await startPair(t, undici, 'h2')
        east.always((call) => { call.respond(429, { 'retry-after': '1' }) })
        west.always(async (call) => {
          await call.request.body()
          call.head(200, [['set-cookie', 'a=1'], ['set-cookie', 'b=2'], ['x-a', '1'], ['date', 'x']])
          call.end('pong', { 'x-sum': '7' })
        })
        const opts = { path: '/x', method: 'POST', body: 'ping' } as const
        // undici 8 speaks HTTP/1.1 only to handlers of the old style; the new style is the one to compare with.
        const alone = await play(agent, style === 'old' && name === 'undici 7' ? 'old' : 'new', west.url, opts, NO_HOOKS, optional)
        const moved = await play(balancer, style, east.url, opts, NO_HOOKS, optional)
        assert.deepEqual(comparable(moved.events), comparable(alone.events))
        assert.ok(moved.events.some((event) => event[0] === 'headers' && event[2].join().includes('set-cookie,a=1,set-cookie,b=2')))
        assert.deepEqual(west.calls.map(({ request }) => request.httpVersion), ['2.0', '2.0'])
      })
    })
  }

  describe(`${name}: WebSocket`, () => {
    function accept(request: IncomingMessage, socket: Duplex): void {
      const key = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ${key}\r\n\r\n`)
      // One text frame, not masked, as a server sends it.
      socket.write(Buffer.concat([Buffer.from([0x81, 5]), Buffer.from('hello')]))
    }

    const refuse = (_request: IncomingMessage, socket: Duplex): void => { socket.end('HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno') }

    async function startTwo(t: TestContext): Promise<[ScriptedBackend, ScriptedBackend, PriorityBalancer]> {
      const { east, west, balancer } = await startPair(t, undici)
      west.onUpgrade(accept)
      return [east, west, balancer]
    }

    for (const [what, handle] of [['that accepts it', accept], ['that refuses it: the next one is asked', refuse]] as const) {
      test(`to a backend ${what}`, async (t) => {
        const [east, , balancer] = await startTwo(t)
        east.onUpgrade(handle)
        const socket = new undici.WebSocket(`${east.url.replace('http', 'ws')}/realtime`, { dispatcher: balancer })
        const [message] = await within(once(socket as unknown as EventTarget, 'message'), 'a message') as [{ readonly data: unknown }]
        assert.equal(message.data, 'hello')
        const index = handle === accept ? 0 : 1
        assert.equal(balancer.status().backends[index]?.inFlight, 1)
        socket.close()
        await balancer.destroy()
      })
    }
  })

  describe(`${name}: a balancer that passes on what is not its own`, () => {
    test('is not to be told from undici alone, in either style', async (t) => {
      const { agent, west } = await setUp(t, undici, oddHeaders())
      const balancer = new PriorityBalancer({ backends: [{ url: 'https://elsewhere.example', priority: 1 }], dispatcher: agent, logger: false })
      t.after(() => balancer.destroy())
      for (const style of STYLES) {
        const opts = { path: '/x', method: 'POST', body: 'ping' } as const
        const optional = asksOf(name, style)
        const alone = await play(bare(undici, agent, style), style, west.url, opts, NO_HOOKS, optional)
        assert.deepEqual(comparable((await play(balancer, style, west.url, opts, NO_HOOKS, optional)).events), comparable(alone.events))
      }
    })
  })
}

