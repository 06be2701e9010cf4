/** What must never leave: credentials to the wrong server, secrets in any output, requests that are none of the pool's. */
import assert from 'node:assert/strict'
import { subscribe as subscribeTo, unsubscribe } from 'node:diagnostics_channel'
import { describe, test, type TestContext } from 'node:test'
import { inspect } from 'node:util'
import { Agent, Dispatcher, interceptors, request } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import { install } from '../../src/install.js'
import { priorityInterceptor } from '../../src/interceptor.js'
import { resolveOptions, type BackendOptions, type BalancerOptions } from '../../src/options/index.js'
import type { ModernHandler } from '../../src/request/undici.js'
import { channels } from '../../src/telemetry/events.js'
import { PEER_TAKES_LEGACY_HANDLERS } from '../support/undici-style.js'
import { answers, failure, says, startEastAndWest, type Answer } from '../support/east-and-west.js'
import { azureClient, chat, openaiClient } from '../support/openai-clients.js'
import { refusingUrl } from '../support/raw-server.js'
import { wholeHandler } from '../support/recording-handler.js'
import { startScriptedBackend, type ScriptedBackend, type ScriptedCall } from '../support/scripted-backend.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'
import { VirtualSystem } from '../support/virtual-system.js'

/** Everything that came over the wire before the body, for a search. */
const wire = ({ request: { path, rawHeaders } }: ScriptedCall): string => `${path}\n${rawHeaders.join('\n')}`

async function startBackends(t: TestContext, count: number): Promise<ScriptedBackend[]> {
  const backends = await Promise.all(Array.from({ length: count }, () => startScriptedBackend()))
  t.after(() => Promise.all(backends.map((backend) => backend.close())))
  return backends
}

