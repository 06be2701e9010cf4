/** Refused credentials, ours and the callers': who is out for how long, and who is never let in. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { APIError, AuthenticationError, PermissionDeniedError, RateLimitError } from 'openai'
import { pino } from 'pino'
import { request } from 'undici'
import { subscribe, type BalancerEventName, type BalancerEvents } from '../../src/telemetry/events.js'
import { answers, assertIsA, failure, says, startEastAndWest, type Answer } from '../support/east-and-west.js'
import { apiError, azureClient, chat, openaiClient } from '../support/openai-clients.js'
import { startScriptedBackend } from '../support/scripted-backend.js'
import { until } from '../support/until.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'

const denied = { error: { code: 'PermissionDenied', message: 'The principal lacks the required data action.' } }

/** By the key that comes with the call. */
const byKey = (ofKeys: Record<string, Answer>, other: Answer): Answer => (call) => (ofKeys[String(call.request.headers['api-key'] ?? call.request.headers.authorization)] ?? other)(call)

test('callers are told apart by a key in the query, in the path or beside it, and by nothing else in there', async (t) => {
  for (const isBeside of [false, true]) {
    const { east, balancer, calls } = await startEastAndWest(t)
    east.always((call) => (call.request.path.includes('code=poor') ? answers(402) : says('east'))(call))
    const ask = async (code: string, more: string): Promise<void> => {
      const path = '/openai/deployments/gpt-4o/chat/completions'
      const query = { code, more }
      const url = isBeside ? `${east.url}${path}` : `${east.url}${path}?${String(new URLSearchParams(query))}`
      const { body } = await request(url, { method: 'POST', body: '{}', dispatcher: balancer, ...(isBeside && { query }) })
      await body.dump()
    }
    await ask('poor', '1')
    assert.deepEqual(calls(), [1, 1])
    await ask('poor', '2')
    assert.deepEqual(calls(), [1, 2], 'east is out for it')
    await ask('rich', '1')
    assert.deepEqual(calls(), [2, 2])
  }
})

describe('our own credential', () => {
  test('a key function gives an old key once: out for a second, longer each time, and asked for another key', async (t) => {
    let key = 'old'
    const asked: unknown[] = []
    const { east, balancer, client, status } = await startEastAndWest(t, {}, [{ apiKey: (context?: unknown) => { asked.push(context); return key } }, {}])
    east.always(byKey({ fresh: says('east') }, answers(401, {}, apiError('invalid_api_key'))))
    for (const ms of [1_000, 2_000, 4_000]) {
      assert.equal(await chat(client), 'west')
      const { out, cooldownMs } = status()[0]
      assert.equal(out?.reason, 'credential')
      assert.ok(cooldownMs >= ms && cooldownMs <= 1.5 * ms, `${cooldownMs} ms`)
      balancer.system.advance(cooldownMs)
    }
    key = 'fresh'
    assert.equal(await chat(client), 'east')
    assert.equal(status()[0].out, undefined)
    assert.deepEqual(asked.slice(1), [{ refused: true }, { refused: true }, { refused: true }])
    key = 'old'
    assert.equal(await chat(client), 'west')
    assert.ok(status()[0].cooldownMs <= 1_500)
  })

  test('a 403 for images that names no model puts the images out, and chats go on', async (t) => {
    const { east, balancer, status } = await startEastAndWest(t, {}, [{ apiKey: 'of-east' }, { apiKey: 'of-west' }])
    const client = openaiClient(`${east.url}/v1`, balancer)
    east.always((call) => (call.request.path.includes('images') ? answers(403, {}, apiError('forbidden')) : says('east'))(call))
    await client.images.generate({ model: 'gpt-image-1', prompt: 'a cat' })
    assert.equal(await chat(client), 'east')
    const [{ out, scopes }] = status()
    assert.deepEqual([out, scopes.map(({ scope, out: one }) => [scope, one?.reason])], [undefined, [['gpt-image-1', 'misconfigured'], ['gpt-4o', undefined]]])
  })

  for (const [shape, body] of [['as it is', { error: { code: 'unauthorized', param: 'model' } }], ['in gzip', gzipSync('{"error":{"param":"model"}}')]] as const) {
    test(`a 403 for a chat that names its model, ${shape}, puts that out`, async (t) => {
      const { east, client, status } = await startEastAndWest(t, {}, [{ apiKey: 'of-east' }, { apiKey: 'of-west' }])
      east.always((call) => (call.request.path.includes('gpt-5') ? answers(403, body instanceof Uint8Array ? { 'content-encoding': 'gzip' } : {}, body) : says('east'))(call))
      assert.equal(await chat(client, {}, 'gpt-5'), 'west')
      assert.equal(await chat(client), 'east')
      assert.equal(status()[0].out, undefined)
    })
  }

  test('a 403 with retry-after: 1 is throttled for a second', async (t) => {
    const { east, client, status } = await startEastAndWest(t, {}, [{ apiKey: 'of-east' }, { apiKey: 'of-west' }])
    east.always(answers(403, { 'retry-after': '1' }))
    assert.equal(await chat(client), 'west')
    assert.deepEqual([status()[0].state, status()[0].cooldownMs, status()[0].scopes[0]?.out?.reason], ['cooldown', 1_000, 'throttled'])
  })

  for (const status of [401, 403]) {
    test(`a ${status} outside the model API takes nothing out, be the key ours or the caller's`, async (t) => {
      for (const ofEach of [[{ apiKey: 'of-east' }, { apiKey: 'of-west' }], [{}, {}], [{}, { apiKey: 'of-west' }]] as [object, object][]) {
        const { east, west, balancer, client, status: statuses, calls } = await startEastAndWest(t, {}, ofEach)
        for (const backend of [east, west]) backend.always((call) => (call.request.path.includes('traces') ? answers(status) : says(backend === east ? 'east' : 'west'))(call))
        const traces = openaiClient(`${east.url}/v1`, balancer)
        for (let i = 0; i < 3; i++) assertIsA(await failure(traces.post('/traces/ingest', { body: { data: [] } })), APIError)
        assert.deepEqual(statuses().map(({ out, callersOut, scopes }) => [out, callersOut, scopes.flatMap((scope) => scope.out ?? [])]), [[undefined, 0, []], [undefined, 0, []]])
        const before = calls()
        assert.equal(await chat(client), 'east')
        assert.deepEqual(calls(), [before[0] + 1, before[1]])
        // Nor does it count against the caller when the first is full.
        east.always(answers(429))
        assert.equal(await chat(client), 'west')
      }
    })
  }
})

