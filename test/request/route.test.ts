import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { DispatchOptions } from '../../src/request/undici.js'
import { isStateful, readRoute, UrlMatcher } from '../../src/request/route.js'
import { SEED } from '../support/seed.js'

const createMatcher = (): UrlMatcher => new UrlMatcher([
  { origin: 'https://east.example', basePath: '/openai' },
  { origin: 'https://east.example', basePath: '/openai/v1' },
  { origin: 'https://bare.example', basePath: '' },
  { origin: 'http://local.example:8080', basePath: '/v1' },
])

function match(origin: unknown, path: unknown, method = 'POST', matcher = createMatcher()): string | undefined {
  return matcher.match({ origin, path, method } as DispatchOptions)?.rest
}

describe('a request is balanced when its URL starts with a base', () => {
  const matches: readonly [what: string, origin: string, path: string, rest: string][] = [
    ['below the base', 'https://east.example', '/openai/deployments/d/chat/completions?api-version=1', '/deployments/d/chat/completions?api-version=1'],
    ['the longest base is its own', 'https://east.example', '/openai/v1/responses', '/responses'],
    ['the base itself', 'https://east.example', '/openai', ''],
    ['the base with a query', 'https://east.example', '/openai?x=1', '?x=1'],
    ['the base with a slash', 'https://east.example', '/openai/', '/'],
    ['a longer segment belongs to the shorter base', 'https://east.example', '/openai/v10/responses', '/v10/responses'],
    ['upper case in scheme and host, which URLs do not know', 'HTTPS://East.EXAMPLE', '/openai/x', '/x'],
    ['the default port, written down', 'https://east.example:443', '/openai/x', '/x'],
    ['a slash after the origin', 'https://east.example/', '/openai/x', '/x'],
    ['another port, where the base has it', 'http://local.example:8080', '/v1/x', '/x'],
    ['a base without a path takes everything', 'https://bare.example', '/anything', '/anything'],
    ['even two slashes, byte for byte', 'https://bare.example', '//east.example/x', '//east.example/x'],
    ['two slashes after the base', 'https://east.example', '/openai//x', '//x'],
    ['dots that are no dot segments', 'https://east.example', '/openai/v1.5/...x/.hidden/a..b', '/v1.5/...x/.hidden/a..b'],
    ['percent signs that hide no dot segment', 'https://east.example', '/openai/deployments/my%20model%2Fa/x', '/deployments/my%20model%2Fa/x'],
    ['dot segments in the query are only data', 'https://east.example', '/openai/x?path=/../etc&b=\\', '/x?path=/../etc&b=\\'],
    ['a backslash in the query is only data', 'https://east.example', '/openai/x?b=\\', '/x?b=\\'],
  ]
  for (const [what, origin, path, rest] of matches) {
    test(`${what}: ${origin}${path}`, () => { assert.equal(match(origin, path), rest) })
  }

  test('an URL object as origin', () => { assert.equal(match(new URL('https://east.example'), '/openai/x'), '/x') })

  test('an URL object that has changed in between is another origin', () => {
    const matcher = createMatcher()
    const origin = new URL('https://east.example')
    assert.equal(match(origin, '/openai/x', 'GET', matcher), '/x')
    origin.hostname = 'other.example'
    assert.equal(match(origin, '/openai/x', 'GET', matcher), undefined)
  })
})

