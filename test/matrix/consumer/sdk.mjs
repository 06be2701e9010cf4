/** The `openai` package as its users set it up: JSON, server-sent events, uploads, its own error types. */
import assert from 'node:assert/strict'
import OpenAI, { AzureOpenAI, toFile } from 'openai'
import * as undici from 'undici'
import { BASE, balance, bytes, check, makeBalancer, rejection, saysJson, serve, throttles } from './support.mjs'

const MESSAGES = [{ role: 'user', content: 'Hello' }]
const completion = (content) => ({
  id: 'chatcmpl-1', object: 'chat.completion', created: 1_760_000_000, model: 'gpt-4o',
  choices: [{ index: 0, message: { role: 'assistant', content }, finish_reason: 'stop' }],
})
const event = (content) => `data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'gpt-4o', choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`
const streams = (...words) => (_call, response) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  for (const word of words) response.write(event(word))
  response.end('data: [DONE]\n\n')
}

const client = (more) => new OpenAI({ baseURL: BASE, apiKey: 'callers-key', maxRetries: 0, ...more })
const ask = async (openai, content = 'Hello') => (await openai.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content }] })).choices[0].message.content

async function readStream (openai) {
  let text = ''
  for await (const chunk of await openai.chat.completions.create({ model: 'gpt-4o', messages: MESSAGES, stream: true })) text += chunk.choices[0].delta.content
  return text
}

/** The ways in which the SDK can come to the balancer: `use` says how the client is made. */
const WAYS = {
  installed: (t, servers) => { balance(t, servers); return {} },
  'fetchOptions.dispatcher with native fetch': (t, servers) => ({ fetchOptions: { dispatcher: makeBalancer(t, servers) } }),
  'fetchOptions.dispatcher with undici.fetch': (t, servers) => ({ fetch: undici.fetch, fetchOptions: { dispatcher: makeBalancer(t, servers) } }),
}

for (const [name, use] of Object.entries(WAYS)) {
  check(`openai, ${name}: a JSON answer, after a 429`, async (t) => {
    const servers = [await serve(t, throttles()), await serve(t, saysJson(completion('from the second')))]
    const openai = client(use(t, servers))
    assert.equal(await ask(openai), 'from the second')
    assert.deepEqual(servers.map(({ calls: [{ path, headers }] }) => [path, headers.authorization]), Array(2).fill(['/openai/v1/chat/completions', 'Bearer callers-key']))
    assert.deepEqual(JSON.parse(servers[1].calls[0].body), { model: 'gpt-4o', messages: MESSAGES })
  })

  check(`openai, ${name}: server-sent events, after a 429`, async (t) => {
    const servers = [await serve(t, throttles()), await serve(t, streams('stream', 'ed ', 'words'))]
    assert.equal(await readStream(client(use(t, servers))), 'streamed words')
    assert.equal(JSON.parse(servers[1].calls[0].body).stream, true)
  })

  check(`openai, ${name}: everything throttled is a RateLimitError with the soonest retry-after`, async (t) => {
    const servers = [await serve(t, throttles(30_000)), await serve(t, throttles(20_000))]
    const error = await rejection(ask(client(use(t, servers))))
    assert.ok(error instanceof OpenAI.RateLimitError, String(error))
    assert.equal(error.code, 'rate_limit_exceeded')
    const ms = Number(error.headers.get('retry-after-ms'))
    assert.ok(ms > 18_000 && ms <= 21_000, String(ms))
  })

  check(`openai, ${name}: its errors are its own: 400, a refused connection, an abort`, async (t) => {
    const servers = [await serve(t, saysJson({ error: { message: 'filtered', code: 'content_filter' } }, {}, 400)), await serve(t, saysJson(completion('never')))]
    const openai = client(use(t, servers))
    const refused = await rejection(ask(openai))
    assert.ok(refused instanceof OpenAI.BadRequestError, String(refused))
    assert.equal(refused.code, 'content_filter')
    assert.equal(servers[1].calls.length, 0)
    servers[0].answerWith(() => {})
    const controller = new AbortController()
    const arrival = servers[0].next()
    const aborted = rejection(openai.chat.completions.create({ model: 'gpt-4o', messages: MESSAGES }, { signal: controller.signal }))
    const call = await arrival
    controller.abort()
    assert.ok(await aborted instanceof OpenAI.APIUserAbortError)
    assert.deepEqual(await call.gone, { finished: false })
  })
}

check('openai: the SDK\'s own retry comes back when the balancer says so', async (t) => {
  const backend = await serve(t, throttles(50))
  balance(t, [backend])
  const arrival = backend.next()
  const answer = ask(client({ maxRetries: 3 }))
  await arrival
  backend.answerWith(saysJson(completion('at last')))
  assert.equal(await answer, 'at last')
})

check('openai: a request is held until a backend is free again', async (t) => {
  const backend = await serve(t, throttles(100))
  balance(t, [backend], { maxWaitMs: 10_000 })
  const arrival = backend.next()
  const answer = ask(client())
  await arrival
  backend.answerWith(saysJson(completion('after a wait')))
  assert.equal(await answer, 'after a wait')
})

check('openai: breaking out of a stream ends it on the wire', async (t) => {
  const backend = await serve(t, (_call, response) => { response.writeHead(200, { 'content-type': 'text/event-stream' }).write(event('one')) })
  balance(t, [backend])
  for await (const chunk of await client().chat.completions.create({ model: 'gpt-4o', messages: MESSAGES, stream: true })) {
    assert.equal(chunk.choices[0].delta.content, 'one')
    break
  }
  assert.deepEqual(await backend.calls[0].gone, { finished: false })
})

check('openai: an upload moves on from a 429, byte for byte', async (t) => {
  const file = bytes(200_000)
  const servers = [await serve(t, throttles()), await serve(t, saysJson({ text: 'spoken' }))]
  balance(t, servers)
  const { text } = await client().audio.transcriptions.create({ model: 'whisper-1', file: await toFile(file, 'speech.wav') })
  assert.equal(text, 'spoken')
  assert.ok(servers[1].calls[0].body.equals(servers[0].calls[0].body))
  const read = await new Response(servers[1].calls[0].body, { headers: { 'content-type': servers[1].calls[0].headers['content-type'] } }).formData()
  assert.ok(Buffer.from(await read.get('file').arrayBuffer()).equals(file))
})

check('openai: AzureOpenAI: the deployment moves on, and is a scope of its own', async (t) => {
  const [busy, free] = [await serve(t, throttles()), await serve(t, saysJson(completion('azure')))]
  const balancer = balance(t, [], {
    intercept: ['https://azure.balanced'],
    backends: [{ url: busy.url, priority: 1, apiKey: 'key-of-busy' }, { url: free.url, priority: 2, apiKey: 'key-of-free', models: { 'gpt-4o': 'gpt-4o-west' } }],
  })
  const azure = new AzureOpenAI({ endpoint: 'https://azure.balanced', apiKey: 'callers-key', apiVersion: '2024-10-21', maxRetries: 0 })
  assert.equal(await ask(azure), 'azure')
  assert.deepEqual([busy, free].map(({ calls: [{ path, headers }] }) => [path, headers['api-key']]), [
    ['/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21', 'key-of-busy'],
    ['/openai/deployments/gpt-4o-west/chat/completions?api-version=2024-10-21', 'key-of-free'],
  ])
  assert.deepEqual(balancer.status().backends[0].scopes.map(({ scope, state }) => [scope, state]), [['gpt-4o', 'cooldown']])
})
