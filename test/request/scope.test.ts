// What a request is throttled under: Azure limits a deployment, which is in the path; OpenAI a model, which is in the body.
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { DispatchOptions } from '../../src/request/undici.js'
import { anyText } from '../support/core-arbitraries.js'
import { SEED } from '../support/seed.js'
import { EAST, Scene } from '../support/scene.js'

/** The model is looked for within so many bytes of a body. */
const SCAN_BYTES = 65_536

/** Characters of a name that are kept. */
const KEPT = 64

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

/** The scope under which a request is booked. */
function scopeOf(rest: string, body: unknown): string {
  const it = new Scene('old', 'old')
  it.send({ path: `/openai${rest}`, body })
  const scopes = it.backend('east').scopes.map(({ scope }) => scope)
  assert.equal(scopes.length, 1)
  return scopes[0] ?? assert.fail()
}

const deployment = (rest: string): string => scopeOf(rest, null)
const model = (text: string): string => scopeOf('/responses', bytes(text))

/** What a backend is sent that has another name for the model. */
function rename(body: unknown, from: string, to: string): unknown {
  const it = new Scene('old', 'old', { backends: [{ name: 'east', url: EAST, priority: 1, models: { [from]: to } }] })
  it.send({ path: '/openai/responses', body })
  return it.inner.last.opts.body
}

describe('what a request is throttled under', () => {
  const requests: readonly [what: string, rest: string, body: unknown, scope: string][] = [
    ['the deployment in its path', '/deployments/my%20gpt/chat/completions', '{"model":"other"}', 'my gpt'],
    ['else the model in its body', '/responses', '{"model":"gpt-4o"}', 'gpt-4o'],
    ['the model in bytes', '/responses', Buffer.from('{"model":"gpt-4o"}'), 'gpt-4o'],
    ['nothing in a body that is no JSON', '/responses', 'model=gpt-4o', ''],
    ['nothing in a body that is not in hand', '/responses', new Blob(['{"model":"gpt-4o"}']), ''],
    ['the model in a body behind a byte order mark', '/responses', Buffer.from('\ufeff {"model":"gpt-4o"}'), 'gpt-4o'],
    ['nothing in a body of nothing but a byte order mark', '/responses', Buffer.from('\ufeff'), ''],
    ['no model in the query of what is no upgrade', '/realtime/calls?model=gpt-realtime', 'v=0', ''],
    ['nothing without a body', '/models', null, ''],
  ]
  for (const [what, rest, body, scope] of requests) test(`${what}: ${rest}`, () => { assert.equal(scopeOf(rest, body), scope) })
})

describe('the deployment in a path', () => {
  test('is what follows /deployments/', () => {
    for (const rest of ['/deployments/gpt-4o/chat/completions?api-version=2024-10-21', '/deployments/gpt-4o/embeddings', '/deployments/gpt-4o', '/deployments/gpt-4o?x=/y', '/v1/deployments/gpt-4o/x']) {
      assert.equal(deployment(rest), 'gpt-4o', rest)
    }
  })

  test('is decoded where that is possible', () => {
    assert.equal(deployment('/deployments/my%20model/x'), 'my model')
    assert.equal(deployment('/deployments/50%/x'), '50%')
  })

  test('is not found where there is none', () => {
    for (const rest of ['/v1/chat/completions', '/deployments', '/deployments/', '/deployments//x', '/x?next=/deployments/gpt-4o/']) {
      assert.equal(deployment(rest), '', rest)
    }
    assert.equal(deployment(`/deployments/${'x'.repeat(257)}/`), '')
    assert.equal(deployment(`/deployments/${'x'.repeat(256)}/`), 'x'.repeat(KEPT), 'of which a part is kept')
  })
})