describe('a request passes untouched when its URL only looks like it', () => {
  const strangers: readonly [what: string, origin: unknown, path: unknown, method?: string][] = [
    ['another host that begins so', 'https://east.example.evil.test', '/openai/x'],
    ['another host that ends so', 'https://notast.example', '/openai/x'],
    ['a host with a dot at its end', 'https://east.example.', '/openai/x'],
    ['a user name', 'https://east.example@evil.test', '/openai/x'],
    ['a user name before the right host', 'https://user@east.example', '/openai/x'],
    ['a password before the right host', 'https://:secret@east.example', '/openai/x'],
    ['another scheme', 'http://east.example', '/openai/x'],
    ['a scheme that is not HTTP', 'ftp://east.example', '/openai/x'],
    ['another port', 'https://east.example:8443', '/openai/x'],
    ['an origin with a path', 'https://east.example/openai', '/openai/x'],
    ['an origin with a query', 'https://east.example/?x', '/openai/x'],
    ['an origin with a fragment', 'https://east.example/#x', '/openai/x'],
    ['an URL object with a user name', new URL('https://user@east.example'), '/openai/x'],
    ['an URL object with a path', new URL('https://east.example/elsewhere'), '/openai/x'],
    ['an URL object of another host', new URL('https://other.example'), '/openai/x'],
    ['no origin', undefined, '/openai/x'],
    ['an origin that is no URL', 'east.example', '/openai/x'],
    ['another path', 'https://east.example', '/other'],
    ['a longer first segment', 'https://east.example', '/openaix/y'],
    ['upper case in the path, which is another path', 'https://east.example', '/OpenAI/x'],
    ['a percent sign in the part that must match', 'https://east.example', '/open%61i/x'],
    ['an encoded slash at the boundary', 'https://east.example', '/openai%2Fx'],
    ['a fragment at the boundary', 'https://east.example', '/openai#x'],
    ['a path in absolute form', 'https://bare.example', 'https://bare.example/x'],
    ['an empty path', 'https://bare.example', ''],
    ['a path that is no string', 'https://bare.example', 7],
    ['CONNECT', 'https://bare.example', '/x', 'CONNECT'],
    ['dot segments', 'https://east.example', '/openai/../admin'],
    ['dot segments that lead nowhere', 'https://east.example', '/openai/./x'],
    ['dot segments at the end', 'https://east.example', '/openai/..'],
    ['a single dot at the end', 'https://east.example', '/openai/.'],
    ['nothing but a dot segment', 'https://bare.example', '/..'],
    ['dot segments before a query', 'https://east.example', '/openai/..?x'],
    ['encoded dot segments', 'https://east.example', '/openai/%2e%2E/admin'],
    ['half encoded dot segments', 'https://east.example', '/openai/.%2e/admin'],
    ['dot segments behind an encoded slash', 'https://east.example', '/openai/x%2F..%2f..%2fadmin'],
    ['dot segments behind an encoded backslash', 'https://east.example', '/openai/x%5c..%5Cadmin'],
    ['dot segments with parameters', 'https://east.example', '/openai/..;a=b/admin'],
    ['a backslash', 'https://east.example', '/openai/\\admin'],
    ['a backslash behind a percent sign', 'https://east.example', '/openai/%20\\admin'],
    ['dot segments below a base without a path', 'https://bare.example', '/../x'],
  ]
  for (const [what, origin, path, method] of strangers) {
    test(`${what}: ${String(origin)} ${String(path)}`, () => { assert.equal(match(origin, path, method), undefined) })
  }

  test('options that are no object', () => {
    assert.equal(createMatcher().match(null as unknown as DispatchOptions), undefined)
    assert.equal(createMatcher().match(undefined as unknown as DispatchOptions), undefined)
  })
})

test('after a thousand spellings of origins the right ones are still found', () => {
  const matcher = createMatcher()
  for (let i = 0; i < 2_100; i++) assert.equal(match(`https://host-${i}.example`, '/openai/x', 'GET', matcher), undefined)
  assert.equal(match('https://east.example', '/openai/x', 'GET', matcher), '/x')
  assert.equal(match('https://host-1.example', '/openai/x', 'GET', matcher), undefined)
})