describe('a caller\'s own credential', () => {
  test('401 PermissionDenied to one token: on among those that get the same; no other token notices', async (t) => {
    const { east, balancer, client, status, calls } = await startEastAndWest(t)
    const bob = azureClient(east.url, balancer, { apiKey: 'bob' })
    east.always(byKey({ bob: answers(401, {}, denied) }, says('east')))
    for (let i = 0; i < 3; i++) assert.equal(await chat(bob), 'west')
    assert.deepEqual(calls(), [1, 3])
    assert.equal(await chat(client), 'east')
    assert.deepEqual([status()[0].callersOut, status()[0].out, status()[0].scopes[0]?.out], [1, undefined, undefined])
    balancer.system.advance(1_000)
    assert.equal(await chat(bob), 'west')
    balancer.system.advance(1_999)
    assert.equal(await chat(bob), 'west')
    assert.deepEqual(calls(), [3, 5])
    east.always(says('east'))
    balancer.system.advance(1)
    assert.equal(await chat(bob), 'east')
    assert.equal(status()[0].callersOut, 0)
  })

  const refusals: [number, object][] = [[401, apiError('invalid_api_key')], [401, denied], [403, apiError('forbidden')], [403, { error: 'forbidden' }], [401, { message: 'no error at all' }]]
  for (const [status, body] of refusals) {
    test(`${status} ${JSON.stringify(body)}: never let in on the next one's own key`, async (t) => {
      const { east, west, balancer, client, calls } = await startEastAndWest(t, {}, [{}, { apiKey: 'of-west' }])
      const mallory = azureClient(east.url, balancer, { apiKey: 'bad' })
      const refuse = byKey({ bad: answers(status, {}, body) }, says('east'))
      east.always(refuse)
      const isRefused = async (): Promise<void> => { assertIsA<APIError>(await failure(chat(mallory)), status === 401 ? AuthenticationError : PermissionDeniedError) }
      for (let i = 0; i < 4; i++) {
        await isRefused()
        balancer.system.advance(500 * i)
      }
      // The first is full for everybody at that moment.
      east.always(answers(429, { 'retry-after': '5' }))
      assert.equal(await chat(client), 'west')
      assertIsA(await failure(chat(mallory)), RateLimitError)
      balancer.system.advance(5_500)
      // Its own time is over.
      east.always(refuse)
      balancer.system.advance(120_000)
      await isRefused()
      // The first is down.
      east.always((call) => { call.reset() })
      assert.equal(await chat(client), 'west')
      assert.ok(await failure(chat(mallory)) instanceof APIError)
      assert.deepEqual(west.calls.map(({ request }) => request.headers['api-key']), west.calls.map(() => 'of-west'))
      assert.equal(calls()[1], 2, 'the good caller\'s two')
    })
  }

  test('the first such answer is told when none is left', async (t) => {
    const [east, mine, west] = await Promise.all([startScriptedBackend(), startScriptedBackend(), startScriptedBackend()])
    const balancer = new VirtualBalancer({
      backends: [{ url: east.url, priority: 1 }, { url: mine.url, priority: 2, apiKey: 'ours' }, { url: west.url, priority: 3 }], logger: false, maxAttempts: 5,
    })
    t.after(async () => { await Promise.all([balancer.destroy(), east.close(), mine.close(), west.close()]) })
    east.always(answers(403, { 'x-request-id': 'first' }, apiError('of_east')))
    west.always(answers(403, { 'x-request-id': 'second' }, apiError('of_west')))
    mine.always(says('mine'))
    const told = await failure(chat(azureClient(east.url, balancer)))
    assertIsA(told, PermissionDeniedError)
    assert.deepEqual([told.code, told.requestID], ['of_east', 'first'])
    assert.deepEqual([east.calls.length, mine.calls.length, west.calls.length], [1, 0, 1])
  })
})