describe('the model in a body', () => {
  test('is found behind white space, escapes and values of every kind', () => {
    assert.equal(model('{"messages":[],"model":"gpt-4o","n":1}'), 'gpt-4o')
    assert.equal(model(' \r\n\t{ "model" : "a" }'), 'a')
    assert.equal(model('{"x":1,"y":-1.5e3,"z":true,"w":null,"model":"a"}'), 'a')
    assert.equal(model('{"x":"say \\"model\\": \\"b\\" \\\\","model":"a"}'), 'a')
    assert.equal(model('{"x":{"model":"b","y":[{"model":"c"}]},"model":"a"}'), 'a')
    assert.equal(model('{"x":["]","}",[1,2],{"a":"{"}],"model":"a"}'), 'a')
    assert.equal(model('{"mod\\u0065l":"a"}'), 'a')
    assert.equal(model('{"\\u006d\\u006f\\u0064\\u0065\\u006c":"a"}'), 'a')
    assert.equal(model('{"other key of some length":1,"mod\\u0065m":2,"model":"\\u00e9\\"\\u0041"}'), 'é"A')
    assert.equal(model('{"model":"größe"}'), 'größe')
  })

  test('is only the top-level one, and only a string', () => {
    for (const text of [
      '{"x":{"model":"b"}}', '[{"model":"b"}]', '"model"', '{"x":"\\"model\\":\\"b\\""}', '{"Model":"b"}', '{"model":1}', '{"model":null}',
      '{"model":""}', '{"model":{"model":"b"}}', '{"model2":"b"}', '{"modem":"b"}', '{"madel":"b"}', '{"motel":"b"}', '{"modal":"b"}', '{"nodel":"b"}',
    ]) assert.equal(model(text), '', text)
  })

  test('is nothing in what is no JSON object, or not all of one', () => {
    for (const text of [
      '', ' ', '{', '{}', '{ }', '{"', '{"model', '{"model"', '{"model":', '{"model":"', '{"model":"a', '{"model":"a\\"', '{"model"="a"}',
      '{model:"a"}', '{"x"', '{"x":', '{"x":1', '{"x":"y', '{"x":[', '{"x":["', '{"x":["y', '{"x":1}', '{"x":1;"model":"a"}', '{"x":1,}', '{"model":"\\x"}', '------boundary\r\n', 'null',
      '["model":"a"]', '("model":"a")', '{"x":"y"z,"model":"a"}', '{"x":[1]z,"model":"a"}',
    ]) assert.equal(model(text), '', text)
  })

  test('is found within 64 KiB of either end, and not in the midst of a longer body', () => {
    const pad = (before: number, after: number): string => `{"x":"${'y'.repeat(before)}","model":"a","z":"${'y'.repeat(after)}"}`
    const [start, end] = ['{"x":"","model":"a"'.length, ',"model":"a","z":""}'.length]
    assert.equal(model(pad(SCAN_BYTES - start, 10 * SCAN_BYTES)), 'a')
    assert.equal(model(pad(SCAN_BYTES - start + 1, 10 * SCAN_BYTES)), '')
    assert.equal(model(pad(10 * SCAN_BYTES, SCAN_BYTES - end)), 'a')
    // Its key's opening quote is the first byte that is seen then: it might be the end of an escape.
    assert.equal(model(pad(10 * SCAN_BYTES, SCAN_BYTES - end + 1)), '')
    assert.equal(model(pad(10 * SCAN_BYTES, 10 * SCAN_BYTES)), '')
    assert.equal(model(`{"model":"a","x":"${'y'.repeat(10 * SCAN_BYTES)}"}`), 'a')
  })

  test('is found behind a long prompt that says anything at all, read from the end', () => {
    const key = fc.oneof(fc.constantFrom('model', 'messages', 'Model', 'mode', 'mod\\u0065l'), anyText(6))
    const value = fc.oneof(fc.jsonValue({ maxDepth: 3 }), fc.constantFrom<unknown>('gpt-4o', '"model":"x"', '","model":"x', { model: 'nested' }, [{ model: 'nested' }], '\\', '\\"', '\\\\', 1.5e-7, true, null))
    const space = fc.constantFrom(undefined, 1, '\t', '\n')
    const padding = fc.constantFrom('y', '"', '\\', '\\"', '{"model":"z"},', '"}', 'é')
    fc.assert(fc.property(fc.dictionary(key, value, { noNullPrototype: true }), space, padding, fc.nat(9), (object, indent, pad, shift) => {
      const text = JSON.stringify({ before: 'x'.repeat(shift) + pad.repeat(2 * SCAN_BYTES / pad.length), ...object }, undefined, indent)
      const { model: given } = JSON.parse(text) as { model?: unknown }
      const expected = typeof given === 'string' ? given : ''
      if (/^[ -~]*$/.test(expected) && expected.length <= KEPT) assert.equal(model(text), expected, text.slice(-300))
    }), { seed: SEED, numRuns: 300 })
  })

  test('is not guessed where the end of a body does not tell', () => {
    const long = 'y'.repeat(2 * SCAN_BYTES)
    for (const text of [
      // Within a string, an object or a list that began before what is looked at.
      `{"x":"${long}\",\"model\":\"b\"}"}`, `{"x":{"y":"${long}","model":"b"}}`, `{"x":[{"y":"${long}","model":"b"}]}`, `{"x":["${long}",{"model":"b"}],"z":{"model":"c"}}`,
      // Cut off, or no object.
      `{"x":"${long}","model":"b"`, `{"x":"${long}","model":"b"}]`, `["${long}","model":"b"}`, `{"x":"${long}","model":"b"},`, `{"x":"${long}","model":1}`, `{"x":"${long}","model":"${'m'.repeat(257)}"}`,
      `{"x":"${long}" "model" "b"}`, `{"x":"${long}",model:"b"}`, `{"${long}`, `{"x":${'1'.repeat(2 * SCAN_BYTES)}}`, `{"x":"${long}",}`, `{"x":"${long}","model":}`,
    ]) assert.equal(model(text), '', text.slice(-60))
    assert.equal(model(`{"x":"${long}","model":"a","z":{"model":"b"}, "n" : -1.5e3 ,"t":true , "l":[ "]", {} ] }\n`), 'a')
    // An escape whose beginning is not seen: the quote may be part of the string.
    for (let cut = 0; cut < 24; cut++) assert.equal(model(`{"x":"${long}${'\\\\'.repeat(12)}","z":"${'z'.repeat(SCAN_BYTES - 30 + cut)}"}`), '')
  })

  test('is looked for in all of a body where some backend goes by models', () => {
    const long = 'y'.repeat(2 * SCAN_BYTES)
    const text = `{"x":"${long}","model":"gpt-4o","z":"${long}"}`
    assert.equal(model(text), '')
    assert.equal(rename(text, 'gpt-4o', 'renamed')?.toString(), text.replace('gpt-4o', 'renamed'))
    assert.equal(rename(`{"x":"é${long}","model":"gpt-4o"}`, 'gpt-4o', 'renamed')?.toString(), `{"x":"é${long}","model":"renamed"}`)
    assert.equal(rename(`\ufeff{"model":"gpt-4o"}`, 'gpt-4o', 'renamed')?.toString(), `\ufeff{"model":"renamed"}`)
  })

  test('is told apart from the one before it, however it was written', () => {
    const escaped = String.raw`gpt-\u0034o`
    const names = [['gpt-4o', 'gpt-4o'], ['gpt-4o', 'gpt-4o'], ['gpt-5o', 'gpt-5o'], ['gpt-4', 'gpt-4'], [escaped, 'gpt-4o'], [escaped, 'gpt-4o'], ['é', 'é'], ['\u00e9', 'é']]
    for (const [written, name] of [...names, ...names.toReversed()]) assert.equal(model(`{"model":"${written}"}`), name)
    const latin1 = Uint8Array.from([...bytes('{"model":"'), 0xe9, ...bytes('"}')])
    assert.equal(scopeOf('/responses', latin1), '\ufffd')
  })

  test('is not taken when it is longer than any name', () => {
    assert.equal(model(`{"model":"${'x'.repeat(256)}"}`), 'x'.repeat(KEPT), 'of which a part is kept')
    assert.equal(model(`{"model":"${'x'.repeat(257)}"}`), '')
  })

  test('is what a parser finds in any JSON object, and what is renamed is its value and nothing else', () => {
    const key = fc.oneof(fc.constantFrom('model', 'messages', 'Model', 'mode'), anyText(6))
    const value = fc.oneof(fc.jsonValue({ maxDepth: 3 }), fc.constantFrom<unknown>('gpt-4o', '"model":"x"', { model: 'nested' }, [{ model: 'nested' }], '\\', '\\"'))
    const space = fc.constantFrom(undefined, 1, '\t', '\n')
    fc.assert(fc.property(fc.dictionary(key, value, { noNullPrototype: true }), space, (object, indent) => {
      const text = new TextDecoder().decode(bytes(JSON.stringify(object, undefined, indent)))
      const parsed = JSON.parse(text) as Record<string, unknown>
      const given = Object.hasOwn(parsed, 'model') ? parsed['model'] : undefined
      const expected = typeof given === 'string' ? given : ''
      const body = bytes(text)
      if (/^[ -~]*$/.test(expected) && expected.length <= KEPT) assert.equal(scopeOf('/responses', body), expected)
      if (expected === '' || expected === 'renamed') return
      const sent = String(rename(body, expected, 'renamed'))
      assert.deepEqual(JSON.parse(sent), { ...parsed, model: 'renamed' })
      // Read from the end of the key on, the caller's text comes back when the name is put back.
      const at = [...sent.matchAll(/"renamed"/g)].map(({ index }) => sent.slice(0, index) + JSON.stringify(expected) + sent.slice(index + 9))
      assert.ok(at.includes(text), sent)
    }), { seed: SEED, numRuns: 500 })
  })

  test('is looked for without a failure in any bytes', () => {
    const nearJson = fc.array(fc.constantFrom('{', '}', '[', ']', '"', '\\', ':', ',', 'model', '"model"', ' ', '1', 'x')).map((parts) => bytes(`{${parts.join('')}`))
    fc.assert(fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), nearJson), (body) => {
      const name = scopeOf('/responses', body)
      if (name !== '') assert.ok(JSON.stringify(new TextDecoder().decode(body)).length >= name.length)
    }), { seed: SEED, numRuns: 1_000 })
  })

  test('takes the time of one pass in 64 KiB of nothing but quotes and backslashes', () => {
    // A quadratic scan would need some 10^9 steps.
    const started = process.cpuUsage().user
    for (const text of ['\\"', '"', '\\', '["', '{']) {
      model(`{"x":"${text.repeat(SCAN_BYTES)}`)
      model(`{"x":"${text.repeat(2 * SCAN_BYTES)}"}`)
      model(`{"x":${text.repeat(2 * SCAN_BYTES)}}`)
    }
    assert.ok(process.cpuUsage().user - started < 1_000_000)
  })
})

