/** Answers that are held while they are looked into: what the caller notices of that is nothing. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { NotFoundError, RateLimitError } from 'openai'
import { MockAgent, type Dispatcher } from 'undici'
import { answers, assertIsA, failure, says, startEastAndWest, type EastAndWest } from '../support/east-and-west.js'
import { apiError, azureClient, chat, completion } from '../support/openai-clients.js'
import { recordingHandler, STYLES, type Recorder, type RecorderOptions, type Style } from '../support/recording-handler.js'
import type { ScriptedCall } from '../support/scripted-backend.js'
import { turns, until, within } from '../support/until.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'

const PATH = '/openai/deployments/gpt-4o/chat/completions'

/** Asks as undici's own functions do, with a handler of either style. */
function dispatch({ east, balancer }: EastAndWest, style: Style, options: RecorderOptions = {}, more: Partial<Dispatcher.DispatchOptions> = {}): Recorder {
  const recorder = recordingHandler(style, { optional: [], ...options })
  balancer.dispatch({ origin: east.url, path: PATH, method: 'POST', body: '{}', ...more } as Dispatcher.DispatchOptions, recorder.handler as unknown as Dispatcher.DispatchHandler)
  return recorder
}

const bodyOf = ({ events }: Recorder): string => events.flatMap((event) => (event[0] === 'data' ? [event[1]] : [])).join('')
const inFlight = ({ status }: EastAndWest): number[] => status().map((one) => one.inFlight)

/** Sends headers and a first piece, and waits until these have been read. */
async function begin(world: EastAndWest, status: number, piece: string, headers: Record<string, string> = {}): Promise<ScriptedCall> {
  const call = await world.east.next()
  call.head(status, { 'content-type': 'application/json', ...headers })
  await call.write(piece)
  await turns()
  return call
}

