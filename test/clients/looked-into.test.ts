/** Answers of status 200 that say in their type, or in their first bytes, that they are something else; and streams as networks and proxies deliver them. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { brotliCompressSync, constants, createBrotliCompress, createDeflate, createDeflateRaw, createGzip, deflateSync, gzipSync } from 'node:zlib'
import OpenAI, { APIError, InternalServerError, RateLimitError } from 'openai'
import { fetch as undiciFetch, MockAgent, request } from 'undici'
import { answers, assertIsA, failure, startEastAndWest, type EastAndWest } from '../support/east-and-west.js'
import { AZURE_FIRST_CHUNK, chatChunk, event, ROLE_CHUNK } from '../support/event-stream.js'
import { MAJORS } from '../support/majors.js'
import { chat, completion, openaiClient } from '../support/openai-clients.js'
import { startPair } from '../support/pair.js'
import type { ScriptedCall } from '../support/scripted-backend.js'
import { begins, chatError, chatStream, CREATED, responseFailed, responseStream, SSE, streamChat, streamResponse, streams } from '../support/streams.js'
import { turns, until } from '../support/until.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'

const HTML = '<html><body>Please log in.</body></html>'
const OVERLOADED = chatError({ message: 'Sorry.', type: 'server_error', param: null, code: 'server_is_overloaded' })
const RATE_LIMITED = chatError({ message: 'Too many.', type: 'tokens', param: null, code: 'rate_limit_exceeded' })

const PATH = '/openai/deployments/gpt-4o/chat/completions'

/** A plain POST through undici's own functions. */
async function post (it: EastAndWest, path = PATH): Promise<{ status: number, text: string }> {
  const { statusCode, body } = await request(it.east.url + path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"model":"gpt-4o"}', dispatcher: it.balancer })
  return { status: statusCode, text: await body.text() }
}

describe('a page in the place of an answer', () => {
  for (const status of [200, 203, 301, 302, 307]) {
    test(`${status} text/html sends the request on, and is a failure`, async (t) => {
      const it = await startEastAndWest(t)
      it.east.always(answers(status, { 'content-type': 'text/html; charset=utf-8', location: '/login' }, HTML))
      assert.match((await post(it)).text, /west/)
      assert.deepEqual([it.status()[0].failures, it.status()[0].successes], [1, 0])
      assert.match((await post(it)).text, /west/)
      assert.equal(it.status()[0].scopes[0]?.state, 'ejected')
    })
  }

  test('is delivered as it came where no backend is left', async (t) => {
    const it = await startEastAndWest(t, { maxAttempts: 1 })
    it.east.always(answers(200, { 'content-type': 'Text/HTML' }, HTML))
    assert.deepEqual(await post(it), { status: 200, text: HTML })
  })

  test('is an answer to what generates nothing', async (t) => {
    const it = await startEastAndWest(t)
    it.east.always(answers(200, { 'content-type': 'text/html' }, HTML))
    assert.equal((await post(it, '/openai/x')).text, HTML)
    const { body } = await request(`${it.east.url}/openai/v1/models`, { dispatcher: it.balancer })
    assert.equal(await body.text(), HTML)
    assert.deepEqual(it.calls(), [2, 0])
  })
})

