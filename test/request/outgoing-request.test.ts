import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { DispatchOptions } from '../../src/request/undici.js'
import { OutgoingRequest } from '../../src/request/outgoing-request.js'
import type { Destination } from '../../src/request/rewrite.js'
import { readRoute } from '../../src/request/route.js'
import { deepFreeze } from '../support/freeze.js'

const west: Destination = {
  name: 'west', url: 'https://west.example', priority: 1, weight: 1, ownsCredential: false, models: undefined,
  origin: 'https://west.example', basePath: '', query: undefined, credential: undefined,
}

function outgoing(opts: Partial<DispatchOptions> = {}, rest = '/x'): OutgoingRequest {
  return new OutgoingRequest({ origin: 'https://east.example', path: rest, method: 'POST', ...opts }, readRoute(rest), 1_000_000)
}

describe('what a request is throttled under', () => {
  const requests: readonly [what: string, rest: string, body: unknown, scope: string][] = [
    ['the deployment in its path', '/deployments/my%20gpt/chat/completions', '{"model":"other"}', 'my gpt'],
    ['else the model in its body', '/responses', '{"model":"gpt-4o"}', 'gpt-4o'],
    ['the model in bytes', '/responses', Buffer.from('{"model":"gpt-4o"}'), 'gpt-4o'],
    ['nothing in a body that is no JSON', '/responses', 'model=gpt-4o', ''],
    ['nothing in a body that is not in hand', '/responses', new Blob(['{"model":"gpt-4o"}']), ''],
    ['nothing without a body', '/models', null, ''],
  ]
  for (const [what, rest, body, scope] of requests) test(`${what}: ${rest}`, () => { assert.equal(outgoing({ body }, rest).findScope(), scope) })
})

describe('the body for a backend', () => {
  const models = { 'gpt-4o': 'größe "x"' }

  test('has the backend\'s name for the model, and else every byte of the caller\'s', () => {
    const request = outgoing({ body: '{ "a": 1.0,\t"model" : "gpt-4o" , "z": "\\u00e9é" }', headers: deepFreeze({ 'Content-Length': '49', a: '1' }) })
    request.findScope()
    const made = request.make({ ...west, models }, undefined, false)
    assert.equal(String(made.body), '{ "a": 1.0,\t"model" : "größe \\"x\\"" , "z": "\\u00e9é" }')
    assert.deepEqual(made.headers, ['a', '1', 'content-length', String((made.body as Buffer).byteLength)])
  })

  test('is the caller\'s own where the backend has no other name for the model', () => {
    for (const other of [undefined, {}, { other: 'x' }]) {
      const request = outgoing({ body: '{"model":"gpt-4o"}' })
      request.findScope()
      assert.equal(request.make({ ...west, models: other }, undefined, false).body, '{"model":"gpt-4o"}')
    }
    const inherited = outgoing({ body: '{"model":"toString"}' })
    inherited.findScope()
    assert.equal(inherited.make({ ...west, models: {} }, undefined, false).body, '{"model":"toString"}')
  })

  test('is not rewritten any more once it was let go', async () => {
    const request = outgoing({ body: (function * () { yield '{"model":"gpt-4o"}' })(), headers: { 'content-length': '18' } })
    await request.body.collect()
    request.findScope()
    request.body.release()
    assert.equal(ArrayBuffer.isView(request.make({ ...west, models }, undefined, false).body), false)
  })

  test('is text for a mock, where it is text', () => {
    assert.equal(outgoing({ body: Buffer.from('größe') }).make(west, undefined, true).body, 'größe')
    const bytes = Buffer.from([0xff, 0xfe])
    assert.equal(outgoing({ body: bytes }).make(west, undefined, true).body, bytes)
    assert.equal(outgoing({ body: 'text' }).make(west, undefined, true).body, 'text')
  })

  test('of a mock is rewritten as text, too', () => {
    const request = outgoing({ body: '{"model":"gpt-4o"}' })
    request.findScope()
    assert.equal(request.make({ ...west, models: { 'gpt-4o': 'x' } }, undefined, true).body, '{"model":"x"}')
  })
})
