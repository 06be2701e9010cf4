import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { Prelude, type PreludeState } from '../../../src/request/look/prelude.js'
import { anyLineEnd, anyPlaces, asBytes, AZURE_FIRST_CHUNK, chatChunk, cut, event, ROLE_CHUNK } from '../../support/event-stream.js'
import { SEED } from '../../support/seed.js'

/** What is known of a stream that came in these chunks. */
function look (chunks: readonly Uint8Array[], ends = true): Prelude {
  const prelude = new Prelude()
  for (const chunk of chunks) if (!prelude.isDecided) prelude.write(chunk)
  if (ends && !prelude.isDecided) prelude.end()
  return prelude
}

const stateOf = (...events: string[]): PreludeState => look([asBytes(events.join(''))], false).state
const errorOf = (...events: string[]) => {
  const { state, error, errorValue } = look([asBytes(events.join(''))])
  return { state, code: error?.code, type: error?.type, param: error?.param, errorValue }
}

/** An event of a response, as OpenAI and Azure write it: with its type as its name too. */
const of = (type: string, rest: object = {}): string => event(type, { type, sequence_number: 1, ...rest })
/** The same from a server that leaves the name away. */
const nameless = (type: string, rest: object = {}): string => event(undefined, { type, sequence_number: 1, ...rest })
/** The same in alphabetical order, or with spaces, as Azure and Python write JSON. */
const typeLast = (type: string, rest: object = {}): string => event(undefined, { ...rest, sequence_number: 1, type })
const spaced = (type: string): string => `data: { "type": "${type}", "sequence_number": 1}\n\n`

const CREATED = of('response.created', { response: { id: 'resp_1', status: 'in_progress', error: null, output: [] } })
const IN_PROGRESS = of('response.in_progress', { response: { id: 'resp_1', status: 'in_progress', error: null, output: [] } })
const RATE_LIMIT = { type: 'too_many_requests', code: 'rate_limit_exceeded', headers: { 'x-ms-fe-error': 'true' }, message: 'Your requests to the deployment have exceeded rate limit.', param: null }
const failed = (error: unknown, write = of): string => write('response.failed', { response: { id: 'resp_1', status: 'failed', error, incomplete_details: null, output: [], usage: null } })

describe('before the output of a stream', () => {
  const nothing: readonly [what: string, text: string][] = [
    ['nothing', ''],
    ['blank lines', '\n\n\n'],
    ['comments', ': OPENROUTER PROCESSING\n\n: ping - 2026-01-01\n\n'],
    ['ids and times', 'id: 1\nretry: 3000\n\n'],
    ['a ping', event('ping', { type: 'ping' })],
    ['a ping without a name', event(undefined, { type: 'ping' })],
    ['a ping without data', 'event: ping\n\n'],
    ['a ping that is no JSON', event('ping', '2026-01-01 10:00:00')],
    ['a ping whose type is not its first key', typeLast('ping')],
    ['OpenAI\'s own kind of ping', of('keepalive')],
    ['any event without data', 'event: heartbeat\n\nevent: response.output_text.delta\n\n'],
    ['empty data', 'data:\n\ndata: \n\nevent: x\ndata:\n\n'],
    ['a response that was created', CREATED],
    ['one without a name', nameless('response.created')],
    ['one whose type is not its first key', typeLast('response.created', { response: {} })],
    ['one with spaces in it', spaced('response.created')],
    ['one under the name that all events have', event('message', { type: 'response.created' })],
    ['one that repeats long instructions', of('response.created', { response: { instructions: 'x'.repeat(50_000) } })],
    ['one that repeats long instructions, without a name', nameless('response.created', { response: { instructions: 'x'.repeat(50_000) } })],
    ['one that does both with spaces in it', `data: { "type" : "response.created", "response": {"instructions": "${'x'.repeat(50_000)}"}}\n\n`],
    ['one that does both under the name that all events have', event('message', { type: 'response.created', response: { instructions: 'x'.repeat(50_000) } })],
    ['Azure\'s word about the prompt', AZURE_FIRST_CHUNK],
    ['a chunk without choices, and no usage', event(undefined, { choices: [] })],
    ['an empty piece of a legacy completion', event(undefined, { object: 'text_completion', choices: [{ text: '', index: 0, logprobs: null, finish_reason: null }] })],
    ['a choice with nothing in it', event(undefined, { choices: [{ index: 0, delta: null }, {}] })],
  ]
  for (const [what, text] of nothing) test(`is nothing that would count: ${what}`, () => { assert.equal(stateOf(text), 'prelude') })

  const accepted: readonly [what: string, text: string][] = [
    ['in progress', IN_PROGRESS],
    ['in progress, without a name', nameless('response.in_progress')],
    ['in progress, its type last', typeLast('response.in_progress', { response: {} })],
    ['queued', of('response.queued')],
    ['a role', ROLE_CHUNK],
    ['a role alone', chatChunk({ role: 'assistant' })],
    ['a role, and all that may be with it, empty', chatChunk({ role: 'assistant', content: '', refusal: null, tool_calls: [], function_call: null, annotations: [], reasoning: '', reasoning_content: null, audio: {}, x: { y: null } })],
    ['Azure\'s role', chatChunk({ content: '', refusal: null, role: 'assistant' }, { content_filter_results: { hate: { filtered: false } }, content_filter_offsets: { check_offset: 1 } })],
    ['an empty delta', chatChunk({})],
    ['no tokens\' logprobs', chatChunk({ role: 'assistant', content: '' }, { logprobs: { content: [], refusal: null } })],
    ['a role, with a count of tokens so far', chatChunk({ role: 'assistant', content: '' }, {}, { usage: { prompt_tokens: 5, total_tokens: 5 } })],
    ['two roles', event(undefined, { choices: [{ index: 0, delta: { role: 'assistant' } }, { index: 1, delta: { role: 'assistant' } }] })],
    ['a role, and no word of an error', chatChunk({ role: 'assistant', content: '' }, {}, { error: null })],
  ]
  for (const [what, text] of accepted) {
    test(`the service has accepted: ${what}`, () => {
      assert.equal(stateOf(text), 'accepted')
      assert.equal(stateOf(AZURE_FIRST_CHUNK, CREATED, text, CREATED, AZURE_FIRST_CHUNK, ': x\n\n'), 'accepted', 'and stays so')
    })
  }

  test('an event counts when it is whole', () => {
    assert.equal(look([asBytes(IN_PROGRESS.slice(0, -1))], false).state, 'prelude')
    assert.equal(look([asBytes(IN_PROGRESS.slice(0, -1))], true).state, 'accepted')
  })
})

