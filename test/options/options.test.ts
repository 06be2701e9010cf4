import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { Agent } from 'undici'
import { InvalidOptionsError } from '../../src/errors.js'
import { findNearest } from '../../src/options/checks.js'
import type { BalancerOptions, ConfiguredBackend } from '../../src/options/index.js'
import { Credential, DEFAULTS, resolveOptions, updateOptions } from '../../src/options/index.js'
import { SEED } from '../support/seed.js'

const east = { url: 'https://east.openai.azure.com/openai/v1', priority: 1 }
const west = { url: 'https://west.openai.azure.com/openai/v1', priority: 2 }

/** Options as JavaScript may hand them over, whatever the types say. */
const resolveAny = (options: unknown) => resolveOptions(options as BalancerOptions)
const resolveWith = (changes: object) => resolveAny({ backends: [east], ...changes })
const resolveBackend = (changes: object) => resolveAny({ backends: [{ ...east, ...changes }] }).backends[0] as ConfiguredBackend

const refuse = (options: unknown): InvalidOptionsError => {
  try {
    resolveAny(options)
  } catch (error) {
    assert.ok(error instanceof InvalidOptionsError, inspect(error))
    return error
  }
  assert.fail('it was accepted')
}

describe('options that are left out', () => {
  test('have the defaults', () => {
    const { backends, home, intercept, logger, ...rest } = resolveOptions({ backends: [east] })
    assert.deepEqual(rest, {
      dispatcher: undefined,
      maxAttempts: undefined,
      maxReplayBytes: 33_554_432,
      usesModels: false,
      maxWaitMs: 0,
      cooldownMs: 10_000,
      maxCooldownMs: 60_000,
      pacing: true,
      latencyGuard: true,
      attemptTimeoutMs: undefined,
      deadlineMs: undefined,
      streamGuard: 'output',
      streamIdleMs: undefined,
      retryBudget: { ratio: 0.2, minPerSecond: 10 },
      probe: true,
      requestHeaders: false,
      warnings: [],
    })
    assert.equal(home, backends[0])
    assert.deepEqual(intercept, [{ href: east.url, origin: 'https://east.openai.azure.com', basePath: '/openai/v1' }])
    assert.equal(logger.isLevelEnabled('warn'), true)
    assert.equal(logger.isLevelEnabled('info'), false)
  })

  test('are the same when they are there but undefined', () => {
    const names = ['intercept', 'dispatcher', 'maxAttempts', 'maxReplayBytes', 'maxWaitMs', 'cooldownMs', 'maxCooldownMs', 'pacing', 'latencyGuard', 'attemptTimeoutMs', 'deadlineMs', 'retryBudget', 'requestHeaders']
    const withLogger = { backends: [east], logger: false }
    assert.deepEqual(resolveAny({ ...withLogger, ...Object.fromEntries(names.map((name) => [name, undefined])) }), resolveAny(withLogger))
    assert.deepEqual(resolveBackend({ weight: undefined, name: undefined, models: undefined, query: undefined, home: undefined, enabled: undefined, limits: undefined }), resolveBackend({}))
  })

  test('leave a backend with weight 1, its host and path as a name, and no credential', () => {
    const backend = resolveBackend({})
    assert.deepEqual({ ...backend }, {
      name: 'east.openai.azure.com/openai/v1',
      url: 'https://east.openai.azure.com/openai/v1',
      origin: 'https://east.openai.azure.com',
      host: 'east.openai.azure.com',
      basePath: '/openai/v1',
      priority: 1,
      weight: 1,
      home: false,
      enabled: true,
      limits: undefined,
      serves: undefined,
      largerContext: false,
      ownsCredential: false,
      credential: undefined,
      models: undefined,
    })
    assert.equal(backend.query, undefined)
  })

  test('a shorter maxCooldownMs shortens the default cooldownMs with it', () => {
    assert.equal(resolveWith({ maxCooldownMs: 5_000 }).cooldownMs, 5_000)
  })

  test('latencyGuard is on, also without pacing', () => {
    assert.equal(resolveWith({ pacing: false }).latencyGuard, true)
    assert.equal(resolveWith({ pacing: false, latencyGuard: true }).latencyGuard, true)
  })

  test('DEFAULTS cannot be changed', () => {
    assert.ok(Object.isFrozen(DEFAULTS) && Object.isFrozen(DEFAULTS.retryBudget))
  })
})