describe('nothing of this is silent', () => {
  const cases: [what: string, event: BalancerEventName, status: number, body: object, ofEach: [object, object], reason: string][] = [
    ['a bill', 'ejected', 429, apiError('insufficient_quota'), [{ apiKey: 'a' }, { apiKey: 'b' }], 'exhausted'],
    ['a model', 'ejected', 404, apiError('model_not_found'), [{ apiKey: 'a' }, { apiKey: 'b' }], 'missing'],
    ['a key', 'ejected', 401, apiError('invalid_api_key'), [{ apiKey: 'a' }, { apiKey: 'b' }], 'misconfigured'],
    ['a caller\'s bill', 'caller-out', 402, apiError('insufficient_quota'), [{}, {}], 'exhausted'],
    ['a caller\'s key', 'caller-out', 401, denied, [{}, {}], 'refused'],
    ['a limit', 'cooldown', 429, apiError('rate_limit_exceeded'), [{}, {}], 'throttled'],
  ]
  for (const [what, event, status, body, ofEach, reason] of cases) {
    test(`${what}: an event and a log line with class, code, type and time, and in the status until when and why`, async (t) => {
      const lines: Record<string, unknown>[] = []
      const logger = pino({ level: 'warn', base: null }, { write: (line: string) => { lines.push(JSON.parse(line) as Record<string, unknown>) } })
      const { east, balancer, client, status: statuses } = await startEastAndWest(t, { logger }, ofEach)
      const events: BalancerEvents[BalancerEventName][] = []
      const stop = subscribe(event, (payload) => events.push(payload))
      t.after(stop)
      east.always(answers(status, {}, body))
      assert.equal(await chat(client), 'west')
      await until(() => events.length > 0)
      const told = { errorCode: undefined, errorType: undefined, ...JSON.parse(JSON.stringify(events[0])) as Record<string, unknown> } as Record<string, unknown>
      const { code, type } = (body as { error: { code: string; type?: string } }).error
      if (event !== 'cooldown') assert.deepEqual([told['errorCode'], told['errorType'], told['reason'] ?? told['outcome']], [code, type, reason])
      assert.ok(Number(told['cooldownMs']) >= 1_000)
      const line = lines.find((one) => one['event'] === event)
      assert.deepEqual({ ...line, ...JSON.parse(JSON.stringify(told)) as object }, line, 'all of it is in the log')
      assert.ok(typeof line?.['time'] === 'number')
      assert.ok(!JSON.stringify(line).includes('for the test') && !JSON.stringify(line).includes('principal'), 'never the text')
      const { out, scopes: [scope], callersOut } = statuses()[0]
      if (event === 'caller-out') assert.equal(callersOut, 1)
      else assert.deepEqual([(out ?? scope?.out)?.reason, (out ?? scope?.out)?.until], [reason, balancer.system.wallNow() + Number(told['cooldownMs'])])
    })
  }
})
