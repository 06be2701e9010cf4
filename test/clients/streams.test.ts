/** What an event stream says before its first output, as a user of the `openai` package meets it. */
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { describe, test, type TestContext } from 'node:test'
import { APIConnectionError, APIError, InternalServerError, RateLimitError, type OpenAI } from 'openai'
import type { BackendOptions, BalancerOptions } from '../../src/options/index.js'
import { answers, assertIsA, failure, says, startEastAndWest, type EastAndWest } from '../support/east-and-west.js'
import { AZURE_FIRST_CHUNK, chatChunk, event, ROLE_CHUNK } from '../support/event-stream.js'
import { chat, openaiClient } from '../support/openai-clients.js'
import {
  begins, chatError, chatStream, CREATED, IN_PROGRESS, QUEUED, responseFailed, responseStream, SSE, streamChat, streamResponse, streams,
} from '../support/streams.js'
import { turns, until, within } from '../support/until.js'

interface World extends EastAndWest {
  /** With the model in the body. */
  readonly v1: OpenAI
}

/** West streams a chat completion or a response, as it is asked. */
async function start (t: TestContext, options: Partial<BalancerOptions> = {}, ofEach: [Partial<BackendOptions>, Partial<BackendOptions>] = [{}, {}]): Promise<World> {
  const world = await startEastAndWest(t, options, ofEach)
  world.west.always((call) => streams(call.request.path.includes('/responses') ? responseStream('west') : chatStream('west'))(call))
  return { ...world, v1: openaiClient(`${world.east.url}/openai/v1`, world.balancer) }
}

/** Only the first of two backends there is. */
const alone = (t: TestContext, options: Partial<BalancerOptions> = {}): Promise<World> => start(t, { maxAttempts: 1, ...options })

const rateLimit = { type: 'too_many_requests', code: 'rate_limit_exceeded', headers: { 'x-ms-fe-error': 'true' }, message: 'Your requests to the deployment have exceeded rate limit.', param: null }
const tooLarge = { type: 'tokens', code: 'rate_limit_exceeded', message: 'Request too large for gpt-4.1 in organization org-x on tokens per min (TPM): Limit 30000, Requested 35364.', param: null }
const errorEvent = (error: object): string => event('error', { type: 'error', sequence_number: 2, error })
const flatError = (code: string): string => event('error', { type: 'error', code, message: 'of the test', param: null, sequence_number: 2 })

/** What is in the stream, whether it is one of responses, and what that makes of the backend. */
type Row = readonly [what: string, text: string, outcome: 'throttled' | 'failed']

const CHAT_ROWS: readonly Row[] = [
  ['an error of the server', AZURE_FIRST_CHUNK + chatError({ message: 'Sorry.', type: 'server_error', param: null, code: null }), 'failed'],
  ['an overload, and [DONE]', `${ROLE_CHUNK}${chatError({ message: 'Sorry.', type: 'overloaded_error', code: null })}data: [DONE]\n\n`, 'failed'],
  ['a rate limit after the role', AZURE_FIRST_CHUNK + ROLE_CHUNK + chatError(rateLimit), 'throttled'],
  ['a rate limit at once', chatError({ message: 'Slow down.', type: 'requests', param: null, code: 'slow_down' }), 'throttled'],
  ['a status as text (LiteLLM)', chatError({ message: 'litellm.RateLimitError', type: 'None', param: 'None', code: '429' }), 'throttled'],
  ['a status as a number (OpenRouter), behind its comments', `: OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n${chatError({ code: 502, message: 'Provider returned error' }, { choices: [{ index: 0, delta: { content: '' }, finish_reason: 'error' }] })}`, 'failed'],
  ['an error without fields of its own (vLLM)', event(undefined, { object: 'error', message: 'Sorry.', type: 'InternalServerError', code: 500, param: null }), 'failed'],
  ['an error in a field of its own (llama.cpp)', 'error: {"code":500,"message":"Sorry.","type":"server_error"}\n\n', 'failed'],
  ['an error that does not say why', chatError({ message: 'Sorry.' }), 'failed'],
  ['an end after the role', ROLE_CHUNK, 'failed'],
  ['nothing', '', 'failed'],
  ['comments alone', ': keep-alive\n\n'.repeat(3), 'failed'],
]