for (const style of STYLES) {
  describe(`an answer that is held, to a handler of the ${style} style`, () => {
    for (const status of [400, 401, 402, 403, 404, 410, 422]) {
      test(`${status} that is the caller's after all comes byte for byte, with its trailers`, async (t) => {
        const world = await startEastAndWest(t, {}, [{}, { enabled: status !== 402 && status !== 410 && status !== 403 }])
        const recorder = dispatch(world, style)
        const call = await begin(world, status, '{"error": {"co', { 'x-odd': 'a  b', trailer: 'x-sum' })
        await call.write('de":"not_found"}}')
        call.end(' \n', { 'x-sum': '7' })
        await within(recorder.done, 'the end')
        const [head] = recorder.events.filter(([kind]) => kind === 'headers')
        assert.equal(head?.[1], status)
        assert.ok((head?.[2] as string[]).join().includes('x-odd,a  b'))
        assert.equal(bodyOf(recorder), '{"error": {"code":"not_found"}} \n')
        assert.deepEqual(recorder.events.at(-1), ['end', ['x-sum', '7']])
        assert.equal(recorder.terminals, 1)
        assert.deepEqual([inFlight(world), world.calls()[1]], [[0, 0], 0])
      })
    }

    test('nothing is told before the end of its body', async (t) => {
      const world = await startEastAndWest(t)
      const recorder = dispatch(world, style)
      const call = await begin(world, 404, '{"error":')
      assert.deepEqual(recorder.events.map(([kind]) => kind), ['start'])
      call.end('{"code":"not_found"}}')
      await within(recorder.done, 'the end')
      assert.equal(bodyOf(recorder), '{"error":{"code":"not_found"}}')
    })

    test('a caller that pauses gets it piece by piece, and the end only then', async (t) => {
      const world = await startEastAndWest(t)
      const chunks: string[] = []
      const recorder = dispatch(world, style, { hooks: { headers: (self) => { self.pause() }, data: (self, chunk) => { chunks.push(String(chunk)); self.pause() } } })
      const call = await begin(world, 404, '{"error":')
      await call.write('{"code":')
      await turns()
      call.end('"not_found"}}')
      await until(() => recorder.events.some(([kind]) => kind === 'headers'))
      for (const expected of [1, 2, 3]) {
        await turns()
        assert.equal(chunks.length, expected - 1)
        assert.equal(recorder.terminals, 0)
        recorder.resume()
      }
      await turns()
      if (recorder.terminals === 0) recorder.resume()
      await within(recorder.done, 'the end')
      assert.deepEqual(chunks, ['{"error":', '{"code":', '"not_found"}}'])
      assert.deepEqual(inFlight(world), [0, 0])
    })

    test('16 KiB are enough: it is the caller\'s from there, and what follows is not read faster than it is taken', async (t) => {
      const world = await startEastAndWest(t)
      const recorder = dispatch(world, style, { hooks: { headers: (self) => { self.pause() } } })
      const call = await begin(world, 404, 'x'.repeat(17_000))
      await until(() => recorder.events.some(([kind]) => kind === 'headers'))
      const rest = call.write('y'.repeat(30_000_000))
      await turns(50)
      assert.equal(bodyOf(recorder), '')
      recorder.resume()
      await within(rest, 'the rest is taken')
      call.end()
      await within(recorder.done, 'the end')
      assert.equal(recorder.bytes, 30_017_000)
    })

    for (const status of [403, 404]) {
      test(`deadlineMs ends the look and no more: the ${status} that is there is the caller's`, async (t) => {
        const world = await startEastAndWest(t, { deadlineMs: 300 })
        const recorder = dispatch(world, style)
        const call = await begin(world, status, '{"error":')
        world.balancer.system.advance(299)
        assert.deepEqual(recorder.events.map(([kind]) => kind), ['start'])
        world.balancer.system.advance(1)
        assert.equal(recorder.events.find(([kind]) => kind === 'headers')?.[1], status)
        call.end('{"code":"model_not_found"}}')
        await within(recorder.done, 'the end')
        assert.equal(bodyOf(recorder), '{"error":{"code":"model_not_found"}}')
        assert.deepEqual([recorder.terminals, inFlight(world), world.calls()[1]], [1, [0, 0], 0])
      })
    }

    test('a second is enough: it is the caller\'s from there', async (t) => {
      const world = await startEastAndWest(t)
      const recorder = dispatch(world, style)
      const call = await begin(world, 404, '{"error":')
      world.balancer.system.advance(999)
      assert.equal(recorder.events.length, 1)
      world.balancer.system.advance(1)
      assert.equal(bodyOf(recorder), '{"error":')
      call.end('{"code":"model_not_found"}}')
      await within(recorder.done, 'the end')
      assert.deepEqual([bodyOf(recorder), world.calls(), inFlight(world)], ['{"error":{"code":"model_not_found"}}', [1, 0], [0, 0]])
    })

    test('an abort while it is held reaches the wire, and counts are settled', async (t) => {
      const world = await startEastAndWest(t)
      const recorder = dispatch(world, style)
      const call = await begin(world, 404, '{"error":')
      const reason = new Error('changed my mind')
      recorder.abort(reason)
      await within(call.aborted, 'the abort reaches the wire')
      await within(recorder.done, 'the end')
      assert.deepEqual([recorder.error, recorder.terminals, inFlight(world), world.calls(), world.balancer.system.pending], [reason, 1, [0, 0], [1, 0], 0])
      assert.deepEqual([world.status()[0].failures, world.status()[0].out], [0, undefined])
    })

    test('an abort while a 429 of the only backend is held does the same', async (t) => {
      const world = await startEastAndWest(t, {}, [{}, { enabled: false }])
      const recorder = dispatch(world, style)
      const call = await begin(world, 429, '{"error":')
      assert.equal(recorder.events.length, 1)
      recorder.abort(new Error('changed my mind'))
      await within(call.aborted, 'the abort reaches the wire')
      await within(recorder.done, 'the end')
      assert.deepEqual([recorder.terminals, inFlight(world), world.balancer.system.pending], [1, [0, 0], 0])
    })

    for (const status of [403, 404]) {
      test(`${status} that breaks off while it is held: on to the next`, async (t) => {
        const world = await startEastAndWest(t)
        const recorder = dispatch(world, style)
        const call = await begin(world, status, '{"error":')
        call.reset()
        await within(recorder.done, 'the end')
        assert.deepEqual([bodyOf(recorder), recorder.terminals, world.calls(), inFlight(world)], [JSON.stringify(completion('west')), 1, [1, 1], [0, 0]])
        assert.equal(world.status()[0].failures, 1)
      })
    }

    test('a 429 of the only backend that breaks off while it is held: our own', async (t) => {
      const world = await startEastAndWest(t, {}, [{}, { enabled: false }])
      const recorder = dispatch(world, style)
      const call = await begin(world, 429, '{"error":', { 'retry-after': '7' })
      call.reset()
      await within(recorder.done, 'the end')
      assert.match(bodyOf(recorder), /no backend is available right now/)
      assert.deepEqual([recorder.terminals, inFlight(world)], [1, [0, 0]])
    })
  })
}

