/** HTTP/2 to the backends, where the inner dispatcher speaks it. */
import assert from 'node:assert/strict'
import * as undici from 'undici'
import { CHAT, FETCHES, NATIVE_HANDLERS_ARE_OLD, TLS, UNDICI_8, balance, bare, bytes, check, makeBalancer, rejection, says, serve, setGlobal, throttles } from './support.mjs'

const FILE = bytes(200_000)
const COOKIES = ['a=1; Path=/', 'b=2']

const CALLERS = [
  ...FETCHES.map(({ name, fetch }) => ({
    name,
    post: async (init, url = CHAT) => {
      const response = await fetch(url, { method: 'POST', ...init })
      return { status: response.status, text: await response.text(), cookies: response.headers.getSetCookie(), own: response.headers.get('x-own') }
    },
  })),
  {
    name: 'undici request',
    post: async (init, url = CHAT) => {
      const { statusCode, headers, body } = await undici.request(url, { method: 'POST', ...init })
      return { status: statusCode, text: await body.text(), cookies: headers['set-cookie'], own: headers['x-own'] }
    },
  },
]

const makeAgent = () => new undici.Agent({ allowH2: true, connect: { ca: TLS.ca } })
const answers = says('over h2', { 'set-cookie': COOKIES, 'x-own': 'kept' })

const WAYS = {
  installed: (t, servers) => { setGlobal(t, makeAgent()); balance(t, servers); return {} },
  'dispatcher option': (t, servers) => {
    const agent = makeAgent()
    t.after(() => agent.close())
    return { dispatcher: makeBalancer(t, servers, { dispatcher: agent }) }
  },
}

for (const [way, use] of Object.entries(WAYS)) {
  for (const { name, post } of CALLERS) {
    check(`http2, ${way}: ${name}: both attempts are HTTP/2, with body, headers and cookies whole`, async (t) => {
      const servers = [await serve(t, throttles(), { protocol: 'h2' }), await serve(t, answers, { protocol: 'h2' })]
      const more = use(t, servers)
      for (let i = 0; i < 2; i++) {
        assert.deepEqual(await post({ body: FILE, headers: { 'x-given': 'yes' }, ...more }), { status: 200, text: 'over h2', cookies: COOKIES, own: 'kept' })
      }
      assert.deepEqual(servers.map(({ calls }) => calls.map(({ version }) => version)), [['2.0'], ['2.0', '2.0']])
      for (const [i, { calls: [call] }] of servers.entries()) {
        assert.ok(call.body.equals(FILE), `${call.body.length} bytes`)
        assert.equal(call.headers[':authority'], servers[i].host)
        assert.equal(call.headers['x-given'], 'yes')
      }
    })
  }
}

for (const { name, post } of CALLERS) {
  check(`http2: ${name}: an abort and a refused stream end as they should`, async (t) => {
    const backend = await serve(t, () => {}, { protocol: 'h2' })
    WAYS.installed(t, [backend])
    const controller = new AbortController()
    const reason = new Error('changed my mind')
    const arrival = backend.next()
    const failed = rejection(post({ body: 'x', signal: controller.signal }))
    const call = await arrival
    controller.abort(reason)
    assert.equal(await failed, reason)
    await call.gone
  })
}

// undici 8 stands under the symbol that Node 22 and 24 read with a wrapper that forbids HTTP/2.
const BARE_IS_HTTP1 = UNDICI_8 && NATIVE_HANDLERS_ARE_OLD

check(`known defect${BARE_IS_HTTP1 ? '' : ', not here'}: a bare global Agent of undici 8 speaks HTTP/1.1 to native fetch before Node 26`, async (t) => {
  const server = await serve(t, answers, { protocol: 'h2-or-http' })
  const agent = makeAgent()
  t.after(() => agent.close())
  await bare(agent, () => CALLERS[0].post({ body: 'x' }, server.url))
  assert.equal(server.calls[0].version, BARE_IS_HTTP1 ? '1.1' : '2.0')
  WAYS.installed(t, [server])
  await CALLERS[0].post({ body: 'x' })
  assert.equal(server.calls[1].version, '2.0')
})
