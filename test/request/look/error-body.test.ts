import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { brotliCompressSync, constants, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { errorOf, inflateHead, isTooLarge, readError, readErrorOfSuccess, saysTooLarge } from '../../../src/request/look/error-body.js'
import { anyText } from '../../support/core-arbitraries.js'
import { anyPlaces, cut } from '../../support/event-stream.js'
import { SEED } from '../../support/seed.js'

const bytes = (value: unknown): Buffer => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))
const says = (code?: string, type?: string, param?: string) => ({ code, type, param })

describe('what the body of an error says', () => {
  const bodies: readonly [what: string, body: unknown, expected: ReturnType<typeof says> | undefined][] = [
    ['OpenAI', { error: { message: 'm', type: 'insufficient_quota', param: null, code: 'insufficient_quota' } }, says('insufficient_quota', 'insufficient_quota')],
    ['OpenAI with a parameter', { error: { message: 'm', type: 'invalid_request_error', param: 'messages', code: 'context_length_exceeded' } }, says('context_length_exceeded', 'invalid_request_error', 'messages')],
    ['Azure', { error: { code: '429', message: 'm' } }, says('429')],
    ['Azure with an inner error, which does not count', { error: { code: 'content_filter', innererror: { code: 'ResponsibleAIPolicyViolation' } } }, says('content_filter')],
    ['a code that is a number', { error: { code: 429, type: 7, param: 0 } }, says('429', '7', '0')],
    ['an error that is a plain code', { error: 'STREAM_EXPLODED' }, says('STREAM_EXPLODED')],
    ['an error that is a number', { error: 503 }, says('503')],
    ['only a parameter', { error: { param: 'service_tier' } }, says(undefined, undefined, 'service_tier')],
    ['vLLM', { object: 'error', message: 'm', type: 'NotFoundError', param: null, code: 404 }, says('404', 'NotFoundError')],
    ['API Management with a code at the top', { code: '429', message: 'm' }, says('429')],
    ['Google, which puts it in a list', [{ error: { code: 429, status: 'RESOURCE_EXHAUSTED' } }], says('429')],
    ['one behind a byte order mark', '\uFEFF{"error":{"code":"x"}}', says('x')],
    ['one in white space', ' \r\n{"error":{"code":"x"}}\n', says('x')],
    ['an error beside other fields', { type: 'error', code: 'outer', error: { code: 'inner' } }, says('inner')],
  ]
  for (const [what, body, expected] of bodies) test(`is read: ${what}`, () => { assert.deepEqual(readError(bytes(body)), expected) })

  const silent: readonly [what: string, body: unknown][] = [
    ['nothing', ''],
    ['HTML', '<html>"error":{"code":"x"}</html>'],
    ['JSON that was cut off', '{"error":{"code":"x"}'],
    ['a plain word', '"rate_limit_exceeded"'],
    ['a number', '429'],
    ['null', 'null'],
    ['a list of none', []],
    ['a list of two', [{ error: { code: 'x' } }, { error: { code: 'y' } }]],
    ['no field that counts', { statusCode: 429, message: '"code":"x"', detail: { code: 'x' } }],
    ['an error without a field that counts', { error: { message: 'insufficient_quota' } }],
    ['an error that is null, beside a code', { error: null, code: 'x' }],
    ['an error that is true', { error: true }],
    ['an error that is a list', { error: [{ code: 'x' }] }],
    ['a sentence in place of a code', { error: 'Too many requests have come from you in the last minute: come again.' }],
    ['fields of other types', { error: { code: { a: 1 }, type: ['x'], param: true } }],
    ['empty fields', { error: { code: '', type: '', param: '' } }],
    ['fields that Object.prototype has', { error: { __proto__: { code: 'x' } } }],
    ['a prototype in the JSON', '{"__proto__":{"error":{"code":"x"}},"constructor":1}'],
  ]
  for (const [what, body] of silent) test(`says nothing: ${what}`, () => { assert.equal(readError(bytes(body)), undefined) })

  test('a code has 64 printable characters at most', () => {
    const long = 'x'.repeat(64)
    assert.deepEqual(errorOf({ error: { code: long, type: `${long}x`, param: `${long}` } }), says(long, undefined, long))
    for (const code of ['a\nb', 'a\u001b[31m', 'a\u0000', 'a\u007f', 'ü', '\u202egnp', '\ud800']) assert.equal(errorOf({ error: { code } }), undefined, JSON.stringify(code))
    assert.deepEqual(errorOf({ error: { code: ' a~' } }), says(' a~'))
  })

  test('what a library has put on Object.prototype says nothing', (t) => {
    const prototype = Object.prototype as { error?: unknown, code?: unknown }
    t.after(() => { delete prototype.error; delete prototype.code })
    prototype.error = { code: 'x' }
    prototype.code = 'y'
    assert.equal(readError(bytes({})), undefined)
    assert.equal(readError(bytes({ error: {} })), undefined)
    assert.equal(readErrorOfSuccess(bytes({})), undefined)
  })

  test('whatever the bytes are, reading them never throws', () => {
    fc.assert(fc.property(fc.oneof(fc.uint8Array(), anyText(60).map(bytes), fc.json().map(bytes)), (body) => {
      readError(body)
      readErrorOfSuccess(body)
      saysTooLarge(body)
    }), { seed: SEED, numRuns: 1_000 })
  })
})