describe('output', () => {
  const outputs: readonly [what: string, text: string][] = [
    ['content', chatChunk({ content: 'Hello' })],
    ['content of a single space', chatChunk({ role: 'assistant', content: ' ' })],
    ['a refusal', chatChunk({ refusal: 'I' })],
    ['a call of a tool', chatChunk({ role: 'assistant', content: null, tool_calls: [{ index: 0, id: 'call_1', type: 'function', function: { name: 'f', arguments: '' } }] })],
    ['a call of a function', chatChunk({ function_call: { name: 'f', arguments: '' } })],
    ['annotations', chatChunk({ annotations: [{ type: 'url_citation' }] })],
    ['reasoning', chatChunk({ content: '', reasoning: 'Hm' })],
    ['reasoning under another name', chatChunk({ content: null, reasoning_content: 'Hm' })],
    ['audio', chatChunk({ audio: { id: 'audio_1' } })],
    ['something that nobody knows', chatChunk({ role: 'assistant', content: '', cot_summary: [{ text: '' }] })],
    ['a number in a delta, even 0', chatChunk({ x: 0 })],
    ['no object as delta', chatChunk('Hello')],
    ['a list as delta', chatChunk(['Hello'])],
    ['a whole message', chatChunk({}, { message: { content: 'Hello' } })],
    ['logprobs', chatChunk({}, { logprobs: { content: [{ token: 'a' }] } })],
    ['a reason to finish', chatChunk({}, { finish_reason: 'stop' })],
    ['the second choice of two', event(undefined, { choices: [{ index: 0, delta: { role: 'assistant' } }, { index: 1, delta: { content: 'x' } }] })],
    ['a choice that is none', event(undefined, { choices: ['x'] })],
    ['usage', event(undefined, { choices: [], usage: { total_tokens: 5 } })],
    ['a piece of a legacy completion', event(undefined, { choices: [{ text: 'H', index: 0, logprobs: null, finish_reason: null }] })],
    ['the end of a legacy completion', event(undefined, { choices: [{ text: '', index: 0, finish_reason: 'stop' }] })],
    ['choices that are no list', event(undefined, { choices: { 0: {} } })],
    ['an item of a response', of('response.output_item.added', { item: { type: 'reasoning' } })],
    ['an item without a name', nameless('response.output_item.added')],
    ['a response that is complete', of('response.completed')],
    ['a response that is incomplete', of('response.incomplete')],
    ['an event that nobody knows', of('response.made_up')],
    ['an event that only begins like a known one', of('response.created.more')],
    ['an event of another interface', of('thread.created')],
    ['a transcription', of('transcript.text.delta', { delta: 'H' })],
    ['JSON of another kind', event(undefined, [1, 2]) ],
    ['a number', event(undefined, '5')],
    ['null', event(undefined, 'null')],
    ['what is no JSON', event(undefined, '{"choices":[],')],
    ['[DONE] and nothing before it, an empty answer', event(undefined, '[DONE]')],
    ['a chunk of more than 8 KiB, which is not read', event(undefined, { choices: [], x: 'x'.repeat(8_192) })],
    ['a chunk of more than 8 KiB, even where it tells of an error', event(undefined, { error: { code: 'x', message: 'x'.repeat(8_192) } })],
    ['an event of a response that is output, even where it tells of an error', of('response.output_text.delta', { error: { code: 'x' } })],
    ['a chunk with something in it that has the type of another event', event(undefined, { x: { type: 'response.created' }, choices: [{ delta: { content: 'x' } }] })],
    ['a chunk that was left at the end', 'data: {"choices":[{"delta":{"content":"x"}}]}'],
  ]
  for (const [what, text] of outputs) {
    test(`is ${what}`, () => {
      assert.equal(look([asBytes(text)]).state, 'output')
      assert.equal(look([asBytes(AZURE_FIRST_CHUNK + ROLE_CHUNK + text)]).state, 'output', 'after a role')
    })
  }

  test('is a chunk of up to 8 KiB only where it has something in it', () => {
    const data = (length: number): string => event(undefined, `{"choices":[]${' '.repeat(length - 14)}}`)
    assert.equal(stateOf(data(8_192)), 'prelude')
    assert.equal(stateOf(data(8_193)), 'output')
  })

  const texts = ['{"error":{"code":"rate_limit_exceeded"}}', '"error":', 'response.failed', '{"type":"response.failed","response":{"error":{"code":"server_error"}}}', 'event: error\ndata: {"type":"error"}\n\n', 'data: {"type":"response.created"}']
  for (const text of texts) {
    test(`is a model's text that has an error's words in it: ${JSON.stringify(text)}`, () => {
      assert.equal(stateOf(chatChunk({ content: text })), 'output')
      assert.equal(stateOf(of('response.output_text.delta', { delta: text })), 'output')
      assert.equal(stateOf(nameless('response.output_text.delta', { delta: text })), 'output')
      assert.equal(stateOf(event(undefined, { choices: [{ text, index: 0 }] })), 'output')
      assert.equal(stateOf(typeLast('response.output_text.delta', { delta: text })), 'output')
    })
  }

  test('makes what follows it none of our business', () => {
    for (const error of [failed({ code: 'server_error' }), event('error', { code: 'x' }), event(undefined, { error: 'x' })]) {
      const prelude = look([asBytes(chatChunk({ content: 'H' }) + error)])
      assert.equal(prelude.state, 'output')
      assert.equal(prelude.isDecided, true)
      assert.equal(prelude.error, undefined)
      assert.equal(prelude.errorValue, undefined)
    }
  })
})