const RESPONSE_ROWS: readonly Row[] = [
  ['a failure without a reason, and then the reason (Azure)', CREATED + responseFailed(null, 1) + errorEvent(rateLimit), 'throttled'],
  ['a failure first of all, and then the reason (Azure)', responseFailed(null, 1) + errorEvent(rateLimit), 'throttled'],
  ['a failure with its reason (Azure)', CREATED + IN_PROGRESS + responseFailed({ code: 'rate_limit_exceeded', message: 'exceeded token rate limit' }), 'throttled'],
  ['an overload, and the end (OpenAI)', CREATED + IN_PROGRESS + errorEvent({ type: 'server_error', code: 'server_is_overloaded', message: 'Sorry.', param: null }), 'failed'],
  ['a failure of the server', CREATED + responseFailed({ code: 'server_error', message: 'Sorry.' }), 'failed'],
  ['a flat error, as documented', CREATED + flatError('vector_store_timeout'), 'failed'],
  ['a flat rate limit', flatError('rate_limit_exceeded'), 'throttled'],
  ['a failure without a reason, and the end', CREATED + responseFailed(null), 'failed'],
  ['an end after the acceptance', CREATED + QUEUED + IN_PROGRESS, 'failed'],
]

for (const [api, rows, ask] of [
  ['chat completions', CHAT_ROWS, async (it: World, options?: OpenAI.RequestOptions) => streamChat(it.client, options)],
  ['responses', RESPONSE_ROWS, async (it: World, options?: OpenAI.RequestOptions) => (await streamResponse(it.v1, options, { store: false })).text],
] as const) {
  describe(`${api}: a stream that has nothing but`, () => {
    for (const [what, text, outcome] of rows) {
      test(`${what}: the next backend answers, and this one is ${outcome}`, async (t) => {
        const it = await start(t)
        it.east.always(streams(text, { 'retry-after': '7' }))
        assert.equal(await ask(it), 'west')
        const [{ throttled, failures, successes, state, cooldownMs }] = it.status()
        assert.deepEqual([throttled, failures, successes], outcome === 'throttled' ? [1, 0, 0] : [0, 1, 0])
        assert.equal(state, outcome === 'throttled' ? 'cooldown' : 'available')
        if (outcome === 'throttled') assert.ok(cooldownMs >= 7_000 && cooldownMs <= 7_700, `${cooldownMs}`)
      })

      test(`${what}: where none is left it is an error with a status, which the SDK retries`, async (t) => {
        const it = await alone(t)
        it.east.always(streams(text, { 'retry-after-ms': '20' }))
        const error = await failure(ask(it))
        assertIsA(error, outcome === 'throttled' ? RateLimitError : InternalServerError)
        assert.match(error.headers.get('content-type') ?? '', /json/)
        assert.equal(error.headers.get('x-should-retry'), null)
        if (outcome === 'failed') return
        assert.ok(Number(error.headers.get('retry-after-ms')) >= 20)
        assert.equal(await ask(it, { maxRetries: 1 }), 'west')
      })
    }

    test('an error that is the caller\'s to read is delivered as it came, and nothing is held against the backend', async (t) => {
      for (const code of ['invalid_prompt', 'content_filter', 'context_length_exceeded', 'image_file_not_found', 'cyber_policy_violation', 'something_new']) {
        const it = await start(t)
        const error = { message: 'Yours.', type: 'invalid_request_error', param: null, code }
        it.east.always(streams(api === 'responses' ? CREATED + errorEvent(error) + responseFailed(error, 3) : AZURE_FIRST_CHUNK + chatError(error)))
        const told = await failure(ask(it, { maxRetries: 2 }))
        assertIsA(told, APIError)
        assert.deepEqual([told.code, told.status], [code, undefined])
        assert.deepEqual(it.calls(), [1, 0])
        const [{ failures, throttled, successes }] = it.status()
        assert.deepEqual([failures, throttled, successes], [0, 0, 1])
      }
    })

    test('a bill that is not paid sends it on and takes the backend out; none left: a 429 that says so', async (t) => {
      const text = api === 'responses' ? CREATED + responseFailed({ code: 'insufficient_quota', message: 'You exceeded your current quota' }) : chatError({ message: 'You exceeded your current quota', type: 'insufficient_quota', param: null, code: 'insufficient_quota' })
      const it = await start(t, {}, [{ apiKey: 'of-east' }, {}])
      it.east.always(streams(text))
      assert.equal(await ask(it), 'west')
      assert.deepEqual([it.status()[0].state, it.status()[0].reason], ['ejected', 'exhausted'])
      const other = await alone(t)
      other.east.always(streams(text))
      const error = await failure(ask(other))
      assertIsA(error, RateLimitError)
      assert.equal(error.code, 'insufficient_quota')
    })

    test('what is too long for this backend goes to one that is marked larger', async (t) => {
      const it = await start(t, {}, [{}, { largerContext: true }])
      const error = { message: 'too long', type: 'invalid_request_error', param: 'messages', code: 'context_length_exceeded' }
      it.east.always(streams(api === 'responses' ? CREATED + IN_PROGRESS + responseFailed(error) : chatError(error)))
      assert.equal(await ask(it), 'west')
      assert.deepEqual([it.status()[0].failures, it.status()[0].state], [0, 'available'])
      // Where that one has no more room either, the answer is the answer.
      it.west.always(streams(api === 'responses' ? CREATED + IN_PROGRESS + responseFailed(error) : chatError(error)))
      it.west.always(answers(400, {}, { error }))
      const told = await failure(ask(it))
      assertIsA(told, APIError)
      assert.deepEqual([told.status, told.code], [400, 'context_length_exceeded'])
    })
  })
}