describe('options that are given', () => {
  test('are taken over', () => {
    const dispatcher = new Agent()
    const given = {
      dispatcher, maxAttempts: 3, maxReplayBytes: 0, maxWaitMs: 2_500.5, cooldownMs: 1, maxCooldownMs: 1, pacing: false,
      latencyGuard: false, attemptTimeoutMs: 30_000, deadlineMs: 60_000, retryBudget: { ratio: 0, minPerSecond: 0 },
    }
    const resolved = resolveWith(given)
    for (const [name, value] of Object.entries(given)) assert.deepEqual(resolved[name as keyof typeof given], value, name)
    assert.equal(resolved.dispatcher, dispatcher)
  })

  test('one half of the retry budget leaves the other at its default', () => {
    assert.deepEqual(resolveWith({ retryBudget: { ratio: 1 } }).retryBudget, { ratio: 1, minPerSecond: 10 })
    assert.deepEqual(resolveWith({ retryBudget: { minPerSecond: 1 } }).retryBudget, { ratio: 0.2, minPerSecond: 1 })
  })

  test('are copied and frozen: changing the object later changes nothing', () => {
    const models = { 'gpt-4o': 'my-gpt4o' }
    const query = { 'api-version': '1' }
    const options = { backends: [{ ...east, models, query }], intercept: ['https://chat.balanced'], retryBudget: { ratio: 0.5 }, logger: false as const }
    const before = structuredClone(options)
    const resolved = resolveOptions(options)
    assert.deepEqual(options, before)
    models['gpt-4o'] = 'x'
    query['api-version'] = '2'
    options.backends.length = 0
    options.intercept.push('https://other')
    options.retryBudget.ratio = 9
    assert.deepEqual(resolved.backends[0]?.query, [['api-version', '1']])
    assert.equal(resolved.backends[0]?.models?.['gpt-4o'], 'my-gpt4o')
    assert.equal(resolved.retryBudget.ratio, 0.5)
    assert.equal(resolved.intercept.length, 1)
    for (const part of [resolved, resolved.backends, resolved.backends[0], resolved.backends[0]?.models, resolved.backends[0]?.query, resolved.backends[0]?.query?.[0], resolved.intercept, resolved.intercept[0], resolved.retryBudget, resolved.warnings]) {
      assert.ok(Object.isFrozen(part), inspect(part))
    }
  })

  test('a frozen object is as good, and one whose options are inherited or computed', () => {
    class Options {
      get backends() { return Object.freeze([Object.freeze({ ...east })]) }
      get logger() { return false as const }
    }
    assert.equal(resolveOptions(Object.freeze(new Options())).backends[0]?.url, east.url)
  })

  test('are each read once', () => {
    const reads: string[] = []
    const spy = (name: string, target: object): object => new Proxy(target, { get: (object, key) => { reads.push(`${name}${String(key)}`); return Reflect.get(object, key) as unknown } })
    resolveAny(spy('', { backends: [spy('backend.', { ...east, apiKey: 'x' })], logger: false, maxAttempts: 2 }))
    assert.deepEqual(reads.sort(), ['backend.apiKey', 'backend.priority', 'backend.url', 'backends', 'logger', 'maxAttempts'])
  })

  test('the default intercept has each base URL once, the longest base path first', () => {
    const resolved = resolveOptions({ backends: ['https://a.example', 'https://b.example/openai/v1', 'https://c.example/ai', 'https://b.example/openai/v1'].map((url, index) => ({ url, priority: 1, name: `b${index}` })) })
    assert.deepEqual(resolved.intercept.map(({ href }) => href), ['https://b.example/openai/v1', 'https://c.example/ai', 'https://a.example'])
  })

  test('an intercept that is given replaces the default', () => {
    assert.deepEqual(resolveWith({ intercept: ['chat.balanced', 'https://chat.balanced/v1/', 'https://chat.balanced'] }).intercept.map(({ href }) => href), ['https://chat.balanced/v1', 'https://chat.balanced'])
  })

  test('a home that is not enabled is another one meanwhile, which is warned about', () => {
    const backends = [{ ...east, name: 'east', home: true, enabled: false }, { ...west, name: 'west' }]
    const resolved = resolveAny({ backends, logger: false })
    assert.equal(resolved.home.name, 'west')
    assert.match(resolved.warnings.join(), /^Backend "east" is the home, but not enabled: stateful paths go to "west"/)
    assert.deepEqual(resolveAny({ backends: backends.map((backend) => ({ ...backend, enabled: true })), logger: false }).warnings, [])
    assert.deepEqual(resolveAny({ backends: backends.map((backend) => ({ ...backend, home: false })), logger: false }).warnings, [])
  })

  test('the URL of a backend that is not enabled is intercepted like any other: clients may have been set up with it', () => {
    assert.deepEqual(resolveAny({ backends: [{ ...east, enabled: false }, west] }).intercept.map(({ href }) => href), [east.url, west.url])
  })

  test('the home is the backend that says so, else the first listed of the lowest priority number', () => {
    const names = (backends: object[]) => resolveAny({ backends }).home.name
    const a = { ...west, name: 'a' }, b = { ...east, name: 'b' }, c = { ...east, name: 'c' }
    assert.equal(names([a, b, c]), 'b')
    assert.equal(names([{ ...a, home: true }, b, c]), 'a')
    assert.equal(names([a, b, { ...c, home: true }]), 'c')
    assert.equal(names([a, { ...b, enabled: false }, c]), names([a, c]))
  })
})

