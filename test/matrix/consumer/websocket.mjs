/** WebSockets: they pass through a balancer that is installed, and one for a backend is balanced until it is open. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import * as undici from 'undici'
import { TLS, balance, check, makeBalancer, nodeIs, rejection, says, serve, setGlobal } from './support.mjs'

const SOCKETS = [{ name: 'undici.WebSocket', WebSocket: undici.WebSocket }]
if (nodeIs('22.0.0')) SOCKETS.unshift({ name: 'native WebSocket', WebSocket: globalThis.WebSocket })

/** RFC 6455 section 1.3 */
const MAGIC = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

/** Echoes short text messages in upper case, and answers a close with a close: as much of RFC 6455 as that takes. */
function echo (request, socket) {
  const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + MAGIC).digest('base64')
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`)
  let buffered = Buffer.alloc(0)
  socket.on('error', () => {}).on('data', (chunk) => {
    buffered = Buffer.concat([buffered, chunk])
    // A client's frame under 126 bytes: two bytes of head, four of mask, the payload.
    for (let length; buffered.length >= 6 && buffered.length >= (length = 6 + (buffered[1] & 0x7f)); buffered = buffered.subarray(length)) {
      const payload = buffered.subarray(6, length).map((byte, i) => byte ^ buffered[2 + (i % 4)])
      const opcode = buffered[0] & 0x0f
      const answer = opcode === 1 ? Buffer.from(Buffer.from(payload).toString().toUpperCase()) : payload
      socket.write(Buffer.concat([Buffer.from([0x80 | opcode, answer.length]), answer]))
      if (opcode === 8) socket.end()
    }
  })
}

async function serveEcho (t, options) {
  const backend = await serve(t, says('no request was expected', {}, 400), options)
  backend.upgrades = []
  backend.server.on('upgrade', (request, socket) => { backend.upgrades.push(request); echo(request, socket) })
  return backend
}

/** Opens, says hello, hears it, closes. */
function converse (WebSocket, url, options) {
  const socket = new WebSocket(url, options)
  return new Promise((resolve, reject) => {
    let heard
    socket.addEventListener('open', () => { socket.send('hello') })
    socket.addEventListener('message', ({ data }) => { heard = data; socket.close(1000) })
    socket.addEventListener('close', ({ code, wasClean }) => { resolve({ heard, code, wasClean }) })
    socket.addEventListener('error', (event) => { reject(event.error ?? new Error(event.message)) })
  })
}

const WELL = { heard: 'HELLO', code: 1000, wasClean: true }
const toWs = (url) => url.replace(/^http/, 'ws')

for (const { name, WebSocket } of SOCKETS) {
  check(`websocket: ${name} to somewhere else passes through`, async (t) => {
    const [backend, elsewhere] = [await serve(t, says('')), await serveEcho(t)]
    balance(t, [backend])
    assert.deepEqual(await converse(WebSocket, `${toWs(elsewhere.url)}/echo`), WELL)
    assert.equal(backend.calls.length, 0)
  })

  check(`websocket: ${name} to the pool: a backend that answers 429 to the upgrade is passed over`, async (t) => {
    const [busy, free] = [await serve(t, says('', { 'retry-after-ms': '60000' }, 429)), await serveEcho(t)]
    // Without a listener for upgrades a server takes one as a request like any other.
    const balancer = balance(t, [busy, free])
    assert.deepEqual(await converse(WebSocket, 'wss://chat.balanced/openai/v1/realtime?model=gpt-4o'), WELL)
    assert.equal(free.upgrades[0].url, '/openai/v1/realtime?model=gpt-4o')
    assert.deepEqual(balancer.status().backends.map(({ throttled, successes }) => [throttled, successes]), [[1, 0], [0, 1]])
  })

  check(`websocket: ${name} over TLS to a server that would rather speak HTTP/2, elsewhere and in the pool`, async (t) => {
    const server = await serveEcho(t, { protocol: 'h2-or-http' })
    setGlobal(t, new undici.Agent({ connect: { ca: TLS.ca } }))
    balance(t, [server])
    assert.deepEqual(await converse(WebSocket, `${toWs(server.url)}/echo`), WELL)
    assert.deepEqual(await converse(WebSocket, 'wss://chat.balanced/openai/v1/realtime'), WELL)
  })

  check(`websocket: ${name} with the balancer as its dispatcher option, to a server that would rather speak HTTP/2`, async (t) => {
    const server = await serveEcho(t, { protocol: 'h2-or-http' })
    const agent = new undici.Agent({ connect: { ca: TLS.ca } })
    t.after(() => agent.close())
    const dispatcher = makeBalancer(t, [server], { dispatcher: agent })
    assert.deepEqual(await converse(WebSocket, 'wss://chat.balanced/openai/v1/realtime', { dispatcher }), WELL)
    assert.deepEqual(await converse(WebSocket, `${toWs(server.url)}/echo`, { dispatcher }), WELL)
  })

  check(`websocket: ${name}: a pool without a backend that upgrades is an error of the WebSocket`, async (t) => {
    const servers = [await serve(t, says('', {}, 503)), await serve(t, says('', {}, 404))]
    balance(t, servers)
    assert.ok(await rejection(converse(WebSocket, 'wss://chat.balanced/openai/v1/realtime')) instanceof Error)
    assert.deepEqual(servers.map(({ calls }) => calls.length), [1, 1])
  })
}