describe('credentials', () => {
  /** What the caller has to prove who it is, in odd spellings; each value is unique, so that it can be searched for. */
  const callers = ['CALLER-1', 'CALLER-2', 'CALLER-3']
  const shapes: [name: string, headers: unknown, held: string[]][] = [
    ['an object', { 'api-key': 'CALLER-1', authorization: 'Bearer CALLER-2', 'ocp-apim-subscription-key': 'CALLER-3' }, callers],
    ['an object in odd cases', { 'Api-KEY': 'CALLER-1', AUTHORIZATION: 'Bearer CALLER-2', 'Ocp-Apim-Subscription-Key': 'CALLER-3' }, callers],
    ['an object with lists', { 'api-key': ['CALLER-1'], 'x-other': ['1', '2'], 'OCP-APIM-Subscription-Key': ['CALLER-3'] }, ['CALLER-1', 'CALLER-3']],
    ['a flat array in odd cases', ['API-key', 'CALLER-1', 'Authorization', 'Bearer CALLER-2', 'ocp-APIM-subscription-key', 'CALLER-3'], callers],
    ['a flat array with repeats', ['api-key', 'CALLER-1', 'x-other', '1', 'API-KEY', 'CALLER-2'], ['CALLER-1', 'CALLER-2']],
    ['Headers', new Headers({ 'api-key': 'CALLER-1', authorization: 'Bearer CALLER-2' }), ['CALLER-1', 'CALLER-2']],
    ['a Map', new Map([['Api-Key', 'CALLER-1'], ['Authorization', 'Bearer CALLER-2']]), ['CALLER-1', 'CALLER-2']],
    ['a generator', (function* () { yield ['Api-Key', 'CALLER-1']; yield ['Ocp-Apim-Subscription-Key', 'CALLER-3'] })(), ['CALLER-1', 'CALLER-3']],
  ]
  for (const [name, headers, held] of shapes) {
    test(`of the caller's headers as ${name}, none reaches a backend that has its own, and all reach one that has none`, async (t) => {
      const [east, west, north] = await startBackends(t, 3) as [ScriptedBackend, ScriptedBackend, ScriptedBackend]
      const balancer = new VirtualBalancer({
        backends: [
          { url: east.url, priority: 1, apiKey: 'OURS-EAST' }, { url: west.url, priority: 2, bearerToken: () => 'OURS-WEST' }, { url: north.url, priority: 3 },
        ], logger: false,
      })
      t.after(() => balancer.destroy())
      east.always(answers(429))
      west.always(answers(503))
      north.always(says('north'))
      const before = inspect(headers, { depth: Infinity })
      const { statusCode, body } = await request(`${east.url}/v1/chat/completions`, { method: 'POST', body: '{}', headers: headers as string[], dispatcher: balancer })
      await body.dump()
      assert.equal(statusCode, 200)
      const secretsAt = ({ calls }: ScriptedBackend): string[] => [...new Set(wire(calls[0] as ScriptedCall).match(/CALLER-\d|OURS-\w+/g))].sort()
      assert.deepEqual([east, west, north].map(secretsAt), [['OURS-EAST'], ['OURS-WEST'], held])
      assert.equal(east.calls[0]?.request.headers['api-key'], 'OURS-EAST')
      assert.equal(west.calls[0]?.request.headers.authorization, 'Bearer OURS-WEST')
      if (name !== 'a generator') assert.equal(inspect(headers, { depth: Infinity }), before, 'the caller\'s own object is as it was')
    })
  }

  test('over hundreds of requests with every kind of failure each server sees its own credential, and nothing of another', async (t) => {
    const chance = new VirtualSystem(20_261_122)
    const backends = await startBackends(t, 5)
    const credentials: Partial<BackendOptions>[] = [
      { apiKey: 'OURS-0' }, { apiKey: () => 'OURS-1' }, { bearerToken: 'OURS-2' }, { bearerToken: () => Promise.resolve('OURS-3') }, {},
    ]
    const balancer = new VirtualBalancer({
      backends: backends.map(({ url }, i) => ({ url: `${url}/path-${i}`, priority: 1 + (i % 3), ...credentials[i], query: { mark: `MARK-${i}` } })),
      intercept: ['https://chat.balanced'], retryBudget: { ratio: 5, minPerSecond: 1_000 }, logger: false,
    })
    t.after(() => balancer.destroy())
    const outcomes: readonly Answer[] = [
      says('fine'), says('fine'), answers(429, { 'retry-after-ms': '20' }), answers(503), answers(500, { 'retry-after': '1' }), answers(401), answers(400), (call) => { call.reset() },
    ]
    for (const backend of backends) backend.always((call) => outcomes[Math.floor(chance.random() * outcomes.length)]?.(call))
    const clients = [
      openaiClient('https://chat.balanced/v1', balancer, { apiKey: 'CALLER' }),
      azureClient('https://chat.balanced', balancer, { apiKey: 'CALLER', defaultHeaders: { 'Ocp-Apim-Subscription-Key': 'CALLER' } }),
    ]
    for (let i = 0; i < 300; i++) {
      await Promise.allSettled(clients.map((client) => chat(client, {}, `model-${i % 3}`)))
      balancer.system.advance(Math.floor(chance.random() * 200))
    }
    backends.forEach(({ calls }, i) => {
      assert.ok(calls.length > 20, `backend ${i} was asked ${calls.length} times`)
      for (const call of calls) {
        const seen = new Set(wire(call).match(/OURS-\d|CALLER|MARK-\d|path-\d/g))
        // A probe of the balancer's own carries neither a credential nor a query.
        const expected = new Set(call.request.method === 'HEAD' ? [`path-${i}`] : [`path-${i}`, `MARK-${i}`, i === 4 ? 'CALLER' : `OURS-${i}`])
        assert.deepEqual([...seen].sort(), [...expected].sort(), wire(call))
        assert.equal(call.request.headers.host, backends[i]?.host)
      }
    })
  })
})

