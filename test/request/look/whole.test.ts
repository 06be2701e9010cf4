import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { WholeStream, type WholeState } from '../../../src/request/look/whole.js'
import { anyLineEnd, anyPlaces, asBytes, AZURE_FIRST_CHUNK, chatChunk, cut, event, ROLE_CHUNK } from '../../support/event-stream.js'
import { SEED } from '../../support/seed.js'

/** What is known of a stream that came in these chunks and was then closed, or not. */
function follow (chunks: readonly Uint8Array[], closes: boolean): WholeStream {
  const stream = new WholeStream()
  for (const chunk of chunks) if (!stream.isDecided) stream.write(chunk)
  if (closes && !stream.isDecided) assert.equal(stream.end(), stream.state === 'done')
  return stream
}

const whileOpen = (...events: string[]): WholeState => follow([asBytes(events.join(''))], false).state
const closed = (...events: string[]): WholeState => follow([asBytes(events.join(''))], true).state

const of = (type: string, rest: object = {}): string => event(type, { type, sequence_number: 1, ...rest })
const nameless = (type: string, rest: object = {}): string => event(undefined, { type, sequence_number: 1, ...rest })
const WRITERS = [of, nameless]

const DONE = event(undefined, '[DONE]')
const HELLO = chatChunk({ content: 'Hello' })
const STOP = chatChunk({}, { finish_reason: 'stop' })
const USAGE = event(undefined, { choices: [], usage: { total_tokens: 5 } })
const DELTA = of('response.output_text.delta', { delta: 'Hello' })
const choice = (index: number, finish: string | null) => ({ index, delta: { content: 'x' }, finish_reason: finish })

describe('a stream is whole', () => {
  const ends: readonly [what: string, text: string][] = [
    ['with [DONE]', AZURE_FIRST_CHUNK + ROLE_CHUNK + HELLO + STOP + USAGE + DONE],
    ['with [DONE] and nothing before it', DONE],
    ['with [DONE] and something behind it, which clients do not read either', event(undefined, '[DONE] x')],
    ['when a response is complete', DELTA + of('response.completed', { response: {} })],
    ['when it is, without names', nameless('response.output_text.delta', { delta: 'H' }) + nameless('response.completed')],
    ['when it is, without types', event('response.completed', {})],
    ['when a response is incomplete, which is an answer', DELTA + of('response.incomplete', { response: { incomplete_details: { reason: 'max_output_tokens' } } })],
  ]
  for (const [what, text] of ends) {
    test(`${what}, before it is closed`, () => {
      assert.equal(whileOpen(text), 'done')
      assert.equal(whileOpen(text.slice(0, -1)), 'open', 'but not before that')
      assert.equal(closed(text.slice(0, -1)), 'done')
    })
  }

  const finished: readonly [what: string, text: string][] = [
    ['after a reason to finish', ROLE_CHUNK + HELLO + STOP],
    ['after that and usage', HELLO + STOP + USAGE],
    ['after that and more of the same choice', HELLO + STOP + chatChunk({}, { content_filter_results: {} })],
    ['after a reason for each choice', event(undefined, { choices: [choice(0, null), choice(1, 'length')] }) + event(undefined, { choices: [choice(0, 'stop')] })],
    ['after a legacy completion', event(undefined, { choices: [{ text: 'H', index: 0, finish_reason: null }] }) + event(undefined, { choices: [{ text: '', index: 0, finish_reason: 'length' }] })],
    ['after a choice without an index', event(undefined, { choices: [{ delta: { content: 'H' } }] }) + event(undefined, { choices: [{ delta: {}, finish_reason: 'stop' }] })],
    ['after an image', of('image_generation.partial_image') + of('image_generation.completed')],
    ['after an image that was edited', of('image_edit.completed')],
    ['after a transcription', of('transcript.text.delta') + of('transcript.text.done')],
    ['after speech', of('speech.audio.delta') + nameless('speech.audio.done')],
  ]
  for (const [what, text] of finished) {
    test(`${what}, once it is closed`, () => {
      assert.equal(whileOpen(text), 'open')
      assert.equal(closed(text), 'done')
    })
  }
})

describe('a stream is cut off', () => {
  const cuts: readonly [what: string, text: string][] = [
    ['with nothing in it', ''],
    ['with comments and pings', `: x\n\n${event('ping', 'x')}${event(undefined, { type: 'ping' })}${of('keepalive')}event: heartbeat\n\n`],
    ['before any output', AZURE_FIRST_CHUNK + ROLE_CHUNK],
    ['without a reason to finish', ROLE_CHUNK + HELLO],
    ['with one of two choices', event(undefined, { choices: [choice(0, 'stop'), choice(1, null)] })],
    ['with the other of two choices', event(undefined, { choices: [choice(0, null)] }) + event(undefined, { choices: [choice(1, 'stop')] })],
    ['with usage alone', USAGE],
    ['within a response', of('response.created') + DELTA + of('response.output_text.done') + of('response.output_item.done', { item: { type: 'message' } })],
    ['with JSON that says nothing', event(undefined, '5') + event(undefined, 'null') + event(undefined, { choices: 'x' })],
    ['with choices that are none', event(undefined, { choices: ['x', null] })],
  ]
  for (const [what, text] of cuts) {
    test(`that is closed ${what}`, () => { assert.equal(closed(text), 'open') })
  }
})

