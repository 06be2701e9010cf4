/** The balancer's own probes as others see them: the host, a proxy, a mock, a composed dispatcher, and a process that wants to end. */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { Agent, MockAgent, ProxyAgent, request, type Dispatcher } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import { priorityInterceptor } from '../../src/interceptor.js'
import type { BackendOptions } from '../../src/options/index.js'
import { startProxy } from '../support/proxy.js'
import { refusingUrl } from '../support/raw-server.js'
import { runScript, urlOf } from '../support/run-child.js'
import { startScriptedBackend, type ScriptedBackend } from '../support/scripted-backend.js'
import { turns, until } from '../support/until.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'

/** A host that resets whatever comes until it is told otherwise, and one that answers. */
async function startTwo(t: TestContext): Promise<{ readonly east: ScriptedBackend, readonly west: ScriptedBackend }> {
  const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
  t.after(() => Promise.all([east.close(), west.close()]))
  east.always((call) => { call.reset() })
  west.always((call) => { call.respond(200, {}, 'west') })
  return { east, west }
}

async function ask(url: string, dispatcher: Dispatcher): Promise<string> {
  const { body } = await request(url, { method: 'POST', body: '{}', headers: { authorization: 'Bearer callers', 'api-key': 'callers', cookie: 'callers' }, dispatcher })
  return body.text()
}

function balance(t: TestContext, east: BackendOptions, west: string, dispatcher?: Dispatcher): VirtualBalancer {
  const balancer = new VirtualBalancer({ backends: [east, { url: west, name: 'west', priority: 2 }], logger: false, ...(dispatcher === undefined ? {} : { dispatcher }) })
  t.after(() => balancer.engine.destroy(new Error('the test is over')))
  return balancer
}

