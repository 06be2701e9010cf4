import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { describe, test, type TestContext } from 'node:test'
import { Agent, ProxyAgent, request } from 'undici'
import { gate } from './gate.js'
import { type ProxyOptions, startProxy } from './proxy.js'
import * as scripts from './raw-scripts.js'
import { type RawScript, type RawServer, refusingUrl, startRawServer } from './raw-server.js'
import { startScriptedBackend } from './scripted-backend.js'
import { testCertificate } from './tls.js'
import { until } from './until.js'

type RequestOptions = NonNullable<Parameters<typeof request>[1]>

/** A server that runs `script`, and an Agent of its own: what one test breaks does not reach the next. */
async function setUp (t: TestContext, script: RawScript): Promise<{ server: RawServer, send: (options?: RequestOptions) => ReturnType<typeof request> }> {
  const server = await startRawServer(script)
  const dispatcher = new Agent({ connections: 1 })
  t.after(async () => { await dispatcher.destroy(); await server.close() })
  return { server, send: (options = {}) => request(`${server.url}/p?q`, { dispatcher, ...options }) }
}

describe('a raw server', () => {
  test('reads requests as they came, and answers many on one connection', async (t) => {
    const { server, send } = await setUp(t, scripts.ok('yes'))
    assert.equal(await (await send({ method: 'POST', body: 'abc', headers: { 'X-Odd-Case': 'caf\xe9' } })).body.text(), 'yes')
    assert.equal(await (await send({ method: 'PUT', body: Readable.from(['abc']) })).body.text(), 'yes')
    assert.equal(server.accepted, 1)
    const [first, second] = server.requests
    assert.ok(first !== undefined && second !== undefined)
    assert.equal(first.lines[0], 'POST /p?q HTTP/1.1')
    assert.ok(first.lines.includes('X-Odd-Case: caf\xe9'))
    assert.equal(first.body.toString(), 'abc')
    assert.equal(second.body.toString(), '3\r\nabc\r\n0\r\n\r\n')
  })

  for (const [name, script, error] of [
    ['a reset at accept', scripts.resetAtAccept(), /ECONNRESET|other side closed/],
    ['a reset after the request', scripts.resetAfterRequest(), /ECONNRESET/],
    ['a reset after the request\'s headers', scripts.resetAfterRequestHead(), /ECONNRESET/],
    ['a connection that closes in place of an answer', scripts.closeAfterRequest(), /other side closed/],
    ['half a status line', scripts.halfAStatusLine(), /HPE_|other side closed|Invalid EOF/],
    ['garbage', scripts.garbage(), /HPE_INVALID_CONSTANT|Expected HTTP/],
    ['contradictory content-lengths', scripts.contradictoryLengths(), /HPE_|Content-Length/i],
    ['64 KiB of headers', scripts.hugeHeaders(), /Headers Overflow/],
  ] as const) {
    test(`${name}: no answer`, async (t) => {
      const { server, send } = await setUp(t, script)
      await assert.rejects(send({ method: 'POST', body: 'abc' }), (thrown: Error & { code?: string }) => {
        assert.match(`${thrown.code} ${thrown.message}`, error)
        return true
      })
      assert.ok(server.accepted >= 1)
    })
  }

  test('a port that refuses', async (t) => {
    const dispatcher = new Agent()
    t.after(() => dispatcher.destroy())
    await assert.rejects(request(await refusingUrl(), { dispatcher }), { code: 'ECONNREFUSED' })
  })

  for (const [name, script, error] of [
    ['a malformed chunk', scripts.malformedChunk(), /chunk size/i],
    ['a body shorter than announced', scripts.shortBody(), /other side closed|content-length/i],
  ] as const) {
    test(`${name}: the headers arrive, the body does not`, async (t) => {
      const { send } = await setUp(t, script)
      await assert.rejects(async () => {
        const response = await send()
        assert.equal(response.statusCode, 200)
        await response.body.text()
      }, error)
    })
  }

  test('a reset in the middle of the body, when the test says so', async (t) => {
    const release = gate()
    const { send } = await setUp(t, scripts.resetMidBody(release.promise))
    const response = await send()
    response.body.once('data', () => { release.open() })
    await assert.rejects(response.body.text(), { code: 'ECONNRESET' })
  })

  test('an endless 429 flows as fast as it is read, and ends with its reader', async (t) => {
    let sent = 0
    const { server, send } = await setUp(t, scripts.endless429((bytes) => { sent = bytes }))
    const response = await send()
    assert.equal(response.statusCode, 429)
    assert.equal(response.headers['retry-after-ms'], '20')
    await until(() => sent > 0)
    response.body.on('error', () => {}).destroy()
    await until(() => server.open === 0)
  })

  test('a stalled 429 sends its headers and no more', async (t) => {
    const { server, send } = await setUp(t, scripts.stalled429())
    const response = await send()
    assert.equal(response.statusCode, 429)
    response.body.on('error', () => {}).destroy()
    await until(() => server.open === 0)
  })

  test('slow headers come when they are released', async (t) => {
    const release = gate()
    const { server, send } = await setUp(t, scripts.slowHeaders(release.promise))
    const answer = send()
    await until(() => server.requests.length === 1)
    release.open()
    assert.equal(await (await answer).body.text(), 'slow')
  })

  test('informational responses come before the final one', async (t) => {
    const { send } = await setUp(t, scripts.informational())
    const seen: number[] = []
    const response = await send({ onInfo: ({ statusCode }) => { seen.push(statusCode) } })
    assert.deepEqual([...seen, response.statusCode], [102, 103, 200])
    assert.equal(await response.body.text(), 'final')
  })

  test('trailers follow the body', async (t) => {
    const { send } = await setUp(t, scripts.trailers())
    const response = await send()
    assert.equal(await response.body.text(), 'ok')
    assert.deepEqual({ ...response.trailers }, { 'x-sum': '7', 'x-more': 'yes' })
  })

  test('odd headers arrive byte for byte', async (t) => {
    const { send } = await setUp(t, scripts.oddHeaders())
    const response = await send({ responseHeaders: 'raw' })
    const raw = response.headers as unknown as string[]
    assert.deepEqual(raw.filter((_, i) => i % 2 === 0), ['Set-Cookie', 'set-cookie', 'X-Latin', 'X-Twice', 'x-twice', 'X-Empty', 'content-length'])
    assert.equal(raw[raw.indexOf('X-Latin') + 1], 'caf\xe9 \xfc\xdf')
    await response.body.dump()
  })

  test('scripts in turn: one connection each, the last for the rest', async (t) => {
    const { server, send } = await setUp(t, scripts.inTurn(scripts.resetAfterRequest(), scripts.answerAndClose('HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n')))
    await assert.rejects(send())
    assert.equal((await send()).statusCode, 204)
    assert.equal((await send()).statusCode, 204)
    assert.equal(server.accepted, 3)
  })
})