describe('the body for a backend with another name for the model', () => {
  const models = { 'gpt-4o': 'größe "x"' }
  const renaming = { backends: [{ name: 'east', url: EAST, priority: 1, models }] }

  test('has that name, and else every byte of the caller\'s', () => {
    const it = new Scene('old', 'old', renaming)
    const headers = Object.freeze({ 'Content-Length': '49', a: '1' })
    it.send({ body: '{ "a": 1.0,\t"model" : "gpt-4o" , "z": "\\u00e9é" }', headers })
    const { body } = it.inner.last.opts
    assert.equal(String(body), '{ "a": 1.0,\t"model" : "größe \\"x\\"" , "z": "\\u00e9é" }')
    assert.deepEqual(it.inner.last.headers, ['a', '1', 'content-length', String((body as Buffer).byteLength)])
  })

  test('is the caller\'s own where the backend has no other name for this one', () => {
    assert.equal(rename('{"model":"gpt-4o"}', 'other', 'x'), '{"model":"gpt-4o"}')
    assert.equal(rename('{"model":"toString"}', 'other', 'x'), '{"model":"toString"}')
    const it = new Scene('old', 'old')
    it.send({ body: '{"model":"gpt-4o"}' })
    assert.equal(it.inner.last.opts.body, '{"model":"gpt-4o"}')
  })

  test('is text for a mock, where it is text', () => {
    const sent = (body: unknown, options = {}): unknown => {
      const it = new Scene('old', 'old', options)
      it.inner.isMockActive = true
      it.send({ body })
      return it.inner.last.opts.body
    }
    assert.equal(sent(Buffer.from('größe')), 'größe')
    const binary = Buffer.from([0xff, 0xfe])
    assert.equal(sent(binary), binary)
    assert.equal(sent('text'), 'text')
    assert.equal(sent('{"model":"gpt-4o"}', { backends: [{ name: 'east', url: EAST, priority: 1, models: { 'gpt-4o': 'x' } }] }), '{"model":"x"}')
  })
})