describe('a rate limit in a stream', () => {
  test('cools down by the headers of its 200, else by the default, and by a rate limit\'s reset where there is one', async (t) => {
    for (const [headers, ms] of [
      [{ 'retry-after-ms': '43' }, 43], [{ 'retry-after': '3' }, 3_000], [{ 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '17s' }, 17_000], [{}, 10_000],
    ] as const) {
      const it = await start(t)
      it.east.always(streams(CREATED + responseFailed(null, 1) + errorEvent(rateLimit), headers))
      await streamResponse(it.v1, {}, { store: false })
      const [{ cooldownMs }] = it.status()
      assert.ok(cooldownMs >= ms && cooldownMs <= ms * 1.1, `${cooldownMs} for ${ms}`)
      // And it is asked again when that is over.
      it.east.always(streams(responseStream('east')))
      it.balancer.system.advance(cooldownMs)
      assert.equal((await streamResponse(it.v1, {}, { store: false })).text, 'east')
    }
  })

  test('of all backends is our own 429 with the time until the first is back', async (t) => {
    const it = await start(t)
    it.east.always(streams(responseFailed(null, 1) + errorEvent(rateLimit), { 'retry-after': '9' }))
    it.west.always(streams(responseFailed(null, 1) + errorEvent(rateLimit), { 'retry-after': '5' }))
    const error = await failure(streamResponse(it.v1, {}, { store: false }))
    assertIsA(error, RateLimitError)
    const ms = Number(error.headers.get('retry-after-ms'))
    assert.ok(ms >= 5_000 && ms <= 5_500, `${ms}`)
  })

  test('that says "at once" again and again is not believed for ever', async (t) => {
    const it = await start(t)
    it.east.always(streams(chatError(rateLimit), { 'retry-after': '0' }))
    const waits: number[] = []
    for (let i = 0; i < 4; i++) {
      assert.equal(await streamChat(it.client), 'west')
      waits.push(it.status()[0].cooldownMs)
      it.balancer.system.advance(Math.ceil(it.status()[0].cooldownMs))
    }
    assert.ok(waits[0] === 0 && [250, 500, 1_000].every((ms, i) => (waits[i + 1] ?? 0) >= ms), String(waits))
  })

  test('with a wait that no SDK would obey says so where none is left', async (t) => {
    const it = await alone(t, { maxCooldownMs: 600_000 })
    it.east.always(streams(chatError(rateLimit), { 'retry-after': '300' }))
    const error = await failure(streamChat(it.client, { maxRetries: 2 }))
    assertIsA(error, RateLimitError)
    assert.deepEqual([error.headers.get('x-should-retry'), it.calls()], ['false', [1, 0]])
  })

  test('for a request that is larger than the limit sends it on and takes nothing out', async (t) => {
    const it = await start(t)
    it.east.always(streams(CREATED + IN_PROGRESS + errorEvent(tooLarge) + responseFailed({ code: tooLarge.code, message: tooLarge.message }, 3)))
    assert.equal((await streamResponse(it.v1)).text, 'west')
    assert.deepEqual([it.status()[0].state, it.status()[0].throttled, it.status()[0].failures], ['available', 0, 0])
  })
})