describe('an error before any output', () => {
  const limit = { code: 'rate_limit_exceeded', message: 'Requests to the Operation have exceeded token rate limit.' }

  test('of Azure\'s responses comes after a failure that does not say why', () => {
    const reason = of('error', { error: RATE_LIMIT })
    for (const write of [of, nameless, typeLast]) {
      assert.equal(stateOf(CREATED, failed(null, write)), 'failed')
      assert.deepEqual(errorOf(failed(null, write), reason), { state: 'error', code: 'rate_limit_exceeded', type: 'too_many_requests', param: undefined, errorValue: RATE_LIMIT })
    }
    assert.equal(errorOf(failed(null), nameless('error', { error: RATE_LIMIT })).code, 'rate_limit_exceeded')
    assert.equal(errorOf(failed(null), event('error', { error: RATE_LIMIT })).code, 'rate_limit_exceeded')
  })

  test('of Azure\'s responses may be in the failure itself', () => {
    for (const write of [of, nameless, typeLast]) {
      assert.deepEqual(errorOf(CREATED, IN_PROGRESS, failed(limit, write)), { state: 'error', code: 'rate_limit_exceeded', type: undefined, param: undefined, errorValue: limit })
    }
  })

  test('of OpenAI\'s responses comes before the failure, and says that the request is too large', () => {
    const error = { type: 'tokens', code: 'rate_limit_exceeded', message: 'Request too large for gpt-4.1 in organization org-x on tokens per min (TPM): Limit 30000, Requested 35364.', param: null }
    const seen = errorOf(CREATED, IN_PROGRESS, of('error', { error }), failed({ code: 'rate_limit_exceeded', message: 'm' }))
    assert.deepEqual(seen, { state: 'error', code: 'rate_limit_exceeded', type: 'tokens', param: undefined, errorValue: error })
  })

  test('of OpenAI\'s overload is the last event', () => {
    assert.equal(errorOf(CREATED, IN_PROGRESS, of('error', { error: { type: 'service_unavailable_error', code: 'server_is_overloaded', message: 'm', param: null } })).code, 'server_is_overloaded')
    assert.equal(errorOf('event: error\ndata: {"error":{"code":"server_is_overloaded"}}').code, 'server_is_overloaded', 'without its blank line')
  })

  test('of the documented, flat form has the fields of the event', () => {
    const flat = { code: 'server_error', message: 'm', param: null }
    for (const write of [of, nameless, typeLast]) {
      assert.deepEqual(errorOf(write('error', flat)), { state: 'error', code: 'server_error', type: undefined, param: undefined, errorValue: { message: 'm', type: undefined, param: null, code: 'server_error' } })
    }
    assert.deepEqual(errorOf(event('error', { ...flat, type: 'server_error' })).type, 'server_error', 'whose type is the error\'s where its name is `error`')
    assert.equal(errorOf(of('error', { ...flat, error: null })).code, 'server_error')
  })

  test('of a response that could not be answered says so', () => {
    assert.equal(errorOf(failed({ code: 'context_length_exceeded', message: 'm' })).code, 'context_length_exceeded')
    assert.equal(errorOf(failed({ code: 'server_error', message: 'x'.repeat(40_000) })).code, 'server_error', 'however long it is')
    assert.equal(errorOf(nameless('response.failed', { response: { instructions: 'x'.repeat(40_000), error: { code: 'server_error' } } })).code, 'server_error')
    assert.equal(errorOf(of('response.failed', { error: { code: 'server_error' } })).code, 'server_error', 'wherever it is')
    assert.equal(errorOf(event('response.failed', { response: { error: { code: 'server_error' } } })).code, 'server_error', 'by its name alone')
    assert.equal(errorOf(event('chunk', { type: 'response.failed', response: { error: { code: 'server_error' } } })).code, 'server_error', 'by its type alone')
  })

  test('of a chat completion is an `error` in a chunk, with [DONE] after it or not', () => {
    const error = { message: 'm', type: 'rate_limit_error', param: null, code: '429' }
    for (const rest of ['', event(undefined, '[DONE]')]) {
      assert.deepEqual(errorOf(event(undefined, { error }), rest), { state: 'error', code: '429', type: 'rate_limit_error', param: undefined, errorValue: error })
      assert.equal(errorOf(AZURE_FIRST_CHUNK, ROLE_CHUNK, event(undefined, { error }), rest).code, '429', 'after a role')
    }
  })

  test('of OpenRouter is an `error` beside choices', () => {
    const error = { code: 502, message: 'm', metadata: { provider: 'x' } }
    assert.deepEqual(errorOf(chatChunk({ role: 'assistant', content: '' }, { finish_reason: 'error' }, { error })), { state: 'error', code: '502', type: undefined, param: undefined, errorValue: error })
  })

  test('of vLLM is an object of that name', () => {
    assert.deepEqual(errorOf(event(undefined, { object: 'error', message: 'm', type: 'InternalServerError', param: null, code: 500 })),
      { state: 'error', code: '500', type: 'InternalServerError', param: undefined, errorValue: { message: 'm', type: 'InternalServerError', param: null, code: 500 } })
  })

  test('of llama.cpp is a field of that name', () => {
    assert.equal(errorOf('error: {"code":500,"message":"m","type":"server_error"}\n\n').code, '500')
    assert.equal(errorOf('error: {"error":{"code":503}}\n\n').code, '503')
  })

  test('of Google\'s compatible API is in a list', () => {
    assert.equal(errorOf(event(undefined, [{ error: { code: 429, status: 'RESOURCE_EXHAUSTED' } }])).code, '429')
  })

  test('may be a plain code or a number', () => {
    assert.deepEqual(errorOf(event(undefined, { error: 'STREAM_EXPLODED' })), { state: 'error', code: 'STREAM_EXPLODED', type: undefined, param: undefined, errorValue: { message: 'STREAM_EXPLODED' } })
    assert.deepEqual(errorOf(event(undefined, { error: 503 })), { state: 'error', code: '503', type: undefined, param: undefined, errorValue: { message: '503' } })
    assert.equal(errorOf(event('error', { error: 'STREAM_EXPLODED' })).code, 'STREAM_EXPLODED')
  })

  test('may have a name that nobody knows', () => {
    assert.equal(errorOf(event('chunk', { error: { code: 'x' } })).code, 'x')
  })

  test('is decided by its reason, and nothing that follows changes that', () => {
    const prelude = look([asBytes(of('error', { error: { code: 'a' } }) + of('error', { error: { code: 'b' } }) + chatChunk({ content: 'H' }))])
    assert.equal(prelude.isDecided, true)
    assert.equal(prelude.error?.code, 'a')
  })

  describe('that does not say why', () => {
    const silent: readonly [what: string, text: string, errorValue: unknown][] = [
      ['a response that failed', failed(null), undefined],
      ['a response that failed, with no response in it', of('response.failed'), undefined],
      ['an event with nothing in it', of('error'), { message: undefined, type: undefined, param: undefined, code: undefined }],
      ['an event without data', 'event: error\n\n', undefined],
      ['an event with empty data', 'event: error\ndata:\n\n', undefined],
      ['a failure without data', 'event: response.failed\n\n', undefined],
      ['a failure that is no JSON', event('response.failed', 'x'), undefined],
      ['an event that is no JSON', event('error', 'overloaded'), undefined],
      ['a message alone', event(undefined, { error: { message: 'overloaded' } }), { message: 'overloaded' }],
      ['a sentence', event(undefined, { error: 'x'.repeat(65) }), { message: 'x'.repeat(65) }],
      ['true', event(undefined, { error: true }), undefined],
    ]
    for (const [what, text, errorValue] of silent) {
      test(`is a failure until the reason comes: ${what}`, () => {
        const prelude = look([asBytes(AZURE_FIRST_CHUNK + ROLE_CHUNK + text + CREATED + IN_PROGRESS + ROLE_CHUNK + chatChunk({ content: 'H' }) + event(undefined, '[DONE]'))])
        assert.deepEqual([prelude.state, prelude.isDecided, prelude.error, prelude.errorValue], ['failed', false, undefined, errorValue])
        assert.deepEqual(errorOf(text, of('error', { error: RATE_LIMIT })), { state: 'error', code: 'rate_limit_exceeded', type: 'too_many_requests', param: undefined, errorValue: RATE_LIMIT })
        assert.equal(errorOf(text, failed(limit)).code, 'rate_limit_exceeded')
      })
    }

    test('keeps the first thing that could be shown', () => {
      assert.deepEqual(errorOf(failed(null), event('error', { error: { message: 'a' } }), event('error', { error: { message: 'b' } }), failed(null)).errorValue, { message: 'a' })
    })
  })
})

