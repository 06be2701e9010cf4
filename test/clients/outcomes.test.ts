/** What each outcome means for the request and for the backend, as a user of the `openai` package meets it. */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import OpenAI, {
  APIConnectionError, APIError, APIUserAbortError, AuthenticationError, BadRequestError, ConflictError, InternalServerError, NotFoundError, PermissionDeniedError,
  RateLimitError, UnprocessableEntityError,
} from 'openai'
import { Agent, interceptors } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import { answers, assertIsA, failure, says, startEastAndWest, type EastAndWest } from '../support/east-and-west.js'
import { chatChunk } from '../support/event-stream.js'
import { API_VERSION, apiError, azureClient, chat, completion, openaiClient } from '../support/openai-clients.js'
import { closeAfterRequest, resetAfterRequest } from '../support/raw-scripts.js'
import { refusingUrl, startRawServer, type RawScript } from '../support/raw-server.js'
import { startScriptedBackend } from '../support/scripted-backend.js'
import { turns, until, within } from '../support/until.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'

/** Readmission is later than the headers say by at most this. */
const jitterOf = (ms: number): number => Math.min(ms / 10, 1_000)

const soon = Math.round(Date.UTC(2026, 0, 1, 0, 0, 20))

describe('429', () => {
  const forms: [headers: Record<string, string>, ms: number, source: string][] = [
    [{ 'retry-after-ms': '43' }, 43, 'retry-after-ms'],
    [{ 'retry-after-ms': '12.5' }, 12.5, 'retry-after-ms'],
    [{ 'x-ms-retry-after-ms': '700' }, 700, 'x-ms-retry-after-ms'],
    [{ 'retry-after': '7' }, 7_000, 'retry-after'],
    [{ 'retry-after': '1.5' }, 1_500, 'retry-after'],
    [{ 'retry-after': new Date(soon).toUTCString(), 'date': new Date(soon - 20_000).toUTCString() }, 20_000, 'retry-after'],
    [{ 'retry-after': '86400' }, 60_000, 'retry-after'],
    [{ 'retry-after-ms': '43', 'x-ms-retry-after-ms': '700', 'retry-after': '7' }, 43, 'retry-after-ms'],
    [{ 'retry-after-ms': 'soon', 'retry-after': '7' }, 7_000, 'retry-after'],
    [{ 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '2s', 'x-ratelimit-remaining-tokens': '9', 'x-ratelimit-reset-tokens': '6m0s' }, 2_000, 'x-ratelimit-reset-requests'],
    [{ 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '2s', 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '17s' }, 17_000, 'x-ratelimit-reset-tokens'],
    [{ 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '6m0s' }, 60_000, 'x-ratelimit-reset-tokens'],
    [{ 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '5' }, 5_000, 'x-ratelimit-reset-requests'],
    [{ 'x-ratelimit-remaining-requests': '-1', 'x-ratelimit-reset-requests': '5' }, 10_000, 'default'],
    [{ 'retry-after': '-3' }, 10_000, 'default'],
    [{ 'retry-after': 'in a while' }, 10_000, 'default'],
    [{}, 10_000, 'default'],
  ]
  for (const [headers, ms, source] of forms) {
    test(`with ${JSON.stringify(headers)} keeps requests away for ${ms} ms (${source}) and goes on at once`, async (t) => {
      const { east, balancer, client, status, calls } = await startEastAndWest(t)
      east.always(answers(429, headers))
      assert.equal(await chat(client), 'west')
      assert.deepEqual(calls(), [1, 1])
      const [{ state, cooldownMs, throttled, failures }] = status()
      assert.equal(state, 'cooldown')
      assert.ok(cooldownMs >= ms && cooldownMs <= ms + jitterOf(ms), `${cooldownMs} ms`)
      assert.deepEqual([throttled, failures], [1, 0])

      east.always(says('east'))
      balancer.system.advance(ms - 1)
      assert.equal(await chat(client), 'west')
      balancer.system.advance(1 + jitterOf(ms))
      assert.equal(await chat(client), 'east')
      assert.equal(status()[0].state, 'available')
    })
  }

  test('with retry-after: 0 sends this request on, and the next one back', async (t) => {
    const { east, client, calls } = await startEastAndWest(t)
    east.always(answers(429, { 'retry-after': '0' }))
    assert.equal(await chat(client), 'west')
    east.always(says('east'))
    assert.equal(await chat(client), 'east')
    assert.deepEqual(calls(), [2, 1])
  })

  test('throttles its deployment only: another one of the same backend goes on', async (t) => {
    const { east, client, calls } = await startEastAndWest(t)
    east.always((call) => (call.request.path.includes('/gpt-4o/') ? answers(429, { 'retry-after': '5' }) : says('east'))(call))
    assert.equal(await chat(client), 'west')
    assert.equal(await chat(client, {}, 'gpt-4o-mini'), 'east')
    assert.equal(await chat(client), 'west')
    assert.deepEqual(calls(), [2, 2])
  })

  test('throttles its model only, where the model is in the body', async (t) => {
    const { east, balancer } = await startEastAndWest(t)
    const client = openaiClient(`${east.url}/openai/v1`, balancer)
    east.always(async (call) => ((await call.request.json() as { model: string }).model === 'gpt-4o' ? answers(429, { 'retry-after': '5' }) : says('east'))(call))
    assert.equal(await chat(client), 'west')
    assert.equal(await chat(client, {}, 'gpt-4o-mini'), 'east')
    assert.equal(await chat(client), 'west')
  })

  for (const pacing of [true, false]) {
    for (const retryMs of [20, 1_000, 30_000]) {
      test(`one alone, pacing ${pacing ? 'on' : 'off'}, lets the next request in after ${retryMs} ms and its jitter, whatever chance says`, async (t) => {
        for (let seed = 1; seed <= 12; seed++) {
          const { east, west, balancer, client } = await startEastAndWest(t, { pacing })
          for (let draws = 0; draws < seed; draws++) balancer.system.random()
          west.always(answers(429, { 'retry-after': '86400' }))
          east.always(answers(429, { 'retry-after-ms': String(retryMs) }))
          await failure(chat(client))
          east.always(says('east'))
          balancer.system.advance(retryMs + jitterOf(retryMs))
          assert.equal(await chat(client), 'east', `seed ${seed}`)
        }
      })
    }
  }
})