test('what one URL says is never taken for what another one says', () => {
  const origin = fc.constantFrom('https://east.example', 'https://bare.example', 'https://elsewhere.example')
  const path = fc.constantFrom('/openai/v1/files', '/openai/deployments/a/x', '/openai/deployments/b/x', '/openai/../x', '/v1/files')
  const bases = [{ origin: 'https://east.example', basePath: '/openai' }, { origin: 'https://bare.example', basePath: '' }]
  fc.assert(fc.property(fc.array(fc.record({ origin, path, method: fc.constantFrom('GET', 'CONNECT') }), { maxLength: 20 }), (requests) => {
    const used = new UrlMatcher(bases)
    for (const opts of requests) assert.deepEqual(used.match(opts as DispatchOptions), new UrlMatcher(bases).match(opts as DispatchOptions))
  }), { seed: SEED })
})

test('a path tells the deployment, and whether it must not move', () => {
  const opts = (path: string) => ({ origin: 'https://east.example', path, method: 'POST' }) as DispatchOptions
  assert.deepEqual(createMatcher().match(opts('/openai/deployments/my%20gpt/x?y')), { rest: '/deployments/my%20gpt/x?y', isStateful: false, isGenerating: false, kind: 'model', deployment: { name: 'my gpt', start: 13, end: 21 }, queryName: undefined, mayHoldKey: false })
  assert.deepEqual(createMatcher().match(opts('/openai/v1/files')), { rest: '/files', isStateful: true, isGenerating: false, kind: 'model', deployment: undefined, queryName: undefined, mayHoldKey: false })
})

describe('what lives on one backend is stateful', () => {
  const stateful = [
    '/files', '/files/file-1/content', '/openai/files?api-version=1', '/openai/v1/batches', '/v1/threads/t/runs', '/uploads', '/assistants',
    '/vector_stores/vs', '/fine_tuning/jobs', '/evals', '/containers', '/conversations', '/openai/responses/resp_1', '/responses/resp_1/input_items?x',
    '/responses/resp_1/cancel', '/responses/compact/x', '/responses/compacted', '/responses/input_tokens_1', '/v1/responses/input_tokens/x',
    '/containers/cntr_1/files/cfile_1/content', '/skills', '/skills/skill_1', '/openai/v1/skills/skill_1/versions?limit=2', '/chatkit/sessions', '/chatkit/threads/cthr_1/items',
    '/videos/video_1', '/videos/video_1/content?variant=thumbnail', '/v1/videos/video_1/remix', '/openai/v1/video/generations/jobs/task_1', '/video/generations/gen_1/content/video',
    '/realtime/calls/rtc_1/accept', '/v1/realtime/calls/rtc_1', '/chat/completions/chatcmpl_1', '/openai/v1/chat/completions/chatcmpl_1/messages?limit=1',
    '/audio/voices', '/audio/voice_consents/cons_1',
  ]
  for (const rest of stateful) test(rest, () => { assert.equal(isStateful(rest), true) })
})

describe('what can be answered anywhere is not', () => {
  const stateless = [
    '', '/', '?x', '/responses', '/responses/', '/responses?api-version=preview', '/responses/?x', '/openai/responses?api-version=2025-04-01-preview', '/openai/v1/responses?x',
    '/chat/completions', '/something/1', '/openai/deployments/files/chat/completions', '/deployments/files/images/edits', '/audio/transcriptions', '/filesystem', '/openai?files', '/v1?batches', '/openai/v1',
    '?/files', '/responses/compact', '/responses/compact/', '/responses/compact?x', '/openai/v1/responses/input_tokens/?x', '/v1/responses/input_tokens',
    '/videos', '/videos/', '/v1/videos?x', '/openai/v1/video/generations/jobs?api-version=preview', '/chat/completions/', '/chat/completions?a=/b', '/realtime', '/realtime?model=x',
    '/realtime/client_secrets', '/realtime/calls', '/realtime/calls/?x', '/realtime/sessions', '/audio/speech', '/models/files', '/skillset', '/chatkits', '/video',
  ]
  for (const rest of stateless) test(rest === '' ? 'nothing after the base' : rest, () => { assert.equal(isStateful(rest), false) })
})

