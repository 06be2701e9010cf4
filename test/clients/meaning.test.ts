/** What an answer means, as a user of the `openai` package meets it: what its body says decides who is out, and what the caller reads. */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { APIError, BadRequestError, NotFoundError, RateLimitError } from 'openai'
import type { ScopeStatus } from '../../src/core/types.js'
import { answers, assertIsA, failure, says, startEastAndWest, type Answer, type EastAndWest } from '../support/east-and-west.js'
import { API_VERSION, apiError, azureClient, chat, openaiClient } from '../support/openai-clients.js'
import { SEED } from '../support/seed.js'
import { until, within } from '../support/until.js'

const keys = [{ apiKey: 'of-east' }, { apiKey: 'of-west' }] as [{ apiKey: string }, { apiKey: string }]
const error = (code: string, more: object = {}): object => ({ error: { message: `for the test: ${code}`, type: 'invalid_request_error', param: null, code, ...more } })

/** By deployment. */
const byModel = (ofModels: Record<string, Answer>, other: Answer): Answer => (call) => (ofModels[/deployments\/([^/]+)/.exec(call.request.path)?.[1] ?? ''] ?? other)(call)
const scopeOf = ({ status }: EastAndWest, name: string, of = 0): ScopeStatus | undefined => status()[of]?.scopes.find(({ scope }) => scope === name)

/** What plain fetch gives for a chat, or any other path. */
async function ask({ east, balancer }: EastAndWest, path = 'deployments/gpt-4o/chat/completions', init: RequestInit = { method: 'POST', body: '{}' }): Promise<Response> {
  return fetch(`${east.url}/openai/${path}?api-version=${API_VERSION}`, { ...init, dispatcher: balancer } as unknown as RequestInit)
}

/** The bytes of a body, in every shape in which services send them. */
const shapes: [shape: string, send: (status: number, body: object) => Answer][] = [
  ['as it is', (status, body) => answers(status, {}, body)],
  ['in gzip', (status, body) => answers(status, { 'content-type': 'application/json', 'content-encoding': 'gzip' }, gzipSync(JSON.stringify(body)))],
  ['in brotli', (status, body) => answers(status, { 'content-type': 'application/json', 'content-encoding': 'br' }, brotliCompressSync(JSON.stringify(body)))],
  ['in deflate', (status, body) => answers(status, { 'content-type': 'application/json', 'content-encoding': 'deflate' }, deflateSync(JSON.stringify(body)))],
  ['in chunks of seven bytes', (status, body) => async (call) => {
    call.head(status, { 'content-type': 'application/json' })
    const text = JSON.stringify(body)
    for (let at = 0; at < text.length; at += 7) await call.write(text.slice(at, at + 7))
    call.end()
  }],
  ['with its code at byte 1,660', (status, body) => {
    const text = JSON.stringify(body)
    const padded = text.slice(0, text.indexOf('"code"'))
    return answers(status, { 'content-type': 'application/json' }, padded + ' '.repeat(1_660 - padded.length) + text.slice(text.indexOf('"code"')))
  }],
  ['as text, in a list', (status, body) => answers(status, { 'content-type': 'text/plain' }, `[${JSON.stringify(body)}]`)],
]

describe('health is kept by scope', () => {
  test('one deployment answers 500 for ever and another works: the broken one is found out once, and no caller gets the 500', async (t) => {
    const world = await startEastAndWest(t)
    const { east, client, balancer } = world
    east.always(byModel({ broken: answers(500) }, says('east')))
    for (let i = 0; i < 90; i++) {
      assert.equal(await chat(client, {}, 'broken'), 'west')
      balancer.system.advance(11)
      assert.equal(await chat(client, {}, 'works'), 'east')
      balancer.system.advance(11)
    }
    const broken = scopeOf(world, 'broken')
    // Two failures put it out; then one probe after each backoff, which doubles.
    assert.ok(broken !== undefined && broken.failures <= 2 + 3, `${broken?.failures} failures`)
    const works = scopeOf(world, 'works')
    assert.deepEqual([works?.state, works?.successes, works?.failures, works?.out], ['available', 90, 0, undefined])
    assert.deepEqual([world.status()[0].state, broken.out?.reason], ['available', 'failed'])
  })
})

