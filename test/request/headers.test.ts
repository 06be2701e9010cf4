import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Credential } from '../../src/options/credential.js'
import { collapseLength, flattenHeaders, readContentLength, rewriteHeaders as rewrite, type RequestHeaders } from '../../src/request/headers.js'
import { deepFreeze } from '../support/freeze.js'

const ours = new Credential('west', 'api-key', 'ours')

/** What is sent to a backend with a key of its own, or with other headers. */
interface Changes {
  readonly hasKey?: boolean
  readonly own?: readonly (readonly [string, string])[]
  /** Among its own headers is a credential. */
  readonly ownsCredential?: boolean
  readonly contentLength?: number
}

function rewriteHeaders(headers: RequestHeaders, { hasKey = false, own, ownsCredential = hasKey, contentLength }: Changes = {}): unknown {
  return rewrite(headers, { ownsCredential, credential: hasKey ? ours : undefined, headers: own }, hasKey ? 'ours' : undefined, contentLength)
}

describe('headers in every shape that undici takes', () => {
  test('a flat array and an object stay the very same', () => {
    const flat = deepFreeze(['a', '1'])
    const object = deepFreeze({ a: '1' })
    assert.equal(flattenHeaders(flat), flat)
    assert.equal(flattenHeaders(object), object)
  })

  test('a Map, Headers and a generator of pairs become a flat array', () => {
    const pairs = function * (): Generator<[string, string]> { yield ['a', '1']; yield ['b', '2'] }
    assert.deepEqual(flattenHeaders(new Map([['a', '1'], ['b', '2']])), ['a', '1', 'b', '2'])
    assert.deepEqual(flattenHeaders(new Headers({ a: '1', b: '2' })), ['a', '1', 'b', '2'])
    assert.deepEqual(flattenHeaders(pairs()), ['a', '1', 'b', '2'])
  })

  test('each set-cookie of Headers stays one of its own', () => {
    const headers = new Headers()
    headers.append('set-cookie', 'a')
    headers.append('set-cookie', 'b')
    assert.deepEqual(flattenHeaders(headers), ['set-cookie', 'a', 'set-cookie', 'b'])
  })

  test('nothing, and what is no object, is nothing', () => {
    for (const headers of [null, undefined, 'a: 1', 7]) assert.equal(flattenHeaders(headers), undefined)
  })

  test('an iterable of something else than pairs becomes an array that undici refuses', () => {
    for (const wrong of [['abc'], [['a']], [['a', '1'], ['b', '2', '3']], [['a', '1'], null]]) {
      assert.equal((flattenHeaders(new Set<unknown>(wrong)) as unknown[]).length % 2, 1)
    }
  })
})

describe('the announced length', () => {
  const lengths: readonly [RequestHeaders, number | undefined][] = [
    [{ 'content-length': '42' }, 42],
    [{ 'Content-Length': '42' }, 42],
    [{ 'content-length': 42 }, 42],
    [['x', 'content-length', 'CONTENT-LENGTH', '42'], 42],
    [{ 'content-length': ['42'] }, 42],
    [{ 'content-length': '3, 3' }, 3],
    [{ 'content-length': ' 3 ' }, 3],
    [{ 'content-length': ' 12' }, 12],
    [{ 'content-length': ' 3 , 3' }, 3],
    [{ 'content-length': '3, 4' }, undefined],
    [{ 'content-length': ['3', '4'] }, undefined],
    [{ 'content-length': '-1' }, undefined],
    [{ 'content-length': '1e3' }, undefined],
    [{ 'content-length': '' }, undefined],
    [{ 'content-length': true }, undefined],
    [{ 'content-lengths': '42' }, undefined],
    [['content-length'], undefined],
    [[7, '42'], undefined],
    [[null, '42'], undefined],
    [{ 'content-lenght': '42' }, undefined],
    [{}, undefined],
    [null, undefined],
    [undefined, undefined],
  ]
  for (const [headers, length] of lengths) {
    test(`${JSON.stringify(headers)} is ${length}`, () => { assert.equal(readContentLength(headers), length) })
  }

  test('repetitions that say the same are one; all else is undici\'s to judge', () => {
    assert.deepEqual(['3, 3', '3,3,3', '3', ' 3 ', '3, 4'].map(collapseLength), ['3', '3', '3', '3', '3, 4'])
  })
})

