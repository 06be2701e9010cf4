import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import OpenAI, { APIConnectionError, InternalServerError, RateLimitError } from 'openai'
import { AzureSimulator, ManualClock, type SimulatedBackend } from '../../examples/demo/simulator/azure-simulator.js'
import { until } from '../support/until.js'

/** Real sockets, a clock that stands still: nothing in here waits for time to pass. */
async function withBackend(use: (backend: SimulatedBackend, clock: ManualClock) => Promise<void>): Promise<void> {
  const clock = new ManualClock()
  const simulator = await AzureSimulator.start({ backends: [{ name: 'only' }], clock })
  try {
    await use(simulator.backend('only'), clock)
  } finally {
    await simulator.close()
  }
}

function ask(backend: SimulatedBackend, stream = false, signal?: AbortSignal): Promise<Response> {
  const body = JSON.stringify({ model: 'm', messages: [], stream })
  return fetch(`${backend.url}/chat/completions`, { method: 'POST', body, ...(signal && { signal }) })
}

async function errorCode(call: Promise<unknown>): Promise<unknown> {
  const error = await call.then(() => assert.fail('the call should have failed'), (error: unknown) => error)
  return ((error as Error).cause as { code?: string } | undefined)?.code
}

describe('the simulator fails on command', { timeout: 10_000 }, () => {
  test('statuses come in the order in which they were ordered, with the service\'s bodies, and then it is well again', async () => {
    await withBackend(async (backend) => {
      backend.inject({ kind: 'status', status: 500 })
      backend.clearFaults()
      backend.inject({ kind: 'status', status: 500 }, 2)
      backend.inject({ kind: 'status', status: 408 }, 1)
      backend.inject({ kind: 'status', status: 400, body: { error: { code: 'mine' } } }, 1)
      const seen = []
      for (let n = 0; n < 5; n += 1) {
        const response = await ask(backend)
        const body = await response.json() as { error?: { code: string } }
        seen.push([response.status, body.error?.code])
      }
      assert.deepEqual(seen, [[500, undefined], [500, undefined], [408, 'Timeout'], [400, 'mine'], [200, undefined]])
      assert.deepEqual([backend.counters.count(500), backend.counters.count(408), backend.counters.succeeded], [2, 1, 1])
    })
  })

  test('a 503 says when to come back only if told to', async () => {
    await withBackend(async (backend) => {
      backend.inject({ kind: 'status', status: 503 }, 1)
      backend.inject({ kind: 'status', status: 503, retryAfter: '7', retryAfterMs: 6500 }, 1)
      const [without, with_] = [await ask(backend), await ask(backend)]
      assert.deepEqual([without.headers.get('retry-after'), without.headers.get('retry-after-ms')], [null, null])
      assert.deepEqual([with_.headers.get('retry-after'), with_.headers.get('retry-after-ms')], ['7', '6500'])
    })
  })

  test('the openai package sees its own error types', async () => {
    await withBackend(async (backend) => {
      const client = new OpenAI({ baseURL: backend.url, apiKey: 'any', maxRetries: 0 })
      const create = (): Promise<unknown> => client.responses.create({ model: 'm', input: 'x' })
      backend.inject({ kind: 'status', status: 429 }, 1)
      await assert.rejects(create(), RateLimitError)
      backend.inject({ kind: 'status', status: 502 }, 1)
      await assert.rejects(create(), InternalServerError)
      backend.inject({ kind: 'reset-before-headers' }, 1)
      await assert.rejects(create(), APIConnectionError)
      await create()
    })
  })

  test('a closed backend refuses connections, and comes back on the same port with its counters', async () => {
    await withBackend(async (backend) => {
      const { url } = backend
      await (await ask(backend)).text()
      await backend.close()
      assert.equal(await errorCode(ask(backend)), 'ECONNREFUSED')
      await backend.open()
      await backend.open()
      assert.equal(backend.url, url)
      assert.equal((await ask(backend)).status, 200)
      assert.equal(backend.counters.requests, 2)
    })
  })

  test('closing cuts an answer that is under way', async () => {
    await withBackend(async (backend) => {
      backend.inject({ kind: 'stall-before-headers' }, 1)
      const call = ask(backend).then(() => 'answered', () => 'cut')
      await until(() => backend.received.length === 1)
      await backend.close()
      assert.equal(await call, 'cut')
      assert.equal(backend.counters.broken, 1)
    })
  })

  test('a reset before the headers is a reset of the connection', async () => {
    await withBackend(async (backend) => {
      backend.inject({ kind: 'reset-before-headers' }, 1)
      assert.match(String(await errorCode(ask(backend))), /ECONNRESET|UND_ERR_SOCKET/)
      assert.equal(backend.counters.broken, 1)
    })
  })

  test('a reset in mid-stream follows good headers and a first part', async () => {
    await withBackend(async (backend) => {
      for (const stream of [true, false]) {
        backend.inject({ kind: 'reset-mid-stream' }, 1)
        const response = await ask(backend, stream)
        assert.equal(response.status, 200)
        const reader = response.body?.getReader()
        const first = await reader?.read()
        assert.match(Buffer.from(first?.value ?? []).toString(), stream ? /^data: .*\n\n$/ : /^\{"id":"chatcmpl-/)
        await assert.rejects(async () => { while (!(await reader?.read())?.done); }, /terminated/)
      }
    })
  })

  test('slow headers come when their time has come', async () => {
    await withBackend(async (backend, clock) => {
      backend.inject({ kind: 'slow-headers', delayMs: 5000 }, 1)
      let answered = false
      const call = ask(backend).then((response) => { answered = true; return response })
      await until(() => clock.sleeping === 1)
      clock.advance(4999)
      assert.deepEqual([answered, clock.sleeping], [false, 1])
      clock.advance(1)
      assert.equal((await call).status, 200)
    })
  })

  test('a stall before the headers lasts until the client leaves', async () => {
    await withBackend(async (backend) => {
      backend.inject({ kind: 'stall-before-headers' }, 1)
      const leave = new AbortController()
      const call = ask(backend, false, leave.signal)
      await until(() => backend.received.length === 1)
      leave.abort()
      await assert.rejects(call, { name: 'AbortError' })
      await until(() => backend.counters.broken === 1)
    })
  })

  test('a stall in mid-stream holds back everything after the first part', async () => {
    await withBackend(async (backend) => {
      backend.inject({ kind: 'stall-mid-stream' }, 1)
      const leave = new AbortController()
      const response = await ask(backend, true, leave.signal)
      const reader = response.body?.getReader()
      assert.match(Buffer.from((await reader?.read())?.value ?? []).toString(), /"choices":\[\],/)
      const second = reader?.read()
      // A round trip on another connection: whatever had been sent would have arrived by now.
      await (await ask(backend)).text()
      leave.abort()
      assert.ok(second)
      await assert.rejects(second, { name: 'AbortError' })
      await until(() => backend.counters.broken === 1)
    })
  })

  test('a fault must be ordered for at least one request', async () => {
    await withBackend(async (backend) => {
      assert.throws(() => { backend.inject({ kind: 'stall-mid-stream' }, 0) }, /times must be at least 1, got 0/)
      assert.equal((await ask(backend)).status, 200)
    })
  })

  test('latency is the clock\'s: an answer of 4 tokens that takes 100 ms and 10 ms a token is out after at most 182 ms', async () => {
    const clock = new ManualClock()
    const backends = [{ name: 'only', latency: { firstTokenMs: 100, perTokenMs: 10 }, answerTokens: 4 }]
    const simulator = await AzureSimulator.start({ backends, clock })
    try {
      let answered = false
      const call = ask(simulator.backend('only')).then(() => { answered = true })
      await until(() => clock.sleeping === 1)
      clock.advance(97)
      assert.deepEqual([answered, clock.sleeping], [false, 1])
      clock.advance(85)
      await call
    } finally {
      await simulator.close()
    }
  })
})
