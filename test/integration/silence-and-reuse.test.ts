/** What says little of a backend: silence, until it lasts; a connection that was closed as it was used again; and what our own machine lacks. */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import OpenAI from 'openai'
import { Agent, request, type Dispatcher } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import { connectTo, failing, type Fate } from '../support/dead-hosts.js'
import { failure, says } from '../support/east-and-west.js'
import { chat, openaiClient } from '../support/openai-clients.js'
import { startRawServer, type RawScript } from '../support/raw-server.js'
import { startScriptedBackend, type ScriptedBackend } from '../support/scripted-backend.js'
import { turns, within } from '../support/until.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'

async function startPair(t: TestContext): Promise<{ readonly east: ScriptedBackend, readonly west: ScriptedBackend, readonly balancer: PriorityBalancer }> {
  const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
  const balancer = new PriorityBalancer({ backends: [{ url: east.url, priority: 1, name: 'east' }, { url: west.url, priority: 2, name: 'west' }], logger: false })
  t.after(async () => { await Promise.all([balancer.destroy(), east.close(), west.close()]) })
  west.always(says('west'))
  return { east, west, balancer }
}

describe('a backend that accepts and never answers', () => {
  test('a single call of an SDK with a timeout of 400 ms and two retries is answered by the other', async (t) => {
    const { east, west, balancer } = await startPair(t)
    const client = openaiClient(east.url, balancer, { timeout: 400, maxRetries: 2 })
    assert.equal(await within(chat(client), 'the answer'), 'west')
    assert.deepEqual([east.calls.length, west.calls.length], [1, 1], 'it says that it tries again')
    const [{ state, scopes: [scope] }] = balancer.status().backends as [ReturnType<typeof balancer.status>['backends'][number]]
    assert.deepEqual([state, scope?.state], ['available', 'available'], 'one that was given up proves nothing to others')
  })

  for (const callers of [1, 10]) {
    test(`after fifty good answers all ${callers} callers of the kind are answered`, async (t) => {
      const { east, balancer } = await startPair(t)
      const client = openaiClient(east.url, balancer, { timeout: 400, maxRetries: 2 })
      east.always(says('east'))
      for (let i = 0; i < 50; i++) assert.equal(await chat(client), 'east')
      east.byHand()
      const texts = await within(Promise.all(Array.from({ length: callers }, () => chat(client))), 'the answers')
      assert.deepEqual(texts.filter((text) => text !== 'west'), [])
    })
  }

  test('the same while others begin all the time', async (t) => {
    const { east, balancer } = await startPair(t)
    const client = openaiClient(east.url, balancer, { timeout: 400, maxRetries: 2 })
    const answers: Promise<string>[] = []
    for (let i = 0; i < 20; i++) {
      answers.push(chat(client))
      await chat(client, { timeout: 40, maxRetries: 0 }).catch(() => {})
    }
    assert.deepEqual((await within(Promise.all(answers), 'the answers')).filter((text) => text !== 'west'), [])
  })
})

describe('callers who give up early', () => {
  test('twelve at once, and forty who type ahead, move nothing', async (t) => {
    const { east, balancer } = await startPair(t)
    const client = openaiClient(east.url, balancer)
    const batch = new AbortController()
    const answers = Array.from({ length: 12 }, () => failure(chat(client, { signal: batch.signal })))
    for (let i = 0; i < 12; i++) await east.next()
    batch.abort()
    for (const error of await Promise.all(answers)) assert.ok(error instanceof OpenAI.APIUserAbortError)
    for (let i = 0; i < 40; i++) {
      const key = new AbortController()
      const answer = failure(chat(client, { signal: key.signal }))
      await east.next()
      key.abort()
      await answer
    }
    east.always(says('east'))
    assert.equal(await chat(client), 'east')
  })
})

/** Answers so many requests on a connection and resets it at the next. */
const resetsAfter = (count: number): RawScript => async (connection) => {
  for (let i = 0; i < count; i++) {
    if (await connection.request() === undefined) return
    await connection.write('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 6\r\n\r\n"east"')
  }
  await connection.request()
  connection.reset()
}