describe('what a backend does not have', () => {
  const cases: [number, object][] = [
    [403, error('model_not_found')], [404, error('model_not_found')], [404, { error: { code: 'DeploymentNotFound', message: 'The API deployment for this resource does not exist.' } }],
    [410, error('gone')], [400, error('OperationNotSupported')],
  ]
  for (const [status, body] of cases) {
    for (const [shape, send] of shapes.slice(0, status === 404 ? undefined : 2)) {
      test(`${status} ${JSON.stringify(body).slice(0, 200)} ${shape}: only this name is out on this backend, for a minute`, async (t) => {
        const world = await startEastAndWest(t, {}, keys)
        const { east, client, balancer, calls } = world
        east.always(byModel({ 'gpt-5': send(status, body) }, says('east')))
        assert.equal(await chat(client, {}, 'gpt-5'), 'west')
        assert.equal(await chat(client), 'east')
        const { out } = scopeOf(world, 'gpt-5') ?? {}
        assert.deepEqual([out?.reason, (out?.until ?? 0) - balancer.system.wallNow()], ['missing', 60_000])
        assert.equal(world.status()[0].out, undefined)
        balancer.system.advance(59_999)
        assert.equal(await chat(client, {}, 'gpt-5'), 'west')
        assert.deepEqual(calls(), [2, 2])
      })
    }
  }

  test('missing everywhere: one attempt at the home is made and delivered, and costs one knock', async (t) => {
    const { east, west, client, calls } = await startEastAndWest(t, { maxWaitMs: 5_000 })
    east.always(answers(404, {}, apiError('DeploymentNotFound', 'in the east')))
    west.always(answers(404, {}, apiError('DeploymentNotFound', 'in the west')))
    await failure(chat(client))
    const before = calls()
    const told = await failure(chat(client))
    assertIsA(told, NotFoundError)
    assert.match(told.message, /in the east/)
    assert.deepEqual(calls(), [before[0] + 1, before[1]])
  })

  test('a 404 whose message quotes a model with a telling name is the caller\'s, as is one in words that only begin like a code', async (t) => {
    const messages = ['insufficient_quota', 'DeploymentNotFound', 'context_length_exceeded', 'PermissionDenied']
    await fc.assert(fc.asyncProperty(fc.constantFrom(...messages), fc.constantFrom(400, 404, 422), fc.boolean(), async (word, status, isString) => {
      const world = await startEastAndWest(t, {}, keys)
      const message = `The model ${word} "${word}" {"code":"${word}"} does not exist`
      const body = isString ? { error: message } : error('not_found', { message, type: `${word}s`, param: word })
      world.east.always(answers(status, {}, body))
      const response = await ask(world)
      assert.deepEqual([response.status, await response.json()], [status, body])
      assert.deepEqual(world.calls(), [1, 0])
      assert.equal(world.status()[0].out, undefined)
    }), { seed: SEED, numRuns: 12 })
  })

  test('a 404 to GET and HEAD is looked into and delivered', async (t) => {
    const world = await startEastAndWest(t)
    world.east.always(answers(404, {}, apiError('not_found')))
    world.west.always(answers(200, {}, { object: 'list', data: [] }))
    for (const method of ['GET', 'HEAD']) {
      const response = await ask(world, 'models/gpt-5', { method })
      assert.deepEqual([response.status, (await response.text()).length > 0], [404, method === 'GET'])
    }
    assert.deepEqual(world.calls(), [2, 0])
  })
})

