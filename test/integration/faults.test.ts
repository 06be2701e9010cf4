/** What a server, or the way to it, can do wrong: the second backend answers, and the first is not asked more than it must be. */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import type { Agent as AgentType, Dispatcher } from 'undici'
import type { BalancerOptions } from '../../src/options/index.js'
import { gate } from '../support/gate.js'
import { MAJORS, type Undici } from '../support/majors.js'
import {
  answer, answerAndClose, closeAfterRequest, contradictoryLengths, endless429, garbage, halfAStatusLine, hugeHeaders, malformedChunk, ok, resetAfterRequest,
  resetAfterRequestHead, resetAtAccept, resetMidBody, shortBody, slowHeaders, stalled429,
} from '../support/raw-scripts.js'
import { refusingUrl, startRawServer, type RawScript, type RawServer } from '../support/raw-server.js'
import { startScriptedBackend } from '../support/scripted-backend.js'
import { strangerCertificate, testCertificate } from '../support/tls.js'
import { turns, until, within } from '../support/until.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'

interface World {
  readonly balancer: VirtualBalancer
  readonly url: string
  /** Answers `fine`. */
  readonly west: RawServer
  send(body?: string): Promise<{ readonly status: number, readonly body: () => Promise<string> }>
}

async function setUp(t: TestContext, undici: Undici, eastUrl: string, options: Partial<BalancerOptions> = {}, agentOptions: AgentType.Options = {}): Promise<World> {
  const west = await startRawServer(ok('fine'))
  const dispatcher: Dispatcher = new undici.Agent(agentOptions)
  const balancer = new VirtualBalancer({ backends: [{ url: eastUrl, priority: 1, name: 'east' }, { url: west.url, priority: 2, name: 'west' }], dispatcher, logger: false, ...options })
  t.after(async () => {
    await balancer.destroy()
    await west.close()
  })
  const url = `${eastUrl}/x`
  return {
    balancer, url, west,
    async send(body = 'ping') {
      const response = await undici.request(url, { method: 'POST', body, dispatcher: balancer })
      return { status: response.statusCode, body: () => response.body.text() }
    },
  }
}

async function serve(t: TestContext, script: RawScript): Promise<RawServer> {
  const server = await startRawServer(script)
  t.after(() => server.close())
  return server
}

async function assertFine(answer: ReturnType<World['send']>): Promise<void> {
  const { status, body } = await within(answer, 'the answer')
  assert.deepEqual([status, await body()], [200, 'fine'])
}

/** Before a status line: nothing was promised to the caller. `fault`: code or name of the error that it gets when there is no other backend. */
const BEFORE: readonly (readonly [what: string, script: RawScript, fault: RegExp])[] = [
  ['resets at once', resetAtAccept(), /ECONNRESET|EPIPE|UND_ERR_SOCKET/],
  ['resets in the middle of the request', resetAfterRequestHead(), /ECONNRESET|UND_ERR_SOCKET/],
  ['resets after the request', resetAfterRequest(), /ECONNRESET|UND_ERR_SOCKET/],
  ['closes after the request', closeAfterRequest(), /UND_ERR_SOCKET/],
  ['stops in the status line', halfAStatusLine(), /UND_ERR_SOCKET|HTTPParserError/],
  ['speaks something else', garbage(), /HTTPParserError/],
  ['contradicts itself on the length', contradictoryLengths(), /HTTPParserError|UND_ERR_RES_CONTENT_LENGTH_MISMATCH/],
  ['sends 64 KiB of headers', hugeHeaders(), /UND_ERR_HEADERS_OVERFLOW/],
]

