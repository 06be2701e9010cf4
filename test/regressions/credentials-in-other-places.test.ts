/**
 * Seen: a backend with a key of its own was sent the caller's all the same where that was not in `api-key` or `authorization`:
 * `x-api-key`, `x-goog-api-key`, `cookie`, `openai-organization`, a WebSocket's subprotocol `openai-insecure-api-key.*`, and the
 * query's `key`, `code`, `sig`, `access_token`.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { describe, test, type TestContext } from 'node:test'
import OpenAI from 'openai'
import { request, WebSocket } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import type { BackendOptions } from '../../src/options/index.js'
import { completion } from '../support/openai-clients.js'
import { startScriptedBackend, type ScriptedBackend } from '../support/scripted-backend.js'
import { gate } from '../support/gate.js'

/** Where the caller's credential, or what names its account, can be in headers. */
const NAMES = [
  'api-key', 'authorization', 'x-api-key', 'x-goog-api-key', 'ocp-apim-subscription-key', 'x-functions-key', 'x-litellm-api-key', 'x-portkey-api-key',
  'helicone-auth', 'cookie', 'proxy-authorization', 'openai-organization', 'openai-project',
]
/** And in the query. */
const PARAMETERS = ['api-key', 'key', 'code', 'sig', 'access_token', 'subscription-key']

/** Names that only look like them. */
const OTHERS: Readonly<Record<string, string>> = { 'x-api-keys': 'stays', 'x-request-id': 'stays', 'openai-beta': 'stays', cookies: 'stays' }

const THEIRS = 'the-callers'

interface World {
  readonly backend: ScriptedBackend
  readonly balancer: PriorityBalancer
}

async function start (t: TestContext, options: Partial<BackendOptions> = { bearerToken: 'ours' }): Promise<World> {
  const backend = await startScriptedBackend()
  const balancer = new PriorityBalancer({ backends: [{ url: `${backend.url}/v1`, priority: 1, ...options }], logger: false })
  t.after(async () => {
    await balancer.destroy()
    await backend.close()
  })
  backend.always(async (call) => {
    await call.request.body()
    call.respond(200, {}, completion('hello'))
  })
  return { backend, balancer }
}

/** All that the backend was sent with the last request, but for the body: one text. */
function sent ({ backend }: World): string {
  const last = backend.calls.at(-1)?.request
  return JSON.stringify([last?.path, last?.headers])
}

function assertOursAlone (world: World): void {
  assert.doesNotMatch(sent(world), /the-callers/)
  assert.equal(world.backend.calls.at(-1)?.request.headers['authorization'], 'Bearer ours')
}

const theirHeaders = (spell: (name: string) => string = (name) => name): Record<string, string> => ({ ...Object.fromEntries(NAMES.map((name) => [spell(name), THEIRS])), ...OTHERS })

const upper = (name: string): string => name.replace(/\b[a-z]/g, (letter) => letter.toUpperCase())

function * pairs (headers: Record<string, string>): Generator<[string, string]> {
  yield * Object.entries(headers)
}

const shapes: readonly [name: string, make: (headers: Record<string, string>) => unknown][] = [
  ['an object', (headers) => headers],
  ['a flat array', (headers) => Object.entries(headers).flat()],
  ['a Map', (headers) => new Map(Object.entries(headers))],
  ['Headers', (headers) => new Headers(headers)],
  ['a generator of pairs', (headers) => pairs(headers)],
  ['an object with lists', (headers) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value]]))],
]

describe('of the caller\'s headers a backend with a credential of its own sees none that says who the caller is', () => {
  for (const [shape, make] of shapes) {
    for (const spell of [(name: string) => name, upper]) {
      test(`${spell('as-written')} in ${shape}, by undici`, async (t) => {
        const world = await start(t)
        const { body } = await request(`${world.backend.url}/v1/chat/completions`, { method: 'POST', body: '{}', headers: make(theirHeaders(spell)) as never, dispatcher: world.balancer })
        await body.dump()
        assertOursAlone(world)
        for (const name of Object.keys(OTHERS)) assert.equal(world.backend.calls.at(-1)?.request.headers[name], 'stays')
      })
    }
  }

  test('by fetch', async (t) => {
    const world = await start(t)
    const response = await fetch(`${world.backend.url}/v1/chat/completions`, { method: 'POST', body: '{}', headers: theirHeaders(), dispatcher: world.balancer } as unknown as RequestInit)
    await response.text()
    assertOursAlone(world)
  })

  test('by the SDK, with its organization and project', async (t) => {
    const world = await start(t)
    const client = new OpenAI({
      apiKey: THEIRS, organization: THEIRS, project: THEIRS, baseURL: `${world.backend.url}/v1`, maxRetries: 0,
      defaultHeaders: { 'x-goog-api-key': THEIRS, Cookie: `a=${THEIRS}` }, defaultQuery: { key: THEIRS, 'api-version': '1' }, fetchOptions: { dispatcher: world.balancer } as never,
    })
    await client.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'hi' }] })
    assertOursAlone(world)
    assert.equal(world.backend.calls.at(-1)?.request.path, '/v1/chat/completions?api-version=1')
  })

  test('also with a credential that is asked for each time, and with an apiKey', async (t) => {
    for (const [options, header, value] of [[{ bearerToken: async () => 'ours' }, 'authorization', 'Bearer ours'], [{ apiKey: 'ours' }, 'api-key', 'ours']] as const) {
      const world = await start(t, options)
      const { body } = await request(`${world.backend.url}/v1/x`, { headers: theirHeaders(), dispatcher: world.balancer })
      await body.dump()
      assert.doesNotMatch(sent(world), /the-callers/)
      assert.equal(world.backend.calls.at(-1)?.request.headers[header], value)
    }
  })

  test('one without a credential sees them all', async (t) => {
    const world = await start(t, {})
    const { body } = await request(`${world.backend.url}/v1/x?key=${THEIRS}`, { headers: theirHeaders(), dispatcher: world.balancer })
    await body.dump()
    assert.deepEqual(NAMES.filter((name) => world.backend.calls.at(-1)?.request.headers[name] !== THEIRS), [])
    assert.equal(world.backend.calls.at(-1)?.request.path, `/v1/x?key=${THEIRS}`)
  })
})