describe('nothing is held', () => {
  const cases: [string, number, Parameters<typeof startEastAndWest>[1], Parameters<typeof startEastAndWest>[2]][] = [
    ['of a backend that is alone', 403, {}, [{}, { enabled: false }]], ['of one that is alone, with our key', 401, {}, [{ apiKey: 'of-east' }, { enabled: false }]],
    ['of the only one that has the model', 404, {}, [{ serves: ['gpt-4o'] }, { serves: ['another'] }]], ['where no more attempts are left', 404, { maxAttempts: 1 }, [{}, {}]],
    ['of what no other backend could answer better', 409, {}, [{}, {}]], ['of what no other backend could answer better', 418, {}, [{}, {}]],
  ]
  for (const [where, status, options, ofEach] of cases) {
    test(`${where}: ${status}`, async (t) => {
      const world = await startEastAndWest(t, options, ofEach)
      const recorder = dispatch(world, 'new')
      const call = await begin(world, status, '{"error":')
      await until(() => bodyOf(recorder) === '{"error":')
      call.end('{}}')
      await within(recorder.done, 'the end')
    })
  }

  test('of a path that belongs to its home', async (t) => {
    const world = await startEastAndWest(t)
    for (const status of [404, 429]) {
      const recorder = dispatch(world, 'new', {}, { path: '/openai/v1/files/file-1', method: 'GET', body: null })
      const call = await begin(world, status, '{"error":')
      await until(() => bodyOf(recorder) === '{"error":')
      call.end('{}}')
      await within(recorder.done, 'the end')
    }
  })

  test('of an answer to a body that cannot be sent again', async (t) => {
    const world = await startEastAndWest(t, { maxReplayBytes: 10 })
    for (const status of [404, 429]) {
      const recorder = dispatch(world, 'new', {}, { body: (function * () { yield Buffer.from('{"much":"longer than that"}') })() as unknown as string })
      const call = await begin(world, status, '{"error":')
      await until(() => bodyOf(recorder) === '{"error":', `the beginning of the ${status}`)
      call.end('{}}')
      await within(recorder.done, 'the end')
      assert.equal(world.calls()[1], 0)
    }
  })
})