for (const [name, undici] of MAJORS) {
  describe(name, () => {
    describe('the next backend answers when the first', () => {
      for (const [what, script] of BEFORE) {
        test(what, async (t) => {
          const east = await serve(t, script)
          const world = await setUp(t, undici, east.url)
          for (let i = 0; i < 3; i++) await assertFine(world.send())
          assert.equal(east.accepted, 1, 'out after one failure')
          assert.deepEqual(world.balancer.status().backends.map(({ state, attempts, failures, inFlight }) => [state, attempts, failures, inFlight]), [['ejected', 1, 1, 0], ['available', 3, 0, 0]])
        })
      }

      test('refuses the connection', async (t) => {
        const world = await setUp(t, undici, await refusingUrl())
        for (let i = 0; i < 3; i++) await assertFine(world.send())
        assert.equal(world.balancer.status().backends[0]?.attempts, 1)
      })

      test('has a certificate that is not trusted', async (t) => {
        const { ca } = await testCertificate()
        const east = await startScriptedBackend({ protocol: 'https', certificate: await strangerCertificate() })
        t.after(() => east.close())
        const world = await setUp(t, undici, east.url, {}, { connect: { ca } })
        await assertFine(world.send())
        assert.equal(east.calls.length, 0)
        assert.equal(world.balancer.status().backends[0]?.failures, 1)
      })

      test('has a name that is not known', async (t) => {
        const asked: string[] = []
        const lookup = (host: string, _options: unknown, callback: (error: Error) => void): void => {
          asked.push(host)
          callback(Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: 'ENOTFOUND', syscall: 'getaddrinfo' }))
        }
        const world = await setUp(t, undici, 'http://east.invalid', {}, { connect: { lookup } as never })
        await assertFine(world.send())
        assert.deepEqual(asked, ['east.invalid'])
      })

      test('does not take the connection in time', async (t) => {
        const connector = undici.buildConnector({})
        const connect: typeof connector = (options, callback) => {
          if (options.hostname === 'east.invalid') callback(new undici.errors.ConnectTimeoutError('Connect Timeout Error'), null)
          else connector(options, callback)
        }
        const world = await setUp(t, undici, 'http://east.invalid', {}, { connect })
        await assertFine(world.send())
        assert.equal(world.balancer.status().backends[0]?.state, 'ejected')
      })

      test('is slow to answer', async (t) => {
        const release = gate()
        const east = await serve(t, slowHeaders(release.promise))
        const world = await setUp(t, undici, east.url, { attemptTimeoutMs: 5_000 })
        const answer = world.send()
        await until(() => east.requests.length === 1, 'the request has arrived')
        world.balancer.system.advance(5_000)
        await assertFine(answer)
        await until(() => east.open === 0, 'its connection is closed')
        release.open()
        assert.equal(world.balancer.status().backends[0]?.failures, 1)
        assert.equal(world.balancer.system.pending, 0)
      })

      test('answers 429 without an end', async (t) => {
        let sent = 0
        const east = await serve(t, endless429((bytes) => { sent = bytes }))
        const world = await setUp(t, undici, east.url)
        await assertFine(world.send())
        await until(() => east.open === 0, 'it is cut off')
        assert.ok(sent < 16 * 1_048_576, `${sent} bytes`)
        assert.deepEqual(world.balancer.status().backends.map(({ throttled, failures, inFlight }) => [throttled, failures, inFlight]), [[1, 0, 0], [0, 0, 0]])
        assert.equal(world.balancer.system.pending, 0)
      })

      test('answers 429 and stalls', async (t) => {
        const east = await serve(t, stalled429())
        const world = await setUp(t, undici, east.url)
        await assertFine(world.send())
        assert.deepEqual([east.open, world.balancer.status().backends[0]?.inFlight], [1, 1])
        world.balancer.system.advance(1_000)
        await until(() => east.open === 0, 'it is cut off')
        assert.equal(world.balancer.status().backends[0]?.inFlight, 0)
      })
    })

    describe('the caller gets undici\'s own error when the only backend', () => {
      for (const [what, script, fault] of BEFORE) {
        test(what, async (t) => {
          const east = await serve(t, script)
          const world = await setUp(t, undici, east.url, { backends: [{ url: east.url, priority: 1 }] })
          const [balanced, alone] = await Promise.all([
            world.send().then(() => assert.fail('answered'), (error: unknown) => error as Error & { code?: string }),
            undici.request(`${east.url}/x`, { method: 'POST', body: 'ping' }).then(() => assert.fail('answered'), (error: unknown) => error as Error & { code?: string }),
          ])
          assert.match(balanced.code ?? balanced.name, fault)
          assert.equal(balanced.name, alone.name)
          assert.equal(world.balancer.status().backends[0]?.inFlight, 0)
        })
      }

      test('refuses the connection', async (t) => {
        const url = await refusingUrl()
        const world = await setUp(t, undici, url, { backends: [{ url, priority: 1 }] })
        await assert.rejects(world.send(), { code: 'ECONNREFUSED' })
        // Out, and yet the least bad there is.
        await assert.rejects(world.send(), { code: 'ECONNREFUSED' })
        assert.equal(world.balancer.status().backends[0]?.attempts, 2)
      })
    })

    describe('the answer is the caller\'s already, and so is the error, when the backend', () => {
      test('resets in the middle of the body', async (t) => {
        const release = gate()
        const east = await serve(t, resetMidBody(release.promise))
        const world = await setUp(t, undici, east.url)
        const { status, body } = await world.send()
        assert.equal(status, 200)
        release.open()
        await assert.rejects(body(), { code: /ECONNRESET|UND_ERR_SOCKET/ })
        assert.equal(world.west.accepted, 0)
        assert.deepEqual(world.balancer.status().backends.map(({ state, failures, inFlight }) => [state, failures, inFlight]), [['available', 1, 0], ['available', 0, 0]])
      })

      for (const [what, script, fault] of [['ends before its length', shortBody(), /UND_ERR_SOCKET|UND_ERR_RES_CONTENT_LENGTH_MISMATCH/], ['sends a chunk that is none', malformedChunk(), /HTTPParserError/]] as const) {
        test(what, async (t) => {
          const east = await serve(t, script)
          const world = await setUp(t, undici, east.url)
          const result = await world.send().then(({ body }) => body()).then(() => 'read', (error: Error & { code?: string }) => error.code ?? error.name)
          assert.match(result, fault)
          assert.equal(world.west.accepted, 0)
          assert.equal(world.balancer.status().backends[0]?.inFlight, 0)
        })
      }
    })

    describe('connections to a backend that throttles', () => {
      const head = 'HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\n'

      /** So many connections cost twenty requests, each of which the backend refuses with this. */
      async function connectionsOf(t: TestContext, script: RawScript): Promise<number> {
        const east = await serve(t, script)
        const world = await setUp(t, undici, east.url, { pacing: false })
        for (let i = 0; i < 20; i++) {
          await assertFine(world.send())
          await until(() => world.balancer.status().backends[0]?.inFlight === 0, 'the answer is swallowed')
          await turns(2)
          world.balancer.system.advance(2_000)
        }
        assert.equal(world.balancer.status().backends[0]?.throttled, 20)
        assert.equal(east.requests.length, 20)
        assert.equal(world.west.accepted, 1)
        return east.accepted
      }

      test('one, when its answers are small', async (t) => {
        assert.equal(await connectionsOf(t, answer(`${head}content-length: 300\r\n\r\n`, 'x'.repeat(300))), 1)
      })

      test('one, when they are empty', async (t) => {
        assert.equal(await connectionsOf(t, answer(`${head}content-length: 0\r\n\r\n`)), 1)
      })

      test('one, when they come in chunks and in pieces, up to 64 KiB', async (t) => {
        assert.equal(await connectionsOf(t, answer(`${head}transfer-encoding: chunked\r\n\r\n`, `8000\r\n${'x'.repeat(32_768)}\r\n`, `7f00\r\n${'x'.repeat(32_512)}\r\n`, '0\r\n\r\n')), 1)
      })

      test('a new one each, when they are longer than it is worth to read', async (t) => {
        // undici 7 makes up for a connection that an abort has cost at once, and again when the next request comes.
        const each = name === 'undici 7' ? 2 : 1
        const opened = await connectionsOf(t, answer(`${head}content-length: 300000\r\n\r\n`, 'x'.repeat(300_000)))
        assert.ok(opened > 1 && opened <= 20 * each, `${opened} connections`)
      })

      test('as many as it wants, when it closes them itself', async (t) => {
        assert.equal(await connectionsOf(t, answerAndClose(`${head}connection: close\r\ncontent-length: 2\r\n\r\nno`)), 20)
      })
    })
  })
}