describe('JSON of status 200', () => {
  const inside = { error: { message: 'Provider returned error', code: 502, metadata: {} } }

  test('that is an error sends the request on, as what it says it is', async (t) => {
    for (const [body, counts] of [
      [inside, [1, 0]], [{ error: { message: 'Slow down', code: 429 } }, [0, 1]], [{ error: { message: 'Sorry.' } }, [1, 0]],
      [{ error: { message: 'Too many', type: 'rate_limit_error', code: 'rate_limit_exceeded' }, choices: [] }, [0, 1]],
    ] as const) {
      const it = await startEastAndWest(t)
      it.east.always(answers(200, {}, body))
      assert.equal(await chat(it.client), 'west')
      assert.deepEqual([it.status()[0].failures, it.status()[0].throttled, it.status()[0].successes], [...counts, 0])
    }
  })

  test('that is an error is one with a status where no backend is left', async (t) => {
    const it = await startEastAndWest(t, { maxAttempts: 1 })
    it.east.always(answers(200, {}, inside))
    const error = await failure(chat(it.client))
    assertIsA(error, InternalServerError)
    assert.deepEqual([error.status, error.message], [502, '502 Provider returned error'])
    it.east.always(answers(200, { 'retry-after': '4' }, { error: { message: 'Slow down', code: 'rate_limit_exceeded', type: 'tokens' } }))
    const limit = await failure(chat(it.client))
    assertIsA(limit, RateLimitError)
    assert.ok(Number(limit.headers.get('retry-after-ms')) >= 4_000)
  })

  test('that is an error of the caller\'s is delivered as it came', async (t) => {
    const it = await startEastAndWest(t)
    const body = JSON.stringify({ error: { message: 'No.', type: 'invalid_request_error', code: 'content_filter' } })
    it.east.always(answers(200, { 'content-type': 'application/json' }, body))
    assert.deepEqual(await post(it), { status: 200, text: body })
    assert.equal(it.status()[0].successes, 1)
  })

  test('that has no error, or one of null, false or nothing, is a success', async (t) => {
    for (const error of [null, false, '', undefined]) {
      const it = await startEastAndWest(t)
      it.east.always(answers(200, {}, { ...completion('east'), error }))
      assert.equal(await chat(it.client), 'east')
      assert.equal(it.status()[0].successes, 1)
    }
  })

  test('that quotes an error further in is a success', async (t) => {
    const it = await startEastAndWest(t)
    it.east.always(answers(200, {}, completion('{"error":{"code":"server_error"}}')))
    assert.equal(await chat(it.client), '{"error":{"code":"server_error"}}')
  })

  test('that is longer than 2 KiB, chunked, or of another type is not looked into', async (t) => {
    const it = await startEastAndWest(t)
    for (const answer of [
      answers(200, {}, { ...inside, padding: 'x'.repeat(2_048) }),
      (call: ScriptedCall) => { call.head(200, { 'content-type': 'application/json' }); call.end(JSON.stringify(inside)) },
      answers(200, { 'content-type': 'application/problem+json' }, JSON.stringify(inside)),
    ]) {
      it.east.always(answer)
      assert.match((await post(it)).text, /Provider returned error/)
    }
    assert.deepEqual(it.calls(), [3, 0])
  })

  for (const [coding, compress] of [['gzip', gzipSync], ['deflate', deflateSync], ['br', brotliCompressSync]] as const) {
    test(`that is compressed (${coding}) is looked into all the same, and delivered as it came`, async (t) => {
      const it = await startEastAndWest(t)
      it.east.always(answers(200, { 'content-type': 'application/json', 'content-encoding': coding }, compress(JSON.stringify(inside))))
      assert.equal(await chat(it.client), 'west')
      it.east.always(answers(200, { 'content-type': 'application/json', 'content-encoding': coding }, compress(JSON.stringify(completion('east')))))
      assert.equal(await chat(it.client), 'east')
    })
  }

  test('whose body does not come is delivered after a second', async (t) => {
    const it = await startEastAndWest(t)
    it.east.byHand()
    const answer = chat(it.client)
    const call = await it.east.next()
    const body = JSON.stringify(completion('late'))
    call.head(200, { 'content-type': 'application/json', 'content-length': String(body.length) })
    await turns()
    it.balancer.system.advance(1_000)
    await turns()
    call.end(body)
    assert.equal(await answer, 'late')
  })

  test('whose connection dies before the first byte sends the request on', async (t) => {
    const it = await startEastAndWest(t)
    it.east.always(async (call) => {
      call.head(200, { 'content-type': 'application/json', 'content-length': '500' })
      await turns(5)
      call.reset()
    })
    assert.equal(await chat(it.client), 'west')
    assert.equal(it.status()[0].failures, 1)
  })
})

/** Compressed as a server does it that flushes after every event. */
async function compressFlushed (coding: 'gzip' | 'deflate' | 'deflate, raw' | 'br', events: readonly string[]): Promise<Buffer[]> {
  const coder = { gzip: createGzip, deflate: createDeflate, 'deflate, raw': createDeflateRaw, br: createBrotliCompress }[coding]()
  const flush = coding === 'br' ? constants.BROTLI_OPERATION_FLUSH : constants.Z_SYNC_FLUSH
  const pieces: Buffer[] = []
  let piece: Buffer[] = []
  coder.on('data', (bytes: Buffer) => { piece.push(bytes) })
  for (const text of events) {
    coder.write(text)
    await new Promise<void>((resolve) => { coder.flush(flush, resolve) })
    pieces.push(Buffer.concat(piece))
    piece = []
  }
  await new Promise<void>((resolve) => { coder.on('end', resolve).end() })
  return [...pieces, Buffer.concat(piece)]
}

