/**
 * The Python package of the same name was here first. Each of its behaviours that its users rely on, and each of its
 * faults that they need not miss.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { RateLimitError } from 'openai'
import { answers, assertIsA, failure, says, startEastAndWest } from '../support/east-and-west.js'
import { gate } from '../support/gate.js'
import { API_VERSION, azureClient, chat, chunk, openaiClient } from '../support/openai-clients.js'
import { refusingUrl } from '../support/raw-server.js'
import { runScript, urlOf } from '../support/run-child.js'
import { startScriptedBackend, type ScriptedBackend, type ScriptedCall } from '../support/scripted-backend.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'
import { until, within } from '../support/until.js'

const header = (call: ScriptedCall | undefined, name: string): unknown => call?.request.headers[name]

async function startBackends(count: number): Promise<ScriptedBackend[]> {
  const backends = await Promise.all(Array.from({ length: count }, () => startScriptedBackend()))
  backends.forEach((backend, i) => { backend.always(says(`backend ${i}`)) })
  return backends
}

describe('what the Python package does', () => {
  test('the lowest priority number that is available wins, in whatever order the backends are listed', async (t) => {
    const backends = await startBackends(4)
    const priorities = [3, 1, 2, 4]
    const balancer = new VirtualBalancer({ backends: backends.map(({ url }, i) => ({ url, priority: priorities[i] ?? 0 })), logger: false })
    t.after(async () => { await Promise.all([balancer.destroy(), ...backends.map((backend) => backend.close())]) })
    const client = azureClient(backends[0]?.url ?? '', balancer)
    for (const expected of [1, 2, 0, 3]) {
      assert.equal(await chat(client), `backend ${expected}`)
      assert.equal(await chat(client), `backend ${expected}`)
      backends[expected]?.always(answers(429, { 'retry-after': '30' }))
    }
  })

  test('among equals chance decides', async (t) => {
    const backends = await startBackends(3)
    const balancer = new VirtualBalancer({ backends: backends.map(({ url }) => ({ url, priority: 1 })), logger: false }, 7)
    t.after(async () => { await Promise.all([balancer.destroy(), ...backends.map((backend) => backend.close())]) })
    const client = azureClient(backends[0]?.url ?? '', balancer)
    const order: string[] = []
    for (let i = 0; i < 90; i++) order.push(await chat(client))
    for (const { calls } of backends) assert.ok(calls.length > 15 && calls.length < 45, `${calls.length} of 90`)
    const inTurn = order.filter((name, i) => name === order[i % 3])
    assert.ok(inTurn.length < 60, 'not in turn')
  })

  test('a 429 cools the backend down by Retry-After, and the request goes on at once', async (t) => {
    const { east, client, balancer, calls } = await startEastAndWest(t)
    east.always(answers(429, { 'retry-after': '12' }))
    assert.equal(await chat(client), 'west')
    east.always(says('east'))
    balancer.system.advance(11_999)
    assert.equal(await chat(client), 'west')
    balancer.system.advance(1_001)
    assert.equal(await chat(client), 'east')
    assert.deepEqual(calls(), [2, 2])
  })

  test('else by the reset of the rate limit that is used up', async (t) => {
    const { east, client, status } = await startEastAndWest(t)
    east.always(answers(429, { 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '4' }))
    assert.equal(await chat(client), 'west')
    const { cooldownMs } = status()[0]
    assert.ok(cooldownMs >= 4_000 && cooldownMs <= 4_400, `${cooldownMs} ms`)
  })

  test('else for 10 s', async (t) => {
    const { east, client, status } = await startEastAndWest(t)
    east.always(answers(429))
    assert.equal(await chat(client), 'west')
    const { cooldownMs } = status()[0]
    assert.ok(cooldownMs >= 10_000 && cooldownMs <= 11_000, `${cooldownMs} ms`)
  })

  for (const status of [500, 503]) {
    test(`a ${status} cools the backend down by Retry-After, and the request goes on at once`, async (t) => {
      const { east, client, status: statuses, calls } = await startEastAndWest(t)
      east.always(answers(status, { 'retry-after': '12' }))
      assert.equal(await chat(client), 'west')
      assert.equal(await chat(client), 'west')
      assert.deepEqual(calls(), [1, 2])
      assert.ok(statuses()[0].cooldownMs >= 12_000)
    })

    test(`a ${status} without headers goes on at once too, but it takes a second one in a row to keep requests away`, async (t) => {
      const { east, client, calls } = await startEastAndWest(t)
      east.always(answers(status))
      for (let i = 0; i < 3; i++) assert.equal(await chat(client), 'west')
      assert.deepEqual(calls(), [2, 3])
    })
  }

  test('every 2xx and 3xx, and every 4xx that no other backend would answer better, is the caller\'s', async (t) => {
    const { east, balancer, calls } = await startEastAndWest(t)
    // 408 is Azure's own timeout, 402, 403 and 410 are about this backend: they go on (see the outcome table).
    const statuses = [200, 201, 202, 204, 206, 300, 301, 302, 304, 307, 400, 401, 404, 405, 409, 413, 415, 422, 423, 424, 451]
    for (const status of statuses) {
      east.always(answers(status, {}, status === 204 || status === 304 ? '' : 'body'))
      const response = await fetch(`${east.url}/openai/deployments/gpt-4o/chat/completions`, { method: 'POST', body: '{}', redirect: 'manual', dispatcher: balancer } as unknown as RequestInit)
      assert.equal(response.status, status)
      await response.arrayBuffer()
    }
    assert.deepEqual(calls(), [statuses.length, 0])
  })

  test('with nothing available the caller gets a 429 with the soonest Retry-After', async (t) => {
    // With pacing the second caller would be told when the backend has room for two.
    const { east, west, client, balancer } = await startEastAndWest(t, { pacing: false })
    east.always(answers(429, { 'retry-after': '44' }))
    west.always(answers(429, { 'retry-after': '4' }))
    const first = await failure(chat(client))
    assertIsA(first, RateLimitError)
    assert.equal(first.headers.get('retry-after'), '5', '4 s and a little jitter, rounded up')
    balancer.system.advance(3_000)
    const second = await failure(chat(client))
    assertIsA(second, RateLimitError)
    assert.equal(second.headers.get('retry-after'), '2')
  })

  test('a backend returns when its time is over', async (t) => {
    const { east, west, client, balancer } = await startEastAndWest(t)
    east.always(answers(429, { 'retry-after': '5' }))
    west.always(answers(429, { 'retry-after': '10' }))
    await failure(chat(client))
    west.always(says('west'))
    balancer.system.advance(11_000)
    assert.equal(await chat(client), 'west', 'it is east\'s turn, which is throttled again')
    east.always(says('east'))
    balancer.system.advance(5_500)
    assert.equal(await chat(client), 'east')
  })

  test('calls are counted, for each backend', async (t) => {
    // The clock stands still: without pacing six requests fit into one moment.
    const { east, client, status } = await startEastAndWest(t, { pacing: false })
    east.always((call) => (east.calls.length % 2 === 0 ? answers(429, { 'retry-after': '0' }) : says('east'))(call))
    for (let i = 0; i < 6; i++) await chat(client)
    const counts = status().map(({ attempts, successes, throttled }) => ({ attempts, successes, throttled }))
    assert.deepEqual(counts, [{ attempts: 6, successes: 3, throttled: 3 }, { attempts: 3, successes: 3, throttled: 0 }])
  })

  test('it logs under the name openai-priority-loadbalancer', async (t) => {
    const east = await startScriptedBackend()
    t.after(() => east.close())
    east.always(answers(429, { 'retry-after': '5' }))
    const { code, stdout, stderr } = await runScript(`
      import { PriorityBalancer } from ${JSON.stringify(urlOf('src/index.ts'))}
      const balancer = new PriorityBalancer({ backends: [{ url: '${east.url}', priority: 1, name: 'east' }] })
      const response = await fetch('${east.url}/openai/deployments/gpt-4o/chat/completions', { method: 'POST', body: '{}', dispatcher: balancer })
      await response.text()
      await balancer.close()
    `)
    assert.equal(code, 0, stderr)
    assert.equal(stdout, '', 'never on stdout')
    const lines = stderr.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>)
    assert.deepEqual(lines.map(({ name, level, event }) => ({ name, level, event })), [
      { name: 'openai-priority-loadbalancer', level: 40, event: 'cooldown' },
      { name: 'openai-priority-loadbalancer', level: 50, event: 'exhausted' },
    ])
  })

  test('each backend can have a key of its own', async (t) => {
    const { east, west, client } = await startEastAndWest(t, {}, [{ apiKey: 'key-east' }, { apiKey: 'key-west' }])
    east.always(answers(429))
    assert.equal(await chat(client), 'west')
    assert.equal(header(east.calls[0], 'api-key'), 'key-east')
    assert.equal(header(west.calls[0], 'api-key'), 'key-west')
  })

  test('a token of the caller\'s is shared by the backends that have none', async (t) => {
    const { east, west, balancer } = await startEastAndWest(t)
    const client = azureClient(east.url, balancer, { apiKey: undefined, azureADTokenProvider: () => Promise.resolve('entra-token') })
    east.always(answers(429))
    assert.equal(await chat(client), 'west')
    for (const { calls } of [east, west]) {
      assert.equal(header(calls[0], 'authorization'), 'Bearer entra-token')
      assert.equal(header(calls[0], 'api-key'), undefined)
    }
  })

  test('a backend may live under a path', async (t) => {
    const { east, west } = await startEastAndWest(t)
    const prefixed = new VirtualBalancer({
      backends: [{ url: `${east.url}/eastus`, priority: 1 }, { url: `${west.url}/apim/west`, priority: 2 }], intercept: [east.url], logger: false,
    })
    t.after(() => prefixed.destroy())
    east.always(answers(429))
    assert.equal(await chat(azureClient(east.url, prefixed)), 'west')
    const path = `/openai/deployments/gpt-4o/chat/completions?api-version=${API_VERSION}`
    assert.equal(east.calls.at(-1)?.request.path, `/eastus${path}`)
    assert.equal(west.calls.at(-1)?.request.path, `/apim/west${path}`)
  })
})

describe('what it does wrong, and is not ported', () => {
  test('throws on a Retry-After that is a date', async (t) => {
    const { east, client, status } = await startEastAndWest(t)
    east.always(answers(429, { 'retry-after': new Date(Date.UTC(2026, 0, 1, 0, 0, 30)).toUTCString(), 'date': new Date(Date.UTC(2026, 0, 1)).toUTCString() }))
    assert.equal(await chat(client), 'west')
    const { cooldownMs } = status()[0]
    assert.ok(cooldownMs >= 30_000 && cooldownMs <= 31_000, `${cooldownMs} ms`)
  })

  test('throws on a Retry-After with a fraction', async (t) => {
    const { east, client, status } = await startEastAndWest(t)
    east.always(answers(429, { 'retry-after': '2.5' }))
    assert.equal(await chat(client), 'west')
    const { cooldownMs } = status()[0]
    assert.ok(cooldownMs >= 2_500 && cooldownMs <= 2_750, `${cooldownMs} ms`)
  })

  test('ignores retry-after-ms, and so leaves paid capacity unused for a second that is full for tens of milliseconds', async (t) => {
    const { east, client, balancer } = await startEastAndWest(t)
    east.always(answers(429, { 'retry-after': '1', 'retry-after-ms': '43' }))
    assert.equal(await chat(client), 'west')
    east.always(says('east'))
    balancer.system.advance(48)
    assert.equal(await chat(client), 'east')
  })

  test('sends one backend\'s key to the next', async (t) => {
    const { east, west, client } = await startEastAndWest(t, {}, [{ apiKey: 'key-east' }, {}])
    east.always(answers(429))
    assert.equal(await chat(client), 'west')
    assert.equal(header(east.calls[0], 'api-key'), 'key-east')
    assert.equal(header(west.calls[0], 'api-key'), 'callers-key')
  })

  test('stacks path prefixes from try to try', async (t) => {
    const backends = await startBackends(3)
    const balancer = new VirtualBalancer({
      backends: backends.map(({ url }, i) => ({ url: `${url}/prefix-${i}`, priority: i + 1 })), intercept: ['https://chat.balanced'], logger: false,
    })
    t.after(async () => { await Promise.all([balancer.destroy(), ...backends.map((backend) => backend.close())]) })
    backends[0]?.always(answers(429))
    backends[1]?.always(answers(429))
    assert.equal(await chat(openaiClient('https://chat.balanced/v1', balancer)), 'backend 2')
    assert.deepEqual(backends.map(({ calls }) => calls[0]?.request.path), [0, 1, 2].map((i) => `/prefix-${i}/v1/chat/completions`))
  })

  test('raises a connection error although another backend is healthy', async (t) => {
    const { client, status } = await startEastAndWest(t, {}, [{ url: await refusingUrl() }, {}])
    const elsewhere = status()[0].url
    assert.equal(await chat(azureClient(elsewhere, client.fetchOptions?.['dispatcher' as never])), 'west')
    assert.equal(status()[0].state, 'ejected')
  })

  test('buffers streams', async (t) => {
    const { east, client } = await startEastAndWest(t)
    const more = gate()
    east.always(async (call) => {
      call.head(200, { 'content-type': 'text/event-stream' })
      await call.write(chunk('first'))
      await more.promise
      await call.write(chunk('second'))
      call.end('data: [DONE]\n\n')
    })
    const stream = await within(client.chat.completions.create({ model: 'gpt-4o', messages: [], stream: true }), 'the stream begins')
    const parts: string[] = []
    for await (const { choices } of stream) {
      parts.push(choices[0]?.delta.content ?? '')
      // The second part is sent only now that the first one is here.
      more.open()
    }
    assert.deepEqual(parts, ['first', 'second'])
  })

  test('rewrites every host: here requests to others stay what they are', async (t) => {
    const { east, west, balancer } = await startEastAndWest(t, {}, [{ apiKey: 'key-east' }, {}])
    const other = await startScriptedBackend()
    t.after(() => other.close())
    other.always(says('other'))
    assert.equal(await chat(azureClient(other.url, balancer)), 'other')
    assert.deepEqual([east.calls.length, west.calls.length], [0, 0])
    assert.equal(header(other.calls[0], 'api-key'), 'callers-key')
    assert.equal(header(other.calls[0], 'host'), other.host)
  })

  test('logs keys', async (t) => {
    const lines: string[] = []
    const write = (fields: object, message: string): void => { lines.push(JSON.stringify({ ...fields, message })) }
    const { east, client } = await startEastAndWest(t, { logger: { debug: write, info: write, warn: write, error: write } }, [{ apiKey: 'key-east' }, { bearerToken: () => 'token-west' }])
    east.always(answers(401))
    assert.equal(await chat(client), 'west')
    await until(() => lines.length >= 5)
    assert.doesNotMatch(lines.join('\n'), /key-east|token-west|callers-key/)
  })
})