describe('a proxy', () => {
  async function through (t: TestContext, options: ProxyOptions, agent: Omit<ProxyAgent.Options, 'uri'>): Promise<{ proxy: Awaited<ReturnType<typeof startProxy>>, dispatcher: ProxyAgent }> {
    const proxy = await startProxy(options)
    const dispatcher = new ProxyAgent({ uri: proxy.url, ...agent })
    t.after(async () => { await dispatcher.destroy(); await proxy.close() })
    return { proxy, dispatcher }
  }

  test('tunnels to a made-up host', async (t) => {
    const backend = await startScriptedBackend({ protocol: 'https' })
    t.after(() => backend.close())
    backend.always((call) => { call.respond(200, {}, call.request.headers.host) })
    const { proxy, dispatcher } = await through(t, { routes: { 'east.example:443': backend.host } }, { token: 'Basic abc', requestTls: { ca: (await testCertificate()).ca } })
    const response = await request('https://east.example/x', { dispatcher })
    assert.equal(await response.body.text(), 'east.example')
    assert.deepEqual(proxy.tunnels.map(({ authority, headers }) => [authority, headers['proxy-authorization']]), [['east.example:443', 'Basic abc']])
  })

  test('forwards what is in absolute form, path untouched, without the headers meant for itself', async (t) => {
    const backend = await startScriptedBackend()
    t.after(() => backend.close())
    backend.always(async (call) => { call.respond(200, { 'set-cookie': ['a=1', 'b=2'] }, `${call.request.path} ${await call.request.text()}`) })
    const { proxy, dispatcher } = await through(t, { routes: { 'east.example:80': backend.host } }, { token: 'Basic abc', proxyTunnel: false })
    const response = await request('http://east.example/a%2fb/../c?d', { dispatcher, method: 'POST', body: 'hello' })
    assert.equal(await response.body.text(), `${proxy.forwarded[0]?.url.slice('http://east.example'.length)} hello`)
    assert.deepEqual(response.headers['set-cookie'], ['a=1', 'b=2'])
    assert.equal(proxy.forwarded[0]?.headers['proxy-authorization'], 'Basic abc')
    assert.equal(backend.calls[0]?.request.headers['proxy-authorization'], undefined)
    assert.equal(proxy.tunnels.length, 0)
  })

  test('leads nowhere but to the loopback, and refuses with 407 when told to', async (t) => {
    const { proxy, dispatcher } = await through(t, {}, { proxyTunnel: false })
    assert.equal((await request('http://east.example/', { dispatcher })).statusCode, 502)
    proxy.refuseWith = 407
    await assert.rejects(request('https://127.0.0.1:1/', { dispatcher }), /407/)
    assert.equal(proxy.tunnels.length, 1)
  })
})
