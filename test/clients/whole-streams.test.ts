/** `streamGuard: 'whole'`: the caller gets a stream that has ended well, or an error, and never the half of one. */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import { APIError, type OpenAI } from 'openai'
import type { BackendOptions, BalancerOptions } from '../../src/options/index.js'
import { withTraffic } from '../../src/traffic.js'
import { assertIsA, failure, startEastAndWest, type Answer, type EastAndWest } from '../support/east-and-west.js'
import { AZURE_FIRST_CHUNK, chatChunk, event, ROLE_CHUNK } from '../support/event-stream.js'
import { openaiClient } from '../support/openai-clients.js'
import { begins, chatError, chatStream, CREATED, IN_PROGRESS, QUEUED, responseFailed, responseStream, SSE, streamChat, streamResponse, streams } from '../support/streams.js'
import { turns, until, within } from '../support/until.js'

interface World extends EastAndWest {
  readonly v1: OpenAI
}

/** West streams what it is asked for, whole. */
async function start (t: TestContext, options: Partial<BalancerOptions> = {}, ofEach: [Partial<BackendOptions>, Partial<BackendOptions>] = [{}, {}]): Promise<World> {
  const world = await startEastAndWest(t, { streamGuard: 'whole', ...options }, ofEach)
  world.west.always((call) => streams(call.request.path.includes('/responses') ? responseStream('west') : chatStream('west'))(call))
  return { ...world, v1: openaiClient(`${world.east.url}/openai/v1`, world.balancer) }
}

const chunkOf = (content: string): string => chatChunk({ content })
const half = AZURE_FIRST_CHUNK + ROLE_CHUNK + chatChunk({ content: 'ea' })
const halfResponse = CREATED + IN_PROGRESS + event('response.output_text.delta', { type: 'response.output_text.delta', sequence_number: 2, delta: 'ea' })

const cut = (text: string): Answer => async (call) => {
  call.head(200, SSE)
  await call.write(text)
  call.reset()
}

const BROKEN: readonly (readonly [what: string, answer: Answer])[] = [
  ['is cut', cut(half)],
  ['is closed in the middle', streams(half)],
  ['is closed before anything', streams('')],
  ['has a chunk that is not JSON', streams(`${half}data: {"choices":[{"del\n\n${chatStream('east')}`)],
  ['has an error after half', streams(half + chatError({ message: 'Sorry.', type: 'server_error', code: null }))],
  ['has an overload after half', streams(half + chatError({ message: 'Sorry.', code: 'server_is_overloaded' }))],
  ['has one finished choice of two', streams(chatChunk({ content: 'a' }, { index: 0, finish_reason: 'stop' }) + chatChunk({ content: 'b' }, { index: 1 }))],
]

describe('a chat completion that', () => {
  for (const [what, answer] of BROKEN) {
    test(`${what} is asked for anew, and the caller sees nothing of it`, async (t) => {
      const it = await start(t)
      it.east.always(answer)
      assert.equal(await streamChat(it.client), 'west')
      assert.deepEqual([it.calls(), it.status()[0].successes, it.status()[0].failures], [[1, 1], 0, 1])
    })

    test(`${what} is an error where no other backend is left, and no short answer`, async (t) => {
      const it = await start(t, { maxAttempts: 1 })
      it.east.always(answer)
      await failure(streamChat(it.client))
      assert.deepEqual(it.calls(), [1, 0])
    })
  }

  for (const [what, text] of [
    ['ends with [DONE]', chatStream('east')],
    ['is closed after its finish_reason', chatStream('east').replace('data: [DONE]\n\n', '')],
    ['has comments in it', chatStream('east').replaceAll('\n\n', '\n\n: keep-alive\n\n')],
  ] as const) {
    test(`${what} is delivered as it came`, async (t) => {
      const it = await start(t)
      it.east.always(streams(text))
      assert.equal(await streamChat(it.client), 'east')
      assert.deepEqual(it.calls(), [1, 0])
    })
  }
})

