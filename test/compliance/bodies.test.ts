/** Request bodies of every kind, through every way in, when the first backend does not take them. */
import assert from 'node:assert/strict'
import { PassThrough, Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { describe, test, type TestContext } from 'node:test'
import { PriorityBalancer } from '../../src/balancer.js'
import type { BalancerOptions } from '../../src/options/index.js'
import { gate } from '../support/gate.js'
import { MAJORS, undici7, type Undici } from '../support/majors.js'
import { startPair } from '../support/pair.js'
import { resetAfterRequest } from '../support/raw-scripts.js'
import { refusingUrl, startRawServer } from '../support/raw-server.js'
import { startScriptedBackend, type ScriptedBackend, type ScriptedCall } from '../support/scripted-backend.js'
import { turns, until, within } from '../support/until.js'

interface Pool {
  /** What the requests are sent to: the first backend's URL. */
  readonly url: string
  readonly west: ScriptedBackend
  readonly balancer: PriorityBalancer
}

/** East fails in some way, west answers well. */
async function startPool(t: TestContext, undici: Undici, eastUrl: string, options: Partial<BalancerOptions> = {}): Promise<Pool> {
  const west = await startScriptedBackend()
  const agent = new undici.Agent()
  const balancer = new PriorityBalancer({ backends: [{ url: eastUrl, priority: 1 }, { url: west.url, priority: 2 }], dispatcher: agent, logger: false, ...options })
  t.after(async () => {
    await balancer.destroy()
    await agent.destroy()
    await west.close()
  })
  return { url: `${eastUrl}/x`, west, balancer }
}

/** How the first backend fails. */
const FAILURES: readonly (readonly [what: string, start: (t: TestContext) => Promise<string>])[] = [
  ['answers 429 before it has read anything', async (t) => {
    const east = await startScriptedBackend()
    t.after(() => east.close())
    east.always((call) => { call.respond(429, { 'retry-after': '1' }, 'early') })
    return east.url
  }],
  ['answers 429 when it has read everything', async (t) => {
    const east = await startScriptedBackend()
    t.after(() => east.close())
    east.always(async (call) => {
      await call.request.body().catch(() => undefined)
      call.respond(429, { 'retry-after': '1' }, 'late')
    })
    return east.url
  }],
  ['refuses the connection', () => refusingUrl()],
  ['resets the connection when it has read everything', async (t) => {
    const east = await startRawServer(resetAfterRequest())
    t.after(() => east.close())
    return east.url
  }],
]

/** What the server is to see. `length`: announced, or `chunked`. */
interface Expected {
  readonly body: string | Buffer
  readonly length: number | 'chunked' | undefined
}

interface Kind {
  readonly what: string
  /** A new body each time. */
  readonly make: () => unknown
  readonly expected: Expected
  readonly headers?: Record<string, string>
}

const bytes = Buffer.from([0, 255, 128, 10, 13, 65])
const long = 'größe '.repeat(40_000)
const sized = (body: string | Buffer): Expected => ({ body, length: Buffer.byteLength(body) })
const chunked = (body: string | Buffer): Expected => ({ body, length: 'chunked' })

async function * asyncChunks(): AsyncGenerator<string | Uint8Array> { yield await Promise.resolve('ab'); yield Buffer.from('cd'); yield 'é' }
function * syncChunks(): Generator<string | Uint8Array> { yield 'ab'; yield Buffer.from('cd'); yield 'é' }
const webStream = (): ReadableStream => new ReadableStream({ start(controller) { for (const chunk of ['ab', 'cd', 'é']) controller.enqueue(new TextEncoder().encode(chunk)); controller.close() } })

function form(undici: Undici | undefined): unknown {
  const data = undici === undefined ? new FormData() : new undici.FormData()
  data.set('purpose', 'assistants')
  data.set('file', new File([bytes], 'a.bin', { type: 'application/octet-stream' }) as never)
  return data
}

const ofFetch = (undici: Undici | undefined): Kind[] => [
  { what: 'a string', make: () => '{"model":"gpt-4o"}', expected: sized('{"model":"gpt-4o"}') },
  { what: 'a long string', make: () => long, expected: sized(long) },
  { what: 'an empty string', make: () => '', expected: sized('') },
  { what: 'a Buffer', make: () => bytes, expected: sized(bytes) },
  { what: 'a typed array', make: () => new Uint16Array([0x6261, 0x6463]), expected: sized('abcd') },
  { what: 'a DataView', make: () => new DataView(Uint8Array.from(bytes).buffer, 1, 3), expected: sized(bytes.subarray(1, 4)) },
  { what: 'an ArrayBuffer', make: () => Uint8Array.from(bytes).buffer, expected: sized(bytes) },
  { what: 'a Blob', make: () => new Blob([bytes, 'abc']), expected: sized(Buffer.concat([bytes, Buffer.from('abc')])) },
  { what: 'FormData', make: () => form(undici), expected: { body: 'form', length: undefined } },
  { what: 'URLSearchParams', make: () => new URLSearchParams({ a: '1 2', b: 'é' }), expected: sized('a=1+2&b=%C3%A9') },
  { what: 'a web stream', make: webStream, expected: chunked('abcdé') },
  { what: 'an async generator', make: () => { const source = asyncChunks(); return (async function * () { for await (const chunk of source) yield Buffer.from(chunk as string) })() }, expected: chunked('abcdé') },
  { what: 'nothing', make: () => undefined, expected: sized('') },
]

const ofRequest = (undici: Undici): Kind[] => [
  { what: 'a string', make: () => 'größe', expected: sized('größe') },
  { what: 'a long string', make: () => long, expected: sized(long) },
  { what: 'a Buffer', make: () => bytes, expected: sized(bytes) },
  { what: 'a typed array', make: () => new Uint16Array([0x6261, 0x6463]), expected: sized('abcd') },
  { what: 'a DataView', make: () => new DataView(Uint8Array.from(bytes).buffer, 1, 3), expected: sized(bytes.subarray(1, 4)) },
  { what: 'an ArrayBuffer', make: () => Uint8Array.from(bytes).buffer, expected: sized(bytes) },
  { what: 'a Blob', make: () => new Blob([bytes, 'abc']), expected: sized(Buffer.concat([bytes, Buffer.from('abc')])) },
  { what: 'FormData', make: () => form(undici), expected: { body: 'form', length: undefined } },
  { what: 'a Node stream', make: () => Readable.from(['ab', Buffer.from('cd'), 'é'], { objectMode: false }), expected: chunked('abcdé') },
  { what: 'a Node stream that has ended', make: () => { const stream = new PassThrough(); stream.end('abcdé'); stream.read(0); return stream }, expected: { body: 'abcdé', length: undefined } },
  { what: 'a web stream', make: webStream, expected: chunked('abcdé') },
  { what: 'a sync generator', make: syncChunks, expected: chunked('abcdé') },
  { what: 'an async generator', make: asyncChunks, expected: chunked('abcdé') },
  { what: 'an async generator with its length in the headers', make: asyncChunks, expected: sized('abcdé'), headers: { 'Content-Length': '6' } },
  { what: 'a long async generator with its length in the headers', async *make () { for (let i = 0; i < 20; i++) yield await Promise.resolve('x'.repeat(10_000)) }, expected: sized('x'.repeat(200_000)), headers: { 'content-length': '200000' } },
  { what: 'a Set of chunks', make: () => new Set(['ab', 'cd']), expected: chunked('abcd') },
  { what: 'an array of chunks', make: () => ['ab', 'cd'], expected: chunked('abcd') },
]

async function assertReceived(call: ScriptedCall, { body, length }: Expected): Promise<void> {
  const received = await call.request.body()
  const { 'content-length': announced, 'transfer-encoding': encoding, 'content-type': type } = call.request.headers
  if (body === 'form') {
    const boundary = /boundary=(\S+)/.exec(type ?? '')?.[1]
    assert.ok(boundary, 'the content-type names the boundary')
    const parts = received.toString('latin1').split(`--${boundary}`)
    assert.equal(parts.length, 4, 'two parts, and the end')
    assert.match(parts[1] ?? '', /name="purpose"\r\n\r\nassistants\r\n$/)
    assert.ok(parts[2]?.endsWith(`\r\n\r\n${bytes.toString('latin1')}\r\n`))
  } else assert.ok(received.equals(Buffer.from(body as string)), `${received.length} bytes came: ${received.subarray(0, 50).toString()}`)
  if (length === 'chunked') assert.deepEqual([announced, encoding], [undefined, 'chunked'])
  else if (length !== undefined) assert.deepEqual([announced, encoding], [String(length), undefined])
  else if (announced !== undefined) assert.equal(Number(announced), received.length)
}

type Send = (pool: Pool, body: unknown, headers?: Record<string, string>) => Promise<{ status: number, body: string }>

function viaFetch(fetch: typeof globalThis.fetch): Send {
  return async ({ url, balancer }, body, headers) => {
    const init = { method: 'POST', body, headers: headers ?? {}, duplex: 'half', dispatcher: balancer } as unknown as RequestInit
    const response = await fetch(url, init)
    return { status: response.status, body: await response.text() }
  }
}

function viaRequest(undici: Undici): Send {
  return async ({ url, balancer }, body, headers) => {
    const response = await undici.request(url, { method: 'POST', body: body as string, headers: headers ?? {}, dispatcher: balancer })
    return { status: response.statusCode, body: await response.body.text() }
  }
}

function viaStream(undici: Undici): Send {
  return async ({ url, balancer }, body, headers) => {
    const sink = new PassThrough()
    const received = text(sink)
    let status = 0
    await undici.stream(url, { method: 'POST', body: body as string, headers: headers ?? {}, dispatcher: balancer }, ({ statusCode }) => { status = statusCode; return sink })
    return { status, body: await received }
  }
}

function viaPipeline(undici: Undici): Send {
  return async ({ url, balancer }, chunks, headers) => {
    let status = 0
    const duplex = undici.pipeline(url, { method: 'POST', headers: headers ?? {}, dispatcher: balancer }, (response) => { status = response.statusCode; return response.body })
    const received = buffer(duplex)
    Readable.from(chunks as Iterable<string>, { objectMode: false }).pipe(duplex)
    const body = (await received).toString()
    return { status, body }
  }
}

function suite(name: string, undici: Undici, send: Send, kinds: readonly Kind[]): void {
  describe(name, () => {
    for (const { what, make, expected, headers } of kinds) {
      describe(what, () => {
        for (const [failure, start] of FAILURES) {
          test(`reaches the second backend whole when the first ${failure}`, async (t) => {
            const pool = await startPool(t, undici, await start(t))
            const answer = send(pool, make(), headers)
            answer.catch(() => {})
            const call = await pool.west.next()
            await assertReceived(call, expected)
            call.respond(200, {}, 'fine')
            assert.deepEqual(await within(answer, 'the answer'), { status: 200, body: 'fine' })
            await until(() => pool.balancer.status().backends.every(({ inFlight }) => inFlight === 0), 'nothing in flight')
          })
        }
      })
    }
  })
}

suite('Node\'s own fetch', undici7, viaFetch(globalThis.fetch), ofFetch(undefined))
for (const [name, undici] of MAJORS) {
  suite(`${name}: fetch`, undici, viaFetch(undici.fetch as unknown as typeof globalThis.fetch), ofFetch(undici))
  suite(`${name}: request`, undici, viaRequest(undici), ofRequest(undici))
  suite(`${name}: stream`, undici, viaStream(undici), ofRequest(undici).filter(({ what }) => ['a string', 'a Node stream', 'an async generator'].includes(what)))
  suite(`${name}: pipeline`, undici, viaPipeline(undici), [{ what: 'what is written', make: () => ['ab', Buffer.from('cd'), 'é'], expected: chunked('abcdé') }])
}

for (const [name, undici] of MAJORS) {
  describe(`${name}: a body on its way`, () => {
    const MIB = 1_048_576

    test('whose first backend answers 429 in the middle of it starts over at the second one, and goes on from there', async (t) => {
      const east = await startScriptedBackend()
      t.after(() => east.close())
      const pool = await startPool(t, undici, east.url)
      const more = gate()
      const source = (async function * () { yield 'begun '; await more.promise; yield 'and ended' })()
      const answer = undici.request(pool.url, { method: 'POST', body: source as unknown as Readable, dispatcher: pool.balancer })
      const first = await east.next()
      first.request.stream.resume()
      first.head(429, { 'retry-after': '1' })
      const second = await pool.west.next()
      more.open()
      assert.equal(await second.request.text(), 'begun and ended')
      second.respond(200, {}, 'fine')
      assert.equal((await answer).statusCode, 200)
      await (await answer).body.dump()
      await assert.rejects(first.request.body(), 'the first server does not take a part for the whole')
    })

    test('that is longer than what is kept still goes to the second backend when the first cannot be reached', async (t) => {
      const pool = await startPool(t, undici, await refusingUrl(), { maxReplayBytes: 10 })
      const answer = undici.request(pool.url, { method: 'POST', body: Readable.from(['x'.repeat(100), 'y'.repeat(100)], { objectMode: false }), dispatcher: pool.balancer })
      const call = await pool.west.next()
      assert.equal(await call.request.text(), 'x'.repeat(100) + 'y'.repeat(100))
      call.respond(200)
      assert.equal((await answer).statusCode, 200)
    })

    /** A body longer than what is kept, which the first backend has read. */
    const beginTooLong = async (t: TestContext) => {
      const east = await startScriptedBackend()
      t.after(() => east.close())
      const pool = await startPool(t, undici, east.url, { maxReplayBytes: 10 })
      const answer = undici.request(pool.url, { method: 'POST', body: Readable.from(['x'.repeat(100)], { objectMode: false }), dispatcher: pool.balancer })
      const call = await east.next()
      await call.request.body()
      return { pool, answer, call }
    }

    test('that is longer than what is kept has one answer once it was begun, whatever that is', async (t) => {
      const { pool, answer, call } = await beginTooLong(t)
      call.respond(429, { 'retry-after': '1' }, 'no more')
      const { statusCode, body } = await answer
      assert.deepEqual([statusCode, await body.text()], [429, 'no more'])
      assert.equal(pool.west.calls.length, 0)
    })

    test('that is longer than what is kept fails with the first failure once it was begun', async (t) => {
      const { pool, answer, call } = await beginTooLong(t)
      call.reset()
      await assert.rejects(answer, { code: /ECONNRESET|UND_ERR_SOCKET/ })
      assert.equal(pool.west.calls.length, 0)
    })

    test('is read no faster than the server takes it, and in flat memory', async (t) => {
      const pool = await startPool(t, undici, await refusingUrl(), { maxReplayBytes: MIB })
      // Garbage may come to 130 MiB, however much goes through: what was kept would be all of it.
      const total = 500 * MIB
      let made = 0
      let peak = 0
      const source = (function * () {
        for (; made < total; made += 65_536) {
          if (made % MIB === 0) peak = Math.max(peak, process.memoryUsage().rss)
          yield Buffer.alloc(65_536, made)
        }
      })()
      const answer = undici.request(pool.url, { method: 'POST', body: source as unknown as Readable, dispatcher: pool.balancer })
      const call = await pool.west.next()
      // The sockets' buffers fill, and then nothing more is asked of the source.
      let before = -1
      await until(async () => { before = made; await turns(50); return made === before && made > 0 }, 'the source comes to rest')
      assert.ok(made < 32 * MIB, `${made} bytes were read ahead`)
      const rss = process.memoryUsage().rss
      let received = 0
      for await (const chunk of call.request.stream) received += (chunk as Buffer).length
      call.respond(200)
      assert.equal((await answer).statusCode, 200)
      assert.equal(received, total)
      assert.ok(peak - rss < 250 * MIB, `grew by ${Math.round((peak - rss) / MIB)} MiB over ${total / MIB} MiB`)
    })

    test('whose source breaks fails with the source\'s own error, and no backend is to blame', async (t) => {
      const east = await startScriptedBackend()
      t.after(() => east.close())
      const pool = await startPool(t, undici, east.url)
      const failure = new Error('disk on fire')
      const source = (async function * () { yield await Promise.resolve('a'); throw failure })()
      await assert.rejects(undici.request(pool.url, { method: 'POST', body: source as unknown as Readable, dispatcher: pool.balancer }), failure)
      assert.deepEqual(pool.balancer.status().backends.map(({ state, failures, inFlight }) => [state, failures, inFlight]), [['available', 0, 0], ['available', 0, 0]])
    })

    test('that is not what its headers announce fails as with undici alone, and no backend is to blame', async (t) => {
      const east = await startScriptedBackend()
      t.after(() => east.close())
      const pool = await startPool(t, undici, east.url)
      for (const body of [() => 'abc', () => asyncChunks(), syncChunks, () => Readable.from(['abcdefgh'], { objectMode: false }), () => (function * () {})()]) {
        for (const length of ['2', '7']) {
          const send = (dispatcher?: PriorityBalancer): Promise<unknown> => undici
            .request(pool.url, { method: 'POST', body: body() as unknown as Readable, headers: { 'content-length': length }, ...(dispatcher === undefined ? {} : { dispatcher }) })
            .then(() => 'sent', (error: { code: string }) => error.code)
          const codes = await within(Promise.all([send(pool.balancer), send()]), `${length} ${String(body)}`)
          assert.equal(codes[0], 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH')
          assert.equal(codes[0], codes[1])
        }
      }
      assert.deepEqual(pool.balancer.status().backends.map(({ state, failures }) => [state, failures]), [['available', 0], ['available', 0]])
    })

    test('is closed when the answer came before its end, as undici does it', async (t) => {
      const east = await startScriptedBackend()
      t.after(() => east.close())
      const pool = await startPool(t, undici, east.url)
      east.always((call) => { call.respond(400, {}, 'bad from the start') })
      const stream = new PassThrough()
      stream.write('begun')
      const { statusCode, body } = await undici.request(pool.url, { method: 'POST', body: stream, dispatcher: pool.balancer })
      assert.deepEqual([statusCode, await body.text()], [400, 'bad from the start'])
      await until(() => stream.destroyed, 'the stream is destroyed')
      assert.equal(stream.errored, null)
    })

    for (const method of ['HEAD', 'GET'] as const) {
      test(`is none with ${method}`, async (t) => {
        const east = await startScriptedBackend()
        t.after(() => east.close())
        east.always((call) => { call.respond(429, { 'retry-after': '1' }, 'no') })
        const pool = await startPool(t, undici, east.url)
        pool.west.always((call) => { call.respond(200, { 'content-length': '4' }, 'fine') })
        const { statusCode, headers, body } = await undici.request(pool.url, { method, dispatcher: pool.balancer })
        assert.deepEqual([statusCode, headers['content-length'], await body.text()], [200, '4', method === 'HEAD' ? '' : 'fine'])
        assert.deepEqual(pool.west.calls.map(({ request: { method, headers } }) => [method, headers['content-length'], headers['transfer-encoding']]), [[method, undefined, undefined]])
      })
    }

    test('waits for 100 Continue where that is asked for, at each backend', async (t) => {
      const { east, west, balancer } = await startPair(t, undici, 'h2')
      const answer = undici.request(`${east.url}/x`, { method: 'POST', body: 'only when asked', expectContinue: true, dispatcher: balancer } as never)
      const first = await east.next()
      assert.equal(first.request.expectsContinue, true)
      first.respond(429, { 'retry-after': '1' })
      const second = await west.next()
      assert.equal(second.request.expectsContinue, true)
      assert.equal(await second.request.text(), 'only when asked')
      second.respond(200, {}, 'fine')
      const { statusCode, body } = await answer
      assert.deepEqual([statusCode, await body.text()], [200, 'fine'])
    })
  })
}
