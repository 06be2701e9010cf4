/** What one request says of itself, as clients say it: the `openai` package, fetch, undici's own functions, and from inside a mock. */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { BadRequestError, RateLimitError } from 'openai'
import { MockAgent, request, type Dispatcher } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import { withTraffic } from '../../src/traffic.js'
import { answers, assertIsA, failure, says, startEastAndWest, type EastAndWest } from '../support/east-and-west.js'
import { MAJORS, type Undici } from '../support/majors.js'
import { azureClient, chat, openaiClient } from '../support/openai-clients.js'
import { until } from '../support/until.js'

const WAIT = 'x-balancer-max-wait-ms'

/** Both backends are full for four seconds. */
async function startFull(t: TestContext, options: Parameters<typeof startEastAndWest>[1] = {}, undici?: Undici): Promise<EastAndWest> {
  const it = await startEastAndWest(t, { requestHeaders: true, ...undici !== undefined && { dispatcher: new undici.Agent() }, ...options })
  for (const backend of [it.east, it.west]) backend.always(answers(429, { 'retry-after-ms': '4000' }))
  return it
}

/** The request is held, and answered well as soon as there is room. */
async function letGo({ balancer, east }: EastAndWest): Promise<void> {
  await until(() => balancer.status().waiting === 1, 'the request waits')
  east.always(says('east'))
  balancer.system.advance(4_001)
}

/** None of the requests that backends got has a header of ours. */
function assertRemoved({ east, west }: EastAndWest): void {
  const calls = [...east.calls, ...west.calls]
  assert.ok(calls.length > 0)
  for (const { request } of calls) assert.deepEqual(Object.keys(request.headers).filter((name) => name.startsWith('x-balancer')), [])
}

describe('the openai package', () => {
  test('has one call wait by a header of it, and no other', async (t) => {
    const it = await startFull(t)
    const answer = chat(it.client, { headers: { [WAIT]: '5000' } })
    await letGo(it)
    assert.equal(await answer, 'east')
    assert.equal(it.east.calls.length, 2)
    assertRemoved(it)
    assert.ok(it.east.calls.every(({ request }) => request.headers['x-stainless-lang'] === 'js' && request.headers['api-key'] === 'callers-key'))
    it.east.always(answers(429, { 'retry-after-ms': '4000' }))
    assertIsA(await failure(chat(it.client)), RateLimitError)
  })

  test('has all its calls wait by a header of the client', async (t) => {
    const it = await startFull(t)
    const answer = chat(azureClient(it.east.url, it.balancer, { defaultHeaders: { 'X-Balancer-Max-Wait-Ms': '5000' } }))
    await letGo(it)
    assert.equal(await answer, 'east')
  })

  test('has what is called in withTraffic wait, without the option', async (t) => {
    const it = await startFull(t, { requestHeaders: false })
    const answer = withTraffic({ maxWaitMs: 5_000 }, () => chat(it.client))
    await letGo(it)
    assert.equal(await answer, 'east')
    assert.equal(await chat(it.client, { headers: { [WAIT]: 'ignored' } }), 'east')
    assertRemoved(it)
  })

  test('gets a BadRequestError for what cannot be understood, and does not try again', async (t) => {
    const it = await startEastAndWest(t, { requestHeaders: true })
    let dispatched = 0
    const { dispatch } = it.balancer
    it.balancer.dispatch = (opts, handler) => {
      dispatched++
      return dispatch.call(it.balancer, opts, handler)
    }
    for (const [name, value] of [[WAIT, '-1'], ['x-balancer-deadline', '5'], ['x-balancer-stream', 'no']] as const) {
      dispatched = 0
      const error = await failure(chat(it.client, { maxRetries: 2, headers: { [name]: value } }))
      assertIsA(error, BadRequestError)
      assert.deepEqual([error.param, error.type, dispatched], [name, 'invalid_request_error', 1])
      assert.match(error.message, new RegExp(`${name} .*Received: "${value}"`))
    }
    assert.deepEqual([it.calls(), it.status().map(({ attempts, state }) => [attempts, state])], [[0, 0], [[0, 'available'], [0, 'available']]])
    it.east.always(says('east'))
    assert.equal(await chat(it.client), 'east')
  })

})

describe('fetch of Node', () => {
  test('gets the 400 also for a body that is streamed without end, of which nothing is left behind', async (t) => {
    const it = await startEastAndWest(t, { requestHeaders: true })
    const response = await fetch(`${it.east.url}/openai/v1/files`, {
      method: 'POST', duplex: 'half', headers: { [WAIT]: 'x' }, dispatcher: it.balancer,
      body: new ReadableStream({ pull: (controller) => { controller.enqueue(Buffer.alloc(1_024)) } }),
    } as unknown as RequestInit)
    assert.deepEqual([response.status, (await response.json() as { error: { param: string } }).error.param], [400, WAIT])
    assert.deepEqual([it.calls(), it.balancer.engine.requests.size], [[0, 0], 0])
  })
})

