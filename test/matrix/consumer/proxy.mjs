/** A proxy that was set up before stays in force: ProxyAgent and EnvHttpProxyAgent under the balancer. */
import assert from 'node:assert/strict'
import * as undici from 'undici'
import { startProxy } from './proxy-server.mjs'
import { CHAT, FETCHES, TLS, balance, bytes, check, makeBalancer, nodeIs, rejection, runProgram, says, serve, setGlobal, throttles } from './support.mjs'

const FILE = bytes(100_000)

const CALLERS = [
  ...FETCHES.map(({ name, fetch }) => ({ name, post: async (more) => (await fetch(CHAT, { method: 'POST', body: FILE, ...more })).text() })),
  { name: 'undici request', post: async (more) => (await undici.request(CHAT, { method: 'POST', body: FILE, ...more })).body.text() },
]

const AGENTS = {
  ProxyAgent: (uri) => new undici.ProxyAgent({ uri, requestTls: { ca: TLS.ca } }),
  EnvHttpProxyAgent: (uri) => new undici.EnvHttpProxyAgent({ httpProxy: uri, httpsProxy: uri, noProxy: '', requestTls: { ca: TLS.ca } }),
}

for (const [kind, make] of Object.entries(AGENTS)) {
  for (const scheme of ['http', 'https']) {
    for (const { name, post } of CALLERS) {
      check(`proxy: ${kind}, ${scheme} backends, ${name}: both attempts go through it, bytes whole`, async (t) => {
        const protocol = scheme === 'http' ? 'http' : 'h2-or-http'
        const [busy, free] = [await serve(t, throttles(), { protocol }), await serve(t, says('free'), { protocol })]
        const proxy = await startProxy(t, { 'east.example': busy.host, 'west.example': free.host })
        setGlobal(t, make(proxy.url))
        const balancer = balance(t, [{ url: `${scheme}://east.example` }, { url: `${scheme}://west.example` }])
        assert.equal(await post({}), 'free')
        assert.deepEqual(proxy.seen.map((line) => line.split(' ')[1]), ['east.example', 'west.example'])
        if (scheme === 'https') assert.deepEqual(proxy.seen, ['CONNECT east.example', 'CONNECT west.example'])
        for (const { calls: [call] } of [busy, free]) {
          assert.ok(call.body.equals(FILE))
          assert.match(call.headers.host ?? call.headers[':authority'], /^(east|west)\.example/)
        }
        await balancer.uninstall()
        // The proxy is in force again, for everybody.
        assert.equal(await (await fetch(`${scheme}://west.example/openai/v1/x`)).text(), 'free')
      })
    }
  }
}

check('proxy: as the inner dispatcher of a balancer that is given to fetch', async (t) => {
  const [busy, free] = [await serve(t, throttles()), await serve(t, says('free'))]
  const proxy = await startProxy(t, { 'east.example': busy.host, 'west.example': free.host })
  const agent = AGENTS.ProxyAgent(proxy.url)
  t.after(() => agent.close())
  const dispatcher = makeBalancer(t, [{ url: 'http://east.example' }, { url: 'http://west.example' }], { dispatcher: agent })
  for (const { post } of CALLERS) assert.equal(await post({ dispatcher }), 'free')
})

check('proxy: a backend that the proxy cannot reach is passed over; with none left the caller gets what the proxy said', async (t) => {
  const free = await serve(t, says('free'), { protocol: 'h2-or-http' })
  const proxy = await startProxy(t, { 'west.example': free.host })
  setGlobal(t, AGENTS.ProxyAgent(proxy.url))
  balance(t, [{ url: 'https://east.example' }, { url: 'https://west.example' }])
  assert.equal(await CALLERS[0].post({}), 'free')
  balance(t, [{ url: 'https://east.example/alone' }], { intercept: ['https://alone.balanced'] })
  assert.ok(await rejection(fetch('https://alone.balanced/x')) instanceof TypeError)
})

if (nodeIs('24.0.0')) {
  check('proxy: the one that Node itself takes from the environment stays in force', async (t) => {
    const [busy, free] = [await serve(t, throttles()), await serve(t, says('free'))]
    const proxy = await startProxy(t, { 'east.example': busy.host, 'west.example': free.host })
    const { code, output, stdout } = await runProgram('programs/install.mjs', {
      env: { NODE_USE_ENV_PROXY: '1', http_proxy: proxy.url, PROGRAM_BACKENDS: 'http://east.example http://west.example' },
    })
    assert.equal(code, 0, output)
    assert.equal(stdout, '200\n')
    assert.deepEqual(proxy.seen.map((line) => line.split(' ')[1]), ['east.example', 'west.example'])
  })
}