describe('5xx with a retry header is throttling, not failure', () => {
  for (const status of [500, 502, 503, 504, 529]) {
    test(`${status}`, async (t) => {
      const { east, balancer, client, status: statuses } = await startEastAndWest(t)
      east.always(answers(status, { 'retry-after': '3' }))
      for (let i = 0; i < 3; i++) {
        assert.equal(await chat(client), 'west')
        const [{ state, cooldownMs, throttled, failures }] = statuses()
        assert.equal(state, 'cooldown')
        assert.ok(cooldownMs >= 3_000 && cooldownMs <= 3_300)
        assert.deepEqual([throttled, failures], [i + 1, 0])
        balancer.system.advance(3_300)
      }
    })
  }

  test('a rate limit\'s reset is no retry header: it stands on good answers too', async (t) => {
    const { east, client, status } = await startEastAndWest(t)
    east.always(answers(503, { 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '5' }))
    assert.equal(await chat(client), 'west')
    const [{ throttled, failures, state }] = status()
    assert.deepEqual([throttled, failures, state], [0, 1, 'available'])
  })
})

describe('408 and 5xx without a retry header', () => {
  for (const status of [408, 500, 502, 503, 504, 520, 599]) {
    test(`${status} goes on to the next backend; once does not bench the deployment, twice in a row does`, async (t) => {
      const { east, client, status: statuses, calls } = await startEastAndWest(t)
      east.always(answers(status))
      assert.equal(await chat(client), 'west')
      assert.equal(statuses()[0].scopes[0]?.state, 'available')
      assert.equal(await chat(client), 'west')
      assert.deepEqual(calls(), [2, 2])
      const [{ state, failures, scopes: [scope] }] = statuses()
      assert.deepEqual([state, scope?.state, scope?.reason, failures], ['available', 'ejected', 'failed', 2])
      assert.ok(scope !== undefined && scope.cooldownMs > 0 && scope.cooldownMs <= 375, 'short at first')
      assert.equal(await chat(client), 'west')
      assert.deepEqual(calls(), [2, 3])
      // Another deployment of the same host is none the worse for it.
      east.always(says('east'))
      assert.equal(await chat(client, {}, 'gpt-4o-mini'), 'east')
    })
  }

  test('a success in between clears the count', async (t) => {
    const { east, client, status } = await startEastAndWest(t)
    for (const answer of [answers(500), says('east'), answers(500), says('east'), answers(500)]) {
      east.always(answer)
      await chat(client)
      assert.equal(status()[0].scopes[0]?.state, 'available')
    }
  })

  test('a bad request that is answered 500 everywhere puts no backend out', async (t) => {
    const { east, west, client, status } = await startEastAndWest(t)
    east.always(answers(500))
    west.always(answers(500, {}, apiError('poison')))
    assertIsA(await failure(chat(client)), InternalServerError)
    for (let i = 0; i < 3; i++) await failure(chat(client))
    assert.deepEqual(status().map(({ state, scopes }) => [state, scopes[0]?.state]), [['available', 'available'], ['available', 'available']])
  })

  test('a deployment that is out is probed by one request at a time once its time is over; its success readmits it', async (t) => {
    const { east, balancer, client, status, calls } = await startEastAndWest(t)
    east.always(answers(503))
    await chat(client)
    await chat(client)
    balancer.system.advance(500)
    east.byHand()
    const probe = chat(client)
    const call = await east.next()
    assert.equal(status()[0].scopes[0]?.state, 'probing')
    assert.deepEqual(await Promise.all([chat(client), chat(client)]), ['west', 'west'])
    says('east')(call)
    assert.equal(await probe, 'east')
    assert.equal(status()[0].scopes[0]?.state, 'available')
    east.always(says('east'))
    assert.deepEqual(await Promise.all([chat(client), chat(client)]), ['east', 'east'])
    assert.deepEqual(calls(), [5, 4])
  })

  test('a probe that fails doubles the next time out, up to a minute', async (t) => {
    const { east, balancer, client, status } = await startEastAndWest(t)
    east.always(answers(503))
    await chat(client)
    await chat(client)
    for (const least of [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
      const [{ scopes: [scope] }] = status()
      assert.equal(scope?.state, 'ejected')
      assert.ok(scope.cooldownMs >= least && scope.cooldownMs <= Math.min(60_000, 1.5 * least), `${scope.cooldownMs} for ${least} ms`)
      balancer.system.advance(scope.cooldownMs)
      assert.equal(await chat(client), 'west')
    }
  })
})

describe('no answer at all ejects the whole backend at once', () => {
  const reasons: [string, (t: TestContext) => Promise<string>][] = [
    ['a refused connection', () => refusingUrl()],
    ['a reset in place of an answer', (t) => raw(t, resetAfterRequest())],
    ['a connection that is closed in place of an answer', (t) => raw(t, closeAfterRequest())],
  ]
  const raw = async (t: TestContext, script: RawScript): Promise<string> => {
    const server = await startRawServer(script)
    t.after(() => server.close())
    return server.url
  }
  for (const [reason, start] of reasons) {
    test(reason, async (t) => {
      const west = await startScriptedBackend()
      west.always(says('west'))
      const balancer = new VirtualBalancer({ backends: [{ url: await start(t), priority: 1 }, { url: west.url, priority: 2 }], logger: false })
      t.after(async () => { await Promise.all([balancer.destroy(), west.close()]) })
      const client = azureClient(west.url, balancer)
      assert.equal(await chat(client), 'west')
      const [first] = balancer.status().backends
      assert.deepEqual([first?.state, first?.failures, first?.inFlight], ['ejected', 1, 0])
      // Another deployment's requests do not go there either.
      assert.equal(await chat(client, {}, 'gpt-4o-mini'), 'west')
      assert.equal(balancer.status().backends[0]?.attempts, 1)
    })
  }

  test('no headers within attemptTimeoutMs', async (t) => {
    const { east, balancer, client, status } = await startEastAndWest(t, { attemptTimeoutMs: 2_000 })
    const answer = chat(client)
    const stalled = await east.next()
    balancer.system.advance(1_999)
    await turns()
    assert.ok(!stalled.isAborted)
    balancer.system.advance(1)
    assert.equal(await answer, 'west')
    await within(stalled.aborted, 'the stalled attempt is cut off')
    const [{ state, failures, scopes }] = status()
    assert.deepEqual([state, failures, scopes[0]?.state], ['available', 1, 'available'])
    // The deployment is out at the second in a row, the host never is for that.
    const again = chat(client)
    await east.next()
    balancer.system.advance(2_000)
    assert.equal(await again, 'west')
    assert.deepEqual([status()[0].state, status()[0].scopes[0]?.state], ['available', 'ejected'])
  })

  test('attemptTimeoutMs does not bound the body', async (t) => {
    const { east, balancer, client } = await startEastAndWest(t, { attemptTimeoutMs: 2_000 })
    const answer = chat(client)
    const call = await east.next()
    const body = JSON.stringify(completion('slow'))
    call.head(200, { 'content-type': 'application/json' })
    await call.write(body.slice(0, 10))
    await until(() => balancer.status().backends[0]?.successes === 1)
    balancer.system.advance(60_000)
    call.end(body.slice(10))
    assert.equal(await answer, 'slow')
  })

  test('a credential that cannot be had counts as a failure of its backend', async (t) => {
    const { client, status, calls } = await startEastAndWest(t, {}, [{ bearerToken: () => Promise.reject(new Error('no token today')) }, {}])
    assert.equal(await chat(client), 'west')
    assert.deepEqual(calls(), [0, 1])
    assert.deepEqual([status()[0].state, status()[0].failures], ['ejected', 1])
  })
})

describe('401 and 403', () => {
  for (const status of [401, 403]) {
    test(`${status} to a credential of ours goes on, and takes the backend out for a minute`, async (t) => {
      const { east, balancer, client, status: statuses, calls } = await startEastAndWest(t, {}, [{ apiKey: 'ours-but-wrong' }, {}])
      east.always(answers(status))
      assert.equal(await chat(client), 'west')
      assert.equal(east.calls[0]?.request.headers['api-key'], 'ours-but-wrong')
      assert.deepEqual([statuses()[0].state, statuses()[0].cooldownMs], ['ejected', 60_000])
      balancer.system.advance(59_999)
      assert.equal(await chat(client), 'west')
      assert.deepEqual(calls(), [1, 2])
      east.always(says('east'))
      balancer.system.advance(1)
      assert.equal(await chat(client), 'east')
    })

    test(`${status} to our credential is the caller's when no other backend is left`, async (t) => {
      const { east, west, client } = await startEastAndWest(t, {}, [{ apiKey: 'ours-1' }, { apiKey: 'ours-2' }])
      east.always(answers(status, {}, apiError('of_east')))
      west.always(answers(status, {}, apiError('of_west')))
      const error = await failure(chat(client))
      assertIsA<APIError>(error, status === 401 ? AuthenticationError : PermissionDeniedError)
      assert.equal(error.code, 'of_west')
    })

    test(`${status} to the caller's own credential is the caller's answer, where no other backend gets the same credential`, async (t) => {
      const { east, client, status: statuses, calls } = await startEastAndWest(t, {}, [{}, { apiKey: 'ours' }])
      east.always(answers(status))
      assertIsA<APIError>(await failure(chat(client)), status === 401 ? AuthenticationError : PermissionDeniedError)
      assert.deepEqual(calls(), [1, 0])
      assert.deepEqual([statuses()[0].state, statuses()[0].failures], ['available', 0])
    })
  }
})

describe('what is delivered as it is', () => {
  const errors: [number, object, abstract new (...args: never[]) => APIError, string][] = [
    [400, apiError('invalid_request'), BadRequestError, 'invalid_request'],
    [400, { error: { code: 'content_filter', message: 'The response was filtered', param: 'prompt', type: null, status: 400 } }, BadRequestError, 'content_filter'],
    [404, apiError('not_found'), NotFoundError, 'not_found'],
    [409, apiError('conflict'), ConflictError, 'conflict'],
    [422, apiError('unprocessable'), UnprocessableEntityError, 'unprocessable'],
  ]
  for (const [status, body, type, code] of errors) {
    test(`${status} (${code})`, async (t) => {
      const { east, client, status: statuses, calls } = await startEastAndWest(t)
      east.always(answers(status, {}, body))
      const error = await failure(chat(client))
      assertIsA(error, type)
      assert.equal(error.code, code)
      assert.deepEqual(calls(), [1, 0])
      const [{ state, attempts, successes, throttled, failures }] = statuses()
      assert.deepEqual([state, attempts, successes, throttled, failures], ['available', 1, 0, 0, 0])
    })
  }

  test('a 4xx does not clear the count of failures, as a success does', async (t) => {
    const { east, client, status } = await startEastAndWest(t)
    for (const answer of [answers(500), answers(400), answers(500)]) {
      east.always(answer)
      await chat(client).catch(() => {})
    }
    assert.equal(status()[0].scopes[0]?.state, 'ejected')
  })

  for (const status of [200, 201, 202]) {
    test(`${status}`, async (t) => {
      const { east, client, status: statuses, calls } = await startEastAndWest(t)
      east.always(answers(status, {}, completion('east')))
      assert.equal(await chat(client), 'east')
      assert.deepEqual(calls(), [1, 0])
      assert.equal(statuses()[0].successes, 1)
    })
  }

  test('204', async (t) => {
    const { east, client, status } = await startEastAndWest(t)
    east.always(answers(204, {}, ''))
    assert.equal(await client.delete('/models/ft-1'), null)
    assert.equal(status()[0].successes, 1)
  })

  for (const status of [301, 302, 304, 307]) {
    test(`${status}, to a client that does not follow it`, async (t) => {
      const { east, balancer, status: statuses, calls } = await startEastAndWest(t)
      const client = azureClient(east.url, balancer)
      Object.assign(client.fetchOptions ?? {}, { redirect: 'manual' })
      east.always(answers(status, { location: '/elsewhere' }, ''))
      const error = await failure(chat(client))
      assertIsA(error, APIError)
      assert.equal(error.status, status)
      assert.deepEqual(calls(), [1, 0])
      assert.equal(statuses()[0].successes, 1)
    })
  }

  test('headers of the answer, the id of the request among them', async (t) => {
    const { east, client } = await startEastAndWest(t)
    east.always((call) => { call.respond(200, { 'x-request-id': 'req-7', 'x-ms-region': 'East US' }, completion('east')) })
    const { response, request_id: id } = await client.chat.completions.create({ model: 'gpt-4o', messages: [] }).withResponse()
    assert.equal(id, 'req-7')
    assert.equal(response.headers.get('x-ms-region'), 'East US')
  })
})

describe('the caller gives up', () => {
  test('before headers: it sees its own error, the backend the end of the connection, and nothing is held against the backend', async (t) => {
    const { east, client, status, calls } = await startEastAndWest(t)
    const abort = new AbortController()
    const answer = failure(chat(client, { signal: abort.signal }))
    const call = await east.next()
    abort.abort()
    assertIsA(await answer, APIUserAbortError)
    await within(call.aborted, 'the abort reaches the wire')
    const [{ state, attempts, successes, failures, throttled, inFlight }] = status()
    assert.deepEqual([state, attempts, successes, failures, throttled, inFlight], ['available', 1, 0, 0, 0, 0])
    assert.deepEqual(calls(), [1, 0])
  })

  test('its time is up: APIConnectionTimeoutError, and nothing is held against the backend', async (t) => {
    const { east, client, status } = await startEastAndWest(t)
    // Long enough for the request to be on its way also where the machine is busy.
    const answer = failure(chat(client, { timeout: 300 }))
    const call = await east.next()
    assertIsA(await answer, OpenAI.APIConnectionTimeoutError)
    await within(call.aborted, 'the abort reaches the wire')
    assert.deepEqual([status()[0].state, status()[0].failures, status()[0].inFlight], ['available', 0, 0])
  })

  test('in the middle of a stream', async (t) => {
    const { east, client, status } = await startEastAndWest(t)
    const stream = client.chat.completions.stream({ model: 'gpt-4o', messages: [] })
    const done = failure(stream.done())
    const call = await east.next()
    call.head(200, { 'content-type': 'text/event-stream' })
    await call.write(chatChunk({ content: 'Hel' }))
    await until(() => status()[0].successes === 1)
    assert.equal(status()[0].inFlight, 1)
    stream.abort()
    assertIsA(await done, APIUserAbortError)
    await within(call.aborted, 'the abort reaches the wire')
    await until(() => status()[0].inFlight === 0)
    assert.equal(status()[0].failures, 0)
  })

  test('on a probe: the slot is free for the next', async (t) => {
    const { east, balancer, client, status } = await startEastAndWest(t)
    east.always(answers(503))
    await chat(client)
    await chat(client)
    balancer.system.advance(500)
    east.byHand()
    const abort = new AbortController()
    const probe = failure(chat(client, { signal: abort.signal }))
    await east.next()
    assert.equal(status()[0].scopes[0]?.state, 'probing')
    abort.abort()
    assertIsA(await probe, APIUserAbortError)
    east.always(says('east'))
    assert.equal(await chat(client), 'east')
  })
})

describe('every backend is throttled', () => {
  const throttle = ({ east, west }: EastAndWest): void => {
    east.always(answers(429, { 'retry-after-ms': '3000' }))
    west.always(answers(429, { 'retry-after': '2' }))
  }

  test('the caller gets a RateLimitError with the soonest retry-after-ms, and retry-after in whole seconds, rounded up', async (t) => {
    const world = await startEastAndWest(t)
    throttle(world)
    const error = await failure(chat(world.client))
    assertIsA(error, RateLimitError)
    assert.equal(error.status, 429)
    const ms = Number(error.headers.get('retry-after-ms'))
    assert.ok(ms >= 2_000 && ms <= 2_200 && Number.isInteger(ms), `${ms} ms`)
    assert.equal(error.headers.get('retry-after'), String(Math.ceil(ms / 1_000)))
    assert.deepEqual([error.code, error.type, error.param], ['rate_limit_exceeded', 'rate_limit_error', null])
    assert.match(error.message, /^429 openai-priority-loadbalancer: no backend is available right now/)
    assert.deepEqual(world.calls(), [1, 1])
  })

  test('those are all its headers, and the body is an error as OpenAI writes it', async (t) => {
    const world = await startEastAndWest(t)
    throttle(world)
    await failure(chat(world.client))
    const response = await fetch(`${world.east.url}/openai/deployments/gpt-4o/chat/completions?api-version=${API_VERSION}`, {
      method: 'POST', body: '{}', dispatcher: world.balancer,
    } as unknown as RequestInit)
    assert.equal(response.status, 429)
    assert.equal(response.statusText, 'Too Many Requests')
    assert.deepEqual([...response.headers.keys()].sort(), ['content-length', 'content-type', 'retry-after', 'retry-after-ms'])
    const text = await response.text()
    assert.equal(response.headers.get('content-length'), String(Buffer.byteLength(text)))
    assert.equal(response.headers.get('content-type'), 'application/json')
    const { error } = JSON.parse(text) as { error: Record<string, unknown> }
    assert.deepEqual(Object.keys(error), ['message', 'type', 'param', 'code'])
  })

  test('a 503 without a retry header is surfaced rather than a 429, when the other one is out as well', async (t) => {
    const { east, west, client } = await startEastAndWest(t)
    east.always(answers(503, {}, apiError('of_east')))
    west.always(answers(503, {}, apiError('of_west')))
    const error = await failure(chat(client))
    assertIsA(error, InternalServerError)
    assert.equal(error.code, 'of_west')
  })

  test('what is known beforehand is said without touching the network', async (t) => {
    const world = await startEastAndWest(t)
    throttle(world)
    await failure(chat(world.client))
    for (let i = 0; i < 5; i++) assertIsA(await failure(chat(world.client)), RateLimitError)
    assert.deepEqual(world.calls(), [1, 1])
  })

  test('another deployment is not concerned', async (t) => {
    const world = await startEastAndWest(t)
    throttle(world)
    await failure(chat(world.client))
    world.east.always(says('east'))
    assert.equal(await chat(world.client, {}, 'gpt-4o-mini'), 'east')
  })

  test('one throttled, the other one known to be unreachable: still a 429, that names the one that may be asked sooner', async (t) => {
    const { east, west, client, calls, status } = await startEastAndWest(t)
    east.always(answers(429, { 'retry-after-ms': '1234' }))
    west.always((call) => { call.reset() })
    // Told without touching the network, the second has the place behind the first.
    for (const placeMs of [0, 100]) {
      const error = await failure(chat(client))
      assertIsA(error, RateLimitError)
      const ms = Number(error.headers.get('retry-after-ms')) - status()[1].cooldownMs
      // A place in line is known to 5 ms, and up to 20 are added, so that not all come back at one instant.
      assert.ok(ms >= placeMs && ms <= placeMs + 26, `${ms} ms after the soonest`)
    }
    assert.deepEqual(calls(), [1, 1])
  })

  test('the SDK\'s own retries come back when they are told to, and are served', async (t) => {
    const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
    const balancer = new PriorityBalancer({ backends: [{ url: east.url, priority: 1 }, { url: west.url, priority: 2 }], logger: false })
    t.after(async () => { await Promise.all([balancer.destroy(), east.close(), west.close()]) })
    east.always((call) => (east.calls.length === 1 ? answers(429, { 'retry-after-ms': '30' }) : says('east'))(call))
    west.always(answers(429, { 'retry-after': '30' }))
    const client = azureClient(east.url, balancer, { maxRetries: 2 })
    assert.equal(await chat(client), 'east')
    assert.deepEqual(east.calls.map((call) => call.request.headers['x-stainless-retry-count']), ['0', '1'])
    assert.equal(west.calls.length, 1)
  })
})

describe('maxWaitMs', () => {
  const throttle = async ({ east, west, client, balancer }: EastAndWest, eastMs: number): Promise<void> => {
    east.always(answers(429, { 'retry-after-ms': String(eastMs) }))
    west.always(answers(429, { 'retry-after': '60' }))
    const first = chat(client)
    await until(() => balancer.status().waiting === 1)
    east.always(says('east'))
    balancer.system.advance(eastMs * 1.1)
    assert.equal(await first, 'east')
  }

  test('a throttled request is held and served when the first backend is back', async (t) => {
    const world = await startEastAndWest(t, { maxWaitMs: 5_000 })
    await throttle(world, 2_000)
    assert.equal(world.balancer.status().waiting, 0)
    assert.deepEqual(world.calls(), [2, 1])
  })

  test('when the soonest is later than that, the answer is a 429 at once', async (t) => {
    const { east, west, client, balancer } = await startEastAndWest(t, { maxWaitMs: 1_000 })
    east.always(answers(429, { 'retry-after-ms': '2000' }))
    west.always(answers(429, { 'retry-after': '60' }))
    const error = await failure(chat(client))
    assertIsA(error, RateLimitError)
    assert.equal(balancer.status().waiting, 0)
    assert.ok(Number(error.headers.get('retry-after-ms')) >= 2_000)
  })

  test('a request that waits gets a 429 at the end of its time, when no backend came back', async (t) => {
    const { east, west, client, balancer } = await startEastAndWest(t, { maxWaitMs: 3_000 })
    east.always(answers(429, { 'retry-after-ms': '2000' }))
    west.always(answers(429, { 'retry-after': '60' }))
    const answer = failure(chat(client))
    await until(() => balancer.status().waiting === 1)
    balancer.system.advance(2_200)
    // Sent again, and refused again: what is left of its time is too little.
    assertIsA(await answer, RateLimitError)
    assert.equal(east.calls.length, 2)
  })

  test('an abort while waiting is obeyed at once', async (t) => {
    const { east, west, client, balancer } = await startEastAndWest(t, { maxWaitMs: 5_000 })
    east.always(answers(429, { 'retry-after-ms': '2000' }))
    west.always(answers(429, { 'retry-after': '60' }))
    const abort = new AbortController()
    const answer = failure(chat(client, { signal: abort.signal }))
    await until(() => balancer.status().waiting === 1)
    abort.abort()
    assertIsA(await answer, APIUserAbortError)
    assert.equal(balancer.status().waiting, 0)
    assert.equal(balancer.system.pending, 0, 'no timer is left')
  })

  test('first come, first served', async (t) => {
    const { east, west, client, balancer } = await startEastAndWest(t, { maxWaitMs: 5_000, pacing: false })
    east.always(answers(429, { 'retry-after-ms': '2000' }))
    west.always(answers(429, { 'retry-after': '60' }))
    const order: number[] = []
    const answers3: Promise<unknown>[] = []
    for (let i = 0; i < 3; i++) {
      answers3.push(chat(client, { headers: { 'x-order': String(i) } }))
      await until(() => balancer.status().waiting === i + 1)
    }
    east.always((call) => { order.push(Number(call.request.headers['x-order'])); says('east')(call) })
    // One after the other: the second goes when the first would have been refused by now.
    balancer.system.advance(3_000)
    await Promise.all(answers3)
    assert.deepEqual(order, [0, 1, 2])
  })

  test('no more than 1024 are held: the next one gets a 429 at once', async (t) => {
    const { east, west, client, balancer } = await startEastAndWest(t, { maxWaitMs: 5_000 })
    east.always(answers(429, { 'retry-after-ms': '2000' }))
    west.always(answers(429, { 'retry-after': '60' }))
    const held = [failure(chat(client))]
    await until(() => balancer.status().waiting === 1)
    for (let i = 1; i < 1_024; i++) held.push(failure(chat(client)))
    await until(() => balancer.status().waiting === 1_024)
    assertIsA(await failure(chat(client)), RateLimitError)
    assert.equal(balancer.status().waiting, 1_024)
    assert.equal(east.calls.length, 1)
    const ended = balancer.destroy()
    for (const error of await Promise.all(held)) assertIsA(error, APIConnectionError)
    await ended
  })
})

describe('every backend failed', () => {
  test('panic mode: the least bad one is tried all the same, and may well answer', async (t) => {
    const { east, west, client, status, calls } = await startEastAndWest(t)
    east.always((call) => { call.reset() })
    west.always(answers(503))
    for (let i = 0; i < 2; i++) await failure(chat(client))
    assert.deepEqual([status()[0].state, status()[1].scopes[0]?.state], ['ejected', 'ejected'])
    const before = calls().reduce((a, b) => a + b)
    east.always(says('east'))
    west.always(says('west'))
    assert.match(await chat(client), /east|west/)
    assert.equal(calls().reduce((a, b) => a + b), before + 1)
  })

  test('the caller gets the last real answer', async (t) => {
    const { east, west, client } = await startEastAndWest(t)
    east.always((call) => { call.reset() })
    west.always(answers(503, { 'x-request-id': 'req-west' }, apiError('of_west')))
    const error = await failure(chat(client))
    assertIsA(error, InternalServerError)
    assert.deepEqual([error.status, error.code, error.requestID], [503, 'of_west', 'req-west'])
  })

  test('or the last real error, with undici\'s error as its cause', async (t) => {
    const { east, client } = await startEastAndWest(t, {}, [{}, { url: await refusingUrl() }])
    east.always(answers(500))
    const error = await failure(chat(client))
    assertIsA(error, APIConnectionError)
    const codes: unknown[] = []
    for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) codes.push((cause as { code?: unknown }).code)
    assert.ok(codes.includes('ECONNREFUSED'), String(codes))
  })

  test('attempts used up: the last real answer, although another backend is free', async (t) => {
    for (const [status, type] of [[429, RateLimitError], [503, InternalServerError]] as const) {
      const { east, client, calls } = await startEastAndWest(t, { maxAttempts: 1 })
      east.always(answers(status, { 'x-request-id': 'req-east' }, apiError('of_east')))
      const error = await failure(chat(client))
      assertIsA(error, type)
      assert.deepEqual([error.code, error.requestID], ['of_east', 'req-east'])
      assert.deepEqual(calls(), [1, 0])
    }
  })

  test('the retry budget used up: the last real answer', async (t) => {
    const { east, west, client, calls } = await startEastAndWest(t, { retryBudget: { ratio: 0, minPerSecond: 0 } })
    east.always(answers(500, {}, apiError('of_east')))
    // The way to a backend that is available is free, back to one that is out is not.
    for (let i = 0; i < 2; i++) assert.equal(await chat(client), 'west')
    west.always(answers(502, {}, apiError('of_west')))
    const error = await failure(chat(client))
    assertIsA(error, InternalServerError)
    assert.equal(error.code, 'of_west')
    assert.deepEqual(calls(), [2, 3])
  })

  test('throttling takes nothing out of the retry budget', async (t) => {
    const { east, client } = await startEastAndWest(t, { retryBudget: { ratio: 0, minPerSecond: 0 } })
    east.always(answers(429))
    assert.equal(await chat(client), 'west')
  })
})