describe('an event that no client can read', () => {
  const bad: readonly [what: string, text: string][] = [
    ['is not JSON', event(undefined, '{"choices":[{"del')],
    ['is empty', 'data:\n\n'],
    ['only looks like [DONE]', event(undefined, '[DONE')],
    ['was cut off', 'data: {"choices":['],
  ]
  for (const [what, text] of bad) {
    test(`makes a stream bad: one that ${what}`, () => {
      assert.equal(closed(text), 'bad')
      assert.equal(closed(HELLO + STOP + text), 'bad')
    })
  }
})

describe('a tool that acts', () => {
  for (const write of WRITERS) {
    for (const type of ['mcp_call', 'code_interpreter_call', 'computer_call', 'shell_call', 'shell_call_output', 'local_shell_call', 'apply_patch_call']) {
      test(`is known by its item: ${type}, ${write.name}`, () => {
        assert.equal(whileOpen(of('response.created') + write('response.output_item.added', { item: { type } })), 'acts')
        assert.equal(whileOpen(write('response.output_item.done', { item: { type } })), 'acts')
      })
    }
    for (const type of ['response.mcp_call.in_progress', 'response.mcp_call_arguments.delta', 'response.code_interpreter_call.interpreting', 'response.code_interpreter_call_code.delta', 'response.shell_call.in_progress']) {
      test(`is known by its event: ${type}, ${write.name}`, () => { assert.equal(whileOpen(write(type)), 'acts') })
    }
  }

  test('is known by its event\'s name alone', () => { assert.equal(whileOpen(event('response.mcp_call.in_progress', {})), 'acts') })

  test('is none that only looks something up, nor one that the caller runs', () => {
    for (const type of ['message', 'reasoning', 'function_call', 'custom_tool_call', 'web_search_call', 'file_search_call', 'mcp_list_tools', 'mcp_approval_request']) {
      assert.equal(whileOpen(of('response.output_item.added', { item: { type } })), 'open', type)
    }
    for (const type of ['response.mcp_list_tools.completed', 'response.web_search_call.searching', 'response.output_text.delta', 'x.response.mcp_call.completed']) assert.equal(whileOpen(of(type, { delta: 'response.mcp_call.' })), 'open', type)
  })

  test('makes what follows it none of our business', () => {
    assert.equal(closed(of('response.mcp_call.in_progress') + of('error', { error: { code: 'x' } })), 'acts')
  })
})

describe('an error in a stream', () => {
  const error = { message: 'm', type: 't', param: 'p', code: 'c' }

  test('counts before output and after it, in every shape', () => {
    for (const text of [of('error', { error }), nameless('error', { error }), event(undefined, { error }), of('response.failed', { response: { error } }), event('response.failed', { response: { error } }), chatChunk({}, { finish_reason: 'error' }, { error })]) {
      for (const before of ['', ROLE_CHUNK + HELLO + STOP, of('response.created') + DELTA]) {
        const stream = follow([asBytes(before + text)], false)
        assert.deepEqual([stream.state, stream.isDecided, stream.error, stream.errorValue], ['error', true, { code: 'c', type: 't', param: 'p' }, error])
      }
    }
  })

  test('is the first one', () => {
    assert.equal(follow([asBytes(of('error', { error }) + of('error', { error: { code: 'd' } }))], true).error?.code, 'c')
  })

  test('that does not say why waits for its reason, and for nothing else', () => {
    for (const text of [of('response.failed', { response: { error: null } }), 'event: error\n\n', event('error', 'x'), event(undefined, { error: { message: 'a' } }), chatChunk({}, { finish_reason: 'error' })]) {
      const stream = follow([asBytes(HELLO + text + of('response.completed') + STOP + DONE + of('response.mcp_call.completed') + event(undefined, '{'))], true)
      assert.deepEqual([stream.state, stream.isDecided, stream.error], ['failed', false, undefined])
      assert.equal(stream.end(), false)
      assert.deepEqual(follow([asBytes(HELLO + text + of('error', { error }))], true).errorValue, error)
    }
  })

  test('that does not say why keeps the first thing that could be shown', () => {
    const [a, b] = [event(undefined, { error: { message: 'a' } }), event(undefined, { error: { message: 'b' } })]
    assert.deepEqual(follow([asBytes(of('response.failed') + a + b)], true).errorValue, { message: 'a' })
  })

  test('is none where a model only writes of it', () => {
    assert.equal(closed(chatChunk({ content: '{"error":{"code":"x"}}' }, { finish_reason: 'stop' })), 'done')
    assert.equal(closed(of('response.output_text.delta', { delta: 'event: error\ndata: {"type":"error"}\n\n' }) + of('response.completed')), 'done')
  })
})

test('the same is known of a stream however it is cut', () => {
  const pieces = [
    ': x\n\n', AZURE_FIRST_CHUNK, ROLE_CHUNK, HELLO, STOP, USAGE, DONE, DELTA, of('response.completed'), of('response.output_item.added', { item: { type: 'mcp_call' } }),
    event(undefined, { error: { message: 'überladen 😀' } }), of('error', { error: { code: 'x' } }), event(undefined, '{'), 'data: {\ndata: "choices":[]}\n\n', event('ping', ''),
  ]
  fc.assert(fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 6 }), fc.nat(2), anyLineEnd, fc.boolean(), anyPlaces, (events, missing, lineEnd, hasMark, places) => {
    const text = events.join('')
    const short = text.slice(0, Math.max(0, text.length - missing))
    const whole = follow([asBytes(short)], true)
    const parts = follow(cut(asBytes(short, lineEnd, hasMark), places), true)
    assert.deepEqual([parts.state, parts.error, parts.errorValue], [whole.state, whole.error, whole.errorValue])
  }), { seed: SEED })
})