describe('of the caller\'s query it sees no credential either', () => {
  for (const name of PARAMETERS) {
    for (const [written, spelling] of [[name, 'as it is'], [name.toUpperCase(), 'in capitals'], [name.replace(/./, (first) => `%${first.charCodeAt(0).toString(16)}`), 'with an encoded letter']] as const) {
      test(`${name} ${spelling}`, async (t) => {
        const world = await start(t)
        for (const url of [`/v1/x?a=1&${written}=${THEIRS}&b=%20`, `/v1/x?${written}=${THEIRS}&a=1&${written}=${THEIRS}&b=%20`]) {
          const { body } = await request(world.backend.url + url, { dispatcher: world.balancer })
          await body.dump()
          assertOursAlone(world)
          assert.equal(world.backend.calls.at(-1)?.request.path, '/v1/x?a=1&b=%20')
        }
      })
    }
  }

  test('nor in undici\'s own option for it', async (t) => {
    const world = await start(t)
    const query = { ...Object.fromEntries(PARAMETERS.map((name) => [name, THEIRS])), a: '1', keys: 'stays' }
    const { body } = await request(`${world.backend.url}/v1/x`, { query, dispatcher: world.balancer })
    await body.dump()
    assertOursAlone(world)
    assert.equal(world.backend.calls.at(-1)?.request.path, '/v1/x?a=1&keys=stays')
  })
})

describe('of a WebSocket\'s subprotocols', () => {
  /** Opens a WebSocket with these. @returns those that the backend saw. */
  async function open (t: TestContext, protocols: string[], options?: Partial<BackendOptions>): Promise<string | undefined> {
    const { backend, balancer } = await start(t, options)
    const asked = gate<IncomingMessage>()
    backend.onUpgrade((message, socket) => {
      asked.open(message)
      const accept = createHash('sha1').update(`${message.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-protocol: realtime\r\nsec-websocket-accept: ${accept}\r\n\r\n`)
      socket.on('error', () => {})
    })
    const socket = new WebSocket(`${backend.url.replace('http', 'ws')}/v1/realtime?model=gpt-realtime&key=${THEIRS}`, { protocols, dispatcher: balancer })
    const opened = gate()
    socket.addEventListener('open', () => { opened.open() })
    socket.addEventListener('error', ({ error }) => { opened.fail(error as Error) })
    const message = await asked.promise
    await opened.promise
    assert.equal(socket.protocol, 'realtime')
    socket.close()
    if (options === undefined) assert.doesNotMatch(JSON.stringify([message.url, message.headers]), /the-callers/)
    return message.headers['sec-websocket-protocol']
  }

  test('the caller\'s key is replaced by the backend\'s', async (t) => {
    assert.equal(await open(t, ['realtime', `openai-insecure-api-key.${THEIRS}`, 'openai-beta.realtime-v1']), 'realtime, openai-insecure-api-key.ours, openai-beta.realtime-v1')
  })

  test('the key is found wherever it stands', async (t) => {
    assert.equal(await open(t, [`openai-insecure-api-key.${THEIRS}`, 'realtime']), 'openai-insecure-api-key.ours, realtime')
  })

  test('none is added where the caller has none', async (t) => {
    assert.equal(await open(t, ['realtime', 'openai-beta.realtime-v1']), 'realtime, openai-beta.realtime-v1')
  })

  test('it goes where the backend\'s own is of another kind, and with it what names the caller\'s account', async (t) => {
    const protocols = ['realtime', `openai-insecure-api-key.${THEIRS}`, `openai-organization.${THEIRS}`, `openai-project.${THEIRS}`]
    assert.equal(await open(t, protocols, { headers: { 'ocp-apim-subscription-key': 'ours' } }), 'realtime')
    assert.equal(await open(t, protocols), 'realtime, openai-insecure-api-key.ours')
  })

  test('it stays where the backend has none of its own', async (t) => {
    assert.equal(await open(t, ['realtime', `openai-insecure-api-key.${THEIRS}`], {}), `realtime, openai-insecure-api-key.${THEIRS}`)
  })
})
