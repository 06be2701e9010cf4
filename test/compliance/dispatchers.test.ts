/** Everything that can send through a balancer, and everything that a balancer can send through. */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { text } from 'node:stream/consumers'
import * as undici from 'undici'
import { Agent, EnvHttpProxyAgent, MockAgent, Pool, ProxyAgent, getGlobalDispatcher, setGlobalDispatcher, type Dispatcher } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import { install } from '../../src/install.js'
import { priorityInterceptor } from '../../src/interceptor.js'
import type { BackendOptions, BalancerOptions } from '../../src/options/index.js'
import { answers, failure, says } from '../support/east-and-west.js'
import { azureClient, chat, completion, openaiClient } from '../support/openai-clients.js'
import { startProxy } from '../support/proxy.js'
import { startScriptedBackend, type ScriptedBackend, type ScriptedBackendOptions } from '../support/scripted-backend.js'
import { testCertificate } from '../support/tls.js'
import { turns, within } from '../support/until.js'

/** undici 8 needs Node 22.19; where it cannot be loaded there is nobody to hand a balancer to. */
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const other = major > 22 || (major === 22 && minor >= 19) ? await import('undici8') as unknown as typeof undici : undefined

/** East says that it is full, west answers. */
async function startBackends(t: TestContext, options: ScriptedBackendOptions = {}): Promise<[ScriptedBackend, ScriptedBackend]> {
  const [east, west] = await Promise.all([startScriptedBackend(options), startScriptedBackend(options)])
  t.after(() => Promise.all([east.close(), west.close()]))
  east.always(answers(429, { 'retry-after': '30' }))
  west.always(async (call) => {
    const body = await call.request.body()
    if (call.request.path.includes('/chat/completions')) call.respond(200, {}, completion('west'))
    else call.respond(200, { 'x-backend': 'west' }, `west got ${body.length}`)
  })
  return [east, west]
}

function optionsFor([east, west]: readonly [{ readonly url: string }, { readonly url: string }], ofWest: Partial<BackendOptions> = {}): BalancerOptions {
  return { backends: [{ url: east.url, priority: 1 }, { url: west.url, priority: 2, ...ofWest }], logger: false }
}

function createBalancer(t: TestContext, options: BalancerOptions): PriorityBalancer {
  const balancer = new PriorityBalancer(options)
  t.after(() => balancer.destroy())
  return balancer
}

type Undici = typeof undici

const senders: [name: string, send: (url: string, dispatcher: Dispatcher, from: Undici) => Promise<string>][] = [
  ['request', async (url, dispatcher, from) => (await from.request(url, { method: 'POST', body: 'hello', dispatcher })).body.text()],
  ['fetch', async (url, dispatcher, from) => (await from.fetch(url, { method: 'POST', body: 'hello', dispatcher })).text()],
  ['stream', async (url, dispatcher, from) => {
    const { PassThrough } = await import('node:stream')
    const sink = new PassThrough()
    const answer = text(sink)
    await from.stream(url, { method: 'POST', body: 'hello', dispatcher }, () => sink)
    return answer
  }],
  ['pipeline', async (url, dispatcher, from) => {
    const duplex = from.pipeline(url, { method: 'POST', dispatcher }, ({ body }) => body)
    const answer = text(duplex)
    duplex.end('hello')
    return answer
  }],
]