describe('a backend', () => {
  test('keeps port and base path in its default name, and takes a name of its own', () => {
    assert.equal(resolveBackend({ url: 'http://127.0.0.1:8080/openai/' }).name, '127.0.0.1:8080/openai')
    assert.equal(resolveBackend({ url: 'http://127.0.0.1:8080/openai/' }).host, '127.0.0.1:8080')
    assert.equal(resolveBackend({ name: 'PTU east (1)' }).name, 'PTU east (1)')
  })

  test('with a credential owns it', () => {
    const backend = resolveBackend({ apiKey: 'x' })
    assert.ok(backend.ownsCredential)
    assert.ok(backend.credential instanceof Credential)
  })

  test('finds in models and query only what was configured, whatever the name', () => {
    const { models } = resolveBackend({ models: JSON.parse('{"gpt-4o": "a", "__proto__": "b"}') as object })
    assert.equal(models?.['gpt-4o'], 'a')
    assert.equal(models?.['__proto__'], 'b')
    assert.equal(models?.['constructor'], undefined)
    assert.equal(models?.['toString'], undefined)
  })

  test('with empty models or query has none', () => {
    assert.equal(resolveBackend({ models: {} }).models, undefined)
    assert.equal(resolveBackend({ query: {} }).query, undefined)
  })

  test('may have headers of its own, by names in lower case, and own a credential through them', () => {
    const backend = resolveBackend({ headers: { 'X-Route': 'a', 'x-empty': '' } })
    assert.deepEqual(backend.headers, [['x-route', 'a'], ['x-empty', '']])
    assert.ok(Object.isFrozen(backend.headers) && Object.isFrozen(backend.headers?.[0]))
    assert.equal(backend.ownsCredential, false)
    assert.equal(resolveBackend({ headers: {} }).headers, undefined)
    for (const name of [
      'x-api-key', 'X-Goog-Api-Key', 'Ocp-Apim-Subscription-Key', 'x-functions-key', 'x-litellm-api-key', 'x-portkey-api-key', 'helicone-auth', 'cookie', 'proxy-authorization', 'openai-organization', 'OpenAI-Project',
    ]) assert.equal(resolveBackend({ headers: { [name]: 'x' } }).ownsCredential, true, name)
  })

  test('owns a credential that is in its query', () => {
    for (const name of ['key', 'code', 'sig', 'access_token', 'api-key', 'subscription-key', 'Key', 'API-KEY']) assert.equal(resolveBackend({ query: { [name]: 'x' } }).ownsCredential, true, name)
    for (const name of ['api-version', 'keys', 'signature']) assert.equal(resolveBackend({ query: { [name]: 'x' } }).ownsCredential, false, name)
  })

  test('may serve some models only, and take what is too long for others', () => {
    const serves = ['gpt-4o', 'text-embedding-3-*', '*']
    const backend = resolveBackend({ serves, largerContext: true })
    serves.pop()
    assert.deepEqual(backend.serves, ['gpt-4o', 'text-embedding-3-*', '*'])
    assert.ok(Object.isFrozen(backend.serves))
    assert.equal(backend.largerContext, true)
    assert.equal(resolveBackend({ serves: undefined, largerContext: undefined, headers: undefined }).serves, undefined)
  })

  test('that goes by models makes it worth looking for them', () => {
    const uses = (more: object): boolean => resolveAny({ backends: [east, { ...west, ...more }] }).usesModels
    assert.deepEqual([uses({}), uses({ models: {} }), uses({ models: { a: 'b' } }), uses({ serves: ['a'] }), uses({ headers: { a: 'b' } })], [false, false, true, true, false])
  })

  test('shows neither its secret nor its query nor its headers, however it is printed', () => {
    const options = resolveWith({ backends: [{ ...east, apiKey: 'PLANTED', query: { 'subscription-key': 'PLANTED' } }, { ...west, bearerToken: 'PLANTED', headers: { 'x-litellm-api-key': 'PLANTED', 'x-other': 'PLANTED' } }], logger: false })
    assert.deepEqual(options.backends[0]?.query, [['subscription-key', 'PLANTED']])
    const prints = [inspect(options, { depth: null, showHidden: true }), JSON.stringify(options), `${options as unknown as string}`]
    assert.ok(prints.every((print) => !print.includes('PLANTED')))
  })
})

