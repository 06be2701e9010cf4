/** Every way that undici has to make a request, with the balancer installed and as the `dispatcher` option. */
import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { Readable, Writable } from 'node:stream'
import { pipeline as pipe } from 'node:stream/promises'
import * as undici from 'undici'
import { CHAT, balance, bytes, check, makeBalancer, serve, throttles, withResolvers } from './support.mjs'

const ANSWER = bytes(200_000)

/** Answers with bytes, a header that repeats, and what it got. */
const echoes = (call, response) => {
  response.writeHead(200, { 'x-method': call.method, 'x-length': String(call.body.length), 'x-many': ['a', 'b'] }).end(ANSWER)
}

function collect (chunks) {
  return new Writable({ write (chunk, _encoding, done) { chunks.push(chunk); done() } })
}

const CALLS = {
  async request (url, options) {
    const { statusCode, headers, body } = await undici.request(url, { method: 'POST', body: 'hello', ...options })
    return { status: statusCode, headers, bytes: Buffer.from(await body.arrayBuffer()) }
  },
  async stream (url, options) {
    const chunks = []
    let seen
    await undici.stream(url, { method: 'POST', body: 'hello', ...options }, (answer) => { seen = answer; return collect(chunks) })
    return { status: seen.statusCode, headers: seen.headers, bytes: Buffer.concat(chunks) }
  },
  async pipeline (url, options) {
    const chunks = []
    let seen
    await pipe(
      Readable.from([Buffer.from('hel'), Buffer.from('lo')]),
      undici.pipeline(url, { method: 'POST', ...options }, (answer) => { seen = answer; return answer.body }),
      collect(chunks)
    )
    return { status: seen.statusCode, headers: seen.headers, bytes: Buffer.concat(chunks) }
  },
  async 'dispatch with a handler of the new style' (url, options) {
    const { origin, pathname } = new URL(url)
    const done = withResolvers()
    const chunks = []
    const seen = {}
    const dispatcher = options.dispatcher ?? undici.getGlobalDispatcher()
    dispatcher.dispatch({ origin, path: pathname, method: 'POST', body: 'hello' }, {
      onRequestStart () {},
      onResponseStart (_controller, status, headers) { Object.assign(seen, { status, headers }) },
      onResponseData (_controller, chunk) { chunks.push(Buffer.from(chunk)) },
      onResponseEnd () { done.resolve() },
      onResponseError (_controller, error) { done.reject(error) },
    })
    await done.promise
    return { ...seen, bytes: Buffer.concat(chunks) }
  },
  async 'dispatch with a handler of the old style' (url, options) {
    const { origin, pathname } = new URL(url)
    const done = withResolvers()
    const chunks = []
    const seen = {}
    const dispatcher = options.dispatcher ?? undici.getGlobalDispatcher()
    dispatcher.dispatch({ origin, path: pathname, method: 'POST', body: 'hello' }, {
      onConnect () {},
      onHeaders (status, raw) { Object.assign(seen, { status, headers: undici.util.parseHeaders(raw) }); return true },
      onData (chunk) { chunks.push(Buffer.from(chunk)); return true },
      onComplete () { done.resolve() },
      onError (error) { done.reject(error) },
    })
    await done.promise
    return { ...seen, bytes: Buffer.concat(chunks) }
  },
}

for (const [name, call] of Object.entries(CALLS)) {
  for (const installed of [true, false]) {
    check(`undici ${name}, ${installed ? 'installed' : 'dispatcher option'}: moves on from a 429, with body, headers and bytes whole`, async (t) => {
      const [busy, free] = [await serve(t, throttles()), await serve(t, echoes)]
      const options = installed ? {} : { dispatcher: makeBalancer(t, [busy, free]) }
      if (installed) balance(t, [busy, free])
      const answer = await call(CHAT, options)
      assert.equal(answer.status, 200)
      assert.deepEqual(answer.headers['x-many'], ['a', 'b'])
      assert.ok(answer.bytes.equals(ANSWER), `${answer.bytes.length} bytes`)
      assert.deepEqual([busy.bodies().join(), free.bodies().join()], ['hello', 'hello'])
    })
  }
}

check('undici request: a body of many megabytes reaches a reader that takes its time, and no more is read ahead than it wants', async (t) => {
  const megabyte = bytes(1 << 20)
  let written = 0
  const backend = await serve(t, async (_call, response) => {
    for (let i = 0; i < 32; i++) {
      written++
      if (!response.write(megabyte)) await once(response, 'drain')
    }
    response.end()
  })
  balance(t, [backend])
  const { body } = await undici.request(CHAT)
  await once(body, 'readable')
  // The connection's buffers fill within a few turns; then the server has to wait.
  let before
  do {
    before = written
    await new Promise((resolve) => { setTimeout(resolve, 50) })
  } while (written > before)
  assert.ok(written < 32, 'the server has written everything, though nobody reads')
  let length = 0
  for await (const chunk of body) length += chunk.length
  assert.equal(length, 32 << 20)
})

check('undici upgrade: the socket is handed over', async (t) => {
  const backend = await serve(t, () => {})
  backend.server.on('upgrade', (_request, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n')
    socket.pipe(socket)
  })
  balance(t, [backend])
  const { socket, headers } = await undici.upgrade(CHAT, { protocol: 'echo' })
  assert.equal(headers.upgrade, 'echo')
  assert.ok(socket instanceof EventEmitter)
  const echoed = once(socket, 'data')
  socket.write('over')
  assert.equal(String((await echoed)[0]), 'over')
  const closed = once(socket, 'close')
  socket.destroy()
  await closed
})
