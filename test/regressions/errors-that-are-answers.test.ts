/**
 * Seen: inside a RetryAgent, `interceptors.retry()` or `interceptors.responseError()` every status became a failed connection. The
 * backend was ejected, its `retry-after` was lost, and a content filter's 400 went on to the next backend. Their errors carry
 * status and headers: they are answers. The caller gets the interceptor's error where no backend is left.
 */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { Agent, interceptors, request, RetryAgent, type Dispatcher } from 'undici'
import type { BackendOptions } from '../../src/options/index.js'
import { answers, failure, startEastAndWest, type Answer, type EastAndWest } from '../support/east-and-west.js'

/** Once more after a millisecond, and not as late as an answer asks for. */
const retries = { maxRetries: 1, minTimeout: 1, maxTimeout: 1, retryAfter: false, methods: ['POST' as const], statusCodes: [400, 401, 404, 408, 429, 500, 503] }

const dispatchers: readonly [name: string, make: () => Dispatcher, times: number][] = [
  ['a RetryAgent', () => new RetryAgent(new Agent(), retries), 2],
  ['interceptors.retry()', () => new Agent().compose(interceptors.retry(retries)), 2],
  ['interceptors.responseError()', () => new Agent().compose(interceptors.responseError()), 1],
]

async function start (t: TestContext, dispatcher: Dispatcher, east: Answer, ofEach: [Partial<BackendOptions>, Partial<BackendOptions>] = [{}, {}]): Promise<EastAndWest> {
  const world = await startEastAndWest(t, { dispatcher }, ofEach)
  world.east.always(east)
  return world
}

const send = ({ east, balancer }: EastAndWest): Promise<{ statusCode: number }> => request(`${east.url}/openai/deployments/gpt-4o/chat/completions`, {
  method: 'POST', body: '{}', headers: { 'content-type': 'application/json' }, dispatcher: balancer,
}).then(async (response) => {
  await response.body.dump()
  return response
})

/** What is known of a backend, in one word for each thing. */
const known = (backend: { state: string; throttled: number; failures: number; cooldownMs: number; scopes: readonly { state: string; cooldownMs: number }[] }): unknown => {
  return { host: backend.state === 'cooldown' ? 'available' : backend.state, scope: backend.scopes[0]?.state, scopeMs: Math.round(backend.scopes[0]?.cooldownMs ?? 0), throttled: backend.throttled, failures: backend.failures }
}

for (const [name, make, times] of dispatchers) {
  describe(`inside ${name}`, () => {
    test('a 429 cools the scope down for as long as it asks, and the next backend answers', async (t) => {
      const world = await start(t, make(), answers(429, { 'retry-after': '30' }))
      assert.equal((await send(world)).statusCode, 200)
      assert.deepEqual(known(world.status()[0]), { host: 'available', scope: 'cooldown', scopeMs: 30_000, throttled: 1, failures: 0 })
      assert.deepEqual(world.calls(), [times, 1])
    })

    test('a 503 that says when to come back is no failure either', async (t) => {
      const world = await start(t, make(), answers(503, { 'retry-after-ms': '700' }))
      assert.equal((await send(world)).statusCode, 200)
      assert.deepEqual(known(world.status()[0]), { host: 'available', scope: 'cooldown', scopeMs: 700, throttled: 1, failures: 0 })
    })

    test('one 500 does not take the backend out', async (t) => {
      const world = await start(t, make(), answers(500))
      assert.equal((await send(world)).statusCode, 200)
      assert.deepEqual(known(world.status()[0]), { host: 'available', scope: 'available', scopeMs: 0, throttled: 0, failures: 1 })
    })

    for (const status of [400, 404]) {
      test(`a ${status} is the caller's answer: no other backend is asked`, async (t) => {
        const world = await start(t, make(), answers(status))
        const error = await failure(send(world)) as { statusCode?: number }
        assert.equal(error.statusCode, status)
        assert.deepEqual(world.calls(), [times, 0])
        assert.deepEqual(known(world.status()[0]), { host: 'available', scope: 'available', scopeMs: 0, throttled: 0, failures: 0 })
      })
    }

    test('a 401 to a key of the backend\'s own takes it out as misconfigured', async (t) => {
      const world = await start(t, make(), answers(401), [{ apiKey: 'wrong' }, { apiKey: 'right' }])
      assert.equal((await send(world)).statusCode, 200)
      assert.equal(world.status()[0].cooldownMs, 60_000)
    })

    test('the interceptor\'s error is the caller\'s where no backend is left', async (t) => {
      const world = await start(t, make(), answers(500))
      world.west.always(answers(500, { 'x-last': 'west' }))
      const error = await failure(send(world)) as { statusCode?: number; code?: string; headers?: Record<string, string> }
      assert.equal(error.statusCode, 500)
      assert.match(String(error.code), /^UND_ERR_(REQ_RETRY|RESPONSE)$/)
      assert.equal(error.headers?.['x-last'], 'west')
    })

    test('what has no answer in it is a failed connection as before', async (t) => {
      const world = await start(t, make(), (call) => { call.reset() })
      assert.equal((await send(world)).statusCode, 200)
      assert.equal(world.status()[0].state, 'ejected')
    })
  })
}