describe('a failure without a reason', () => {
  test('waits 50 ms for the reason in the next event, whenever it came itself', async (t) => {
    const it = await start(t)
    const answer = streamResponse(it.v1, {}, { store: false })
    const call = await it.east.next()
    call.head(200, { ...SSE, 'retry-after': '7' })
    const write = async (text: string, until: number): Promise<void> => {
      await call.write(text)
      await turns()
      it.balancer.system.advance(until)
      await turns()
    }
    await write(CREATED, 900)
    await write(IN_PROGRESS, 49)
    await write(responseFailed(null), 49)
    assert.equal(it.calls()[1], 0)
    await call.write(errorEvent(rateLimit))
    assert.equal((await answer).text, 'west')
    assert.equal(it.status()[0].throttled, 1)
  })

  test('and no reason within 50 ms is a failure', async (t) => {
    const it = await start(t)
    it.east.always(begins(CREATED + responseFailed(null)))
    const answer = streamResponse(it.v1, {}, { store: false })
    await until(() => it.calls()[0] === 1)
    await turns()
    it.balancer.system.advance(49)
    await turns()
    assert.equal(it.calls()[1], 0)
    it.balancer.system.advance(1)
    assert.equal((await answer).text, 'west')
    assert.equal(it.status()[0].failures, 1)
  })

  test('says what it says, where none is left', async (t) => {
    const it = await alone(t)
    it.east.always(streams(chatError({ message: 'The GPU is on fire.' })))
    const error = await failure(streamChat(it.client))
    assertIsA(error, InternalServerError)
    assert.match(error.message, /The GPU is on fire\./)
  })
})

/** The events of responses that broke off. */
function hearBroken (t: TestContext): unknown[] {
  const told: unknown[] = []
  const hear = (event: unknown): void => { told.push(event) }
  subscribe('openai-priority-loadbalancer:broken', hear)
  t.after(() => unsubscribe('openai-priority-loadbalancer:broken', hear))
  return told
}

describe('a connection that dies', () => {
  test('after the headers of a stream, or in its prelude: the next backend answers', async (t) => {
    for (const text of ['', ': hello\n\n', AZURE_FIRST_CHUNK + ROLE_CHUNK]) {
      for (const how of ['reset', 'hangUp'] as const) {
        const it = await start(t)
        const answer = streamChat(it.client)
        const call = await it.east.next()
        await begins(text)(call)
        await turns()
        call[how]()
        assert.equal(await answer, 'west')
        assert.deepEqual([it.status()[0].failures, it.status()[0].successes, it.status()[0].inFlight], [1, 0, 0])
      }
    }
  })

  test('in the prelude, and none is left: an error of the connection, which the SDK retries', async (t) => {
    const it = await alone(t)
    it.east.always(async (call) => {
      await begins(ROLE_CHUNK)(call)
      call.reset()
    })
    assertIsA(await failure(streamChat(it.client, { maxRetries: 1 })), APIConnectionError)
    assert.equal(it.calls()[0], 2)
  })

  for (const [where, text] of [['in the body', '{"choices":['], ['before the first byte', '']] as const) {
    test(`${where} of JSON that is the caller's already: its error, counted, told as \`broken\`, and the second in a row takes the scope out`, async (t) => {
      const told = hearBroken(t)
      const it = await startEastAndWest(t)
      it.east.always(async (call) => {
        call.head(200, { 'content-type': 'application/json', 'content-length': '5000' })
        if (text !== '') await call.write(text)
        await turns(5)
        call.reset()
      })
      for (let i = 1; i <= 2; i++) {
        assertIsA(await failure(chat(it.client)), Error)
        await until(() => it.status()[0].failures === i)
      }
      assert.deepEqual([it.calls(), told.length], [[2, 0], 2])
      assert.equal(it.status()[0].scopes[0]?.state, 'ejected')
      it.east.always(says('east'))
      assert.equal(await chat(it.client), 'west')
    })
  }

  test('in a stream after its first output: its error, counted, told as `broken`, never retried, and the second in a row takes the scope out', async (t) => {
    const broken: unknown[] = []
    const told = hearBroken(t)
    const it = await start(t)
    it.east.always(async (call) => {
      await begins(ROLE_CHUNK + chatChunk({ content: 'Hel' }))(call)
      await turns(5)
      call.reset()
    })
    for (let i = 1; i <= 2; i++) {
      await failure(streamChat(it.client, { maxRetries: 2 }))
      await until(() => it.status()[0].failures === i)
      broken.push(it.status()[0].scopes[0]?.state)
    }
    assert.deepEqual(broken, ['available', 'ejected'])
    assert.equal(told.length, 2)
    assert.deepEqual(it.calls(), [2, 0])
    assert.equal(await streamChat(it.client), 'west')
  })

  test('a whole stream in between clears the count', async (t) => {
    const it = await start(t)
    for (const breaks of [true, false, true]) {
      it.east.always(async (call) => {
        if (!breaks) return streams(chatStream('east'))(call)
        await begins(chatChunk({ content: 'Hel' }))(call)
        await turns(5)
        call.reset()
        return undefined
      })
      await streamChat(it.client).catch(() => {})
      await until(() => it.status()[0].inFlight === 0)
    }
    assert.equal(it.status()[0].scopes[0]?.state, 'available')
  })
})

