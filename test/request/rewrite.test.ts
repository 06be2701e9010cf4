import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { BackendConfig } from '../../src/core/types.js'
import { Credential } from '../../src/options/credential.js'
import { resolveOptions } from '../../src/options/index.js'
import type { DispatchOptions } from '../../src/request/undici.js'
import { OutgoingRequest } from '../../src/request/rewrite.js'
import { readRoute } from '../../src/request/route.js'
import { deepFreeze } from '../support/freeze.js'

const options = resolveOptions({ backends: [{ url: 'https://east.example', priority: 1 }], maxReplayBytes: 0, logger: false })

function destination(more: Partial<BackendConfig> = {}): BackendConfig {
  return {
    name: 'west', url: 'https://west.example/ai', priority: 1, weight: 1, ownsCredential: more.credential !== undefined, models: undefined,
    origin: 'https://west.example', basePath: '/ai', query: undefined, credential: undefined, ...more,
  }
}

const withKey = destination({ credential: new Credential('west', 'api-key', 'ours') })

function rewrite(rest: string, backend: BackendConfig, more: Partial<DispatchOptions> = {}, credential?: string): DispatchOptions {
  const opts = deepFreeze({ origin: 'https://east.example', path: `/openai${rest}`, method: 'POST' as const, body: 'body', ...more })
  return new OutgoingRequest(opts, readRoute(rest), options).make(backend, credential ?? (backend.credential === undefined ? undefined : 'ours'), false)
}

const pathOf = (rest: string, more: Partial<BackendConfig> = {}): string | undefined => rewrite(rest, destination(more)).path

describe('the URL', () => {
  const rests: readonly [rest: string, path: string][] = [
    ['/deployments/d/chat/completions?api-version=1', '/ai/deployments/d/chat/completions?api-version=1'],
    ['/a%2Fb//c;d=1/%C3%A9?q=%20+&&=&x', '/ai/a%2Fb//c;d=1/%C3%A9?q=%20+&&=&x'],
    ['?x=1', '/ai?x=1'],
    ['/x?', '/ai/x?'],
    ['', '/ai'],
    ['/', '/ai/'],
  ]
  for (const [rest, path] of rests) test(`goes on the backend's base, byte for byte: ${rest}`, () => { assert.equal(pathOf(rest), path) })

  test('below a base without a path begins with a slash all the same', () => {
    assert.equal(pathOf('', { basePath: '' }), '/')
    assert.equal(pathOf('?x=1', { basePath: '' }), '/?x=1')
    assert.equal(pathOf('/x', { basePath: '' }), '/x')
  })

  test('takes the backend\'s origin, and no server name that was meant for another host', () => {
    const rewritten = rewrite('/x', destination(), { servername: 'east.example' })
    assert.equal(rewritten.origin, 'https://west.example')
    assert.equal(rewritten.servername, null)
    assert.equal('servername' in rewrite('/x', destination()), false)
  })
})

describe('the deployment in the path', () => {
  const models = { 'gpt-4o': 'my-gpt4o-eu', 'größe': 'size', plain: 'a b/c' }
  const rests: readonly [rest: string, path: string][] = [
    ['/deployments/gpt-4o/chat/completions?x=/deployments/gpt-4o/', '/ai/deployments/my-gpt4o-eu/chat/completions?x=/deployments/gpt-4o/'],
    ['/deployments/gpt-4o', '/ai/deployments/my-gpt4o-eu'],
    ['/deployments/gpt-4o?x', '/ai/deployments/my-gpt4o-eu?x'],
    ['/deployments/gr%C3%B6%C3%9Fe/x', '/ai/deployments/size/x'],
    ['/deployments/plain/x', '/ai/deployments/a%20b%2Fc/x'],
    ['/deployments/other/x', '/ai/deployments/other/x'],
    ['/deployments/toString/x', '/ai/deployments/toString/x'],
    ['/deployments/%/x', '/ai/deployments/%/x'],
    ['/models/gpt-4o', '/ai/models/gpt-4o'],
    ['/engines/ab/gpt-4o/x', '/ai/engines/ab/gpt-4o/x'],
    ['/x?at=/deployments/gpt-4o/', '/ai/x?at=/deployments/gpt-4o/'],
  ]
  for (const [rest, path] of rests) test(`is the backend's own name for it: ${rest}`, () => { assert.equal(pathOf(rest, { models }), path) })
})

describe('query parameters of the backend', () => {
  const query = [['api-version', '2025-01-01'], ['tag', 'a b&c']] as const
  const rests: readonly [rest: string, path: string][] = [
    ['/x', '/ai/x?api-version=2025-01-01&tag=a%20b%26c'],
    ['/x?', '/ai/x?api-version=2025-01-01&tag=a%20b%26c'],
    ['/x?z=%20+&api-version=old&y', '/ai/x?z=%20+&y&api-version=2025-01-01&tag=a%20b%26c'],
    ['/x?api%2Dversion=old&tag', '/ai/x?api-version=2025-01-01&tag=a%20b%26c'],
    ['/x?api-version=1&api-version=2', '/ai/x?api-version=2025-01-01&tag=a%20b%26c'],
    ['/x?%=1', '/ai/x?%=1&api-version=2025-01-01&tag=a%20b%26c'],
  ]
  test('are known by their name however the caller has written that: a plus is a space', () => {
    assert.equal(pathOf('/x?my+tag=1&mytag=2', { query: [['my tag', '3']] }), '/ai/x?mytag=2&my%20tag=3')
  })

  for (const [rest, path] of rests) test(`replace the caller's, and leave the others as they are: ${rest}`, () => { assert.equal(pathOf(rest, { query }), path) })

  test('go where the caller has put its own: into opts.query', () => {
    const rewritten = rewrite('/x', destination({ query }), { query: { 'api-version': 'old', list: ['1', '2'] } })
    assert.equal(rewritten.path, '/ai/x')
    assert.deepEqual(rewritten.query, { 'api-version': '2025-01-01', list: ['1', '2'], tag: 'a b&c' })
  })

  test('a caller\'s opts.query stays what it is for a backend without any', () => {
    assert.deepEqual(rewrite('/x', destination(), { query: { a: 1 } }).query, { a: 1 })
    assert.equal(rewrite('/x', destination(), { query: null }).query, null)
  })
})