describe('a response that', () => {
  for (const [what, answer] of [
    ['is cut', cut(halfResponse)], ['is closed in the middle', streams(halfResponse)],
    ['fails after half', streams(halfResponse + responseFailed({ code: 'server_error', message: 'Sorry.' }))],
    ['fails after half without a reason', streams(halfResponse + responseFailed(null))],
  ] as const) {
    test(`${what} is asked for anew`, async (t) => {
      const it = await start(t)
      it.east.always(answer)
      assert.equal((await streamResponse(it.v1, {}, { store: false })).text, 'west')
      assert.deepEqual(it.calls(), [1, 1])
    })
  }

  test('fails as the answer is delivered: another backend would say the same', async (t) => {
    const it = await start(t)
    it.east.always(streams(halfResponse + responseFailed({ code: 'invalid_prompt', message: 'No.' })))
    const { types } = await streamResponse(it.v1)
    assert.equal(types.at(-1), 'response.failed')
    assert.deepEqual(it.calls(), [1, 0])
  })

  test('has a tool act is delivered from there on, and not begun again', async (t) => {
    const it = await start(t)
    const acts = event('response.output_item.added', { type: 'response.output_item.added', output_index: 0, item: { type: 'mcp_call', id: 'mcp_1' } })
    it.east.always(cut(CREATED + acts))
    await failure(streamResponse(it.v1))
    assert.deepEqual(it.calls(), [1, 0])
  })
})

describe('a stream that is held', () => {
  test('stalls: after streamIdleMs of silence it is asked for anew', async (t) => {
    const it = await start(t, { streamIdleMs: 5_000 })
    const answer = streamChat(it.client)
    const call = await it.east.next()
    await begins(half)(call)
    await until(() => it.balancer.system.pending > 0)
    await turns(3)
    it.balancer.system.advance(4_999)
    await turns(3)
    assert.deepEqual(it.calls(), [1, 0])
    it.balancer.system.advance(1)
    assert.equal(await within(answer, 'the answer'), 'west')
    it.balancer.system.advance(1_000)
    await within(call.aborted, 'the first is given up on the wire')
  })

  test('is not bound by attemptTimeoutMs once its first output is here, and is before', async (t) => {
    const it = await start(t, { attemptTimeoutMs: 1_500 })
    const answer = streamChat(it.client)
    const call = await it.east.next()
    await begins(half)(call)
    await turns(5)
    it.balancer.system.advance(20_000)
    call.end(chatChunk({ content: 'st' }) + chatChunk({}, { finish_reason: 'stop' }))
    assert.equal(await within(answer, 'the answer'), 'east')

    const other = streamChat(it.client)
    const silent = await it.east.next()
    silent.head(200, SSE)
    await silent.write(': keep-alive\n\n')
    await turns(5)
    it.balancer.system.advance(1_500)
    assert.equal(await within(other, 'the answer'), 'west')
  })

  for (const [encoding, compress] of [['gzip', gzipSync], ['br', brotliCompressSync]] as const) {
    test(`is looked into when it has ended, where it is compressed (${encoding})`, async (t) => {
      const it = await start(t)
      const send = (text: string): Answer => (call) => { call.respond(200, { ...SSE, 'content-encoding': encoding }, compress(text)) }
      it.east.always(send(half))
      assert.equal(await streamChat(it.client), 'west')
      it.balancer.system.advance(1_000)
      it.east.always(send(chatStream('east')))
      assert.equal(await streamChat(it.client), 'east')
    })
  }

  test('is delivered from 8 MiB on, and no more of it is held then', async (t) => {
    const it = await start(t)
    const long = chatChunk({ content: 'x'.repeat(64 * 1_024) })
    const stream = it.client.chat.completions.create({ model: 'gpt-4o', messages: [], stream: true })
    const call = await it.east.next()
    call.head(200, SSE)
    for (let i = 0; i < 132; i++) void call.write(long)
    const chunks = await within(Promise.resolve(stream), 'the headers')
    const rest = failure((async () => { const read = chunks[Symbol.asyncIterator]()
      while ((await read.next()).done !== true); })())
    call.reset()
    await within(rest, 'the cut')
    assert.deepEqual(it.calls(), [1, 0])
  })

  test('can be given up by its caller, which the log explains once', async (t) => {
    const lines: string[] = []
    const logger = { ...Object.fromEntries(['debug', 'info', 'error'].map((level) => [level, () => {}])), warn: (_: object, text: string) => { lines.push(text) } }
    const it = await start(t, { logger: logger as never })
    for (let i = 0; i < 2; i++) {
      const abort = new AbortController()
      const answer = failure(streamChat(it.client, { signal: abort.signal }))
      const call = await it.east.next()
      await begins(half)(call)
      await turns(5)
      abort.abort()
      await answer
      await within(call.aborted, 'the abort reaches the wire')
    }
    assert.equal(lines.filter((line) => line.includes('the timeout of its client must allow for the whole answer')).length, 1)
    assert.equal(it.status()[0].inFlight, 0)
  })

  test('may be asked for by one request alone', async (t) => {
    const it = await start(t, { streamGuard: 'output', requestHeaders: true })
    it.east.always(cut(half))
    await failure(streamChat(it.client, { maxRetries: 0 }))
    assert.equal(await streamChat(it.client, { headers: { 'x-balancer-stream': 'whole' } }), 'west')
    it.balancer.system.advance(60_000)
    assert.equal(await withTraffic({ stream: 'whole' }, () => streamChat(it.client)), 'west')
  })
})

