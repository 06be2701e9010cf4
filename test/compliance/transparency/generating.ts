/**
 * Answers that a balancer looks into: event streams that begin without output, cut anywhere, and short JSON, both as they are and
 * compressed. Not those that it does not deliver: each has its output, or is no error.
 */
import fc from 'fast-check'
import { AZURE_FIRST_CHUNK, chatChunk, event, ROLE_CHUNK } from '../../support/event-stream.js'
import type { ResponsePlan, Turn } from './exchange.js'

const latin1 = (text: string): string => Buffer.from(text).toString('latin1')

const lifecycle = (type: string): string => event(type, { type, response: { id: 'resp_1', error: null, output: [] } })

const PRELUDES = [
  ': keep-alive\n\n', '\n', 'id: 7\nretry: 500\n\n', 'event: ping\ndata: {}\n\n', AZURE_FIRST_CHUNK, ROLE_CHUNK, chatChunk({ content: '' }),
  lifecycle('response.created'), lifecycle('response.queued'), lifecycle('response.in_progress'), `${':'.repeat(20_000)}\n\n`,
]

const OUTPUTS = [
  chatChunk({ content: 'ä – error' }), chatChunk({ tool_calls: [{ index: 0, function: { arguments: '{"error":1}' } }] }), chatChunk({}, { finish_reason: 'stop' }),
  event('response.output_text.delta', { type: 'response.output_text.delta', delta: 'Hello' }), event(undefined, 'no JSON'), 'data: [DONE]\n\n',
  event(undefined, { error: { code: 'content_filter', type: 'invalid_request_error', message: 'No.' } }), event(undefined, { choices: [{ index: 0, delta: { content: 'x'.repeat(9_000) } }] }),
]

/** In bytes, each a character. */
const stream = fc.record({
  prelude: fc.array(fc.constantFrom(...PRELUDES), { maxLength: 5 }), first: fc.constantFrom(...OUTPUTS), rest: fc.array(fc.constantFrom(...OUTPUTS), { maxLength: 3 }),
  lineEnd: fc.constantFrom('\n', '\n', '\r\n', '\r'), hasMark: fc.boolean(),
}).map(({ prelude, first, rest, lineEnd, hasMark }) => latin1((hasMark ? '\uFEFF' : '') + [...prelude, first, ...rest].join('').replaceAll('\n', lineEnd)))

const json = fc.constantFrom(...[
  { id: 'chatcmpl-1', error: null, choices: [{ index: 0, message: { content: 'Hello' } }] }, { choices: [{ message: { content: '{"error":{"code":"server_error"}}' } }] },
  { error: { code: 'content_filter', message: 'No.' } }, { choices: [{ message: { content: 'x'.repeat(3_000) } }] }, {},
].map((value) => JSON.stringify(value)))

const plan: fc.Arbitrary<Partial<ResponsePlan>> = fc.record({
  what: fc.oneof(
    { weight: 3, arbitrary: stream.map((body) => ({ body, line: 'Content-Type: text/event-stream; charset=utf-8' })) },
    { weight: 1, arbitrary: json.map((body) => ({ body, line: 'content-type: application/json' })) },
  ),
  status: fc.constantFrom(200, 200, 201),
  coding: fc.constantFrom('identity', 'identity', 'gzip', 'deflate', 'br'),
  cuts: fc.oneof(fc.array(fc.nat(4_000), { maxLength: 12 }), fc.array(fc.nat(200_000), { maxLength: 4 })),
}).map(({ what: { body, line }, status, coding, cuts }) => ({ body, lines: ['x-request-id: 7', line], status, coding, cuts, fate: 'whole' }))

const PATHS = ['/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21', '/v1/responses', '/v1/chat/completions']

/** The same turn, of a request that makes something, and answered so. */
export function generating (turn: fc.Arbitrary<Turn>): fc.Arbitrary<Turn> {
  return fc.tuple(turn, plan, fc.constantFrom(...PATHS)).map(([given, response, path]) => ({ ...given, method: 'POST', path, response: { ...given.response, ...response } }))
}

export function isLookedInto ({ method, response: { lines } }: Turn): boolean {
  return method === 'POST' && lines.includes('x-request-id: 7')
}