describe('a stream whose model thinks', () => {
  const shownAt = async (it: World, answer: Promise<unknown>, ms: number): Promise<void> => {
    let isShown = false
    answer.then(() => { isShown = true }, () => {})
    await until(() => it.east.calls.length === 1)
    await turns()
    it.balancer.system.advance(ms - 1)
    await turns()
    assert.equal(isShown, false, `not before ${ms} ms`)
    it.balancer.system.advance(1)
    await within(answer, `the headers after ${ms} ms`)
  }
  const ask = (it: World): Promise<unknown> => it.v1.responses.create({ model: 'gpt-4o', input: 'Hello', stream: true }).withResponse()

  for (const attemptTimeoutMs of [undefined, 1_500]) {
    const options = attemptTimeoutMs === undefined ? {} : { attemptTimeoutMs }
    for (const [what, text] of [['queued', CREATED + QUEUED], ['in progress', CREATED + IN_PROGRESS], ['a role', AZURE_FIRST_CHUNK + ROLE_CHUNK]] as const) {
      test(`is shown 50 ms after it was accepted (${what}), attemptTimeoutMs: ${attemptTimeoutMs}`, async (t) => {
        const it = await start(t, options)
        it.east.always(begins(text))
        await shownAt(it, ask(it), 50)
        // And the rest may take as long as it takes.
        it.balancer.system.advance(20_000)
        await turns()
        assert.deepEqual(it.calls(), [1, 0])
      })
    }
  }

  for (const text of [': one\n\n', CREATED, AZURE_FIRST_CHUNK, 'dat']) {
    test(`is shown a second after its first byte, where that is ${JSON.stringify(text.slice(0, 24))}`, async (t) => {
      const it = await start(t)
      it.east.always(begins(text))
      await shownAt(it, ask(it), 1_000)
      assert.deepEqual(it.calls(), [1, 0])
    })
  }

  test('is shown at once when more than 64 KiB have come without output', async (t) => {
    const it = await start(t)
    it.east.always(begins(': waiting, and waiting\n'.repeat(3_000)))
    await within(ask(it), 'the headers')
    assert.deepEqual(it.calls(), [1, 0])
  })

  for (const text of ['', ': one\n\n', CREATED, AZURE_FIRST_CHUNK]) {
    test(`is given up at attemptTimeoutMs, where only ${JSON.stringify(text.slice(0, 24))} has come`, async (t) => {
      const it = await start(t, { attemptTimeoutMs: 1_500 })
      it.east.always(begins(text))
      const answer = streamChat(it.client)
      await until(() => it.east.calls.length === 1)
      await turns()
      it.balancer.system.advance(1_499)
      await turns()
      assert.equal(it.calls()[1], 0)
      it.balancer.system.advance(1)
      assert.equal(await answer, 'west')
      await within(it.east.calls[0]?.aborted ?? Promise.reject(new Error('no call')), 'the attempt is cut off')
      assert.deepEqual([it.status()[0].failures, it.status()[0].inFlight], [1, 0])
    })
  }
})