describe('a stream that is compressed', () => {
  for (const coding of ['gzip', 'deflate', 'deflate, raw', 'br'] as const) {
    const header = { 'content-encoding': coding === 'deflate, raw' ? 'deflate' : coding }
    const play = (pieces: readonly Buffer[]) => async (call: ScriptedCall): Promise<void> => {
      call.head(200, { ...SSE, ...header })
      for (const piece of pieces) await call.write(piece)
      call.end()
    }

    test(`${coding}: an error in its prelude sends the request on`, async (t) => {
      const it = await startEastAndWest(t)
      it.west.always(streams(chatStream('west')))
      it.east.always(play(await compressFlushed(coding, [AZURE_FIRST_CHUNK, ROLE_CHUNK, OVERLOADED])))
      assert.equal(await streamChat(it.client), 'west')
      // And where the coder did not flush at all.
      it.east.always(play([Buffer.concat(await compressFlushed(coding, [AZURE_FIRST_CHUNK + RATE_LIMITED]))]))
      assert.equal(await streamChat(it.client), 'west')
      assert.deepEqual([it.status()[0].failures, it.status()[0].throttled], [1, 1])
    })

    test(`${coding}: with output it is delivered, cut anywhere`, async (t) => {
      const it = await startEastAndWest(t)
      const pieces = await compressFlushed(coding, [AZURE_FIRST_CHUNK, ROLE_CHUNK, chatChunk({ content: 'Hello' }), chatChunk({}, { finish_reason: 'stop' }) + 'data: [DONE]\n\n'])
      it.east.always(play(pieces))
      assert.equal(await streamChat(it.client), 'Hello')
      it.east.always(play([...Buffer.concat(pieces)].map((byte) => Buffer.from([byte]))))
      assert.equal(await streamChat(it.client), 'Hello')
      assert.deepEqual(it.calls(), [2, 0])
    })
  }

  test('in a way that is not known, or is not what it says, is delivered as it comes', async (t) => {
    const it = await startEastAndWest(t)
    for (const coding of ['zstd', 'gzip, br', 'gzip']) {
      it.east.always(streams(OVERLOADED, { 'content-encoding': coding }))
      assert.deepEqual(await post(it), { status: 200, text: OVERLOADED })
    }
  })
})

describe('a stream that is cut in other places', () => {
  for (const [what, make] of [
    ['CRLF', (text: string) => text.replaceAll('\n', '\r\n')], ['CR', (text: string) => text.replaceAll('\n', '\r')], ['a byte order mark', (text: string) => `\uFEFF${text}`],
  ] as const) {
    test(`with ${what}, byte by byte: an error sends it on, output is delivered`, async (t) => {
      const it = await startEastAndWest(t)
      it.west.always(streams(chatStream('west')))
      const slowly = (text: string) => async (call: ScriptedCall): Promise<void> => {
        call.head(200, SSE)
        for (const byte of Buffer.from(make(text))) await call.write(Buffer.from([byte]))
        call.end()
      }
      it.east.always(slowly(AZURE_FIRST_CHUNK + OVERLOADED))
      assert.equal(await streamChat(it.client), 'west')
      it.east.always(slowly(chatStream('east')))
      const { body } = await request(it.east.url + PATH, { method: 'POST', body: '{}', dispatcher: it.balancer })
      assert.equal(Buffer.from(await body.arrayBuffer()).toString(), make(chatStream('east')))
      assert.equal(it.calls()[1], 1)
    })
  }

  test('of several choices: empty ones are a prelude, and one with text is output', async (t) => {
    const it = await startEastAndWest(t)
    it.west.always(streams(chatStream('west')))
    const choices = (...contents: string[]): string => event(undefined, { object: 'chat.completion.chunk', choices: contents.map((content, index) => ({ index, delta: { role: 'assistant', content }, finish_reason: null })) })
    it.east.always(streams(choices('', '', '') + RATE_LIMITED))
    assert.equal(await streamChat(it.client), 'west')
    it.balancer.system.advance(20_000)
    it.east.always(streams(choices('', 'x', '') + RATE_LIMITED))
    assertIsA(await failure(streamChat(it.client)), APIError)
    assert.equal(it.calls()[1], 1)
  })

  test('an error that comes after output is the caller\'s, as it came', async (t) => {
    const it = await startEastAndWest(t)
    const text = ROLE_CHUNK + chatChunk({ content: 'x' }) + OVERLOADED
    it.east.always(streams(text))
    assert.deepEqual(await post(it), { status: 200, text })
    assert.equal(it.status()[0].successes, 1)
  })
})