describe('an upgrade, which has no body', () => {
  const renaming = { backends: [{ name: 'east', url: EAST, priority: 1, models: { 'gpt-realtime': 'rt east' } }] }
  const upgrade = { path: '/openai/realtime?model=gpt-realtime&x=%20', method: 'GET', upgrade: 'websocket', body: null } as const

  test('is throttled under the deployment, else the model, of its query', () => {
    const scopes = (opts: object): string[] => {
      const it = new Scene('old', 'old')
      it.send({ ...upgrade, ...opts })
      return it.backend('east').scopes.map(({ scope }) => scope)
    }
    assert.deepEqual(scopes({}), ['gpt-realtime'])
    assert.deepEqual(scopes({ path: '/openai/realtime?model=a&deployment=b' }), ['b'])
    assert.deepEqual(scopes({ path: '/openai/deployments/c/realtime?model=a' }), ['c'])
    assert.deepEqual(scopes({ path: '/openai/realtime', query: { model: 'a', deployment: 'b' } }), ['b'])
    assert.deepEqual(scopes({ path: '/openai/realtime', query: { model: ['a'], deployment: '' } }), [''])
    assert.deepEqual(scopes({ path: '/openai/realtime' }), [''])
    assert.deepEqual(scopes({ upgrade: null }), [''])
  })

  test('is asked for by the backend\'s own name', () => {
    const it = new Scene('old', 'old', renaming)
    it.send(upgrade)
    assert.equal(it.inner.last.opts.path, '/openai/realtime?model=rt%20east&x=%20')
    const query = Object.freeze({ model: 'gpt-realtime', other: 'gpt-realtime', deployment: 'x' })
    it.send({ ...upgrade, path: '/openai/realtime', query })
    assert.deepEqual(it.inner.last.opts.query, { model: 'rt east', other: 'gpt-realtime', deployment: 'x' })
    it.send({ ...upgrade, upgrade: null })
    assert.equal(it.inner.last.opts.path, upgrade.path, 'not where it is no upgrade')
  })
})