describe('a balancer as `dispatcher`', () => {
  for (const [name, send] of senders) {
    test(`of undici's ${name}`, async (t) => {
      const both = await startBackends(t)
      assert.equal(await within(send(`${both[0].url}/v1/models`, createBalancer(t, optionsFor(both)), undici), name), 'west got 5')
      assert.deepEqual(both.map(({ calls }) => calls.length), [1, 1])
    })

    if (other === undefined) continue
    test(`of ${name} of another major version of undici`, async (t) => {
      const both = await startBackends(t)
      assert.equal(await within(send(`${both[0].url}/v1/models`, createBalancer(t, optionsFor(both)), other), name), 'west got 5')
      assert.deepEqual(both.map(({ calls }) => calls.length), [1, 1])
    })
  }

  test('of Node\'s own fetch, with repeated cookies and compressed bodies whole', async (t) => {
    const both = await startBackends(t)
    const { gzipSync } = await import('node:zlib')
    both[1].always((call) => {
      call.respond(200, [['set-cookie', 'a=1; Path=/'], ['set-cookie', 'b=2'], ['content-encoding', 'gzip']], gzipSync('unzipped'))
    })
    const response = await fetch(`${both[0].url}/v1/models`, { method: 'POST', body: 'hello', dispatcher: createBalancer(t, optionsFor(both)) } as unknown as RequestInit)
    assert.deepEqual(response.headers.getSetCookie(), ['a=1; Path=/', 'b=2'])
    assert.equal(await response.text(), 'unzipped')
  })

  test('of the OpenAI and the Azure client', async (t) => {
    const both = await startBackends(t)
    const balancer = createBalancer(t, optionsFor(both))
    assert.equal(await chat(openaiClient(`${both[0].url}/openai/v1`, balancer)), 'west')
    assert.equal(await chat(azureClient(both[0].url, balancer)), 'west')
  })

  test('of a client\'s file upload', async (t) => {
    const both = await startBackends(t)
    both[1].always(async (call) => {
      const body = (await call.request.body()).toString()
      call.respond(200, {}, { text: String(body.includes('sound of silence')) })
    })
    const client = openaiClient(`${both[0].url}/v1`, createBalancer(t, optionsFor(both)))
    const { text: answer } = await client.audio.transcriptions.create({ model: 'whisper-1', file: new File(['sound of silence'], 'a.mp3') })
    assert.equal(answer, 'true')
    assert.equal(both[0].calls.length, 1)
  })
})

describe('the interceptor', () => {
  test('composed on an Agent', async (t) => {
    const both = await startBackends(t)
    const agent = new Agent()
    t.after(() => agent.destroy())
    const interceptor = priorityInterceptor(optionsFor(both))
    assert.equal(await chat(azureClient(both[0].url, agent.compose(interceptor))), 'west')
    assert.deepEqual(interceptor.status().backends.map(({ attempts }) => attempts), [1, 1])
  })

  test('shared by two dispatchers is one pool', async (t) => {
    const both = await startBackends(t)
    const agents = [new Agent(), new Agent()]
    t.after(() => Promise.all(agents.map((agent) => agent.destroy())))
    const interceptor = priorityInterceptor(optionsFor(both))
    for (const agent of agents) assert.equal(await chat(azureClient(both[0].url, agent.compose(interceptor))), 'west')
    assert.deepEqual(both.map(({ calls }) => calls.length), [1, 2])
  })

  test('composed on a Pool of one origin, for a gateway that tells its backends by path', async (t) => {
    const gateway = await startScriptedBackend()
    t.after(() => gateway.close())
    gateway.always((call) => (call.request.path.startsWith('/east') ? answers(429) : says('west'))(call))
    const pool = new Pool(gateway.url)
    t.after(() => pool.destroy())
    const interceptor = priorityInterceptor({
      backends: [{ url: `${gateway.url}/east`, priority: 1 }, { url: `${gateway.url}/west`, priority: 2 }], intercept: [gateway.url], logger: false,
    })
    assert.equal(await chat(azureClient(gateway.url, pool.compose(interceptor))), 'west')
  })

  test('close ends it, and leaves the dispatcher open', async (t) => {
    const both = await startBackends(t)
    const agent = new Agent()
    t.after(() => agent.destroy())
    const interceptor = priorityInterceptor(optionsFor(both))
    await interceptor.close()
    const dispatcher = agent.compose(interceptor)
    await assert.rejects(undici.request(`${both[0].url}/v1/models`, { dispatcher }), { code: 'ERR_OPLB_CLOSED' })
    const { statusCode, body } = await undici.request(`${both[1].url}/v1/models`, { dispatcher: agent })
    await body.dump()
    assert.equal(statusCode, 200)
  })
})