describe('the caller\'s credential, once the backend has its own', () => {
  test('is not in the headers', () => {
    assert.deepEqual(rewrite('/x', withKey, { headers: { 'api-key': 'theirs', Authorization: 'theirs' } }).headers, ['api-key', 'ours'])
  })

  const rests: readonly [rest: string, path: string][] = [
    ['/realtime?api-version=1&api-key=theirs&deployment=d', '/ai/realtime?api-version=1&deployment=d'],
    ['/realtime?API-Key=theirs', '/ai/realtime'],
    ['/realtime?a%70i%2Dkey=theirs&x', '/ai/realtime?x'],
    ['/x?subscription-key=theirs', '/ai/x'],
    ['/x?%=1&api-key=theirs', '/ai/x?%=1'],
    ['/x?', '/ai/x?'],
    ['/key?a=1', '/ai/key?a=1'],
    ['/x?api-keys=2&a=%20', '/ai/x?api-keys=2&a=%20'],
    ['/x?key=theirs&code=theirs&sig=theirs&access_token=theirs&sigma=1&a', '/ai/x?sigma=1&a'],
    ['/x?C%6fde=theirs', '/ai/x'],
  ]
  for (const [rest, path] of rests) test(`is not in the query either: ${rest}`, () => { assert.equal(rewrite(rest, withKey).path, path) })

  test('is not in opts.query either', () => {
    assert.deepEqual(rewrite('/x', withKey, { query: { 'api-key': 'theirs', 'Subscription-Key': 'theirs', a: 1 } }).query, { a: 1 })
  })

  test('is in neither where the backend\'s own is in its query or headers', () => {
    for (const own of [{ query: [['code', 'ours']] }, { headers: [['x-functions-key', 'ours']] }] as const) {
      const backend = destination({ ...own, ownsCredential: true })
      const { path, headers, maxRedirections } = rewrite('/x?key=theirs&Code=theirs&a=1', backend, { headers: { authorization: 'theirs', 'X-Functions-Key': 'theirs' }, maxRedirections: 5 })
      assert.doesNotMatch(`${path} ${JSON.stringify(headers)}`, /theirs/)
      assert.match(`${path} ${JSON.stringify(headers)}`, /a=1.*ours|ours.*a=1/)
      assert.equal(maxRedirections, 0)
    }
  })

  test('follows no redirect, whatever the caller has asked for', () => {
    assert.equal(rewrite('/x', withKey, { maxRedirections: 5 }).maxRedirections, 0)
    assert.equal(rewrite('/x', destination(), { maxRedirections: 5 }).maxRedirections, 5)
  })

  test('stays where the backend has none', () => {
    const rewritten = rewrite('/x?api-key=theirs', destination(), { headers: { 'api-key': 'theirs' } })
    assert.equal(rewritten.path, '/ai/x?api-key=theirs')
    assert.deepEqual(rewritten.headers, { 'api-key': 'theirs' })
    assert.deepEqual(rewrite('/x', destination(), { query: { 'api-key': 'theirs' } }).query, { 'api-key': 'theirs' })
  })

  test('goes also where no value is there to take its place', () => {
    const opts = deepFreeze({ origin: 'https://east.example', path: '/openai/x', method: 'POST' as const, headers: { 'api-key': 'theirs' } })
    assert.deepEqual(new OutgoingRequest(opts, readRoute('/x'), options).make(withKey, undefined, false).headers, [])
  })

  test('stays also if a value is there that no header is named for', () => {
    assert.deepEqual(rewrite('/x', destination(), { headers: { 'api-key': 'theirs' } }, 'lost').headers, { 'api-key': 'theirs' })
  })
})

test('everything else of the caller\'s options goes along, in an object of its own', () => {
  const opts = deepFreeze({ origin: 'https://east.example', path: '/openai/x', method: 'POST' as const, body: 'body', headersTimeout: 5, upgrade: 'websocket', expectContinue: true, blocking: true })
  const rewritten = new OutgoingRequest(opts, readRoute('/x'), options).make(destination(), undefined, false)
  assert.deepEqual(rewritten, { ...opts, origin: 'https://west.example', path: '/ai/x', headers: undefined })
})

test('the body beside the body, which undici 8 keeps for its mocks, is replaced with it', () => {
  assert.equal(rewrite('/x', destination(), { __mockAgentBodyForDispatch: 'stale' }).__mockAgentBodyForDispatch, 'body')
})