describe('redirects that a backend answers', () => {
  async function startWithEvil(t: TestContext, inner?: Dispatcher) {
    const [east, evil] = await startBackends(t, 2) as [ScriptedBackend, ScriptedBackend]
    evil.always(says('evil'))
    const balancer = new VirtualBalancer({ backends: [{ url: east.url, priority: 1, apiKey: 'OURS-KEY', query: { sig: 'OURS-SIG' } }], logger: false, ...(inner && { dispatcher: inner }) })
    t.after(() => balancer.destroy())
    return { east, evil, balancer }
  }
  const send = (url: string, dispatcher: Dispatcher) =>
    request(`${url}/openai/v1/chat/completions`, { method: 'POST', headers: { 'api-key': 'callers' }, body: '{}', dispatcher })

  for (const status of [302, 307]) {
    test(`${status}: fetch follows without our credential`, async (t) => {
      const { east, evil, balancer } = await startWithEvil(t)
      east.always(answers(status, { location: `${evil.url}/steal` }, ''))
      assert.equal(await chat(openaiClient(`${east.url}/openai/v1`, balancer)), 'evil')
      assert.equal(evil.calls.length, 1)
      assert.match(wire(east.calls[0] as ScriptedCall), /OURS-KEY/)
      assert.doesNotMatch(wire(evil.calls[0] as ScriptedCall), /OURS|callers-key/)
    })

    test(`${status}: an interceptor that follows redirects outside of the balancer does not get our credential`, async (t) => {
      const { east, evil, balancer } = await startWithEvil(t)
      east.always(answers(status, { location: `${evil.url}/steal` }, ''))
      const { statusCode, body } = await send(east.url, balancer.compose(interceptors.redirect({ maxRedirections: 3 })))
      await body.dump()
      assert.equal(statusCode, 200)
      assert.doesNotMatch(wire(evil.calls[0] as ScriptedCall), /OURS/)
    })

    test(`${status}: an interceptor that follows redirects inside of the balancer gets to follow none that would carry our credential away`, async (t) => {
      const { east, evil, balancer } = await startWithEvil(t, new Agent().compose(interceptors.redirect({ maxRedirections: 3 })))
      east.always(answers(status, { location: `${evil.url}/steal` }, ''))
      const { statusCode, body } = await send(east.url, balancer)
      await body.dump()
      assert.equal(statusCode, status)
      assert.equal(evil.calls.length, 0)
    })
  }

  test('within the pool: the redirected request is balanced anew, with the credential of whom it goes to', async (t) => {
    const { east, west, balancer } = await startEastAndWest(t, {}, [{ apiKey: 'OURS-EAST' }, { apiKey: 'OURS-WEST' }])
    east.always(answers(307, { location: `${west.url}/openai/v1/other` }, ''))
    const response = await fetch(`${east.url}/openai/v1/chat/completions`, { method: 'POST', body: '{}', dispatcher: balancer } as unknown as RequestInit).catch(() => undefined)
    assert.equal(response, undefined, 'east takes it again, and redirects again, until fetch has enough')
    for (const call of east.calls) assert.match(wire(call), /OURS-EAST/)
    assert.equal(west.calls.length, 0)
  })
})

/** Sends nothing; keeps what it was asked. */
class Recorder extends Dispatcher {
  readonly asked: { opts: Dispatcher.DispatchOptions, handler: unknown }[] = []

  override dispatch(opts: Dispatcher.DispatchOptions, handler: unknown): boolean {
    this.asked.push({ opts, handler })
    return true
  }
}