describe('a MockAgent inside', () => {
  const urls = [{ url: 'https://east.example/openai/v1' }, { url: 'https://west.example/openai/v1' }] as const
  const path = '/openai/v1/chat/completions'
  const json = { headers: { 'content-type': 'application/json' } }

  function createMock(t: TestContext): MockAgent {
    const mock = new MockAgent({ enableCallHistory: true })
    mock.disableNetConnect()
    t.after(() => mock.close())
    return mock
  }

  /** Each way to have it inside, as users write it. */
  const ways: [name: string, send: (t: TestContext, mock: MockAgent) => Promise<string>][] = [
    ['that was global before install', async (t, mock) => {
      const before = getGlobalDispatcher()
      setGlobalDispatcher(mock)
      const balancer = install(optionsFor(urls))
      t.after(async () => {
        await balancer.uninstall()
        setGlobalDispatcher(before)
      })
      return chat(openaiClient(urls[0].url))
    }],
    ['of a PriorityBalancer', (t, mock) => chat(openaiClient(urls[0].url, createBalancer(t, { ...optionsFor(urls), dispatcher: mock })))],
    ['composed with the interceptor, through undici\'s fetch', async (_t, mock) => {
      const dispatcher = mock.compose(priorityInterceptor(optionsFor(urls)))
      const body = JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello' }] })
      const response = await undici.fetch(`${urls[0].url}/chat/completions`, { method: 'POST', body, dispatcher })
      const { choices } = await response.json() as { choices: { message: { content: string } }[] }
      return choices[0]?.message.content ?? `status ${response.status}`
    }],
  ]
  for (const [name, send] of ways) {
    test(`${name} matches bodies as strings, and sees where requests really go`, async (t) => {
      const mock = createMock(t)
      const body = (sent: string): boolean => (JSON.parse(sent) as { model: string }).model === 'gpt-4o'
      mock.get('https://east.example').intercept({ path, method: 'POST', body }).reply(429, {}, { headers: { 'retry-after': '9' } })
      mock.get('https://west.example').intercept({ path, method: 'POST', body }).reply(200, completion('mocked'), json)
      assert.equal(mock.pendingInterceptors().length, 2)
      assert.equal(await send(t, mock), 'mocked')
      assert.deepEqual(mock.getCallHistory()?.calls().map(({ origin, path: called }) => `${origin}${called}`), urls.map(({ url }) => `${url}/chat/completions`))
      mock.assertNoPendingInterceptors()
    })

    test(`${name}: replyWithError and delay fail over like the real thing`, async (t) => {
      const mock = createMock(t)
      mock.get('https://east.example').intercept({ path, method: 'POST' }).replyWithError(Object.assign(new Error('reset'), { code: 'ECONNRESET' })).delay(5)
      mock.get('https://west.example').intercept({ path, method: 'POST' }).reply(200, completion('mocked'), json).delay(5)
      assert.equal(await send(t, mock), 'mocked')
      mock.assertNoPendingInterceptors()
    })

    test(`${name}: what it does not know is rejected at once, and no backend is blamed`, async (t) => {
      const mock = createMock(t)
      mock.get('https://west.example').intercept({ path, method: 'POST' }).reply(200, completion('mocked'), json)
      const error = await failure(send(t, mock))
      const codes: unknown[] = []
      for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) codes.push((cause as { code?: unknown }).code)
      assert.ok(codes.includes('UND_MOCK_ERR_MOCK_NOT_MATCHED'), String(codes))
      assert.equal(mock.pendingInterceptors().length, 1)
    })
  }
})

