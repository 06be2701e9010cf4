/** The model of a request, wherever it stands: what it is throttled under, what it is called where it goes, and who is asked at all. */
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { describe, test, type TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import OpenAI, { NotFoundError, toFile } from 'openai'
import { FormData as UndiciFormData, request, WebSocket } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import type { BackendOptions, BalancerOptions } from '../../src/options/index.js'
import { subscribe, type ExhaustedEvent } from '../../src/telemetry/events.js'
import { answers, failure, says, startEastAndWest, type Answer, type EastAndWest } from '../support/east-and-west.js'
import { gate } from '../support/gate.js'
import { chat, openaiClient } from '../support/openai-clients.js'
import { startScriptedBackend, type ScriptedCall } from '../support/scripted-backend.js'

/** A recording in whose bytes there is everything that a reader of forms might take for a part. */
const RECORDING = Buffer.concat([
  Buffer.from('RIFF\0\n\n\r\n\r\nContent-Disposition: form-data; name="model"\r\n\r\nfake\r\n--'), Buffer.from(Uint8Array.from({ length: 3_000 }, (_, i) => i * 7)),
  Buffer.from('\r\n--boundary\r\nContent-Disposition: form-data; name="model"\r\n\r\nfake\r\n--boundary--\r\n'), Buffer.from('\n'.repeat(100)),
])

/** Answers when all of the request is there. */
const reads = (answer: Answer): Answer => async (call) => {
  await call.request.body()
  answer(call)
}

interface Form {
  readonly model: string | undefined
  readonly file: Buffer
}

/** What a server makes of a form, by another reader than ours. It insists on the length that was announced. */
async function readForm({ request: { headers, body } }: ScriptedCall): Promise<Form> {
  const bytes = await body()
  if (headers['content-length'] !== undefined) assert.equal(Number(headers['content-length']), bytes.byteLength)
  const form = await new Response(Uint8Array.from(bytes), { headers: { 'content-type': String(headers['content-type']) } }).formData()
  const [model, file] = [form.get('model'), form.get('file') ?? form.get('image')]
  return { model: typeof model === 'string' ? model : undefined, file: file instanceof File ? Buffer.from(await file.arrayBuffer()) : assert.fail('no file') }
}

interface Received {
  readonly east: Form[]
  readonly west: Form[]
}

/** East answers 429 to all that comes, west well. */
async function startForms(t: TestContext, options: Partial<BalancerOptions> = {}): Promise<EastAndWest & { readonly received: Received }> {
  const it = await startEastAndWest(t, options, [{}, { models: { 'whisper-1': 'whisper-west' } }])
  const received: Received = { east: [], west: [] }
  it.east.always(async (call) => {
    received.east.push(await readForm(call))
    call.respond(429, { 'retry-after': '30' }, {})
  })
  it.west.always(async (call) => {
    received.west.push(await readForm(call))
    call.respond(200, {}, { text: 'hello', created: 1, data: [] })
  })
  return { ...it, received }
}

function makeForm(FormDataOf: new () => FormData, isModelFirst: boolean, recording: Buffer): FormData {
  const form = new FormDataOf()
  if (isModelFirst) form.append('model', 'whisper-1')
  form.append('file', new File([Uint8Array.from(recording)], 'model".wav'))
  form.append('language', 'en')
  if (!isModelFirst) form.append('model', 'whisper-1')
  return form
}

type Send = (it: EastAndWest, isModelFirst: boolean, recording: Buffer) => Promise<unknown>

const path = '/v1/audio/transcriptions'

const senders: readonly (readonly [how: string, send: Send])[] = [
  ['the openai package', async ({ east, balancer }, isModelFirst, recording) => {
    const file = await toFile(recording, 'a.wav')
    const client = openaiClient(`${east.url}/v1`, balancer)
    assert.equal((await client.audio.transcriptions.create(isModelFirst ? { model: 'whisper-1', file } : { file, model: 'whisper-1' })).text, 'hello')
  }],
  ['fetch', async ({ east, balancer }, isModelFirst, recording) => {
    const response = await fetch(east.url + path, { method: 'POST', body: makeForm(FormData, isModelFirst, recording), dispatcher: balancer } as unknown as RequestInit)
    assert.equal(response.status, 200)
    await response.text()
  }],
  ['undici\'s request, as bytes', async ({ east, balancer }, isModelFirst, recording) => {
    const response = new Response(makeForm(FormData, isModelFirst, recording))
    const [body, type] = [Buffer.from(await response.arrayBuffer()), response.headers.get('content-type')]
    const { statusCode, body: answer } = await request(east.url + path, { method: 'POST', body, headers: { 'Content-Type': String(type).replace(/=(.*)/, '="$1"'), 'Content-Length': String(body.length) }, dispatcher: balancer })
    await answer.dump()
    assert.equal(statusCode, 200)
  }],
  ['undici\'s request, as FormData', async ({ east, balancer }, isModelFirst, recording) => {
    const form = makeForm(UndiciFormData as unknown as new () => FormData, isModelFirst, recording)
    const { statusCode, body } = await request(east.url + path, { method: 'POST', body: form as never, dispatcher: balancer })
    await body.dump()
    assert.equal(statusCode, 200)
    assert.equal(form.get('model'), 'whisper-1', 'the caller\'s own form is as it was')
  }],
]

describe('a transcription', () => {
  for (const [how, send] of senders) {
    for (const isModelFirst of [true, false]) {
      test(`by ${how}, its model ${isModelFirst ? 'before' : 'behind'} the recording: is sent under the backend's own name, and throttled under its own`, async (t) => {
        const it = await startForms(t)
        await send(it, isModelFirst, RECORDING)
        assert.deepEqual(it.received, { east: [{ model: 'whisper-1', file: RECORDING }], west: [{ model: 'whisper-west', file: RECORDING }] })
        const [east, west] = it.status()
        assert.deepEqual([east.scopes, west.scopes].map((scopes) => scopes.map(({ scope, state }) => [scope, state])), [[['whisper-1', 'cooldown']], [['whisper-west', 'available']]])
      })
    }
  }

  test('that is throttled leaves pictures of another model alone', async (t) => {
    const it = await startForms(t)
    const client = openaiClient(`${it.east.url}/v1`, it.balancer)
    await client.audio.transcriptions.create({ file: await toFile(RECORDING, 'a.wav'), model: 'whisper-1' })
    const edit = client.images.edit({ image: await toFile(RECORDING, 'a.png', { type: 'image/png' }), prompt: 'more', model: 'gpt-image-1' })
    await edit
    await client.audio.transcriptions.create({ file: await toFile(RECORDING, 'a.wav'), model: 'whisper-1' })
    assert.deepEqual(it.received.east.map(({ model }) => model), ['whisper-1', 'gpt-image-1'], 'east is asked for pictures still, and not for speech')
    assert.deepEqual(it.received.west.map(({ model }) => model), ['whisper-west', 'gpt-image-1', 'whisper-west'])
  })

  test('of 20 MB goes on to the next backend, whole', async (t) => {
    const it = await startForms(t)
    const recording = Buffer.alloc(20_000_000, RECORDING)
    for (const [, send] of senders) {
      it.balancer.system.advance(60_000)
      await send(it, false, recording)
    }
    assert.deepEqual(it.received.east.map(({ model, file }) => [model, file.equals(recording)]), senders.map(() => ['whisper-1', true]))
    assert.deepEqual(it.received.west.map(({ model, file }) => [model, file.equals(recording)]), senders.map(() => ['whisper-west', true]))
  })
})

describe('a model behind a long prompt', () => {
  const messages = [{ role: 'user', content: 'say "model": "fake" '.repeat(5_000) }]
  const send = async ({ east, balancer }: EastAndWest, body: object): Promise<number> => {
    const response = await fetch(`${east.url}/v1/chat/completions`, { method: 'POST', body: JSON.stringify(body), dispatcher: balancer } as unknown as RequestInit)
    await response.text()
    return response.status
  }

  test('is what the request is throttled under', async (t) => {
    const it = await startEastAndWest(t)
    it.east.always(answers(429, { 'retry-after': '30' }))
    assert.equal(await send(it, { messages, model: 'gpt-4o' }), 200)
    assert.deepEqual(it.status()[0].scopes.map(({ scope }) => scope), ['gpt-4o'])
    await send(it, { messages, model: 'gpt-4o-mini' })
    assert.deepEqual(it.calls(), [2, 2])
  })

  test('is renamed, also in the midst of it', async (t) => {
    const it = await startEastAndWest(t, {}, [{ models: { 'gpt-4o': 'mine' } }, {}])
    it.east.always(reads(says('east')))
    for (const body of [{ messages, model: 'gpt-4o' }, { messages, model: 'gpt-4o', more: messages }]) {
      assert.equal(await send(it, body), 200)
      assert.deepEqual(JSON.parse(await it.east.calls.at(-1)?.request.text() ?? ''), { ...body, model: 'mine' })
    }
  })
})

test('a compressed body reaches the backend as it is, and the log says once that its model was not seen', async (t) => {
  const lines: string[] = []
  const logger = { error() {}, warn(_: object, line: string) { lines.push(line) }, info() {}, debug() {} }
  const it = await startEastAndWest(t, { logger }, [{ models: { 'gpt-4o': 'mine' } }, {}])
  it.east.always(reads(says('east')))
  const body = gzipSync('{"model":"gpt-4o"}')
  for (let i = 0; i < 3; i++) {
    const { body: answer } = await request(`${it.east.url}/v1/responses`, { method: 'POST', body, headers: { 'content-encoding': 'gzip' }, dispatcher: it.balancer })
    await answer.dump()
  }
  assert.deepEqual(await it.east.calls.at(-1)?.request.body(), body)
  assert.deepEqual(lines.filter((line) => line.includes('content-encoding')).length, 1, lines.join('\n'))
})

test('where its body was the reason that a request could not move, the log says so', async (t) => {
  const lines: string[] = []
  const logger = { error(_: object, line: string) { lines.push(line) }, warn() {}, info() {}, debug() {} }
  const it = await startEastAndWest(t, { logger, maxReplayBytes: 1_000 })
  it.east.always(async (call) => {
    await call.request.body()
    call.respond(503)
  })
  const { statusCode, body } = await request(`${it.east.url}/v1/responses`, { method: 'POST', body: Readable.from(['x'.repeat(2_000)], { objectMode: false }), dispatcher: it.balancer })
  await body.dump()
  assert.equal(statusCode, 503)
  assert.deepEqual(lines, ['No further attempt: its body was not kept (maxReplayBytes), so it cannot be sent again; the caller gets the last answer or error'])
})

describe('backends that serve some models', () => {
  const ofEach: [Partial<BackendOptions>, Partial<BackendOptions>] = [{ serves: ['gpt-4o'] }, { serves: ['text-embedding-3-*', 'gpt-4o'] }]

  test('are asked for these', async (t) => {
    const it = await startEastAndWest(t, {}, ofEach)
    it.east.always(says('east'))
    const client = openaiClient(`${it.east.url}/v1`, it.balancer)
    assert.equal(await chat(client), 'east')
    assert.equal(await chat(client, {}, 'text-embedding-3-small'), 'west')
    assert.equal(await chat(it.client, {}, 'text-embedding-3-large'), 'west', 'a deployment in the path')
    it.east.always(answers(429))
    assert.equal(await chat(client), 'west')
  })

  test('are not asked for a model that none has: the caller gets a 404 of OpenAI\'s shape, and it is told', async (t) => {
    const events: ExhaustedEvent[] = []
    t.after(subscribe('exhausted', (event) => { events.push(event) }))
    const it = await startEastAndWest(t, {}, ofEach)
    const error = await failure(chat(openaiClient(`${it.east.url}/v1`, it.balancer), {}, 'gpt-5-"x"'))
    assert.ok(error instanceof NotFoundError)
    assert.deepEqual([error.status, error.code, error.type, error.param], [404, 'model_not_found', 'invalid_request_error', 'model'])
    assert.equal(error.message, '404 openai-priority-loadbalancer: no backend serves the model "gpt-5-\\"x\\"". Served are: gpt-4o, text-embedding-3-*.')
    assert.deepEqual(it.calls(), [0, 0])
    assert.deepEqual(events.map(({ reason, scope, attempts, retryAfterMs }) => [reason, scope, attempts, retryAfterMs]), [['not-served', 'gpt-5-"x"', 0, undefined]])
  })

  test('are asked for what names none', async (t) => {
    const it = await startEastAndWest(t, {}, ofEach)
    it.east.always(says('east'))
    for (const rest of ['/v1/models', '/v1/files']) {
      const { statusCode, body } = await request(it.east.url + rest, { dispatcher: it.balancer })
      await body.dump()
      assert.equal(statusCode, 200)
    }
    assert.deepEqual(it.calls(), [2, 0])
  })
})

test('a WebSocket asks for the backend\'s own name of its model', async (t) => {
  const backend = await startScriptedBackend()
  const balancer = new PriorityBalancer({ backends: [{ url: `${backend.url}/v1`, priority: 1, models: { 'gpt-realtime': 'rt' } }], logger: false })
  t.after(async () => { await Promise.all([balancer.destroy(), backend.close()]) })
  const asked = gate<string | undefined>()
  backend.onUpgrade(({ url }, socket) => {
    asked.open(url)
    socket.destroy()
  })
  new WebSocket(`${backend.url.replace('http', 'ws')}/v1/realtime?model=gpt-realtime`, { dispatcher: balancer }).addEventListener('error', () => {})
  assert.equal(await asked.promise, '/v1/realtime?model=rt')
  assert.deepEqual(balancer.status().backends[0]?.scopes.map(({ scope }) => scope), ['rt'])
})

test('headers of a backend\'s own are on each of its attempts, and a credential among them keeps the caller\'s away', async (t) => {
  const it = await startEastAndWest(t, {}, [{ headers: { 'X-Route': 'east' } }, { headers: { 'Ocp-Apim-Subscription-Key': 'ours', 'x-route': 'west' } }])
  it.east.always(answers(503))
  const client = new OpenAI({
    baseURL: `${it.east.url}/v1`, apiKey: 'theirs', maxRetries: 0, organization: 'theirs', defaultHeaders: { 'x-route': 'theirs', 'ocp-apim-subscription-key': 'theirs-too' },
    defaultQuery: { key: 'theirs' }, fetchOptions: { dispatcher: it.balancer } as never,
  })
  assert.equal(await chat(client), 'west')
  const [east, west] = [it.east, it.west].map(({ calls }) => calls[0]?.request)
  assert.deepEqual([east?.headers['x-route'], east?.headers.authorization, east?.headers['ocp-apim-subscription-key']], ['east', 'Bearer theirs', 'theirs-too'])
  assert.deepEqual([west?.headers['x-route'], west?.headers['ocp-apim-subscription-key']], ['west', 'ours'])
  assert.doesNotMatch(JSON.stringify([west?.path, west?.rawHeaders]), /theirs/)
  it.west.always(answers(401))
  await failure(chat(client))
  assert.equal(it.status()[1].reason, 'misconfigured')
})