describe('what makes something is a POST', () => {
  const words = [
    '/responses', '/responses/compact', '/responses/input_tokens', '/chat/completions', '/completions', '/embeddings', '/moderations', '/images/generations', '/images/edits',
    '/images/variations', '/audio/speech', '/audio/transcriptions', '/audio/translations', '/videos',
  ]
  for (const word of words) {
    test(`to ${word}, wherever the root of the API is`, () => {
      for (const rest of [word, `/v1${word}`, `/openai/v1${word}`, `/openai${word}?api-version=1`, `/deployments/gpt-4o${word}`, `/openai/deployments/my%20gpt${word}?api-version=1`, `${word}?x=/y`]) {
        assert.equal(readRoute(rest).isGenerating, true, rest)
        assert.notEqual(readRoute(rest).kind, 'outside', rest)
      }
    })
  }

  const others = [
    '', '/', '/files', '/batches', '/models', '/models/responses', '/responses/resp_1', '/responses/resp_1/cancel', '/chat/completions/chatcmpl_1', '/chat', '/chat/completion', '/embedding', '/images', '/audio',
    '/realtime/calls', '/deployments/embeddings', '/deployments//embeddings', '/x/embeddings', '/?x=/embeddings', '/organization/usage/embeddings', '/traces/ingest', '/threads/t/runs',
  ]
  for (const rest of others) test(`not to ${rest === '' ? 'the base' : rest}`, () => { assert.equal(readRoute(rest).isGenerating, false) })
})

describe('what every key may ask for', () => {
  const yes = ['/responses', '/v1/responses/', '/openai/v1/chat/completions?x', '/deployments/a/chat/completions', '/openai/deployments/a/embeddings?api-version=1', '/embeddings']
  for (const rest of yes) test(rest, () => { assert.equal(readRoute(rest).kind, 'core') })
  const no = ['/responses/resp_1', '/responses/compact', '/chat/completions/c', '/completions', '/images/generations', '/audio/speech', '/moderations', '/models', '/files', '/realtime', '/traces/ingest', '']
  for (const rest of no) test(`not ${rest === '' ? 'the base' : rest}`, () => { assert.notEqual(readRoute(rest).kind, 'core') })
})

describe('the API of models', () => {
  const yes = [
    '/models', '/v1/models/gpt-4o', '/openai/models?api-version=1', '/openai/v1/files/f', '/batches', '/realtime', '/realtime/client_secrets', '/openai/realtime?deployment=a', '/skills', '/chatkit/sessions',
    '/deployments/a/anything', '/video/generations/jobs', '/vector_stores/vs/search', '/chat/completions/c',
  ]
  for (const rest of yes) test(rest, () => { assert.notEqual(readRoute(rest).kind, 'outside') })
  const no = ['', '/', '/v1', '/openai', '/traces/ingest', '/v1/traces/ingest', '/organization/projects', '/v1/organization/admin_api_keys', '/modelsx', '/filesystem', '/dashboard/billing', '?x=/models']
  for (const rest of no) test(`not ${rest === '' ? 'the base' : rest}`, () => { assert.equal(readRoute(rest).kind, 'outside') })
})

test('a query names a deployment, else a model: for upgrades, which have no body', () => {
  const nameIn = (rest: string): string | undefined => {
    const { queryName } = readRoute(rest)
    return queryName === undefined ? undefined : `${queryName.name}|${rest.slice(queryName.start, queryName.end)}`
  }
  assert.equal(nameIn('/realtime?model=gpt-realtime'), 'gpt-realtime|gpt-realtime')
  assert.equal(nameIn('/realtime?api-version=1&model=a&deployment=my%20gpt&x'), 'my gpt|my%20gpt')
  assert.equal(nameIn('/realtime?m%6fdel=a+b&model=c'), 'a b|a+b')
  for (const rest of ['/realtime', '/realtime?', '/realtime?model', '/realtime?model=', '/realtime?models=a&xmodel=b', '/realtime/model=a', '/realtime?x=model=a', `/realtime?model=${'x'.repeat(257)}`]) {
    assert.equal(nameIn(rest), undefined, rest)
  }
})