describe('a probe', () => {
  test('is a HEAD of the base URL, with no credential, body or query, and asks no key function', async (t) => {
    const { east, west } = await startTwo(t)
    let keys = 0
    const url = `${east.url}/openai/v1`
    const balancer = balance(t, {
      url, name: 'east', priority: 1, apiKey: () => { keys++; return 'ours' }, query: { 'api-version': '1', sig: 'secret' }
    }, west.url)
    assert.equal(await ask(`${url}/responses`, balancer), 'west')
    assert.deepEqual([keys, east.calls.length], [1, 1])
    balancer.system.advance(500)
    await until(() => east.calls.length === 2, 'the probe')
    const { request: probe } = east.calls[1] ?? assert.fail()
    assert.deepEqual([probe.method, probe.path, await probe.text(), keys], ['HEAD', '/openai/v1', '', 1])
    assert.deepEqual(Object.keys(probe.headers).sort(), ['connection', 'host'])
    assert.ok(!JSON.stringify(probe.headers).includes('ours'))
  })

  test('of a base URL without a path is of its root', async (t) => {
    const { east, west } = await startTwo(t)
    const balancer = balance(t, { url: east.url, name: 'east', priority: 1 }, west.url)
    await ask(`${east.url}/x`, balancer)
    balancer.system.advance(500)
    await until(() => east.calls.length === 2, 'the probe')
    assert.equal(east.calls[1]?.request.path, '/')
  })

  for (const status of [200, 204, 301, 401, 404, 405, 429, 500, 503]) {
    test(`that is answered ${status} brings the backend back, but its count goes on until a request succeeds`, async (t) => {
      const { east, west } = await startTwo(t)
      const balancer = balance(t, { url: east.url, name: 'east', priority: 1 }, west.url)
      balancer.system.random = () => 0
      for (const waitMs of [250, 500, 1_000]) {
        assert.equal(await ask(`${east.url}/x`, balancer), 'west')
        assert.equal(balancer.status().backends[0]?.cooldownMs, waitMs)
        east.always((call) => { if (call.request.method === 'HEAD') call.respond(status, { location: '/elsewhere', 'retry-after': '100' }, ''); else call.reset() })
        balancer.system.advance(waitMs)
        await until(() => balancer.status().backends[0]?.state === 'available', 'the answer')
      }
      east.always((call) => { call.respond(200, {}, 'east') })
      assert.equal(await ask(`${east.url}/x`, balancer), 'east')
      east.always((call) => { call.reset() })
      // The connection had served: that reset is made good on the same backend first.
      assert.equal(await ask(`${east.url}/x`, balancer), 'west')
      assert.equal(balancer.status().backends[0]?.cooldownMs, 250)
    })
  }

  test('goes through a proxy like any request', async (t) => {
    const { east, west } = await startTwo(t)
    const proxy = await startProxy({ routes: { 'east.test:80': east.host, 'west.test:80': west.host } })
    const agent = new ProxyAgent({ uri: proxy.url, proxyTunnel: false })
    t.after(async () => { await agent.destroy(); await proxy.close() })
    const balancer = balance(t, { url: 'http://east.test/v1', name: 'east', priority: 1 }, 'http://west.test', agent)
    await ask('http://east.test/v1/x', balancer)
    assert.equal(balancer.status().backends[0]?.state, 'ejected')
    east.always((call) => { call.respond(404, {}, '') })
    balancer.system.advance(500)
    await until(() => balancer.status().backends[0]?.state === 'available', 'the answer through the proxy')
    assert.deepEqual(proxy.forwarded.filter(({ method }) => method === 'HEAD').map(({ url }) => url), ['http://east.test/v1'])
  })

  test('is answered by a mock that has a route for it', async (t) => {
    const mock = new MockAgent()
    mock.disableNetConnect()
    t.after(() => mock.close())
    const east = mock.get('https://east.example')
    const methods: string[] = []
    east.intercept({ path: '/v1/x', method: 'POST' }).replyWithError(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }))
    east.intercept({ path: '/v1', method: 'HEAD' }).reply(() => { methods.push('HEAD'); return { statusCode: 404, data: '' } })
    mock.get('https://west.example').intercept({ path: '/x', method: 'POST' }).reply(200, 'west').persist()
    const balancer = balance(t, { url: 'https://east.example/v1', name: 'east', priority: 1 }, 'https://west.example', mock)
    assert.equal(await ask('https://east.example/v1/x', balancer), 'west')
    balancer.system.advance(500)
    await until(() => balancer.status().backends[0]?.state === 'available', 'the answer of the mock')
    assert.deepEqual(methods, ['HEAD'])
  })

  test('is refused by a mock that has none: then a request probes, and is answered', async (t) => {
    const mock = new MockAgent()
    mock.disableNetConnect()
    t.after(() => mock.close())
    const east = mock.get('https://east.example')
    east.intercept({ path: '/v1/x', method: 'POST' }).replyWithError(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }))
    east.intercept({ path: '/v1/x', method: 'POST' }).reply(200, 'east')
    mock.get('https://west.example').intercept({ path: '/x', method: 'POST' }).reply(200, 'west').persist()
    const balancer = balance(t, { url: 'https://east.example/v1', name: 'east', priority: 1 }, 'https://west.example', mock)
    assert.equal(await ask('https://east.example/v1/x', balancer), 'west')
    assert.equal(await ask('https://east.example/v1/x', balancer), 'west')
    balancer.system.advance(500)
    await turns()
    assert.equal(await ask('https://east.example/v1/x', balancer), 'east')
    assert.equal(balancer.status().backends[0]?.state, 'available')
  })

  test('is sent through what an interceptor is composed with', async (t) => {
    const { east, west } = await startTwo(t)
    const interceptor = priorityInterceptor({ backends: [{ url: east.url, priority: 1 }, { url: west.url, priority: 2 }], logger: false })
    const agent = new Agent()
    const composed = agent.compose(interceptor)
    t.after(async () => { await interceptor.close(); await agent.destroy() })
    assert.equal(await ask(`${east.url}/x`, composed), 'west')
    east.always((call) => { call.respond(404, {}, '') })
    await until(() => east.calls.some(({ request: { method } }) => method === 'HEAD'), 'the probe')
    await until(() => interceptor.status().backends[0]?.state === 'available', 'its answer')
  })

  test('is not sent after close(), nor by a balancer that is told not to', async (t) => {
    const { east, west } = await startTwo(t)
    for (const probe of [true, false]) {
      const balancer = new PriorityBalancer({ backends: [{ url: east.url, priority: 1 }, { url: west.url, priority: 2 }], logger: false, probe })
      assert.equal(await ask(`${east.url}/x`, balancer), 'west')
      if (probe) await balancer.close()
      else t.after(() => balancer.destroy())
    }
    // By then the first of either would have been here.
    const witness = new PriorityBalancer({ backends: [{ url: east.url, priority: 1 }, { url: west.url, priority: 2 }], logger: false })
    t.after(() => witness.destroy())
    await ask(`${east.url}/x`, witness)
    const heads = (): number => east.calls.filter(({ request: { method } }) => method === 'HEAD').length
    await until(() => heads() > 0, 'the probe of the third')
    assert.equal(heads(), 1)
  })

  test('keeps no process alive that has nothing else to do', async () => {
    const { code, stdout, stderr } = await runScript(`
      import { createServer } from 'node:http'
      import { request } from 'undici'
      const { PriorityBalancer } = await import(${JSON.stringify(urlOf('src/index.ts'))})
      const server = createServer((_, response) => { response.end('west') }).listen(0, '127.0.0.1', async () => {
        const west = 'http://127.0.0.1:' + server.address().port
        const dispatcher = new PriorityBalancer({ backends: [{ url: ${JSON.stringify(await refusingUrl())}, priority: 1 }, { url: west, priority: 2 }], logger: false })
        const { body } = await request(west + '/x', { dispatcher })
        console.log(await body.text(), dispatcher.status().backends[0].state)
        server.close()
        server.closeIdleConnections()
        const begun = performance.now()
        process.on('exit', () => console.log(performance.now() - begun < 10_000 ? 'at once' : 'late'))
      })
    `)
    assert.deepEqual([code, stdout.trim().split('\n'), stderr], [0, ['west ejected', 'at once'], ''])
  })
})