describe('wrong options', () => {
  const wrong: readonly [options: unknown, option: string, rule: RegExp, received: string][] = [
    [undefined, 'options', /an object/, 'undefined'],
    [null, 'options', /an object/, 'null'],
    ['https://a.example', 'options', /an object/, 'a string'],
    [[east], 'options', /an object/, 'an array'],
    [() => {}, 'options', /an object/, 'a function'],
    [{}, 'backends', /an array of at least one/, 'undefined'],
    [{ backends: [] }, 'backends', /an array of at least one/, 'an empty array'],
    [{ backends: east }, 'backends', /an array of at least one/, 'an object'],
    [{ backends: [east, null] }, 'backends[1]', /an object/, 'null'],
    [{ backends: [east, 'https://a.example'] }, 'backends[1]', /an object/, 'a string'],
    [{ backends: new Array(2) }, 'backends[0]', /an object/, 'undefined'],
    [{ backends: [{ priority: 1 }] }, 'backends[0].url', /a URL such as/, 'undefined'],
    [{ backends: [{ url: 'ftp://a.example', priority: 1 }] }, 'backends[0].url', /http or https/, '"ftp://a.example"'],
    [{ backends: [{ url: 'a.example' }] }, 'backends[0].priority', /an integer of 1 or more/, 'undefined'],
    [{ backends: [{ ...east, priority: 0 }] }, 'backends[0].priority', /an integer of 1 or more/, '0'],
    [{ backends: [{ ...east, priority: 1.5 }] }, 'backends[0].priority', /an integer of 1 or more/, '1.5'],
    [{ backends: [{ ...east, priority: NaN }] }, 'backends[0].priority', /an integer of 1 or more/, 'NaN'],
    [{ backends: [{ ...east, priority: Infinity }] }, 'backends[0].priority', /an integer of 1 or more/, 'Infinity'],
    [{ backends: [{ ...east, priority: '1' }] }, 'backends[0].priority', /an integer of 1 or more/, '"1"'],
    [{ backends: [{ ...east, priority: 1n }] }, 'backends[0].priority', /an integer of 1 or more/, 'a bigint'],
    [{ backends: [{ ...east, weight: 0 }] }, 'backends[0].weight', /above 0 and at most 1000000/, '0'],
    [{ backends: [{ ...east, weight: -1 }] }, 'backends[0].weight', /above 0/, '-1'],
    [{ backends: [{ ...east, weight: Infinity }] }, 'backends[0].weight', /a finite number/, 'Infinity'],
    [{ backends: [{ ...east, weight: NaN }] }, 'backends[0].weight', /a finite number/, 'NaN'],
    [{ backends: [{ ...east, weight: 1e300 }] }, 'backends[0].weight', /at most 1000000/, '1e+300'],
    [{ backends: [{ ...east, weight: null }] }, 'backends[0].weight', /a finite number/, 'null'],
    [{ backends: [{ ...east, name: '' }] }, 'backends[0].name', /1 to 200 printable/, 'an empty string'],
    [{ backends: [{ ...east, name: ' a' }] }, 'backends[0].name', /white space around/, '" a"'],
    [{ backends: [{ ...east, name: 'a\nb' }] }, 'backends[0].name', /printable/, '"a\\nb"'],
    [{ backends: [{ ...east, name: 'a'.repeat(201) }] }, 'backends[0].name', /200/, `"${'a'.repeat(80)}..."`],
    [{ backends: [{ ...east, name: 7 }] }, 'backends[0].name', /a string/, '7'],
    [{ backends: [east, west, east] }, 'backends[2].name', /unique.*backends\[0\]/, '"east.openai.azure.com/openai/v1"'],
    [{ backends: [{ ...east, name: 'x' }, { ...west, name: 'x' }] }, 'backends[1].name', /unique/, '"x"'],
    [{ backends: [{ ...east, home: 1 }] }, 'backends[0].home', /true or false/, '1'],
    [{ backends: [{ ...east, enabled: 'no' }] }, 'backends[0].enabled', /true or false/, '"no"'],
    [{ backends: [{ ...east, limits: 8 }] }, 'backends[0].limits', /an object/, 'a number'],
    [{ backends: [{ ...east, limits: { inFlight: 0 } }] }, 'backends[0].limits.inFlight', /an integer of 1 or more/, '0'],
    [{ backends: [{ ...east, limits: { requestsPerMinute: 1.5 } }] }, 'backends[0].limits.requestsPerMinute', /an integer of 1 or more/, '1.5'],
    [{ backends: [{ ...east, limits: { tokensPerMinute: '100k' } }] }, 'backends[0].limits.tokensPerMinute', /an integer of 1 or more/, '"100k"'],
    [{ backends: [{ ...east, enabled: false }, { ...west, enabled: false }] }, 'backends', /at least one backend that is enabled/, 'none'],
    [{ backends: [{ ...east, home: true }, { ...west, home: true }] }, 'backends[1].home', /one backend at most/, 'true'],
    [{ backends: [{ ...east, models: ['a'] }] }, 'backends[0].models', /an object of strings/, 'an array'],
    [{ backends: [{ ...east, models: { a: 1 } }] }, 'backends[0].models.a', /a string/, 'a number'],
    [{ backends: [{ ...east, models: { 'gpt-4o': '' } }] }, 'backends[0].models["gpt-4o"]', /the name of a deployment/, 'an empty string'],
    [{ backends: [{ ...east, models: { a: '..' } }] }, 'backends[0].models.a', /the name of a deployment/, '".."'],
    [{ backends: [{ ...east, models: { a: 'x\r\n' } }] }, 'backends[0].models.a', /the name of a deployment/, '"x\\r\\n"'],
    [{ backends: [{ ...east, query: 'api-version=1' }] }, 'backends[0].query', /an object of strings/, 'a string'],
    [{ backends: [{ ...east, query: { v: 20241021 } }] }, 'backends[0].query.v', /a string/, 'a number'],
    [{ backends: [{ ...east, query: { '': 'x' } }] }, 'backends[0].query', /without a name/, 'an empty string'],
    [{ backends: [{ ...east, serves: 'gpt-4o' }] }, 'backends[0].serves', /an array of at least one/, 'a string'],
    [{ backends: [{ ...east, serves: [] }] }, 'backends[0].serves', /an array of at least one/, 'an empty array'],
    [{ backends: [{ ...east, serves: ['a', ''] }] }, 'backends[0].serves[1]', /with a \* at its end at most/, 'an empty string'],
    [{ backends: [{ ...east, serves: ['a*b'] }] }, 'backends[0].serves[0]', /at its end/, '"a*b"'],
    [{ backends: [{ ...east, serves: ['a**'] }] }, 'backends[0].serves[0]', /at its end/, '"a**"'],
    [{ backends: [{ ...east, serves: ['*a'] }] }, 'backends[0].serves[0]', /at its end/, '"*a"'],
    [{ backends: [{ ...east, serves: ['a\n'] }] }, 'backends[0].serves[0]', /the name of a deployment/, '"a\\n"'],
    [{ backends: [{ ...east, serves: [7] }] }, 'backends[0].serves[0]', /the name of a deployment/, '7'],
    [{ backends: [{ ...east, largerContext: 1 }] }, 'backends[0].largerContext', /true or false/, '1'],
    [{ backends: [{ ...east, headers: ['a', 'b'] }] }, 'backends[0].headers', /an object of strings/, 'an array'],
    [{ backends: [{ ...east, headers: { 'x-a': undefined } }] }, 'backends[0].headers["x-a"]', /a string/, 'undefined'],
    [{ backends: [{ ...east, headers: { Authorization: 'PLANTED' } }] }, 'backends[0].headers.Authorization', /use the option bearerToken/, 'a string'],
    [{ backends: [{ ...east, headers: { 'API-Key': 'PLANTED' } }] }, 'backends[0].headers["API-Key"]', /use the option apiKey/, 'a string'],
    ...['Host', 'Content-Length', 'transfer-encoding', 'connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'upgrade', 'expect', 'Sec-WebSocket-Protocol'].map((name) =>
      [{ backends: [{ ...east, headers: { [name]: 'x' } }] }, /^\w+$/.test(name) ? `backends[0].headers.${name}` : `backends[0].headers["${name}"]`, /belongs to the connection/, 'a string'] as [unknown, string, RegExp, string]),
    [{ backends: [{ ...east, headers: { '': 'x' } }] }, 'backends[0].headers[""]', /the name of a header/, 'an empty string'],
    [{ backends: [{ ...east, headers: { 'x y': 'x' } }] }, 'backends[0].headers["x y"]', /the name of a header/, 'a string'],
    [{ backends: [{ ...east, headers: { x: 'PLANTED\r\n' } }] }, 'backends[0].headers.x', /can be sent/, 'a string with white space around it'],
    [{ backends: [{ ...east, headers: { x: 'PLAN\nTED' } }] }, 'backends[0].headers.x', /can be sent/, 'a string with characters that no header may have'],
    [{ backends: [{ ...east, headers: { cookie: '' } }] }, 'backends[0].headers.cookie', /can be sent/, 'an empty string instead of a non-empty string'],
    [{ backends: [{ ...east, headers: { x: 'a', X: 'b' } }] }, 'backends[0].headers.X', /once, in whichever letter case/, 'it again'],
    [{ backends: [{ ...east, apiKey: 'a', bearerToken: 'b' }] }, 'backends[0]', /either apiKey or bearerToken/, 'both'],
    [{ backends: [{ ...east, apiKey: '' }] }, 'backends[0].apiKey', /can be sent/, 'an empty string instead of a non-empty string'],
    [{ backends: [east], intercept: [] }, 'intercept', /at least one/, 'an empty array'],
    [{ backends: [east], intercept: 'https://a.example' }, 'intercept', /an array/, 'a string'],
    [{ backends: [east], intercept: ['a.example', 'b.example#x'] }, 'intercept[1]', /fragment/, '"b.example#***"'],
    [{ backends: [east], dispatcher: {} }, 'dispatcher', /dispatch\(\)/, 'an object'],
    [{ backends: [east], dispatcher: null }, 'dispatcher', /dispatch\(\)/, 'null'],
    [{ backends: [east], maxAttempts: 0 }, 'maxAttempts', /an integer of 1 or more/, '0'],
    [{ backends: [east], maxAttempts: 2.5 }, 'maxAttempts', /an integer of 1 or more/, '2.5'],
    [{ backends: [east], maxReplayBytes: -1 }, 'maxReplayBytes', /an integer of 0 or more/, '-1'],
    [{ backends: [east], maxReplayBytes: 0.5 }, 'maxReplayBytes', /an integer of 0 or more/, '0.5'],
    [{ backends: [east], maxWaitMs: -1 }, 'maxWaitMs', /milliseconds of 0 or more/, '-1'],
    [{ backends: [east], maxWaitMs: NaN }, 'maxWaitMs', /milliseconds/, 'NaN'],
    [{ backends: [east], maxWaitMs: 2 ** 31 }, 'maxWaitMs', /at most 2147483647 \(24.8 days\)/, '2147483648'],
    [{ backends: [east], maxWaitMs: '5s' }, 'maxWaitMs', /milliseconds/, '"5s"'],
    [{ backends: [east], cooldownMs: 0 }, 'cooldownMs', /above 0/, '0'],
    [{ backends: [east], cooldownMs: 60_001 }, 'cooldownMs', /maxCooldownMs \(60000\)/, '60001'],
    [{ backends: [east], cooldownMs: 2, maxCooldownMs: 1 }, 'cooldownMs', /maxCooldownMs \(1\)/, '2'],
    [{ backends: [east], maxCooldownMs: 0 }, 'maxCooldownMs', /above 0/, '0'],
    [{ backends: [east], maxCooldownMs: Infinity }, 'maxCooldownMs', /milliseconds/, 'Infinity'],
    [{ backends: [east], attemptTimeoutMs: 0 }, 'attemptTimeoutMs', /above 0/, '0'],
    [{ backends: [east], deadlineMs: 0 }, 'deadlineMs', /above 0/, '0'],
    [{ backends: [east], deadlineMs: '1s' }, 'deadlineMs', /milliseconds/, '"1s"'],
    [{ backends: [east], attemptTimeoutMs: null }, 'attemptTimeoutMs', /milliseconds/, 'null'],
    [{ backends: [east], pacing: 'yes' }, 'pacing', /true or false/, '"yes"'],
    [{ backends: [east], latencyGuard: 0 }, 'latencyGuard', /true or false/, '0'],
    [{ backends: [east], requestHeaders: 'x-balancer-class' }, 'requestHeaders', /true or false/, '"x-balancer-class"'],
    [{ backends: [east], retryBudget: 0.2 }, 'retryBudget', /an object/, 'a number'],
    [{ backends: [east], retryBudget: { ratio: -0.1 } }, 'retryBudget.ratio', /a finite number of 0 or more/, '-0.1'],
    [{ backends: [east], retryBudget: { minPerSecond: NaN } }, 'retryBudget.minPerSecond', /a finite number of 0 or more/, 'NaN'],
    [{ backends: [east], retryBudget: { ratios: 1 } }, 'retryBudget.ratios', /did you mean ratio\?/, 'a number'],
    [{ backends: [east], logger: {} }, 'logger', /false or a logger/, 'an object without debug()'],
    [{ backends: [east], maxattempt: 1 }, 'maxattempt', /not an option \(did you mean maxAttempts\?\)/, 'a number'],
    [{ backends: [east], timeout: 1 }, 'timeout', /not an option \(known are backends, intercept,/, 'a number'],
    [{ backends: [{ ...east, apikey: 'PLANTED' }] }, 'backends[0].apikey', /did you mean apiKey\?/, 'a string'],
    [{ backends: [{ ...east, 'x y\n': 'PLANTED' }] }, 'backends[0]["x y\\n"]', /not an option/, 'a string'],
    [JSON.parse('{"__proto__": {}, "backends": []}'), '__proto__', /not an option/, 'an object'],
  ]
  for (const [options, option, rule, received] of wrong) {
    test(`${option} ${rule.source}: ${received}`, () => {
      const error = refuse(options)
      assert.equal(error.option, option)
      assert.match(error.rule, rule)
      assert.equal(error.received, received)
      assert.equal(error.message, `${option} ${error.rule}. Received: ${received}.`)
    })
  }

  test('a getter that throws is told as the option that cannot be read, with the cause', () => {
    const cause = new Error('PLANTED')
    const thrower = (name: string) => Object.defineProperty({}, name, { enumerable: true, get() { throw cause } })
    const trap = new Proxy({}, { ownKeys() { throw cause } })
    const list = new Proxy([east], { get() { throw cause } })
    const cases: Record<string, unknown> = {
      'backends': thrower('backends'),
      'backends[0].url': { backends: [thrower('url')] },
      'backends[0].models.a': { backends: [{ ...east, models: thrower('a') }] },
      'backends[0].models': { backends: [{ ...east, models: trap }] },
      'dispatcher': { backends: [east], dispatcher: thrower('dispatch') },
      'logger': { backends: [east], logger: thrower('debug') },
      'options': trap,
      'retryBudget.rat': { backends: [east], retryBudget: thrower('rat') },
    }
    for (const [option, options] of Object.entries({ ...cases, backends2: { backends: list } })) {
      const error = refuse(options)
      assert.equal(error.option, option.replace('backends2', 'backends'))
      assert.equal(error.rule, 'must be readable')
      assert.equal(error.cause, cause)
      assert.ok(!error.message.includes('PLANTED'))
    }
  })

  test('no secret is in an error, whichever option beside it is wrong', () => {
    const spoil: readonly object[] = [{ url: 'x y' }, { priority: 0 }, { weight: NaN }, { name: '' }, { models: 1 }, { query: { a: 1, b: 'PLANTED' } }, { query: 'PLANTED' }, { home: 2 }, { enabled: 2 }, { keys: 'PLANTED' }, { bearerToken: 'PLANTED' }, { apiKey: 'PLANTED ' }]
    for (const changes of spoil) {
      const error = refuse({ backends: [{ ...east, apiKey: 'PLANTED', ...changes }] })
      assert.ok(!inspect(error, { depth: null }).includes('PLANTED'), error.message)
    }
  })

  test('whatever value an option has, it is taken or refused with our own error', () => {
    const names = ['backends', 'intercept', 'dispatcher', 'maxAttempts', 'maxReplayBytes', 'maxWaitMs', 'cooldownMs', 'maxCooldownMs', 'pacing', 'latencyGuard', 'probe', 'attemptTimeoutMs', 'deadlineMs', 'retryBudget', 'requestHeaders', 'logger']
    const backendNames = ['url', 'priority', 'weight', 'name', 'apiKey', 'bearerToken', 'models', 'query', 'home', 'enabled', 'limits']
    const anything = fc.anything({ withBigInt: true, withDate: true, withNullPrototype: true, withSparseArray: true, withTypedArray: true })
    let refused = 0
    fc.assert(fc.property(fc.constantFrom(...names), fc.constantFrom(...backendNames), anything, fc.boolean(), (name, backendName, value, inner) => {
      const options = inner ? { backends: [{ ...east, [backendName]: value }] } : { backends: [east], [name]: value }
      try {
        resolveAny(options)
      } catch (error) {
        assert.ok(error instanceof InvalidOptionsError, inspect(error))
        assert.ok(error.message.length < 500)
        refused++
      }
    }), { seed: SEED, numRuns: 3000 })
    assert.ok(refused > 1000)
  })
})

describe('the nearest option', () => {
  const known = ['priority', 'pacing', 'maxWaitMs', 'maxCooldownMs'] as const
  test('is found for a slip, a wrong letter case and a wrong order', () => {
    assert.equal(findNearest('prioriy', known), 'priority')
    assert.equal(findNearest('PRIORITY', known), 'priority')
    assert.equal(findNearest('maxCoolDown', known), 'maxCooldownMs')
    assert.equal(findNearest('maxwait', known), 'maxWaitMs')
    assert.equal(findNearest('apcing', known), 'pacing')
  })
  test('is not found for another word', () => {
    assert.equal(findNearest('baseURL', known), undefined)
    assert.equal(findNearest('', known), undefined)
    assert.equal(findNearest('x'.repeat(1000), known), undefined)
  })
})

describe('warnings', () => {
  const warningsOf = (backends: readonly object[], intercept?: readonly string[]) => resolveAny({ backends: backends.map((backend, index) => ({ priority: index + 1, ...backend })), intercept }).warnings

  test('bases that cannot meet are told apart, with the base to use', () => {
    for (const url of ['https://x.openai.azure.com', 'https://x.openai.azure.com/openai', 'https://x.cognitiveservices.azure.com', 'https://api.openai.com']) {
      const [warning, ...more] = warningsOf([{ url }, { url: 'https://api.openai.com/v1' }])
      assert.deepEqual(more, [])
      assert.ok(warning?.includes(`${url} (followed by /`), String(warning))
      assert.match(warning ?? '', /https:\/\/api\.openai\.com\/v1 \(followed by the operation/)
      assert.match(warning ?? '', /Use bases that the same operation follows: https:\/\/\{resource\}\.openai\.azure\.com\/openai\/v1/)
    }
    assert.equal(warningsOf([{ url: 'x.openai.azure.com' }, { url: 'y.openai.azure.com/openai/v1' }]).length, 1)
    assert.equal(warningsOf([{ url: 'x.openai.azure.com/openai/v1' }], ['https://x.openai.azure.com']).length, 1)
  })

  test('bases that can meet, and gateways of which nothing is known, are not warned about', () => {
    assert.deepEqual(warningsOf([{ url: 'x.openai.azure.com' }, { url: 'y.openai.azure.com' }]), [])
    assert.deepEqual(warningsOf([{ url: 'x.openai.azure.com/openai' }, { url: 'api.openai.com' }]), [])
    assert.deepEqual(warningsOf([{ url: 'x.openai.azure.com/openai/v1' }, { url: 'api.openai.com/v1' }], ['https://chat.balanced']), [])
    assert.deepEqual(warningsOf([{ url: 'gateway.example/ai' }, { url: 'api.openai.com/v1' }]), [])
    assert.deepEqual(warningsOf([{ url: 'x.openai.azure.com.evil.example' }, { url: 'api.openai.com/v1' }]), [])
  })

  test('a credential over http is warned about, unless it stays on this machine', () => {
    assert.match(warningsOf([{ url: 'http://gw.example', name: 'gw', apiKey: 'PLANTED' }])[0] ?? '', /^Backend "gw" sends its credential over http,.*Use https\.$/)
    for (const url of ['http://localhost:1', 'http://a.localhost', 'http://127.0.0.1:8080', 'http://127.1.2.3', 'http://[::1]:1', 'https://gw.example']) assert.deepEqual(warningsOf([{ url, apiKey: 'x' }]), [], url)
    assert.equal(warningsOf([{ url: 'http://127.0.0.1.evil.example', apiKey: 'x' }]).length, 1)
    assert.deepEqual(warningsOf([{ url: 'http://gw.example' }]), [])
  })

  test('an apiKey for api.openai.com, which takes bearer tokens only, is warned about', () => {
    assert.match(warningsOf([{ url: 'api.openai.com/v1', apiKey: 'PLANTED' }])[0] ?? '', /api\.openai\.com takes its keys as bearerToken only/)
    assert.deepEqual(warningsOf([{ url: 'api.openai.com/v1', bearerToken: 'x' }]), [])
  })

  test('a pool in which some backends have a credential and some have none is warned about, with the names of both', () => {
    const [warning, ...more] = warningsOf([
      { url: 'a.example', name: 'a', apiKey: 'PLANTED' }, { url: 'b.example', name: 'b' }, { url: 'c.example', name: 'c', bearerToken: () => 'PLANTED' }, { url: 'd.example', name: 'd' },
    ])
    assert.deepEqual(more, [])
    assert.match(warning ?? '', /own \("a", "c"\), others have none \("b", "d"\).*Give each backend its own\.$/)
    assert.doesNotMatch(warning ?? '', /PLANTED/)
    assert.equal(warningsOf([{ url: 'a.example' }, { url: 'b.example', bearerToken: 'x' }]).length, 1)
    assert.equal(warningsOf([{ url: 'a.example' }, { url: 'b.example', headers: { 'x-api-key': 'x' } }]).length, 1)
    assert.equal(warningsOf([{ url: 'a.example' }, { url: 'b.example', query: { code: 'x' } }]).length, 1)
    assert.deepEqual(warningsOf([{ url: 'a.example', apiKey: 'x' }, { url: 'b.example', headers: { 'x-api-key': 'x' } }]), [])
    assert.deepEqual(warningsOf([{ url: 'a.example' }, { url: 'b.example', headers: { 'x-route': 'x' } }]), [])
  })

  test('a pool in which all have one, or none has, is not', () => {
    assert.deepEqual(warningsOf([{ url: 'a.example', apiKey: 'x' }, { url: 'b.example', bearerToken: () => 'x' }]), [])
    assert.deepEqual(warningsOf([{ url: 'a.example' }, { url: 'b.example' }]), [])
    assert.deepEqual(warningsOf([{ url: 'a.example', apiKey: 'x' }]), [])
  })
})

test('a backend that says whose account pays, and has no key of its own, is warned about', () => {
  const warningsOf = (more: object): readonly string[] => resolveAny({ backends: [{ url: 'a.example', priority: 1, ...more }] }).warnings
  assert.match(warningsOf({ headers: { 'openai-organization': 'org-1' } })[0] ?? '', /^Backend "a\.example" has openai-organization or openai-project among its headers, and no key/)
  for (const key of [{ bearerToken: 'x' }, { query: { key: 'x' } }]) assert.deepEqual(warningsOf({ headers: { 'openai-project': 'p' }, ...key }), [])
  assert.deepEqual(warningsOf({ headers: { 'openai-project': 'p', 'x-api-key': 'x' } }), [])
})

describe('updateOptions', () => {
  const first = resolveOptions({ backends: [{ ...east, apiKey: 'PLANTED' }, west], maxWaitMs: 7, logger: false })

  test('changes what is given and keeps the rest', () => {
    const next = updateOptions(first, { maxAttempts: 2 }, 0)
    assert.equal(next.maxAttempts, 2)
    assert.equal(next.maxWaitMs, 7)
    assert.equal(next.backends[0]?.credential?.resolve(0), 'PLANTED')
    assert.equal(updateOptions(next, { maxWaitMs: 0 }, 0).maxAttempts, 2)
    assert.equal(first.maxAttempts, undefined)
  })

  test('keeps the base URLs of removed backends intercepted, so that clients stay balanced', () => {
    const next = updateOptions(updateOptions(first, { backends: [west] }, 0), { backends: [{ url: 'https://north.openai.azure.com/openai/v1', priority: 1 }] }, 0)
    assert.deepEqual(next.intercept.map(({ origin }) => origin).sort(), ['https://east.openai.azure.com', 'https://north.openai.azure.com', 'https://west.openai.azure.com'])
  })

  test('does not add to an intercept that was given', () => {
    const given = resolveOptions({ backends: [east], intercept: ['https://chat.balanced'] })
    assert.deepEqual(updateOptions(given, { backends: [west] }, 0).intercept.map(({ href }) => href), ['https://chat.balanced'])
    assert.deepEqual(updateOptions(given, { intercept: ['https://a.example'] }, 0).intercept.map(({ href }) => href), ['https://a.example'])
  })

  test('with an undefined option goes back to the default', () => {
    assert.equal(updateOptions(first, { maxWaitMs: undefined }, 0).maxWaitMs, 0)
  })

  test('refuses what is wrong, also in combination with what was there', () => {
    assert.throws(() => updateOptions(first, { backends: [] }, 0), InvalidOptionsError)
    assert.throws(() => updateOptions(first, { maxCooldownMs: 5, cooldownMs: 6 }, 0), InvalidOptionsError)
    assert.throws(() => updateOptions(first, { logg: false } as Partial<BalancerOptions>, 0), /did you mean logger/)
  })
})
