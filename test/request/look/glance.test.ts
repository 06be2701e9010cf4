import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { glance } from '../../../src/request/look/glance.js'
import { Prelude } from '../../../src/request/look/prelude.js'
import { AZURE_FIRST_CHUNK, chatChunk, event, ROLE_CHUNK } from '../../support/event-stream.js'
import { SEED } from '../../support/seed.js'

const dataOf = (text: string): string => Buffer.from(text).toString('latin1').slice('data: '.length, -2)

describe('at a glance', () => {
  for (const [what, text, is] of [
    ['Azure\'s first chunk', AZURE_FIRST_CHUNK, 'prelude'],
    ['OpenAI\'s chunk with a role', ROLE_CHUNK, 'accepted'],
    ['Azure\'s', event(undefined, { choices: [{ content_filter_results: {}, delta: { content: '', refusal: null, role: 'assistant' }, finish_reason: null, index: 0, logprobs: null }], created: 1, id: 'x' }), 'accepted'],
    ['a text', chatChunk({ content: 'Hello' }), 'output'],
    ['no content', chatChunk({}), 'accepted'],
    ['a tool\'s call', chatChunk({ role: 'assistant', content: null, tool_calls: [{ index: 0, type: 'function' }] }), undefined],
    ['a reason to end', chatChunk({ content: '' }, { finish_reason: 'stop' }), undefined],
    ['several choices', event(undefined, { choices: [{ index: 0, delta: { content: '' } }, { index: 1, delta: { content: '' } }] }), undefined],
    ['an error beside a text', event(undefined, { error: { code: 429 }, choices: [{ delta: { content: 'x' } }] }), undefined],
    ['tokens that were used', event(undefined, { choices: [], usage: { total_tokens: 7 } }), undefined],
    ['something new', chatChunk({ role: 'assistant', content: '', thoughts: 'x' }), undefined],
    ['choices twice', 'data: {"choices":[],"choices":[{"index":0,"delta":{}}]}\n\n', undefined],
    ['what was cut off', ROLE_CHUNK.slice(0, -4) + '\n\n', undefined],
    ['no JSON', 'data: [DONE]\n\n', undefined],
    ['a text that quotes a chunk', event(undefined, { x: '"delta":{"content":"x"}', choices: [{ index: 0, delta: { content: '' } }] }), 'accepted'],
  ] as const) test(`${what} is ${is ?? 'not clear'}`, () => { assert.equal(glance(dataOf(text)), is) })
})

test('a stream of whole events is what it is byte by byte', () => {
  const text = fc.oneof(fc.constantFrom('', 'x', '"delta":{"content":"x', '\\', 'é – \n'), fc.string())
  const delta = fc.record({ role: fc.constant('assistant'), content: fc.oneof(fc.constant(null), text), refusal: fc.constant(null), tool_calls: fc.constantFrom([], [{}]), name: text }, { requiredKeys: [] })
  const choice = fc.record({ index: fc.nat(2), delta, finish_reason: fc.constantFrom(null, 'stop', 'error'), logprobs: fc.constantFrom(null, { content: [] }), content_filter_results: fc.constantFrom({}, { hate: {} }) }, { requiredKeys: [] })
  const chunk = fc.record({ id: text, model: text, choices: fc.array(choice, { maxLength: 2 }), usage: fc.constantFrom(null, { total_tokens: 1 }), error: fc.constantFrom(null, { code: '429' }), type: fc.constantFrom('ping', 'response.created', 'x'), object: fc.constantFrom('error', 'chat.completion.chunk') }, { requiredKeys: [] })
  const name = fc.option(fc.constantFrom('message', 'ping', 'error', 'response.created', 'response.in_progress', 'response.failed', 'x'), { nil: undefined })
  const any = fc.tuple(name, fc.oneof(chunk, choice)).map(([line, data]) => event(line, data))
  const stream = fc.array(fc.oneof(any, fc.constantFrom(': x\n\n', '\n', AZURE_FIRST_CHUNK, ROLE_CHUNK, 'data: {\ndata: "choices":[]}\n\n', 'data: x\r\n\r\n', '\uFEFFdata: x\n\n')), { maxLength: 6 }).map((events) => Buffer.from(events.join('')))
  const stateOf = (chunks: readonly Uint8Array[]): unknown => {
    const prelude = new Prelude()
    for (const one of chunks) if (!prelude.isDecided) prelude.write(one)
    if (!prelude.isDecided) prelude.end()
    return [prelude.state, prelude.error]
  }
  fc.assert(fc.property(stream, fc.nat(2_000), (bytes, at) => {
    const single = stateOf([...bytes].map((byte) => Uint8Array.of(byte)))
    assert.deepEqual(stateOf([bytes]), single)
    assert.deepEqual(stateOf([bytes.subarray(0, at), bytes.subarray(at)]), single)
  }), { seed: SEED, numRuns: 2_000 })
})
