import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { findDeployment, findModel, MAX_SCAN_BYTES } from '../../src/core/scope.js'
import { SEED } from '../support/core-arbitraries.js'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const model = (text: string): string | undefined => findModel(bytes(text))?.name

describe('the deployment in a path', () => {
  test('is what follows /deployments/', () => {
    assert.equal(findDeployment('/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21'), 'gpt-4o')
    assert.equal(findDeployment('/deployments/gpt-4o/embeddings'), 'gpt-4o')
    assert.equal(findDeployment('/openai/deployments/gpt-4o'), 'gpt-4o')
    assert.equal(findDeployment('/openai/deployments/gpt-4o?x=/y'), 'gpt-4o')
  })

  test('is decoded where that is possible', () => {
    assert.equal(findDeployment('/deployments/my%20model/x'), 'my model')
    assert.equal(findDeployment('/deployments/50%/x'), '50%')
  })

  test('is not found where there is none', () => {
    for (const path of ['/openai/v1/chat/completions', '/deployments', '/deployments/', '/deployments//x', '/x?next=/deployments/gpt-4o/', '']) {
      assert.equal(findDeployment(path), undefined, path)
    }
    assert.equal(findDeployment(`/deployments/${'x'.repeat(257)}/`), undefined)
    assert.equal(findDeployment(`/deployments/${'x'.repeat(256)}/`), 'x'.repeat(256))
  })
})

describe('the model in a body', () => {
  test('is found with where it stands, quotes included', () => {
    const body = bytes('{"messages":[],"model":"gpt-4o","n":1}')
    const span = findModel(body)
    assert.deepEqual(span, { name: 'gpt-4o', start: 23, end: 31 })
    assert.equal(new TextDecoder().decode(body.subarray(span?.start, span?.end)), '"gpt-4o"')
  })

  test('is found behind white space, escapes and values of every kind', () => {
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
    ]) assert.equal(model(text), undefined, text)
  })

  test('is nothing in what is no JSON object, or not all of one', () => {
    for (const text of [
      '', ' ', '{', '{}', '{ }', '{"', '{"model', '{"model"', '{"model":', '{"model":"', '{"model":"a', '{"model":"a\\"', '{"model"="a"}',
      '{model:"a"}', '{"x"', '{"x":', '{"x":1', '{"x":"y', '{"x":[', '{"x":["', '{"x":["y', '{"x":1}', '{"x":1;"model":"a"}', '{"x":1,}', '{"model":"\\x"}', '------boundary\r\n', 'null',
      '["model":"a"]', '("model":"a")', '{"x":"y"z,"model":"a"}', '{"x":[1]z,"model":"a"}',
    ]) assert.equal(findModel(bytes(text)), undefined, text)
  })

  test('is found when it begins within 64 KiB, and not when it comes later', () => {
    const pad = (length: number): string => `{"x":"${'y'.repeat(length)}","model":"a"}`
    const overhead = pad(0).length - 1
    assert.equal(model(pad(MAX_SCAN_BYTES - overhead)), 'a')
    assert.equal(model(pad(MAX_SCAN_BYTES - overhead + 1)), undefined)
    assert.equal(model(pad(10 * MAX_SCAN_BYTES)), undefined)
    assert.equal(model(`{"model":"a","x":"${'y'.repeat(10 * MAX_SCAN_BYTES)}"}`), 'a')
  })

  test('is told apart from the one before it, however it was written', () => {
    const escaped = String.raw`gpt-\u0034o`
    const names = [['gpt-4o', 'gpt-4o'], ['gpt-4o', 'gpt-4o'], ['gpt-5o', 'gpt-5o'], ['gpt-4', 'gpt-4'], [escaped, 'gpt-4o'], [escaped, 'gpt-4o'], ['é', 'é'], ['\u00e9', 'é']]
    for (const [written, name] of [...names, ...names.toReversed()]) assert.equal(model(`{"model":"${written}"}`), name)
    const latin1 = Uint8Array.from([...bytes('{"model":"'), 0xe9, ...bytes('"}')])
    assert.equal(findModel(latin1)?.name, '\ufffd')
  })

  test('is not taken when it is longer than any name', () => {
    assert.equal(model(`{"model":"${'x'.repeat(256)}"}`), 'x'.repeat(256))
    assert.equal(model(`{"model":"${'x'.repeat(257)}"}`), undefined)
  })

  test('is what a parser finds in any JSON object, and its offsets are those of the value', () => {
    const key = fc.oneof(fc.constantFrom('model', 'messages', 'Model', 'mode'), fc.string({ unit: 'binary', maxLength: 6 }))
    const value = fc.oneof(fc.jsonValue({ maxDepth: 3 }), fc.constantFrom<unknown>('gpt-4o', '"model":"x"', { model: 'nested' }, [{ model: 'nested' }], '\\', '\\"'))
    const space = fc.constantFrom(undefined, 1, '\t', '\n')
    fc.assert(fc.property(fc.dictionary(key, value, { noNullPrototype: true }), space, (object, indent) => {
      const body = bytes(JSON.stringify(object, undefined, indent))
      const span = findModel(body)
      const expected = Object.hasOwn(object, 'model') && typeof object['model'] === 'string' && object['model'] !== '' ? object['model'] : undefined
      assert.equal(span?.name, expected === undefined ? undefined : JSON.parse(new TextDecoder().decode(bytes(JSON.stringify(expected)))))
      if (span !== undefined) assert.equal(JSON.parse(new TextDecoder().decode(body.subarray(span.start, span.end))), span.name)
    }), { seed: SEED, numRuns: 2_000 })
  })

  test('no bytes make the scan throw', () => {
    const nearJson = fc.array(fc.constantFrom('{', '}', '[', ']', '"', '\\', ':', ',', 'model', '"model"', ' ', '1', 'x')).map((parts) => bytes(`{${parts.join('')}`))
    fc.assert(fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), nearJson), (body) => {
      const span = findModel(body)
      assert.ok(span === undefined || (span.start < span.end && span.end <= body.length))
    }), { seed: SEED, numRuns: 3_000 })
  })

  test('64 KiB of nothing but quotes and backslashes take the time of one pass', () => {
    // A quadratic scan would need some 10^9 steps.
    const started = process.cpuUsage().user
    for (const text of ['\\"', '"', '\\', '["', '{']) findModel(bytes(`{"x":"${text.repeat(MAX_SCAN_BYTES)}`))
    assert.ok(process.cpuUsage().user - started < 1_000_000)
  })
})