describe('an account without money', () => {
  const cases: [number, object, Record<string, string>][] = [
    [402, error('whatever'), {}], [429, error('insufficient_quota', { type: 'insufficient_quota' }), {}], [429, error('insufficient_quota'), { 'retry-after': '7' }],
    [429, { error: 'insufficient_quota' }, {}], [400, error('billing_hard_limit_reached'), {}],
  ]
  for (const [status, body, headers] of cases) {
    test(`${status} ${JSON.stringify(body)} ${JSON.stringify(headers)} with our key: on to the next; the backend is out from a minute up, with one probe`, async (t) => {
      const { east, balancer, client, status: statuses, calls } = await startEastAndWest(t, {}, keys)
      east.always(answers(status, headers, body))
      assert.equal(await chat(client), 'west')
      for (const minutes of [1, 2, 4, 8, 15, 15]) {
        await until(() => statuses()[0].out?.reason === 'exhausted', 'the 429\'s body is read')
        const [{ out, scopes }] = statuses()
        assert.deepEqual([(out?.until ?? 0) - balancer.system.wallNow(), scopes[0]?.state], [minutes * 60_000, 'available'])
        balancer.system.advance(minutes * 60_000 - 1)
        assert.equal(await chat(client, {}, 'another'), 'west')
        balancer.system.advance(1)
        const before = east.calls.length
        assert.deepEqual(await Promise.all([chat(client), chat(client), chat(client)]), ['west', 'west', 'west'])
        assert.equal(east.calls.length, before + 1)
        await until(() => statuses()[0].state === 'ejected')
      }
      east.always(says('east'))
      balancer.system.advance(15 * 60_000)
      assert.equal(await chat(client), 'east')
      assert.equal(statuses()[0].out, undefined)
      assert.ok(calls()[0] > 6)
    })

    test(`the same, alone: the backend's own answer, byte for byte, again and again`, async (t) => {
      const world = await startEastAndWest(t, {}, [{ apiKey: 'of-east' }, { enabled: false }])
      const raw = `${JSON.stringify(body, null, 2)}\n`
      world.east.always(answers(status, { ...headers, 'x-request-id': 'req-1', 'content-type': 'application/json; charset=utf-8' }, raw))
      for (let i = 0; i < 3; i++) {
        const response = await ask(world)
        assert.deepEqual([response.status, response.headers.get('x-request-id'), response.headers.get('content-type'), response.headers.get('retry-after'), await response.text()],
          [status, 'req-1', 'application/json; charset=utf-8', headers['retry-after'] ?? null, raw])
      }
      assert.deepEqual(world.calls(), [3, 0])
    })
  }

  for (const [shape, send] of shapes) {
    test(`told in a 429 ${shape}`, async (t) => {
      const { east, client, status } = await startEastAndWest(t, {}, keys)
      east.always(send(429, error('insufficient_quota')))
      assert.equal(await chat(client), 'west')
      await until(() => status()[0].out?.reason === 'exhausted')
      assert.deepEqual([status()[0].out?.errorCode, status()[0].scopes[0]?.cooldownMs], ['insufficient_quota', 0])
    })
  }

  test('a tenant\'s own: nobody else notices', async (t) => {
    const { east, balancer, client, status, calls } = await startEastAndWest(t)
    const poor = azureClient(east.url, balancer, { apiKey: 'poor' })
    east.always((call) => (call.request.headers['api-key'] === 'poor' ? answers(429, {}, error('insufficient_quota')) : says('east'))(call))
    assert.equal(await chat(poor), 'west')
    await until(() => status()[0].callersOut === 1)
    for (let i = 0; i < 3; i++) {
      assert.equal(await chat(client), 'east')
      assert.equal(await chat(poor), 'west')
    }
    assert.deepEqual(calls(), [4, 4])
    assert.deepEqual([status()[0].out, status()[0].scopes[0]?.out], [undefined, undefined])
  })

  test('both: the caller reads the last one\'s words, not ours', async (t) => {
    const { east, west, client, status } = await startEastAndWest(t, { maxWaitMs: 10_000 }, keys)
    east.always(answers(429, {}, error('insufficient_quota', { message: 'in the east' })))
    west.always(answers(429, {}, error('insufficient_quota', { message: 'in the west' })))
    const told = await failure(chat(client))
    assertIsA(told, RateLimitError)
    assert.match(told.message, /in the west/)
    await until(() => status().every(({ out }) => out?.reason === 'exhausted'))
  })
})

describe('a request that is larger than a limit', () => {
  const tooLarge = error('rate_limit_exceeded', {
    type: 'tokens', message: 'Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 61337. The input or output tokens must be reduced.',
  })
  const room = { 'x-ratelimit-remaining-requests': '499', 'x-ratelimit-remaining-tokens': '29999' }
  for (const headers of [{}, room] as Record<string, string>[]) {
    for (const [shape, send] of [...shapes.slice(0, 5), ['with these headers', (status: number, body: object): Answer => answers(status, headers, body)]] as typeof shapes) {
      if (shape !== 'with these headers' && headers === room) continue
      test(`429 with ${JSON.stringify(headers)} ${shape}: nothing is out, and the caller reads why`, async (t: TestContext) => {
        for (const maxWaitMs of [0, 5_000]) {
          const world = await startEastAndWest(t, { maxWaitMs })
          const { east, west, client, calls } = world
          east.always(send(429, tooLarge))
          west.always(send(429, tooLarge))
          const told = await failure(chat(client))
          assertIsA(told, RateLimitError)
          assert.match(told.message, /Requested 61337/)
          assert.deepEqual(calls(), [1, 1])
          await until(() => world.status().every(({ out, scopes }) => out === undefined && scopes.every((scope) => scope.out === undefined)))
          east.always(says('east'))
          assert.equal(await chat(client), 'east')
        }
      })
    }
  }

  test('where the next has room for it, that one answers', async (t) => {
    const { east, client, status } = await startEastAndWest(t)
    east.always(answers(429, {}, tooLarge))
    assert.equal(await chat(client), 'west')
    await until(() => status()[0].scopes.every(({ out }) => out === undefined))
  })

  test('with a retry header the beginning of its message still says it', async (t) => {
    const { east, client, status } = await startEastAndWest(t)
    east.always(answers(429, { 'retry-after': '20' }, tooLarge))
    assert.equal(await chat(client), 'west')
    await until(() => status()[0].scopes.every(({ out }) => out === undefined))
  })
})