describe('streamGuard: false', () => {
  test('decides at the headers: an error in the stream is the caller\'s', async (t) => {
    const it = await start(t, { streamGuard: false })
    it.east.always(streams(ROLE_CHUNK + chatError({ message: 'Sorry.', type: 'server_error', code: 'server_error' })))
    assertIsA(await failure(streamChat(it.client)), APIError)
    assert.deepEqual(it.calls(), [1, 0])
  })

  test('shows the headers before anything else has come', async (t) => {
    const it = await start(t, { streamGuard: false })
    const stream = it.client.chat.completions.create({ model: 'gpt-4o', messages: [], stream: true })
    const call = await it.east.next()
    call.head(200, SSE)
    await within(Promise.resolve(stream), 'the headers')
    call.end('data: [DONE]\n\n')
  })
})

describe('a stream that was begun', () => {
  test('and is silent before its first output goes on elsewhere after streamIdleMs', async (t) => {
    const it = await start(t, { streamGuard: 'output', streamIdleMs: 2_000 })
    const answer = streamChat(it.client)
    const call = await it.east.next()
    call.head(200, SSE)
    await turns(5)
    it.balancer.system.advance(2_000)
    assert.equal(await within(answer, 'the answer'), 'west')
  })

  for (const streamGuard of ['output', false] as const) {
    test(`and is silent after its first output breaks off for its caller after streamIdleMs, and not where that does not read (streamGuard: ${String(streamGuard)})`, async (t) => {
      const it = await start(t, { streamGuard, streamIdleMs: 2_000 })
      const stream = it.client.chat.completions.create({ model: 'gpt-4o', messages: [], stream: true })
      const call = await it.east.next()
      await begins(half)(call)
      const chunks = (await stream)[Symbol.asyncIterator]()
      await chunks.next()
      it.balancer.system.advance(1_999)
      await call.write(chunkOf('st'))
      await turns(5)
      it.balancer.system.advance(1_999)
      assert.equal(it.status()[0].inFlight, 1)
      it.balancer.system.advance(1)
      await until(() => it.status()[0].inFlight === 0)
      await failure((async () => { while ((await chunks.next()).done !== true); })())
      assert.deepEqual([it.calls(), it.status()[0].failures], [[1, 0], 1])
    })
  }

  test('bounds no answer that is not a stream', async (t) => {
    const it = await start(t, { streamGuard: 'output', streamIdleMs: 2_000 })
    const answer = it.client.chat.completions.create({ model: 'gpt-4o', messages: [] })
    const call = await it.east.next()
    call.head(200, { 'content-type': 'application/json' })
    await turns(5)
    it.balancer.system.advance(60_000)
    call.end('{"choices":[{"message":{"content":"east"}}]}')
    assert.equal((await answer).choices[0]?.message.content, 'east')
  })

  test('and is accepted is shown, however long the model thinks', async (t) => {
    const it = await start(t, { streamGuard: 'output', streamIdleMs: 200_000 })
    const stream = it.v1.responses.create({ model: 'gpt-4o', input: 'Hello', stream: true })
    const call = await it.east.next()
    await begins(CREATED + QUEUED)(call)
    await until(() => it.balancer.system.pending > 0)
    await turns(3)
    it.balancer.system.advance(50)
    const { controller } = await within(Promise.resolve(stream), 'the headers')
    controller.abort()
  })
})