describe('the body of a 2xx', () => {
  test('is an error where `error` is there, even without a code', () => {
    assert.deepEqual(readErrorOfSuccess(bytes({ error: { code: 502, message: 'm', metadata: {} } })), says('502'))
    assert.deepEqual(readErrorOfSuccess(bytes({ error: { message: 'm' } })), says())
    assert.deepEqual(readErrorOfSuccess(bytes({ error: 'STREAM_EXPLODED' })), says('STREAM_EXPLODED'))
  })

  test('is none where it only has a type or a code, or says that there was no error', () => {
    for (const body of [{ type: 'message', code: 1 }, { error: null, type: 'response' }, { error: false }, { error: '' }, {}, [], 'x']) assert.equal(readErrorOfSuccess(bytes(body)), undefined)
  })
})

describe('a request that is too large for its limit', () => {
  const message = (limit: string, requested: string): string =>
    `Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit ${limit}, Requested ${requested}. The input or output tokens must be reduced in order to run successfully.`
  const error = (text: unknown) => ({ error: { message: text, type: 'tokens', param: null, code: 'rate_limit_exceeded' } })

  test('is told by OpenAI\'s message, with the numbers to prove it', () => {
    assert.equal(saysTooLarge(bytes(error(message('30000', '61337')))), true)
    assert.equal(saysTooLarge(bytes(error(message('30,000', '61,337')))), true)
    assert.equal(saysTooLarge(bytes(error(message('9,999', '10,000')))), true)
    assert.equal(saysTooLarge(bytes(error('Request too large: Limit: 5, Requested: 6'))), true)
    assert.equal(saysTooLarge(bytes([error(message('30000', '61337'))])), true)
    assert.equal(isTooLarge(error(message('30000', '61337')).error), true)
  })

  test('is not one that would fit, nor one without numbers', () => {
    assert.equal(saysTooLarge(bytes(error(message('61337', '61337')))), false)
    assert.equal(saysTooLarge(bytes(error(message('61337', '30000')))), false)
    assert.equal(saysTooLarge(bytes(error('Request too large for gpt-4o'))), false)
    assert.equal(saysTooLarge(bytes(error('Request too large: Limit x, Requested y'))), false)
  })

  test('is not made by the name of a model or by a prompt', () => {
    const forged = 'Request too large for x: Limit 1, Requested 2'
    assert.equal(saysTooLarge(bytes(error(`Rate limit reached for ${forged} in organization org-x on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000.`))), false)
    assert.equal(saysTooLarge(bytes(error(` ${forged}`))), false)
    assert.equal(saysTooLarge(bytes({ message: forged })), false)
    assert.equal(saysTooLarge(bytes({ error: forged })), false)
    assert.equal(saysTooLarge(bytes(error([forged]))), false)
    // Of a message that begins so the service's own numbers are the last ones.
    assert.equal(saysTooLarge(bytes(error(`Request too large for x Limit 1, Requested 2 on tokens per min (TPM): Limit 30000, Requested 3.`))), false)
    assert.equal(saysTooLarge(bytes(error(`Request too large for x Limit 2, Requested 1 on tokens per min (TPM): Limit 30000, Requested 61337.`))), true)
  })
})