describe('a request that is too long', () => {
  const tooLong = error('context_length_exceeded', { param: 'messages' })
  for (const [shape, send] of shapes.slice(0, 6)) {
    test(`told ${shape}: it goes to the one that takes more`, async (t) => {
      const { east, client, status, calls } = await startEastAndWest(t, {}, [{}, { largerContext: true }])
      east.always(send(400, tooLong))
      assert.equal(await chat(client), 'west')
      assert.deepEqual(calls(), [1, 1])
      assert.deepEqual(status().map(({ out }) => out), [undefined, undefined])
    })
  }

  test('none takes more: the answer is the caller\'s', async (t) => {
    const { east, client, calls } = await startEastAndWest(t)
    east.always(answers(400, {}, tooLong))
    const told = await failure(chat(client))
    assertIsA(told, BadRequestError)
    assert.equal(told.code, 'context_length_exceeded')
    assert.deepEqual(calls(), [1, 0])
  })

  test('the content filter\'s 400 never moves', async (t) => {
    const { east, client, calls } = await startEastAndWest(t, {}, [{}, { largerContext: true }])
    east.always(answers(400, {}, { error: { code: 'content_filter', message: 'context_length_exceeded', param: 'prompt', type: null, status: 400, innererror: { code: 'context_length_exceeded' } } }))
    assertIsA(await failure(chat(client)), BadRequestError)
    assert.deepEqual(calls(), [1, 0])
  })
})

describe('when to come back', () => {
  test('"at once", again and again, by both for 1.5 s: all who can wait for 3 s are served', async (t) => {
    const { east, west, balancer, client, calls } = await startEastAndWest(t, { maxWaitMs: 3_000 })
    const full = answers(429, { 'retry-after': '0' })
    east.always(full)
    west.always(full)
    let left = 8
    const all = Promise.all(Array.from({ length: 8 }, async () => chat(client).finally(() => left--)))
    const { system } = balancer
    await until(() => balancer.status().waiting > 0)
    for (let ms = 0; ms < 4_000 && left > 0; ms += 10) {
      if (ms === 1_500) for (const backend of [east, west]) backend.always(says('well'))
      await until(() => balancer.status().waiting + east.calls.length > 0 && balancer.status().backends.every(({ inFlight }) => inFlight === 0))
      system.advance(10)
    }
    assert.deepEqual(await within(all, 'all are served'), Array.from({ length: 8 }, () => 'well'))
    assert.ok(calls()[0] + calls()[1] <= 8 + 40, `${calls().join(' and ')} calls`)
  })

  const wall = Date.UTC(2026, 0, 1)
  const forms: [Record<string, string>, number][] = [
    [{ 'retry-after': '30s' }, 30_000], [{ 'retry-after': '00:00:30' }, 30_000], [{ 'retry-after': '5, 30' }, 30_000], [{ 'retry-after': '30 seconds' }, 30_000],
    [{ 'retry-after': new Date(wall + 630_000).toUTCString(), date: new Date(wall + 600_000).toUTCString() }, 30_000],
    [{ 'retry-after': new Date(wall - 270_000).toUTCString(), date: new Date(wall - 300_000).toUTCString() }, 30_000],
    [{ 'retry-after': new Date(wall + 330_000).toUTCString(), date: new Date(wall + 300_000).toUTCString() }, 30_000],
  ]
  for (const [headers, ms] of forms) {
    test(`${JSON.stringify(headers)} is ${ms} ms, whatever our clock says`, async (t) => {
      const world = await startEastAndWest(t)
      world.east.always(answers(429, headers))
      assert.equal(await chat(world.client), 'west')
      assert.equal(scopeOf(world, 'gpt-4o')?.cooldownMs, ms)
    })
  }

  test('in more than a minute: our 429 says so, and that no SDK should come back before', async (t) => {
    for (const [ms, stop] of [[60_000, null], [60_100, 'false'], [3_600_000, 'false']] as const) {
      const world = await startEastAndWest(t, { maxCooldownMs: 86_400_000 })
      for (const backend of [world.east, world.west]) backend.always(answers(429, { 'retry-after-ms': String(ms) }))
      const response = await ask(world)
      assert.deepEqual([response.status, response.headers.get('x-should-retry')], [429, Number(response.headers.get('retry-after-ms')) > 60_000 ? 'false' : stop])
      assert.ok(Number(response.headers.get('retry-after-ms')) >= ms)
      await response.text()
      const before = world.calls()
      assertIsA(await failure(chat(openaiClient(`${world.east.url}/openai/deployments/gpt-4o`, world.balancer, { maxRetries: stop === null ? 0 : 2 }))), APIError)
      assert.deepEqual(world.calls(), before)
    }
  })
})