describe('a request outside of intercept is untouched', () => {
  const options = (dispatcher: Dispatcher): BalancerOptions => ({
    backends: [{ url: 'https://backend.example', priority: 1, apiKey: 'OURS' }], intercept: ['https://a.example/openai/v1', 'https://b.example'], logger: false, dispatcher,
  })

  test('the inner dispatcher gets the very same options and handler', () => {
    const inner = new Recorder()
    const balancer = new PriorityBalancer(options(inner))
    const opts = Object.freeze({ origin: 'https://other.example', path: '/openai/v1/x', method: 'GET' as const, headers: Object.freeze({ a: '1' }) })
    const current = Object.freeze({ onRequestStart() {}, onResponseError() {} })
    balancer.dispatch(opts, current as unknown as Dispatcher.DispatchHandler)
    assert.equal(inner.asked[0]?.opts, opts)
    assert.equal(inner.asked[0]?.handler, current)
    const legacy = Object.freeze({ onConnect() {}, onHeaders() { return true }, onData() { return true }, onComplete() {}, onError() {} })
    balancer.dispatch(opts, legacy as unknown as Dispatcher.DispatchHandler)
    assert.equal(inner.asked[1]?.opts, opts)
    if (PEER_TAKES_LEGACY_HANDLERS) assert.equal(inner.asked[1]?.handler, legacy)
    else assert.notEqual(inner.asked[1]?.handler, legacy, 'undici 8 takes no handlers of the old style')
  })

  const outside: [what: string, origin: string, path: string][] = [
    ['another host', 'https://other.example', '/openai/v1/chat'],
    ['a host that begins like it', 'https://b.example.evil.test', '/chat'],
    ['a host that ends like it', 'https://evil-b.example', '/chat'],
    ['a host with a dot at the end', 'https://b.example.', '/chat'],
    ['a subdomain', 'https://x.b.example', '/chat'],
    ['another port', 'https://b.example:8443', '/chat'],
    ['plain http', 'http://b.example', '/chat'],
    ['another scheme', 'ftp://b.example', '/chat'],
    ['user information that looks like it', 'https://b.example@evil.test', '/chat'],
    ['user information before it', 'https://user:secret@b.example', '/chat'],
    ['the URL in a path', 'https://evil.test', '/https://b.example/chat'],
    ['the URL in a query', 'https://evil.test', '/?https://b.example/chat'],
    ['an absolute URL for a path', 'https://b.example', 'https://evil.test/chat'],
    ['a path that is none', 'https://b.example', 'evil'],
    ['a path above', 'https://a.example', '/openai'],
    ['a path beside', 'https://a.example', '/openai/v2/chat'],
    ['a path that begins like it', 'https://a.example', '/openai/v10/chat'],
    ['a path in capitals', 'https://a.example', '/OpenAI/v1/chat'],
    ['an encoded slash in it', 'https://a.example', '/openai%2fv1/chat'],
    ['an encoded letter in it', 'https://a.example', '/openai/%761/chat'],
    ['an empty segment in it', 'https://a.example', '/openai//v1/chat'],
    ['one that climbs out again', 'https://a.example', '/openai/v1/../../admin'],
    ['one that climbs out and in', 'https://a.example', '/other/../openai/v1/chat'],
    ['one that climbs with encoded dots', 'https://a.example', '/openai/v1/%2e%2E/%2e%2e/admin'],
    ['one that climbs with half encoded dots', 'https://a.example', '/openai/v1/.%2e/admin'],
    ['one that climbs behind an encoded slash', 'https://a.example', '/openai/v1/x%2f..%2f..%2fadmin'],
    ['one that climbs with backslashes', 'https://a.example', '/openai/v1/..\\..\\admin'],
    ['one that climbs with encoded backslashes', 'https://a.example', '/openai/v1/..%5c..%5cadmin'],
    ['one that stays with a dot', 'https://a.example', '/openai/v1/./chat'],
  ]
  for (const [what, origin, path] of outside) {
    test(`${what}: ${origin} ${path}`, () => {
      const inner = new Recorder()
      const opts = { origin, path, method: 'POST' as const, headers: {}, body: '{}' }
      new PriorityBalancer(options(inner)).dispatch(opts, wholeHandler<ModernHandler>({ onRequestStart() {} }) as unknown as Dispatcher.DispatchHandler)
      assert.deepEqual(inner.asked.map((asked) => asked.opts === opts), [true], 'passed on as it came, exactly once')
      assert.ok(!JSON.stringify(inner.asked[0]?.opts).includes('OURS'))
    })
  }

  const inside: [what: string, origin: string | URL, path: string, goesTo: string][] = [
    ['as it was written', 'https://a.example', '/openai/v1/chat', '/chat'],
    ['capitals in the host', 'HTTPS://B.Example', '/chat', '/chat'],
    ['the scheme\'s own port', 'https://b.example:443', '/chat', '/chat'],
    ['a URL object', new URL('https://b.example'), '/chat', '/chat'],
    ['an encoded slash behind the base, byte for byte', 'https://b.example', '/deployments/a%2Fb/chat', '/deployments/a%2Fb/chat'],
    ['dots in names and in the query', 'https://b.example', '/v1/..models/gpt-4.1?next=/../x', '/v1/..models/gpt-4.1?next=/../x'],
  ]
  for (const [what, origin, path, goesTo] of inside) {
    test(`inside it is, however: ${what}`, () => {
      const inner = new Recorder()
      new PriorityBalancer(options(inner)).dispatch({ origin, path, method: 'POST', headers: {}, body: '{}' }, wholeHandler<ModernHandler>({ onRequestStart() {} }) as unknown as Dispatcher.DispatchHandler)
      assert.deepEqual(inner.asked.map(({ opts }) => [opts.origin, opts.path]), [['https://backend.example', goesTo]])
    })
  }

  test('CONNECT is none of ours', () => {
    const inner = new Recorder()
    const opts = { origin: 'https://b.example', path: '/', method: 'CONNECT' as const }
    new PriorityBalancer(options(inner)).dispatch(opts, wholeHandler<ModernHandler>({ onRequestStart() {} }) as unknown as Dispatcher.DispatchHandler)
    assert.equal(inner.asked[0]?.opts, opts)
  })

  test('a URL of another scheme goes to fetch\'s own handling', async () => {
    const inner = new Recorder()
    const dispatcher = new PriorityBalancer(options(inner))
    const read = (url: string): Promise<string> => fetch(url, { dispatcher } as unknown as RequestInit).then((response) => response.text())
    assert.equal(await read('data:text/plain,hello'), 'hello')
    await assert.rejects(read('file:///etc/hostname'))
    await assert.rejects(read('https://user:secret@b.example/chat'), TypeError)
    assert.equal(inner.asked.length, 0)
  })
})