describe('a form', () => {
  const models = { backends: [{ name: 'east', url: EAST, priority: 1, models: { 'whisper-1': 'whisper-east' } }] }
  const lines = (model: string, content = 'RIFF'): string => [
    '--b', 'Content-Disposition: form-data; name="file"; filename="a"', '', content, '--b', 'Content-Disposition: form-data; name="model"', '', model, '--b--', '',
  ].join('\r\n')
  const type = { 'Content-Type': 'Multipart/Form-Data; Boundary="b"' }

  test('as bytes or text: its field is the scope and is renamed, content-length with it', () => {
    for (const body of [lines('whisper-1'), Buffer.from(lines('whisper-1'))]) {
      const it = new Scene('old', 'old', models)
      it.send({ path: '/openai/audio/transcriptions', body, headers: { ...type, 'content-length': String(body.length) } })
      assert.equal(String(it.inner.last.opts.body), lines('whisper-east'))
      assert.deepEqual(it.inner.last.headers, ['Content-Type', type['Content-Type'], 'content-length', String(body.length + 3)])
      assert.deepEqual(it.backend('east').scopes.map(({ scope }) => scope), ['whisper-east'])
    }
  })

  test('without its content-type is no form', () => {
    const it = new Scene('old', 'old', models)
    it.send({ path: '/openai/audio/transcriptions', body: lines('whisper-1') })
    assert.equal(it.inner.last.opts.body, lines('whisper-1'))
  })

  test('a long one is read from both ends, and whole only where it has to be', () => {
    const long = 'x\n'.repeat(2 * SCAN_BYTES)
    const scope = (body: string, options = {}): string | undefined => {
      const it = new Scene('old', 'old', options)
      it.send({ path: '/openai/audio/transcriptions', body, headers: type })
      return it.backend('east').scopes[0]?.scope
    }
    assert.equal(scope(lines('whisper-1', long)), 'whisper-1')
    const between = `${lines('whisper-1', long).replace('--b--', '--b')}Content-Disposition: form-data; name="image"; filename="b"\r\n\r\n${long}\r\n--b--\r\n`
    assert.equal(scope(between), '')
    assert.equal(scope(between, models), 'whisper-east')
  })

  test('that undici will write is asked for its field, and another one is made of it', () => {
    const form = new FormData()
    form.append('file', new File(['RIFF'], 'a.wav', { type: 'audio/wav' }))
    form.append('model', 'whisper-1')
    form.append('language', 'en')
    const it = new Scene('old', 'old', models)
    it.send({ path: '/openai/audio/transcriptions', body: form })
    const sent = it.inner.last.opts.body as FormData
    assert.deepEqual([...sent.keys()], ['file', 'model', 'language'])
    assert.deepEqual([sent.get('model'), sent.get('language'), (sent.get('file') as File).name, (sent.get('file') as File).type], ['whisper-east', 'en', 'a.wav', 'audio/wav'])
    assert.equal(form.get('model'), 'whisper-1')
    assert.deepEqual(it.backend('east').scopes.map(({ scope }) => scope), ['whisper-east'])
    form.set('model', 'other')
    it.send({ path: '/openai/audio/transcriptions', body: form })
    assert.equal(it.inner.last.opts.body, form)
    for (const model of [new File(['whisper-1'], 'model'), '', 'x'.repeat(257)]) {
      form.set('model', model as string)
      it.send({ path: '/openai/audio/transcriptions', body: form })
      assert.equal(it.inner.last.opts.body, form)
    }
  })
})