test('what Object.prototype has is not what a stream says', (t) => {
  const prototype = Object.prototype as { error?: unknown, type?: unknown }
  t.after(() => { delete prototype.error; delete prototype.type })
  prototype.error = { code: 'x' }
  prototype.type = 'ping'
  assert.equal(stateOf(ROLE_CHUNK), 'accepted')
  assert.equal(stateOf(chatChunk({ content: 'H' })), 'output')
})

describe('however a stream is cut', () => {
  const pieces = [
    ': OPENROUTER PROCESSING\n\n', 'id: 1\nretry: 10\n\n', event('ping', { type: 'ping' }), CREATED, IN_PROGRESS, nameless('response.created'), AZURE_FIRST_CHUNK, ROLE_CHUNK,
    failed(null), failed({ code: 'server_error' }), of('error', { error: RATE_LIMIT }), event(undefined, { error: { message: 'überladen 😀' } }), 'error: {"code":500}\n\n',
    chatChunk({ content: 'ü€😀 "error":' }), event(undefined, '[DONE]'), 'data: {\ndata: "choices":[]}\n\n', 'event: error\n\n',
  ]

  test('the same is known of it', () => {
    fc.assert(fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 6 }), fc.nat(2), anyLineEnd, fc.boolean(), anyPlaces, (events, missing, lineEnd, hasMark, places) => {
      const text = events.join('')
      const short = text.slice(0, Math.max(0, text.length - missing))
      const whole = look([asBytes(short)])
      const parts = look(cut(asBytes(short, lineEnd, hasMark), places))
      assert.deepEqual([parts.state, parts.error, parts.errorValue], [whole.state, whole.error, whole.errorValue])
    }), { seed: SEED })
  })

  test('reading it never throws, whatever it is', () => {
    fc.assert(fc.property(fc.array(fc.oneof(fc.uint8Array(), fc.json().map((text) => Buffer.from(`data: ${text}\n\n`)), fc.constantFrom(...pieces).map((text) => asBytes(text)))), (chunks) => {
      look(chunks)
    }), { seed: SEED, numRuns: 500 })
  })
})