describe('the body of a 429', () => {
  test('is waited for by no request that can go on; read meanwhile, it corrects the cooldown', async (t) => {
    for (const [body, reason] of [['insufficient_quota', 'exhausted'], ['request_too_large', undefined]] as const) {
      const world = await startEastAndWest(t, {}, [{ apiKey: 'of-east' }, { apiKey: 'of-west' }])
      const answer = chat(world.client)
      const call = await world.east.next()
      call.head(429, { 'retry-after': '20' })
      await call.write('{"error":{"code":')
      assert.equal(await answer, 'west')
      assert.equal(world.status()[0].scopes[0]?.out?.reason, 'throttled')
      call.end(`"${body}"}}`)
      await until(() => world.status()[0].scopes[0]?.out === undefined)
      assert.deepEqual([world.status()[0].out?.reason, inFlight(world)], [reason, [0, 0]])
    }
  })

  test('that stalls is given up after a second, and the cooldown stays', async (t) => {
    const world = await startEastAndWest(t)
    const answer = chat(world.client)
    const call = await world.east.next()
    call.head(429, { 'retry-after': '20' })
    await call.write('{"error":{"code":')
    assert.equal(await answer, 'west')
    world.balancer.system.advance(1_000)
    await within(call.aborted, 'it is let go')
    assert.deepEqual([inFlight(world), world.status()[0].scopes[0]?.cooldownMs], [[0, 0], 19_000])
  })

  for (const [how, stop] of [
    ['a second', ({ balancer }: EastAndWest): void => { balancer.system.advance(1_000) }], ['16 KiB', (_: EastAndWest, call: ScriptedCall): void => { void call.write(' '.repeat(17_000)) }],
  ] as const) {
    test(`is awaited where the answer would be our own, for ${how} at most`, async (t) => {
      const world = await startEastAndWest(t, {}, [{}, { enabled: false }])
      const answer = failure(chat(world.client))
      const call = await begin(world, 429, '{"error":', { 'retry-after': '20' })
      stop(world, call)
      const told = await answer
      assertIsA(told, RateLimitError)
      assert.equal(told.code, 'rate_limit_exceeded')
      assert.ok(Number(told.headers.get('retry-after-ms')) >= 19_000)
    })
  }

  test('is awaited before a wait as well: who cannot be served by it does not wait', async (t) => {
    const world = await startEastAndWest(t, { maxWaitMs: 30_000 }, [{ apiKey: 'of-east' }, { enabled: false }])
    const answer = failure(chat(world.client))
    const call = await begin(world, 429, '{"error":', { 'retry-after': '20' })
    assert.equal(world.balancer.status().waiting, 0)
    call.end('{"code":"insufficient_quota","message":"no money"}}')
    const told = await answer
    assertIsA(told, RateLimitError)
    assert.match(told.message, /no money/)
  })
})

describe('through a MockAgent', () => {
  const urls = ['https://east.example', 'https://west.example'] as const
  const setUp = (): { agent: MockAgent; balancer: VirtualBalancer } => {
    const agent = new MockAgent()
    agent.disableNetConnect()
    return { agent, balancer: new VirtualBalancer({ backends: [{ url: urls[0], priority: 1, name: 'east', apiKey: 'e' }, { url: urls[1], priority: 2, name: 'west', apiKey: 'w' }], logger: false, dispatcher: agent }) }
  }
  const query = /^\/openai\/deployments\/gpt-4o\/chat\/completions/

  for (const [status, code, reason] of [[404, 'DeploymentNotFound', 'missing'], [429, 'insufficient_quota', 'exhausted'], [400, 'billing_hard_limit_reached', 'exhausted'], [401, 'nope', 'misconfigured']] as const) {
    test(`${status} ${code} moves and takes out what it is about`, async (t) => {
      const { agent, balancer } = setUp()
      t.after(async () => { await balancer.engine.destroy(new Error('over')); await agent.close() })
      agent.get(urls[0]).intercept({ path: query, method: 'POST' }).reply(status, apiError(code))
      agent.get(urls[1]).intercept({ path: query, method: 'POST' }).reply(200, completion('west'), { headers: { 'content-type': 'application/json' } })
      assert.equal(await chat(azureClient(urls[0], balancer)), 'west')
      const [east] = balancer.status().backends
      assert.equal(east?.out?.reason ?? east?.scopes[0]?.out?.reason, reason)
    })
  }

  test('a 404 that is the caller\'s is delivered', async (t) => {
    const { agent, balancer } = setUp()
    t.after(async () => { await balancer.engine.destroy(new Error('over')); await agent.close() })
    agent.get(urls[0]).intercept({ path: query, method: 'POST' }).reply(404, apiError('not_found'))
    assertIsA(await failure(chat(azureClient(urls[0], balancer))), NotFoundError)
  })
})

test('answers that are held do not hold up each other', async (t) => {
  const world = await startEastAndWest(t)
  const { client, east } = world
  const first = failure(chat(client))
  const call = await east.next()
  call.head(404)
  east.always(says('east'))
  assert.equal(await chat(client), 'east')
  call.end(JSON.stringify(apiError('not_found')))
  assertIsA(await first, NotFoundError)
  east.always(answers(404, {}, apiError('model_not_found')))
  assert.equal(await chat(client), 'west')
})
