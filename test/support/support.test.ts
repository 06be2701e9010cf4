import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type IncomingMessage, request as httpRequest } from 'node:http'
import { describe, test } from 'node:test'
import { Agent, request } from 'undici'
import { startScriptedBackend } from './scripted-backend.js'
import { strangerCertificate, testCertificate } from './tls.js'
import { gate } from './gate.js'
import { assertNothingLeftOpen, openHandles } from './open-handles.js'
import { turns, until, within } from './until.js'

describe('a scripted backend', () => {
  test('hands each request to the test, which answers it by hand', async (t) => {
    const backend = await startScriptedBackend()
    t.after(() => backend.close())
    const answer = fetch(`${backend.url}/a%2Fb?c=d`, { method: 'POST', body: '{"e":1}', headers: { 'X-F': 'g' } })
    const call = await backend.next()
    assert.equal(call.request.method, 'POST')
    assert.equal(call.request.path, '/a%2Fb?c=d')
    assert.equal(call.request.headers['x-f'], 'g')
    assert.deepEqual(await call.request.json(), { e: 1 })
    call.respond(429, { 'retry-after-ms': '20' }, { error: 'slow down' })
    const response = await answer
    assert.equal(response.status, 429)
    assert.equal(response.headers.get('retry-after-ms'), '20')
    assert.equal(response.headers.get('content-type'), 'application/json')
    assert.deepEqual(await response.json(), { error: 'slow down' })
    await call.finished
    assert.equal(call.isAborted, false)
    assert.equal(backend.calls.length, 1)
  })

  test('keeps calls in order for `next`, and `always` answers those that wait', async (t) => {
    const backend = await startScriptedBackend()
    t.after(() => backend.close())
    const answers = []
    for (const path of ['/1', '/2', '/3']) {
      answers.push(fetch(backend.url + path))
      await until(() => backend.calls.some((call) => call.request.path === path))
    }
    assert.equal((await backend.next()).request.path, '/1')
    backend.always((call) => { call.respond(200, {}, call.request.path) })
    backend.calls[0]?.respond(200, {}, 'by hand')
    const bodies = []
    for (const answer of answers) bodies.push(await (await answer).text())
    assert.deepEqual(bodies, ['by hand', '/2', '/3'])
  })

  test('tells when the client goes away, and counts connections', async (t) => {
    const backend = await startScriptedBackend()
    t.after(() => backend.close())
    const abort = new AbortController()
    const answer = fetch(backend.url, { signal: abort.signal })
    const call = await backend.next()
    assert.deepEqual({ ...backend.connections }, { opened: 1, closed: 0, open: 1 })
    abort.abort()
    await assert.rejects(answer, { name: 'AbortError' })
    await within(call.aborted, 'the abort')
    await until(() => backend.connections.open === 0)
    assert.equal(backend.connections.closed, backend.connections.opened)
  })

  test('streams piece by piece, with repeated headers, early hints and trailers', async (t) => {
    const backend = await startScriptedBackend()
    t.after(() => backend.close())
    const agent = new Agent()
    t.after(() => agent.close())
    const answer = request(backend.url, { dispatcher: agent })
    const call = await backend.next()
    call.hint({ link: '</a>; rel=preload' })
    call.head(200, [['Set-Cookie', 'a=1'], ['Set-Cookie', 'b=2'], ['trailer', 'x-sum']])
    const response = await answer
    assert.deepEqual(response.headers['set-cookie'], ['a=1', 'b=2'])
    await call.write('one ')
    call.end('two', { 'x-sum': '7' })
    assert.equal(await response.body.text(), 'one two')
    assert.equal(response.trailers['x-sum'], '7')
  })

  test('a slow reader holds `write` back', async (t) => {
    const backend = await startScriptedBackend()
    t.after(() => backend.close())
    const agent = new Agent()
    t.after(() => agent.destroy())
    const answer = request(backend.url, { dispatcher: agent })
    const call = await backend.next()
    call.head(200)
    const response = await answer
    let done = false
    void call.write(Buffer.alloc(64 << 20)).then(() => { done = true })
    await turns(50)
    assert.equal(done, false)
    for await (const chunk of response.body) { if ((chunk as Buffer).length === 0 || done) break }
    await until(() => done)
  })

  test('sends 100 Continue when the body is read, not before', async (t) => {
    const backend = await startScriptedBackend()
    t.after(() => backend.close())
    const client = httpRequest(backend.url, { method: 'POST', headers: { expect: '100-continue' } })
    client.flushHeaders()
    let continued = false
    client.on('continue', () => { continued = true; client.end('late') })
    const call = await backend.next()
    assert.equal(call.request.expectsContinue, true)
    await turns()
    assert.equal(continued, false)
    assert.equal(await call.request.text(), 'late')
    call.respond(200)
    const [response] = await once(client, 'response') as [IncomingMessage]
    assert.equal(response.resume().statusCode, 200)
  })

  test('resets in the middle of a body', async (t) => {
    const backend = await startScriptedBackend()
    t.after(() => backend.close())
    const answer = fetch(backend.url)
    const call = await backend.next()
    call.head(200)
    await call.write('half')
    const response = await answer
    call.reset()
    await assert.rejects(response.text())
    await call.aborted
  })

  for (const protocol of ['https', 'h2', 'h2-or-http'] as const) {
    for (const allowH2 of [false, true]) {
      const speaks = protocol === 'https' ? '1.1' : allowH2 ? '2.0' : protocol === 'h2' ? undefined : '1.1'
      test(`${protocol} with a client that ${allowH2 ? 'offers' : 'does not offer'} HTTP/2 speaks ${speaks ?? 'nothing'}`, async (t) => {
        const backend = await startScriptedBackend({ protocol })
        t.after(() => backend.close())
        const agent = new Agent({ allowH2, connect: { ca: (await testCertificate()).ca } })
        t.after(() => agent.destroy())
        backend.always(async (call) => { call.respond(200, { 'set-cookie': ['a=1', 'b=2'] }, `${call.request.httpVersion} ${await call.request.text()}`) })
        const answer = request(backend.url, { dispatcher: agent, method: 'POST', body: 'hello' })
        if (speaks === undefined) { await assert.rejects(answer); return }
        const response = await answer
        assert.deepEqual(response.headers['set-cookie'], ['a=1', 'b=2'])
        assert.equal(await response.body.text(), `${speaks} hello`)
        assert.equal(backend.connections.opened, 1)
      })
    }
  }

  test('closing ends requests that wait, twice over does nothing', async () => {
    const backend = await startScriptedBackend()
    const answer = fetch(backend.url)
    await backend.next()
    const never = backend.next()
    await Promise.all([backend.close(), backend.close()])
    await assert.rejects(answer)
    await assert.rejects(never, /was closed/)
    await assert.rejects(fetch(backend.url))
  })
})