describe('the headers of one attempt', () => {
  test('are the caller\'s own object where nothing has to change', () => {
    for (const headers of [deepFreeze({ 'api-key': 'callers', a: '1' }), deepFreeze(['authorization', 'callers']), undefined]) {
      assert.equal(rewriteHeaders(headers), headers)
    }
  })

  test('have no host, which is the backend\'s own', () => {
    assert.deepEqual(rewriteHeaders(deepFreeze({ Host: 'east.example', a: '1' })), ['a', '1'])
    assert.deepEqual(rewriteHeaders(deepFreeze(['a', '1', 'HOST', 'east.example'])), ['a', '1'])
  })

  test('carry the backend\'s credential in place of whatever the caller has to prove who it is', () => {
    const theirs = { 'API-Key': 'k', Authorization: 'Bearer t', 'Ocp-Apim-Subscription-Key': 's', 'x-mine': ['1', '2'] }
    const expected = ['x-mine', ['1', '2'], 'api-key', 'ours']
    assert.deepEqual(rewriteHeaders(deepFreeze(theirs), { hasKey: true }), expected)
    assert.deepEqual(rewriteHeaders(deepFreeze(Object.entries(theirs).flat()), { hasKey: true }), expected)
  })

  test('carry the credential also where the caller has sent no headers at all', () => {
    assert.deepEqual(rewriteHeaders(undefined, { hasKey: true }), ['api-key', 'ours'])
    assert.deepEqual(rewriteHeaders(null, { hasKey: true }), ['api-key', 'ours'])
  })

  test('leave a name alone that only begins like a credential\'s', () => {
    assert.deepEqual(rewriteHeaders({ 'api-keys': 'a', 'x-authorization': 'b' }, { hasKey: true }), ['api-keys', 'a', 'x-authorization', 'b', 'api-key', 'ours'])
  })

  test('leave a name alone that is only as long as one that is replaced', () => {
    const others = { date: 'now', 'x-theme': 'dark', 'x-something-1': 'a', 'x-something-is-longer-now': 'b', 'x-content-type': 'c' }
    for (const headers of [others, Object.entries(others).flat()]) {
      assert.deepEqual(rewriteHeaders(deepFreeze(headers), { hasKey: true, contentLength: 5 }), [...Object.entries(others).flat(), 'api-key', 'ours', 'content-length', '5'])
    }
  })

  test('keep the caller\'s credential where only the length is new, and its length where only the credential is', () => {
    const headers = deepFreeze({ 'api-key': 'theirs', 'content-length': '3' })
    assert.deepEqual(rewriteHeaders(headers, { contentLength: 5 }), ['api-key', 'theirs', 'content-length', '5'])
    assert.deepEqual(rewriteHeaders(headers, { hasKey: true }), ['content-length', '3', 'api-key', 'ours'])
  })

  test('carry a new length in place of the caller\'s, however often that is there', () => {
    assert.deepEqual(rewriteHeaders(['Content-Length', '3', 'content-length', '3', 'a', '1'], { contentLength: 5 }), ['a', '1', 'content-length', '5'])
    assert.deepEqual(rewriteHeaders({ 'content-length': '3, 3' }, { contentLength: 3 }), ['content-length', '3'])
  })

  test('keep the odd entry that undici refuses the request for', () => {
    assert.deepEqual(rewriteHeaders(['a', '1', 'b'], { hasKey: true }), ['a', '1', 'b', 'api-key', 'ours'])
  })

  test('keep names that are no strings, which are undici\'s to refuse', () => {
    for (const name of [Object.create(null) as object, null, undefined, 7]) {
      assert.deepEqual(rewriteHeaders([name, '1'], { hasKey: true }), [name, '1', 'api-key', 'ours'])
    }
  })

  test('carry the backend\'s own headers in place of the caller\'s of these names, and the caller\'s credential with them', () => {
    const own = [['x-route', 'west'], ['x-tenant', 't']] as const
    const theirs = { 'X-Route': 'east', authorization: 'Bearer t', 'x-routes': 'a' }
    const expected = ['authorization', 'Bearer t', 'x-routes', 'a', 'x-route', 'west', 'x-tenant', 't']
    assert.deepEqual(rewriteHeaders(deepFreeze(theirs), { own }), expected)
    assert.deepEqual(rewriteHeaders(deepFreeze(Object.entries(theirs).flat()), { own }), expected)
    assert.deepEqual(rewriteHeaders(undefined, { own, hasKey: true }), ['api-key', 'ours', 'x-route', 'west', 'x-tenant', 't'])
  })

  test('carry nothing of the caller\'s that proves who it is, where one of the backend\'s own does', () => {
    const own = [['x-litellm-api-key', 'ours']] as const
    const theirs = { 'X-LiteLLM-API-Key': 'theirs', authorization: 'Bearer t', 'api-key': 'k', cookie: 'c', 'openai-organization': 'o', a: '1' }
    assert.deepEqual(rewriteHeaders(deepFreeze(theirs), { own, ownsCredential: true }), ['a', '1', 'x-litellm-api-key', 'ours'])
  })

  describe('of a WebSocket\'s subprotocols', () => {
    const subprotocols = (value: unknown, changes: Changes): unknown => (rewriteHeaders(['Sec-WebSocket-Protocol', value, 'a', '1'], changes) as unknown[]).slice(0, -2)
    const cases: readonly [value: unknown, withKey: unknown, withHeader: unknown][] = [
      ['realtime, openai-insecure-api-key.sk-x, beta.v1', 'realtime, openai-insecure-api-key.ours, beta.v1', 'realtime, beta.v1'],
      ['realtime,OpenAI-Insecure-API-Key.sk-x,openai-organization.o, openai-project.p', 'realtime, openai-insecure-api-key.ours', 'realtime'],
      [['realtime', 'openai-insecure-api-key.sk-x'], ['realtime', 'openai-insecure-api-key.ours'], ['realtime']],
      ['realtime,  x-openai-insecure-api-key.a', 'realtime,  x-openai-insecure-api-key.a', 'realtime,  x-openai-insecure-api-key.a'],
    ]
    for (const [value, withKey, withHeader] of cases) {
      test(JSON.stringify(value), () => {
        assert.deepEqual(subprotocols(value, { hasKey: true }), ['Sec-WebSocket-Protocol', withKey, 'a', '1'])
        assert.deepEqual(subprotocols(value, { own: [['x-api-key', 'ours']], ownsCredential: true }), ['Sec-WebSocket-Protocol', withHeader, 'a', '1'])
        assert.deepEqual(subprotocols(value, { own: [['x-route', 'ours']] }), ['Sec-WebSocket-Protocol', value, 'a', '1'])
      })
    }

    test('where nothing is left of them, the header goes', () => {
      const changes: Changes = { own: [['x-api-key', 'ours']], ownsCredential: true }
      for (const value of ['openai-insecure-api-key.sk-x', ['openai-insecure-api-key.sk-x', 'openai-project.p']]) {
        assert.deepEqual(subprotocols(value, changes), ['a', '1'])
        assert.deepEqual(rewriteHeaders({ 'sec-websocket-protocol': value, a: '1' }, changes), ['a', '1', 'x-api-key', 'ours'])
      }
    })
  })
})