describe('the beginning of a compressed answer', () => {
  const text = Buffer.from(JSON.stringify({ error: { message: 'ü'.repeat(300), code: 'insufficient_quota', list: Array.from({ length: 100 }, (_, i) => i * 7919) } }))
  const encodings: readonly [encoding: string, encode: (bytes: Uint8Array) => Uint8Array][] = [
    ['gzip', gzipSync], ['x-gzip', gzipSync], ['deflate', deflateSync], ['deflate', deflateRawSync], ['br', brotliCompressSync], [' GZIP ', gzipSync], ['Br', brotliCompressSync],
  ]

  for (const [encoding, encode] of encodings) {
    test(`is undone: ${encoding}${encode === deflateRawSync ? ' without zlib\'s header' : ''}`, () => {
      const encoded = encode(text)
      assert.deepEqual(Buffer.from(inflateHead([encoded], encoding) ?? []), text)
      fc.assert(fc.property(anyPlaces, fc.nat(encoded.length), (places, length) => {
        const whole = inflateHead(cut(encoded, places), encoding)
        assert.ok(whole !== undefined && text.equals(whole))
        const head = inflateHead(cut(encoded.subarray(0, length), places), encoding)
        assert.ok(head !== undefined && text.subarray(0, head.length).equals(head), `${length} bytes`)
      }), { seed: SEED, numRuns: 50 })
    })
  }

  test('has come as soon as the server has flushed it', () => {
    // A server that flushes after each event: what it has not written yet is missing and nothing else is.
    const flushed: readonly [string, Uint8Array][] = [
      ['gzip', gzipSync(text, { finishFlush: constants.Z_SYNC_FLUSH })],
      ['deflate', deflateSync(text, { finishFlush: constants.Z_SYNC_FLUSH })],
      ['deflate', deflateRawSync(text, { finishFlush: constants.Z_SYNC_FLUSH })],
      ['br', brotliCompressSync(text, { finishFlush: constants.BROTLI_OPERATION_FLUSH })],
    ]
    for (const [encoding, encoded] of flushed) assert.deepEqual(Buffer.from(inflateHead([encoded], encoding) ?? []), text, encoding)
  })

  test('is the very same bytes where nothing was compressed', () => {
    for (const encoding of [undefined, '', 'identity', 'Identity']) {
      assert.equal(inflateHead([text], encoding), text)
      assert.deepEqual(Buffer.from(inflateHead(cut(text, [1, 5]), encoding) ?? []), text)
    }
    assert.equal(inflateHead([], undefined)?.length, 0)
  })

  test('is empty while nothing has come', () => {
    for (const encoding of ['gzip', 'deflate', 'br']) assert.equal(inflateHead([], encoding)?.length, 0, encoding)
  })

  test('is nothing where the encoding is not known, is several, or does not fit', () => {
    for (const encoding of ['gzip, br', 'zstd', 'compress', 'x']) assert.equal(inflateHead([gzipSync(text)], encoding), undefined, encoding)
    for (const encoding of ['gzip', 'deflate', 'br']) assert.equal(inflateHead([text], encoding), undefined, encoding)
    const damaged = gzipSync(text)
    damaged.fill(0xff, 20, 60)
    assert.equal(inflateHead([damaged], 'gzip'), undefined)
  })

  test('is up to 16 KiB, and nothing where there is more', () => {
    for (const [encoding, encode] of encodings) {
      const most = Buffer.alloc(16_384, 'ab')
      assert.deepEqual(Buffer.from(inflateHead([encode(most)], encoding) ?? []), most, encoding)
      assert.equal(inflateHead([encode(Buffer.alloc(16_385, 'ab'))], encoding), undefined, encoding)
    }
  })

  test('does not go off', () => {
    const bomb = Buffer.alloc(32 * 1_024 * 1_024)
    for (const [encoding, encode] of encodings) {
      const before = process.memoryUsage().arrayBuffers
      assert.equal(inflateHead([encode(bomb)], encoding), undefined)
      assert.ok(process.memoryUsage().arrayBuffers - before < 1_024 * 1_024, encoding)
    }
  })

  test('of brotli is looked for in windows of up to 4 MiB', () => {
    const withWindow = (bits: number) => brotliCompressSync(text, { params: { [constants.BROTLI_PARAM_LGWIN]: bits } })
    for (let bits = 10; bits <= 22; bits++) assert.equal(inflateHead([withWindow(bits)], 'br')?.length, text.length, String(bits))
    for (const bits of [23, 24]) assert.equal(inflateHead([withWindow(bits)], 'br'), undefined, String(bits))
  })

  test('never throws', () => {
    fc.assert(fc.property(fc.array(fc.uint8Array(), { maxLength: 4 }), fc.constantFrom('gzip', 'deflate', 'br', undefined), (chunks, encoding) => {
      const head = inflateHead(chunks, encoding)
      assert.ok(head === undefined || head.length <= 16_384)
    }), { seed: SEED, numRuns: 500 })
  })
})