for (const [name, undici] of MAJORS) {
  const ways: readonly (readonly [way: string, send: (url: string, dispatcher: Dispatcher, value: string) => Promise<number>])[] = [
    ['its fetch', async (url, dispatcher, value) => drain(await undici.fetch(url, { method: 'POST', body: '{}', headers: { 'X-Balancer-Max-Wait-Ms': value }, dispatcher }))],
    ['its fetch with Headers', async (url, dispatcher, value) => drain(await undici.fetch(url, { method: 'POST', body: '{}', headers: new undici.Headers([[WAIT, value]]), dispatcher }))],
    ['request with an object', (url, dispatcher, value) => requestWith({ 'X-Balancer-Max-Wait-Ms': value, 'Accept': 'a' }, url, dispatcher)],
    ['request with a flat array', (url, dispatcher, value) => requestWith(['Accept', 'a', 'X-Balancer-Max-Wait-Ms', value], url, dispatcher)],
    ['request with a Map', (url, dispatcher, value) => requestWith(new Map([['X-Balancer-Max-Wait-Ms', value], ['Accept', 'a']]), url, dispatcher)],
    ['request with an iterable', (url, dispatcher, value) => requestWith((function* () { yield ['Accept', 'a'] as [string, string]; yield [WAIT, value] as [string, string] })(), url, dispatcher)],
    ['pipeline', (url, dispatcher, value) => new Promise((resolve, reject) => {
      let status = 0
      undici.pipeline(url, { method: 'POST', headers: { [WAIT]: value }, dispatcher }, ({ statusCode, body }) => {
        status = statusCode
        return body
      }).on('error', reject).on('end', () => { resolve(status) }).end('{}').resume()
    })],
  ]

  async function drain(response: { readonly status: number; text(): Promise<string> }): Promise<number> {
    await response.text()
    return response.status
  }

  async function requestWith(headers: unknown, url: string, dispatcher: Dispatcher): Promise<number> {
    const { statusCode, body } = await undici.request(url, { method: 'POST', body: '{}', headers: headers as Record<string, string>, dispatcher })
    await body.dump()
    return statusCode
  }

  describe(`${name}:`, () => {
    for (const [way, send] of ways) {
      test(`${way} has one request wait by a header, which no backend sees`, async (t) => {
        const it = await startFull(t, {}, undici)
        const answer = send(`${it.east.url}/x`, it.balancer, '5000')
        await letGo(it)
        assert.equal(await answer, 200)
        assertRemoved(it)
        assert.equal(it.east.calls.length + it.west.calls.length, 3)
      })

      test(`${way} gets the 400`, async (t) => {
        const it = await startFull(t, {}, undici)
        assert.equal(await send(`${it.east.url}/x`, it.balancer, '5 s'), 400)
        assert.deepEqual(it.calls(), [0, 0])
      })
    }

    test('withTraffic covers fetch and request', async (t) => {
      const it = await startFull(t, {}, undici)
      const sent = withTraffic({ maxWaitMs: 5_000 }, async () => {
        const first = await requestWith({}, `${it.east.url}/x`, it.balancer)
        return [first, await drain(await undici.fetch(`${it.east.url}/x`, { dispatcher: it.balancer }))]
      })
      await letGo(it)
      assert.deepEqual(await sent, [200, 200])
    })
  })
}

describe('a MockAgent inside', () => {
  test('sees requests without the headers, and none that is refused', async () => {
    const mock = new MockAgent({ enableCallHistory: true })
    mock.disableNetConnect()
    mock.get('https://east.example').intercept({ path: '/v1/chat/completions', method: 'POST' }).reply(200, { choices: [{ message: { content: 'mocked' } }] }, { headers: { 'content-type': 'application/json' } }).persist()
    const balancer = new PriorityBalancer({ backends: [{ url: 'https://east.example/v1', priority: 1 }], dispatcher: mock, requestHeaders: true, logger: false })
    const client = openaiClient('https://east.example/v1', balancer)
    assert.equal(await chat(client, { headers: { [WAIT]: '5000' } }), 'mocked')
    assertIsA(await failure(chat(client, { headers: { [WAIT]: 'x' } })), BadRequestError)
    const calls = mock.getCallHistory()?.calls() ?? []
    assert.equal(calls.length, 1)
    assert.ok(!JSON.stringify(calls[0]?.headers).toLowerCase().includes('x-balancer'))
    await balancer.close()
    await mock.close()
  })
})

test('a request that is not balanced keeps its headers on the wire', async (t) => {
  const it = await startEastAndWest(t, { requestHeaders: true, intercept: ['https://made.up'] })
  it.east.always(says('east'))
  await (await request(`${it.east.url}/x`, { headers: { 'X-Balancer-Max-Wait-Ms': 'what?' }, dispatcher: it.balancer })).body.dump()
  assert.equal(it.east.calls[0]?.request.headers[WAIT], 'what?')
})