describe('a proxy inside', () => {
  const names = [{ url: 'http://east.example' }, { url: 'http://west.example' }] as const

  for (const proxyTunnel of [true, false]) {
    test(`ProxyAgent, ${proxyTunnel ? 'tunnelled' : 'forwarded'}`, async (t) => {
      const [east, west] = await startBackends(t)
      const proxy = await startProxy({ routes: { 'east.example': east.host, 'east.example:80': east.host, 'west.example': west.host, 'west.example:80': west.host } })
      const dispatcher = new ProxyAgent({ uri: proxy.url, proxyTunnel })
      t.after(async () => { await dispatcher.destroy(); await proxy.close() })
      assert.equal(await chat(azureClient('http://east.example', createBalancer(t, { ...optionsFor(names, { apiKey: 'west-key' }), dispatcher }))), 'west')
      assert.deepEqual([proxy.tunnels.length, proxy.forwarded.length], proxyTunnel ? [2, 0] : [0, 2])
      assert.equal(west.calls[0]?.request.headers.host, 'west.example')
      assert.equal(west.calls[0]?.request.headers['api-key'], 'west-key')
    })
  }

  test('EnvHttpProxyAgent', async (t) => {
    const [east, west] = await startBackends(t)
    const proxy = await startProxy({ routes: { 'east.example': east.host, 'east.example:80': east.host } })
    const dispatcher = new EnvHttpProxyAgent({ httpProxy: proxy.url, noProxy: '127.0.0.1' })
    t.after(async () => { await dispatcher.destroy(); await proxy.close() })
    assert.equal(await chat(azureClient('http://east.example', createBalancer(t, { ...optionsFor([names[0], west]), dispatcher }))), 'west')
    assert.equal(proxy.tunnels.length + proxy.forwarded.length, 1, 'east by way of the proxy, west past it')
  })

  test('a proxy that refuses is a backend that cannot be reached', async (t) => {
    const [, west] = await startBackends(t)
    const proxy = await startProxy({ refuseWith: 502 })
    const dispatcher = new EnvHttpProxyAgent({ httpProxy: proxy.url, httpsProxy: proxy.url, noProxy: '127.0.0.1' })
    t.after(async () => { await dispatcher.destroy(); await proxy.close() })
    const balancer = createBalancer(t, { ...optionsFor([{ url: 'https://east.example' }, west]), dispatcher })
    assert.equal(await chat(azureClient('https://east.example', balancer)), 'west')
    assert.equal(balancer.status().backends[0]?.state, 'ejected')
  })
})

describe('HTTP/2 inside', () => {
  for (const [name, send] of senders.slice(0, 2)) {
    test(`failover, bodies and headers, by ${name}`, async (t) => {
      const { ca } = await testCertificate()
      const both = await startBackends(t, { protocol: 'h2' })
      const dispatcher = new Agent({ allowH2: true, connect: { ca } })
      t.after(() => dispatcher.destroy())
      const balancer = createBalancer(t, { ...optionsFor(both, { apiKey: 'west-key' }), dispatcher })
      assert.equal(await within(send(`${both[0].url}/v1/models`, balancer, undici), name), 'west got 5')
      assert.equal(both[1].calls[0]?.request.httpVersion, '2.0')
      assert.equal(both[1].calls[0]?.request.headers['api-key'], 'west-key')
    })
  }

  test('the openai package over TLS with HTTP/2 where the server has it', async (t) => {
    const { ca } = await testCertificate()
    const both = await startBackends(t, { protocol: 'h2-or-http' })
    const dispatcher = new Agent({ allowH2: true, connect: { ca } })
    t.after(() => dispatcher.destroy())
    assert.equal(await chat(azureClient(both[0].url, createBalancer(t, { ...optionsFor(both), dispatcher }))), 'west')
  })
})

// From Node 22 on there is one.
if (typeof WebSocket !== 'undefined') test('Node\'s own WebSocket passes through, to backends and elsewhere', async (t) => {
  const [east, west] = await startBackends(t)
  const elsewhere = await startScriptedBackend()
  t.after(() => elsewhere.close())
  const { createHash } = await import('node:crypto')
  const paths: string[] = []
  for (const server of [east, elsewhere]) {
    server.onUpgrade((request, socket) => {
      paths.push(request.url ?? '')
      const accept = createHash('sha1').update(`${String(request.headers['sec-websocket-key'])}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`)
      // One text frame, unmasked, of two letters.
      socket.write(Buffer.from([0x81, 2, 0x68, 0x69]))
      socket.on('error', () => {}).on('data', () => { socket.end(Buffer.from([0x88, 0])) })
    })
  }
  const balancer = install(optionsFor([east, west]))
  t.after(() => balancer.uninstall())
  for (const server of [east, elsewhere]) {
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/v1/realtime?model=gpt-realtime`)
    const message = await within(new Promise<unknown>((resolve, reject) => {
      socket.onmessage = ({ data }) => { resolve(data) }
      socket.onerror = () => { reject(new Error('the WebSocket failed')) }
    }), 'a message')
    assert.equal(message, 'hi')
    const closed = new Promise((resolve) => { socket.onclose = resolve })
    socket.close()
    await within(closed, 'the end of the WebSocket')
  }
  assert.deepEqual(paths, ['/v1/realtime?model=gpt-realtime', '/v1/realtime?model=gpt-realtime'])
  assert.equal(balancer.status().backends[0]?.attempts, 1, 'what goes to a backend is one of its requests')
  await turns()
})