describe('what lives on one backend', () => {
  const calls: [string, (client: OpenAI) => Promise<unknown>][] = [
    ['files.list', (client) => client.get('/files')],
    ['files.create', (client) => client.files.create({ file: new File(['{}'], 'batch.jsonl'), purpose: 'batch' })],
    ['batches.retrieve', (client) => client.batches.retrieve('batch_1')],
    ['vectorStores.create', (client) => client.vectorStores.create({ name: 'v' })],
    ['responses.retrieve', (client) => client.responses.retrieve('resp_1')],
    ['conversations.create', (client) => client.conversations.create({})],
  ]
  for (const [name, call] of calls) {
    test(`${name} goes home, with home's credential, and home's answer is the caller's, whatever it is`, async (t) => {
      const { east, west, balancer, calls: counts } = await startEastAndWest(t, {}, [{}, { home: true, bearerToken: 'of-west' }])
      const client = openaiClient(`${east.url}/v1`, balancer)
      west.always(answers(200, {}, { id: 'thing' }))
      await call(client)
      assert.equal(west.calls[0]?.request.headers.authorization, 'Bearer of-west')
      for (const status of [429, 503, 401]) {
        west.always(answers(status, {}, apiError(`home_${status}`)))
        const error = await failure(call(client))
        assertIsA(error, APIError)
        assert.deepEqual([error.status, error.code], [status, `home_${status}`])
      }
      assert.deepEqual(counts(), [0, 4])
    })
  }

  test('creating a response is balanced', async (t) => {
    const { east, balancer, calls: counts } = await startEastAndWest(t, {}, [{}, { home: true }])
    const client = openaiClient(`${east.url}/v1`, balancer)
    east.always(answers(200, {}, { id: 'resp_1', object: 'response', output: [] }))
    await client.responses.create({ model: 'gpt-4o', input: 'Hello' })
    assert.deepEqual(counts(), [1, 0])
  })
})

describe('on top of other interceptors', () => {
  test('one that retries inside sees each attempt by itself', async (t) => {
    const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
    const inner = new Agent().compose(interceptors.retry({ maxRetries: 1, methods: ['POST'], statusCodes: [502], minTimeout: 1, retryAfter: false }))
    const balancer = new VirtualBalancer({ backends: [{ url: east.url, priority: 1 }, { url: west.url, priority: 2 }], logger: false, dispatcher: inner })
    t.after(async () => { await Promise.all([balancer.destroy(), east.close(), west.close()]) })
    east.always((call) => (east.calls.length === 1 ? answers(502) : answers(429))(call))
    west.always(says('west'))
    assert.equal(await chat(azureClient(east.url, balancer)), 'west')
    assert.deepEqual([east.calls.length, west.calls.length], [2, 1])
  })
})