describe('a model that cannot be seen', () => {
  const models = { backends: [{ name: 'east', url: EAST, priority: 1, models: { 'gpt-4o': 'x' } }] }
  const gzip = { body: Buffer.from([0x1f, 0x8b, 8, 0]), headers: { 'Content-Encoding': 'gzip' } }
  const told = (options: object, ...sent: Partial<DispatchOptions>[]): string[] => {
    const lines: string[] = []
    const logger = { level: 'warn', error() {}, warn(_: object, line: string) { lines.push(line) }, info() {}, debug() {} }
    const it = new Scene('old', 'old', { ...options, logger })
    for (const opts of sent) it.send({ path: '/openai/responses', ...opts })
    return lines
  }

  test('is told once, where some backend goes by models', () => {
    assert.equal(told(models, gzip, gzip).length, 1)
    assert.match(told(models, gzip)[0] ?? '', /content-encoding/)
    assert.equal(told({ backends: [{ url: EAST, priority: 1, serves: ['gpt-4o'] }] }, gzip).length, 1)
    assert.deepEqual(told({}, gzip), [])
    assert.match(told(models, { body: Readable.from(['{"model":"gpt-4o"}']) })[0] ?? '', /stream/)
    assert.match(told(models, { body: new Blob(['{"model":"gpt-4o"}']) })[0] ?? '', /Blob/)
    assert.equal(told(models, gzip, { body: new Blob(['{}']) }).length, 2)
  })

  test('is no news where there is none, or none is expected', () => {
    assert.deepEqual(told(models,
      { body: '{"input":"x"}' }, { body: 'text' }, { body: null }, { ...gzip, path: '/openai/files' }, { ...gzip, path: '/openai/deployments/gpt-4o/embeddings' }, { ...gzip, method: 'PUT' },
      { body: '{"model":"gpt-4o"}', headers: ['content-encoding', 'Identity'] }, { body: '{}', headers: { 'content-encoding': '' } },
    ), [])
  })
})
