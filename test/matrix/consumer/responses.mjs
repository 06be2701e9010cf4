/** What comes back, unchanged: repeated headers, trailers, early hints, compressed bodies, and answers without one. */
import assert from 'node:assert/strict'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import * as undici from 'undici'
import { BASE, CHAT, FETCHES, balance, bare, bareAgent, bytes, check, nodeIs, says, serve, throttles } from './support.mjs'

const COOKIES = ['a=1; Path=/; Expires=Thu, 01 Jan 2099 00:00:00 GMT', 'b=2; HttpOnly', 'c=3']

for (const { name, fetch } of FETCHES) {
  check(`responses: ${name}: repeated set-cookie and other repeated headers, before and after a 429`, async (t) => {
    const [busy, free] = [await serve(t, throttles()), await serve(t, says('free', { 'set-cookie': COOKIES, 'x-many': ['a', 'b'], 'x-latin': 'caf\xe9' }))]
    balance(t, [busy, free])
    for (let i = 0; i < 2; i++) {
      const { headers, ...response } = await read(await fetch(CHAT))
      assert.deepEqual(headers.getSetCookie(), COOKIES)
      assert.equal(headers.get('x-many'), 'a, b')
      assert.equal(headers.get('x-latin'), 'caf\xe9')
      assert.deepEqual(response, { status: 200, text: 'free' })
    }
  })

  check(`responses: ${name}: gzip, br and deflate are decoded`, async (t) => {
    const text = 'to be compressed '.repeat(500)
    const codings = { gzip: gzipSync, br: brotliCompressSync, deflate: deflateSync }
    const busy = await serve(t, throttles())
    const free = await serve(t, (call, response) => {
      const coding = call.path.split('/').at(-1)
      response.writeHead(200, { 'content-encoding': coding }).end(codings[coding](text))
    })
    balance(t, [busy, free])
    for (const coding of Object.keys(codings)) {
      const response = await fetch(`${BASE}/${coding}`)
      assert.equal(response.headers.get('content-encoding'), coding)
      assert.equal(await response.text(), text)
    }
    for (const coding of ['gzip', 'br']) assert.ok(free.calls[0].headers['accept-encoding'].split(', ').includes(coding))
  })

  check(`responses: ${name}: HEAD, 204, 304, 404 and a redirect are what they are`, async (t) => {
    const backend = await serve(t, (call, response) => {
      const status = Number(call.path.split('/').at(-1))
      response.writeHead(status, status === 307 ? { location: '/openai/v1/204' } : { 'content-length': status === 404 ? '4' : '0' })
      response.end(status === 404 && call.method !== 'HEAD' ? 'gone' : '')
    })
    balance(t, [backend])
    const ask = async (status, init) => { const response = await fetch(`${BASE}/${status}`, init); return [response.status, await response.text()] }
    assert.deepEqual(await ask(200, { method: 'HEAD' }), [200, ''])
    assert.deepEqual(await ask(204), [204, ''])
    assert.deepEqual(await ask(304), [304, ''])
    assert.deepEqual(await ask(404), [404, 'gone'])
    assert.deepEqual(await ask(404, { method: 'HEAD' }), [404, ''])
    // The redirect is the caller's to follow, and leads back into the pool.
    assert.deepEqual(await ask(307, { method: 'POST', body: 'again' }), [204, ''])
    assert.deepEqual(backend.calls.slice(-2).map(({ method, body }) => [method, body.toString()]), [['POST', 'again'], ['POST', 'again']])
  })

  check(`responses: ${name}: 103 early hints come before the answer, which arrives all the same`, async (t) => {
    const [busy, free] = [await serve(t, hints(throttles())), await serve(t, hints(says('free')))]
    balance(t, [busy, free])
    const response = await fetch(CHAT, { method: 'POST', body: 'x' })
    assert.deepEqual([response.status, await response.text()], [200, 'free'])
  })

  check(`responses: ${name}: chunks arrive as they are sent`, async (t) => {
    const [busy, free] = [await serve(t, throttles()), await serve(t, (_call, response) => { response.write('first') })]
    balance(t, [busy, free])
    const response = await fetch(CHAT)
    const reader = response.body.getReader()
    assert.equal(Buffer.from((await reader.read()).value).toString(), 'first')
    free.calls[0].response.end('second')
    assert.equal(Buffer.from((await reader.read()).value).toString(), 'second')
    assert.equal((await reader.read()).done, true)
  })
}