describe('whoever asks', () => {
  test('undici\'s fetch, Node\'s own and undici.request get the next backend\'s stream', async (t) => {
    const it = await startEastAndWest(t)
    it.east.always(streams(ROLE_CHUNK + OVERLOADED))
    it.west.always(streams(chatStream('west')))
    const init = { method: 'POST', body: '{}', headers: { 'content-type': 'application/json' }, dispatcher: it.balancer }
    assert.equal((await post(it)).text, chatStream('west'))
    assert.equal(await (await undiciFetch(it.east.url + PATH, init)).text(), chatStream('west'))
    assert.equal(await (await fetch(it.east.url + PATH, init as unknown as RequestInit)).text(), chatStream('west'))
  })

  test('a request for a stream by GET is not looked into: it makes nothing', async (t) => {
    const it = await startEastAndWest(t)
    it.east.always(streams(CREATED + responseFailed({ code: 'server_error', message: 'Sorry.' })))
    const { body } = await request(`${it.east.url}/openai/v1/responses/resp_1?stream=true`, { dispatcher: it.balancer })
    assert.match(await body.text(), /server_error/)
    assert.equal(it.status().reduce((sum, { failures }) => sum + failures, 0), 0)
  })

  test('a mock of undici answers as a server does', async (t) => {
    const mock = new MockAgent()
    mock.disableNetConnect()
    const balancer = new VirtualBalancer({ backends: [{ url: 'http://east.test', priority: 1 }, { url: 'http://west.test', priority: 2 }], logger: false, dispatcher: mock })
    t.after(async () => {
      await balancer.engine.destroy(new Error('the test is over'))
      await mock.close()
    })
    const path = '/v1/chat/completions'
    const headers = { 'content-type': 'text/event-stream' }
    mock.get('http://east.test').intercept({ path, method: 'POST' }).reply(200, ROLE_CHUNK + OVERLOADED, { headers })
    mock.get('http://west.test').intercept({ path, method: 'POST' }).reply(200, chatStream('west'), { headers })
    assert.equal(await streamChat(openaiClient('http://east.test/v1', balancer)), 'west')
    mock.get('http://east.test').intercept({ path, method: 'POST' }).reply(200, chatStream('east'), { headers })
    assert.equal(await streamChat(openaiClient('http://east.test/v1', balancer)), 'east')
    mock.assertNoPendingInterceptors()
  })

  for (const [name, undici] of MAJORS) {
    for (const protocol of ['http', 'h2'] as const) {
      test(`over ${protocol} with an Agent of ${name}: errors in a prelude, resets in it, and streams with and without a pause`, async (t) => {
        const { east, west, balancer } = await startPair(t, undici, protocol)
        west.always(streams(responseStream('west')))
        const client = openaiClient(`${east.url}/v1`, balancer)
        const texts: string[] = []
        for (const answer of [
          streams(CREATED + responseFailed({ code: 'server_error', message: 'Sorry.' })),
          streams(responseStream('east')),
          async (call: ScriptedCall) => { await begins(CREATED)(call); await turns(5); call.reset() },
          async (call: ScriptedCall) => { for (const piece of [undefined, ...responseStream('east').split(/(?<=\n\n)/)]) if (piece === undefined) call.head(200, SSE); else { await call.write(piece); await turns(3) } call.end() },
        ]) {
          east.always(answer)
          texts.push((await streamResponse(client, {}, { store: false })).text)
        }
        assert.deepEqual(texts, ['west', 'east', 'west', 'east'])
        await until(() => balancer.status().backends.every(({ inFlight }) => inFlight === 0))
      })
    }
  }

  test('a caller that does not read is waited for: a long stream does not pile up', async (t) => {
    const it = await startEastAndWest(t)
    it.east.byHand()
    const answer = request(it.east.url + PATH, { method: 'POST', body: '{}', dispatcher: it.balancer })
    const call = await it.east.next()
    call.head(200, SSE)
    await call.write(ROLE_CHUNK + chatChunk({ content: 'x' }))
    const { body } = await answer
    const long = chatChunk({ content: 'y'.repeat(100_000) })
    let written = 0
    const writing = (async () => { for (let i = 0; i < 200; i++) { await call.write(long); written++ } call.end() })()
    await turns(200)
    assert.ok(written < 150, `${written} pieces of 100 kB were taken without a reader`)
    const bytes = (await body.arrayBuffer()).byteLength
    await writing
    assert.equal(bytes, ROLE_CHUNK.length + chatChunk({ content: 'x' }).length + 200 * long.length)
  })

  test('of a client that is in a hurry: an abort while the prelude is held reaches the wire', async (t) => {
    const it = await startEastAndWest(t)
    it.east.byHand()
    const abort = new AbortController()
    const answer = failure(streamChat(it.client, { signal: abort.signal }))
    const call = await it.east.next()
    await begins(AZURE_FIRST_CHUNK)(call)
    await turns()
    abort.abort()
    assertIsA(await answer, OpenAI.APIUserAbortError)
    await call.aborted
    assert.deepEqual([it.status()[0].failures, it.status()[0].inFlight, it.calls()[1], it.balancer.system.pending], [0, 0, 0, 0])
  })
})