describe('secrets', () => {
  const SECRETS = ['PLANTED-HEADER', 'PLANTED-API-KEY', 'PLANTED-TOKEN', 'PLANTED-FUNCTION', 'PLANTED-QUERY', 'PLANTED-CALLER', 'PLANTED-BODY']
  /** In the text of an error that a credential's function throws: kept as a cause for whoever asks, told to nobody. */
  const PROVIDER_TEXT = 'PLANTED-PROVIDER'

  /** As much as anybody could print of a value. */
  function print(value: unknown): string {
    const texts = [inspect(value, { depth: Infinity, showHidden: true, maxStringLength: null, maxArrayLength: null }), String(value)]
    try {
      texts.push(JSON.stringify(value) ?? '')
    } catch {
      // Not everything can be written as JSON; inspect has shown it.
    }
    for (let error: unknown = value; error instanceof Error; error = error.cause) texts.push(error.message, error.stack ?? '', inspect(error, { depth: Infinity, showHidden: true }))
    return texts.join('\n')
  }

  function assertClean(text: string, secrets: readonly string[]): void {
    for (const secret of secrets) {
      const at = text.indexOf(secret)
      assert.equal(at, -1, `${secret} in: ...${text.slice(Math.max(0, at - 200), at + 60)}...`)
    }
  }

  test('are in no log line, event, error, status and no printed object, whatever goes wrong', async (t) => {
    const [east, west, north] = await startBackends(t, 3) as [ScriptedBackend, ScriptedBackend, ScriptedBackend]
    const told: string[] = []
    const tell = (...args: unknown[]): void => { told.push(args.map(print).join('\n')) }
    const listen = (message: unknown, name: string | symbol): void => { tell(name, message) }
    for (const { name } of Object.values(channels)) subscribeTo(name, listen)
    t.after(() => { for (const { name } of Object.values(channels)) unsubscribe(name, listen) })

    const options: BalancerOptions = {
      backends: [
        { name: 'east', url: east.url, priority: 1, apiKey: 'PLANTED-API-KEY', query: { 'api-version': 'v1', sig: 'PLANTED-QUERY' } },
        { name: 'west', url: west.url, priority: 2, bearerToken: 'PLANTED-TOKEN', headers: { 'x-litellm-api-key': 'PLANTED-HEADER' } },
        { name: 'north', url: north.url, priority: 3, apiKey: () => Promise.resolve('PLANTED-FUNCTION') },
        { name: 'broken', url: 'https://broken.example', priority: 4, bearerToken: () => { throw new Error(PROVIDER_TEXT) } },
        { name: 'garbled', url: 'https://garbled.example', priority: 5, apiKey: () => 'PLANTED-FUNCTION\n' },
        { name: 'dead', url: await refusingUrl(), priority: 6, apiKey: 'PLANTED-API-KEY' },
        { name: 'callers', url: await refusingUrl(), priority: 7 },
      ],
      maxAttempts: 7, retryBudget: { ratio: 9, minPerSecond: 1_000 }, logger: { debug: tell, info: tell, warn: tell, error: tell },
    }
    const balancer = new VirtualBalancer(options)
    t.after(() => balancer.destroy())
    const client = openaiClient(`${east.url}/openai/v1`, balancer, { apiKey: 'PLANTED-CALLER', defaultHeaders: { 'api-key': 'PLANTED-CALLER' }, defaultQuery: { key: 'PLANTED-CALLER' } })
    const ask = () => failure(client.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'PLANTED-BODY' }] }))

    const errors: unknown[] = []
    for (const [status, headers] of [[429, { 'retry-after-ms': '5' }], [503, {}], [401, {}], [403, {}], [500, { 'retry-after': '1' }]] as const) {
      for (const backend of [east, west, north]) backend.always(answers(status, headers))
      for (let i = 0; i < 3; i++) {
        errors.push(await ask())
        balancer.system.advance(70_000)
      }
    }
    for (const backend of [east, west, north]) backend.always((call) => { call.reset() })
    for (let i = 0; i < 3; i++) errors.push(await ask())
    east.byHand()
    balancer.system.advance(70_000)
    const cut = ask()
    await east.next()
    const status = balancer.status()
    await balancer.destroy()
    errors.push(await cut, await ask())

    assert.ok(told.length > 50 && errors.length > 15)
    assertClean(told.join('\n'), [...SECRETS, PROVIDER_TEXT])
    assertClean(print(status), [...SECRETS, PROVIDER_TEXT])
    for (const error of errors) assertClean(print(error), SECRETS)
  })

  test('are in no printed balancer, interceptor, installed balancer or checked options', async (t) => {
    const options: BalancerOptions = {
      backends: [
        { url: 'https://east.example', priority: 1, apiKey: 'PLANTED-API-KEY', query: { sig: 'PLANTED-QUERY' } },
        { url: 'https://west.example', priority: 2, bearerToken: 'PLANTED-TOKEN' },
      ], logger: false,
    }
    const balancer = new PriorityBalancer(options)
    const interceptor = priorityInterceptor(options)
    const installed = install(options)
    t.after(async () => { await Promise.all([balancer.close(), interceptor.close(), installed.uninstall()]) })
    const composed = new Agent().compose(interceptor)
    for (const value of [balancer, interceptor, installed, composed, resolveOptions(options), balancer.status(), balancer.intercept, balancer.compose(interceptors.redirect())]) {
      assertClean(print(value), SECRETS)
    }
    for (const symbol of Object.getOwnPropertySymbols(globalThis)) assertClean(print(globalThis[symbol as never]), SECRETS)
  })

  const wrong: [string, unknown][] = [
    ['a line break in a key', { apiKey: 'PLANTED-API-KEY\r\n' }],
    ['white space around a token', { bearerToken: ' PLANTED-TOKEN' }],
    ['Bearer in a token', { bearerToken: 'Bearer PLANTED-TOKEN' }],
    ['both', { apiKey: 'PLANTED-API-KEY', bearerToken: 'PLANTED-TOKEN' }],
    ['a list of keys', { apiKey: ['PLANTED-API-KEY'] }],
    ['a misspelt option', { apikey: 'PLANTED-API-KEY' }],
    ['a token in the URL\'s query', { url: 'https://east.example/?code=PLANTED-QUERY' }],
    ['a password in the URL', { url: 'https://user:PLANTED-TOKEN@east.example/' }],
    ['a key for a query that is no object', { query: 'PLANTED-QUERY' }],
  ]
  for (const [what, backend] of wrong) {
    test(`are not in the error for ${what}`, () => {
      assert.throws(() => new PriorityBalancer({ backends: [{ url: 'https://east.example', priority: 1, ...backend as object }] }), (error) => {
        assertClean(print(error), SECRETS)
        return true
      })
    })
  }
})
