/**
 * Seen: a request that may not move (a stateful path, or a body that was too long to keep) and was answered 429, 5xx or 401, or
 * failed, came to its end without any event: neither `answered` nor `exhausted`.
 */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { request } from 'undici'
import { subscribe, type ExhaustedEvent } from '../../src/telemetry/events.js'
import { answers, failure, says, startEastAndWest, type Answer, type EastAndWest } from '../support/east-and-west.js'
import { chat } from '../support/openai-clients.js'

type Told = readonly [event: 'answered' | 'exhausted' | 'failover', what: number | ExhaustedEvent['reason'] | string]

function listen (t: TestContext): Told[] {
  const told: Told[] = []
  const stops = [
    subscribe('answered', ({ backend, status }) => { told.push(['answered', backend === 'east' ? status : `${backend} ${status}`]) }),
    subscribe('exhausted', ({ reason }) => { told.push(['exhausted', reason]) }),
    subscribe('failover', ({ to }) => { told.push(['failover', to ?? '-']) }),
  ]
  t.after(() => { for (const stop of stops) stop() })
  return told
}

const start = (t: TestContext, east: Answer, maxReplayBytes = 10): Promise<EastAndWest> => startEastAndWest(t, { maxReplayBytes }, [{ apiKey: 'east' }, { apiKey: 'west' }]).then((world) => {
  world.east.always(async (call) => {
    await call.request.body().catch(() => {})
    return east(call)
  })
  return world
})

/** More than is kept, and of a length that is not known before. */
async function * longBody (): AsyncGenerator<Buffer> {
  yield Buffer.alloc(50, 'x')
}

const ways: readonly [name: string, reason: ExhaustedEvent['reason'], send: (world: EastAndWest) => Promise<unknown>][] = [
  ['a stateful path, by the SDK', 'bound', ({ client }) => client.files.list()],
  ['a stateful path, by fetch', 'bound', ({ east, balancer }) => fetch(`${east.url}/openai/v1/batches?limit=2`, { dispatcher: balancer } as unknown as RequestInit)],
  ['a body too long to keep, by undici', 'not-replayable', ({ east, balancer }) => request(`${east.url}/openai/v1/responses`, { method: 'POST', body: longBody() as never, dispatcher: balancer }).then(({ body }) => body.dump())],
]

for (const [name, reason, send] of ways) {
  describe(name, () => {
    const notDelivered: readonly [status: number, headers: Record<string, string>][] = [[429, { 'retry-after': '30' }], [429, {}], [503, { 'retry-after': '30' }], [500, {}], [408, {}], [401, {}], [403, {}]]
    for (const [status, headers] of notDelivered) {
      test(`answered ${status} ${JSON.stringify(headers)} is told, and why it went no further`, async (t) => {
        const told = listen(t)
        const world = await start(t, answers(status, headers))
        await send(world).catch(() => {})
        assert.deepEqual(told, [['answered', status], ['exhausted', reason]])
        assert.deepEqual(world.calls(), [1, 0])
      })
    }

    test('that fails without an answer is told as well', async (t) => {
      const told = listen(t)
      const world = await start(t, (call) => { call.reset() })
      await failure(send(world))
      assert.deepEqual(told, [['exhausted', reason]])
    })

    for (const status of [200, 400, 404]) {
      test(`answered ${status}, which is the caller's in any case, is told as an answer alone`, async (t) => {
        const told = listen(t)
        await send(await start(t, answers(status))).catch(() => {})
        assert.deepEqual(told, [['answered', status]])
      })
    }
  })
}

test('a request that may move goes on, and is told so', async (t) => {
  const told = listen(t)
  const { client } = await start(t, answers(500), 1_000)
  assert.equal(await chat(client), 'west')
  assert.deepEqual(told, [['failover', 'west'], ['answered', 'west 200']])
})

test('a long body of which nothing was read yet may move', async (t) => {
  const told = listen(t)
  const world = await start(t, says('east'))
  const { url } = world.east
  await world.east.close()
  const { body } = await request(`${url}/openai/v1/responses`, { method: 'POST', body: longBody() as never, dispatcher: world.balancer })
  await body.dump()
  assert.deepEqual(told, [['failover', 'west'], ['answered', 'west 200']])
})