describe('certificates', () => {
  test('a client that trusts the test CA refuses a stranger', async (t) => {
    const backend = await startScriptedBackend({ protocol: 'https', certificate: await strangerCertificate() })
    t.after(() => backend.close())
    const agent = new Agent({ connect: { ca: (await testCertificate()).ca } })
    t.after(() => agent.destroy())
    await assert.rejects(request(backend.url, { dispatcher: agent }), /certificate/)
    assert.equal(backend.calls.length, 0)
  })
})

describe('promises without sleeping', () => {
  test('a gate opens once, from outside', async () => {
    const door = gate<number>()
    assert.equal(door.settled, false)
    door.open(1)
    door.open(2)
    assert.equal(await door.promise, 1)
    assert.equal(door.settled, true)
  })

  test('until waits for a condition and gives up with its name', async () => {
    let looks = 0
    assert.equal(await until(() => ++looks === 3 && 'three'), 'three')
    await assert.rejects(until(() => false, 'the impossible', 5), /^Error: the impossible: not within 5 ms$/)
  })

  test('within lets a promise through and names the one that is late', async () => {
    assert.equal(await within(Promise.resolve(1), 'one'), 1)
    await assert.rejects(within(new Promise(() => {}), 'the letter', 5), /^Error: the letter: not within 5 ms$/)
  })
})

describe('open handles', () => {
  test('a server and a timer that were left are named, and once closed they are not', async () => {
    const before = openHandles()
    await assertNothingLeftOpen(before)
    const backend = await startScriptedBackend()
    const timer = setTimeout(() => {}, 60_000)
    await assert.rejects(assertNothingLeftOpen(before, 5), /^Error: still open: .*1 TCPServerWrap/)
    await assert.rejects(assertNothingLeftOpen(before, 5), /1 Timeout/)
    clearTimeout(timer)
    await backend.close()
    await assertNothingLeftOpen(before)
  })

  test('a connection that the client keeps busy is one', async (t) => {
    const before = openHandles()
    const backend = await startScriptedBackend()
    const agent = new Agent()
    t.after(() => agent.destroy())
    const answer = request(backend.url, { dispatcher: agent }).catch(() => {})
    await backend.next()
    await assert.rejects(assertNothingLeftOpen(before, 5), /TCPSocketWrap/)
    await backend.close()
    await answer
    await agent.destroy()
    await assertNothingLeftOpen(before)
  })
})