check('responses: an EventSource is balanced, and hears events as they come', async (t) => {
  const [busy, free] = [await serve(t, throttles()), await serve(t, (_call, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: one\n\n')
  })]
  balance(t, [busy, free])
  const source = new undici.EventSource(`${BASE}/events`)
  const message = await new Promise((resolve, reject) => {
    source.addEventListener('message', resolve)
    source.addEventListener('error', reject)
  })
  source.close()
  assert.equal(message.data, 'one')
  assert.deepEqual(await free.calls[0].gone, { finished: false })
})

check('responses: undici request: trailers, after a 429 with trailers of its own', async (t) => {
  const trails = (status, sum) => (_call, response) => {
    response.writeHead(status, { trailer: 'x-sum', 'retry-after-ms': '60000' })
    response.write('body')
    response.addTrailers({ 'x-sum': sum })
    response.end()
  }
  const [busy, free] = [await serve(t, trails(429, 'of busy')), await serve(t, trails(200, 'of free'))]
  balance(t, [busy, free])
  const { body, trailers } = await undici.request(CHAT)
  assert.equal(await body.text(), 'body')
  assert.deepEqual({ ...trailers }, { 'x-sum': 'of free' })
})

check('responses: undici request: onInfo hears of 103 early hints', async (t) => {
  const free = await serve(t, hints(says('free')))
  balance(t, [free])
  const heard = []
  const { statusCode, body } = await undici.request(CHAT, { onInfo: ({ statusCode, headers }) => { heard.push([statusCode, headers.link]) } })
  assert.deepEqual([statusCode, await body.text()], [200, 'free'])
  assert.deepEqual(heard, [[103, '</style.css>; rel=preload']])
})

check('responses: undici request: responseHeaders raw, and repeated ones as a list', async (t) => {
  const [busy, free] = [await serve(t, throttles()), await serve(t, says('free', { 'Set-Cookie': COOKIES, 'X-Mixed': 'Case' }))]
  balance(t, [busy, free])
  const parsed = await undici.request(CHAT)
  assert.deepEqual(parsed.headers['set-cookie'], COOKIES)
  await parsed.body.dump()
  const raw = await undici.request(CHAT, { responseHeaders: 'raw' })
  await raw.body.dump()
  const names = raw.headers.filter((_, i) => i % 2 === 0).map(String)
  assert.equal(names.filter((name) => name === 'Set-Cookie').length, 3)
  assert.ok(names.includes('X-Mixed'))
})

check('responses: a 429 with a long body is dropped without waiting for its end', async (t) => {
  let left = 0
  const busy = await serve(t, (call, response) => {
    response.writeHead(429, { 'retry-after-ms': '60000' })
    response.write(bytes(300_000))
    void call.gone.then(() => { left++ })
  })
  const free = await serve(t, says('free'))
  balance(t, [busy, free])
  assert.equal(await (await fetch(CHAT, { method: 'POST', body: 'x' })).text(), 'free')
  await busy.calls[0].gone
  assert.equal(left, 1)
})

/** `compressed with zstd, or not at all`, by Node 24's zlib; older ones have no zstd to make it with. */
const ZSTD = Buffer.from('KLUv/SAjGQEAY29tcHJlc3NlZCB3aXRoIHpzdGQsIG9yIG5vdCBhdCBhbGw=', 'base64')

// Node's fetch up to Node 22 knows no zstd and hands on the bytes as they came.
const NATIVE_DECODES_ZSTD = nodeIs('24.0.0')

for (const { name, fetch } of FETCHES) {
  check(`known defect or not: ${name} with zstd does the same through the balancer as without`, async (t) => {
    const server = await serve(t, (_call, response) => { response.writeHead(200, { 'content-encoding': 'zstd' }).end(ZSTD) })
    const read = async (url) => Buffer.from(await (await fetch(url)).arrayBuffer())
    const alone = await bare(bareAgent(t), () => read(server.url))
    if (name === 'native fetch') assert.equal(alone.equals(ZSTD), !NATIVE_DECODES_ZSTD)
    assert.ok(alone.equals(ZSTD) || alone.toString() === 'compressed with zstd, or not at all')
    balance(t, [server])
    assert.ok((await read(CHAT)).equals(alone))
  })
}

async function read (response) {
  return { status: response.status, headers: response.headers, text: await response.text() }
}

function hints (then) {
  return (call, response) => {
    response.writeEarlyHints({ link: '</style.css>; rel=preload' })
    then(call, response)
  }
}