describe('a server that resets connections which it has served on', () => {
  async function setUp(t: TestContext, script: RawScript, agent?: Dispatcher): Promise<{
    readonly balancer: PriorityBalancer, readonly west: ScriptedBackend, readonly requests: () => number
    ask(path?: string, body?: string): Promise<string>
  }> {
    const [east, west] = await Promise.all([startRawServer(script), startScriptedBackend()])
    west.always((call) => { call.respond(200, { 'content-type': 'application/json' }, '"west"') })
    const balancer = new PriorityBalancer({ backends: [{ url: east.url, priority: 1 }, { url: west.url, priority: 2 }], logger: false, ...(agent === undefined ? {} : { dispatcher: agent }) })
    t.after(async () => { await Promise.all([balancer.destroy(), east.close(), west.close()]) })
    return {
      balancer, west, requests: () => east.requests.length,
      async ask(path = '/chat/completions', body = '{"model":"m"}') {
        // undici gives a connection back a moment after the answer's end.
        await turns(3)
        return request(`${east.url}${path}`, { method: 'POST', body, dispatcher: balancer }).then(({ body: answer }) => answer.text(), (error: Error & { code?: string }) => error.code ?? error.name)
      },
    }
  }

  for (const [name, count] of [['every second request', 1], ['every third', 2], ['every tenth', 9]] as const) {
    test(`${name}: all are answered by it, and nothing is held against it`, async (t) => {
      const { ask, balancer, west } = await setUp(t, resetsAfter(count))
      for (let i = 0; i < 40; i++) assert.equal(await ask(), '"east"')
      const [{ state, failures, successes }] = balancer.status().backends as [ReturnType<typeof balancer.status>['backends'][number]]
      assert.deepEqual([state, failures, successes, west.calls.length], ['available', 0, 40, 0])
    })
  }

  test('every second request, twenty callers at once: all are answered by it', async (t) => {
    const { ask, west, balancer } = await setUp(t, resetsAfter(1))
    for (let round = 0; round < 5; round++) {
      const texts = await Promise.all(Array.from({ length: 20 }, () => ask()))
      assert.deepEqual(texts.filter((text) => text !== '"east"'), [])
    }
    assert.deepEqual([west.calls.length, balancer.status().backends[0]?.failures], [0, 0])
  })

  test('through a dispatcher that tells of no connections as well', async (t) => {
    const agent = new Agent()
    t.after(() => agent.destroy())
    const { ask, west } = await setUp(t, resetsAfter(1), agent.compose((dispatch) => (opts, handler) => dispatch(opts, handler)))
    for (let i = 0; i < 20; i++) assert.equal(await ask(), '"east"')
    assert.equal(west.calls.length, 0)
  })

  for (const [what, path, body] of [
    ['a response in the background', '/responses', '{"model":"m","background":true}'],
    ['a turn of a conversation', '/responses', '{"model":"m","conversation":"conv_1"}'],
    ['a tool on another server', '/responses', '{"model":"m","tools":[{"type":"function"},{"type":"mcp","server_url":"https://x"}]}'],
    ['a tool that runs code', '/v1/responses?x=1', '{"tools":[{"type":"code_interpreter"}],"model":"m"}'],
    ['an upload', '/files', 'bytes'],
  ] as const) {
    test(`${what} is never sent again, its reset is the caller's, and nothing is held against the server`, async (t) => {
      const { ask, balancer, west, requests } = await setUp(t, resetsAfter(1))
      assert.equal(await ask(), '"east"')
      assert.match(await ask(path, body), /ECONNRESET|UND_ERR_SOCKET/)
      const [{ state, failures }] = balancer.status().backends as [ReturnType<typeof balancer.status>['backends'][number]]
      assert.deepEqual([requests(), west.calls.length, state, failures], [2, 0, 'available', 0])
    })
  }

  test('a request that creates nothing is: a plain response, and one with tools that only answer', async (t) => {
    const { ask, west } = await setUp(t, resetsAfter(1))
    for (const body of ['{"model":"m","background":false,"conversation":null}', '{"model":"m","tools":[{"type":"function"},{"type":"web_search"}]}', '{"model":"m","input":"background: true"}']) {
      for (let i = 0; i < 2; i++) assert.equal(await ask('/responses', body), '"east"')
    }
    assert.equal(west.calls.length, 0)
  })

  test('one that resets new connections, too, is out at once', async (t) => {
    const { ask, balancer, requests } = await setUp(t, async (connection) => { await connection.request(); connection.reset() })
    assert.deepEqual([await ask(), await ask()], ['"west"', '"west"'])
    assert.deepEqual([requests(), balancer.status().backends[0]?.state], [1, 'ejected'])
  })
})

describe('what our own machine lacks', () => {
  async function setUp(t: TestContext, fate: () => Fate | undefined, isEastAlone: boolean): Promise<{ readonly balancer: VirtualBalancer, ask(): Promise<string> }> {
    const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
    // Each connection serves once, so that the next needs another one.
    east.always((call) => { call.respond(200, { connection: 'close' }, 'east') })
    west.always((call) => { call.respond(200, { connection: 'close' }, 'west') })
    const dispatcher: Agent = new Agent({ connect: connectTo(() => balancer.system, (_, port) => (!isEastAlone || port === String(east.port) ? fate() : undefined)) })
    const balancer: VirtualBalancer = new VirtualBalancer({ backends: [{ url: east.url, priority: 1 }, { url: west.url, priority: 2 }], dispatcher, logger: false })
    t.after(async () => { await Promise.all([balancer.destroy(), east.close(), west.close()]) })
    return {
      balancer,
      async ask() {
        let isDone = false
        const answer = request(`${east.url}/x`, { method: 'POST', body: '{}', dispatcher: balancer })
          .then(({ body }) => body.text(), (error: Error & { code?: string }) => error.code ?? error.name).finally(() => { isDone = true })
        while (!isDone) { await turns(1); balancer.system.advance(0) }
        return answer
      },
    }
  }

  for (const code of ['EMFILE', 'ENOBUFS', 'EAI_AGAIN']) {
    for (const isEastAlone of [true, false]) {
      test(`${code} for six seconds, for ${isEastAlone ? 'the first backend' : 'all'}: requests are back on the first within about a second`, async (t) => {
        let lacks = true
        const { ask, balancer } = await setUp(t, () => (lacks ? failing(code) : undefined), isEastAlone)
        for (let ms = 0; ms < 6_000; ms += 100) {
          assert.equal(await ask(), isEastAlone ? 'west' : code)
          balancer.system.advance(100)
          await turns(3)
        }
        lacks = false
        let waitedMs = 0
        for (; await ask() !== 'east'; waitedMs += 100) {
          assert.ok(waitedMs < 1_200, `${waitedMs} ms`)
          balancer.system.advance(100)
          await turns(10)
        }
        if (code !== 'EAI_AGAIN' || !isEastAlone) assert.equal(waitedMs, 0)
      })
    }
  }
})
