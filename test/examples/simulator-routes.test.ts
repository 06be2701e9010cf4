import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import OpenAI, { AuthenticationError, AzureOpenAI, BadRequestError, NotFoundError } from 'openai'
import { AzureSimulator } from '../../examples/demo/simulator/azure-simulator.js'

const QUESTION = [{ role: 'user' as const, content: 'Who answers?' }]

describe('the simulator speaks with the openai package', () => {
  let simulator: AzureSimulator
  let client: OpenAI
  let azure: AzureOpenAI
  before(async () => {
    simulator = await AzureSimulator.start({
      backends: [
        { name: 'east', apiKeys: ['key-east'], bearerTokens: ['token-east'], deployments: { 'gpt-4o': undefined, ada: undefined } },
        { name: 'openai', dialect: 'openai', bearerTokens: ['sk-1'], deployments: { 'gpt-4o': undefined } },
      ],
    })
    const east = simulator.backend('east')
    client = new OpenAI({ baseURL: east.url, apiKey: 'key-east', maxRetries: 0 })
    azure = new AzureOpenAI({ endpoint: east.origin, apiKey: 'key-east', apiVersion: '2024-10-21', maxRetries: 0 })
  })
  after(() => simulator.close())

  test('a chat completion by deployment and by model is parsed with its usage', async () => {
    for (const sdk of [client, azure]) {
      const completion = await sdk.chat.completions.create({ model: 'gpt-4o', messages: QUESTION, max_tokens: 8 })
      assert.equal(completion.choices[0]?.message.content?.split(' ').length, 8)
      assert.equal(completion.choices[0]?.finish_reason, 'length')
      assert.equal(completion.usage?.completion_tokens, 8)
    }
    const [byModel, byDeployment] = simulator.backend('east').received.map((request) => request.path)
    assert.equal(byModel, '/openai/v1/chat/completions')
    assert.equal(byDeployment, '/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21')
  })

  test('a chat stream opens with the chunk without choices and carries the text and the usage', async () => {
    const stream = await azure.chat.completions.create({
      model: 'gpt-4o', messages: QUESTION, max_tokens: 10, stream: true, stream_options: { include_usage: true },
    })
    const chunks = []
    for await (const chunk of stream) chunks.push(chunk)
    assert.deepEqual(chunks[0]?.choices, [])
    assert.equal(chunks[1]?.choices[0]?.delta.role, 'assistant')
    assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('').split(' ').length, 10)
    assert.equal(chunks.at(-1)?.usage?.completion_tokens, 10)
  })

  test('a chat stream is on the wire as server-sent events that end with [DONE]', async () => {
    const response = await fetch(`${simulator.backend('east').url}/chat/completions`, {
      method: 'POST', headers: { 'api-key': 'key-east' }, body: JSON.stringify({ model: 'gpt-4o', messages: QUESTION, stream: true }),
    })
    assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/)
    assert.match(await response.text(), /^data: \{"id":"","object":"".*data: \[DONE\]\n\n$/s)
  })

  test('a response is parsed, as JSON and as a stream of events', async () => {
    const response = await client.responses.create({ model: 'gpt-4o', input: 'Who answers?', max_output_tokens: 4 })
    assert.equal(response.output_text, 'The request found a')
    assert.equal(response.usage?.output_tokens, 4)

    const stream = client.responses.stream({ model: 'gpt-4o', input: 'Who answers?', max_output_tokens: 6 })
    const types: string[] = []
    for await (const event of stream) types.push(event.type)
    assert.equal((await stream.finalResponse()).output_text, 'The request found a free backend')
    assert.deepEqual([types[0], types.at(-1)], ['response.created', 'response.completed'])
    assert.equal(types.filter((type) => type === 'response.output_text.delta').length, 2)
  })

  test('embeddings come back as numbers whichever encoding was asked for', async () => {
    for (const encoding of ['float', 'base64'] as const) {
      const list = await azure.embeddings.create({ model: 'ada', input: ['one', 'two'], encoding_format: encoding })
      assert.equal(list.data.length, 2)
    }
    const list = await client.embeddings.create({ model: 'ada', input: 'one' })
    assert.deepEqual(list.data[0]?.embedding, [0.5, -0.25, 0.125, -0.0625])
  })

  test('a key is accepted as api-key, and as bearer token on the v1 paths only; a bearer token everywhere', async () => {
    const east = simulator.backend('east')
    const ask = async (url: string, headers: Record<string, string>): Promise<number> => {
      const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ model: 'gpt-4o', messages: QUESTION }) })
      await response.text()
      return response.status
    }
    const v1 = `${east.url}/chat/completions`
    const byDeployment = `${east.origin}/openai/deployments/gpt-4o/chat/completions`
    assert.equal(await ask(v1, { 'api-key': 'key-east' }), 200)
    assert.equal(await ask(v1, { authorization: 'Bearer key-east' }), 200)
    assert.equal(await ask(byDeployment, { 'api-key': 'key-east' }), 200)
    assert.equal(await ask(byDeployment, { authorization: 'Bearer key-east' }), 401)
    assert.equal(await ask(byDeployment, { authorization: 'Bearer token-east' }), 200)
    assert.equal(await ask(v1, { 'api-key': 'token-east' }), 401)
    assert.equal(await ask(v1, {}), 401)
  })

  test('wrong credentials, unknown deployments and missing input raise the error types of the package', async () => {
    const create = (sdk: OpenAI, model: string): Promise<unknown> => sdk.chat.completions.create({ model, messages: QUESTION })
    const stranger = new OpenAI({ baseURL: simulator.backend('east').url, apiKey: 'someone-else', maxRetries: 0 })
    await assert.rejects(create(stranger, 'gpt-4o'), (error) => error instanceof AuthenticationError && error.code === '401')
    await assert.rejects(create(azure, 'gone'), (error) => error instanceof NotFoundError && error.code === 'DeploymentNotFound')
    await assert.rejects(client.post('/responses', { body: { model: 'gpt-4o' } }), BadRequestError)
    await assert.rejects(client.post('/responses', { body: { input: 'x' } }), /model parameter/)
    await assert.rejects(client.post('/nothing/here'), NotFoundError)

    const openai = simulator.backend('openai')
    const wrong = new OpenAI({ baseURL: openai.url, apiKey: 'sk-2', maxRetries: 0 })
    await assert.rejects(create(wrong, 'gpt-4o'), (error) => error instanceof AuthenticationError && error.code === 'invalid_api_key')
    const right = new OpenAI({ baseURL: openai.url, apiKey: 'sk-1', maxRetries: 0 })
    await assert.rejects(create(right, 'gone'), (error) => error instanceof NotFoundError && error.code === 'model_not_found')
  })

  test('a body that is no JSON object is a bad request', async () => {
    for (const body of ['{', '[]', '"text"']) {
      const headers = { 'api-key': 'key-east' }
      const response = await fetch(`${simulator.backend('east').url}/chat/completions`, { method: 'POST', headers, body })
      assert.equal(response.status, 400)
      assert.equal((await response.json() as { error: { code: string } }).error.code, 'BadRequest')
    }
  })

  test('the counters tell what arrived and which keys were shown', async () => {
    const fresh = await AzureSimulator.start({ backends: [{ name: 'only', apiKeys: ['a'] }] })
    try {
      const backend = fresh.backend('only')
      for (const apiKey of ['a', 'b', 'a']) {
        const sdk = new OpenAI({ baseURL: backend.url, apiKey, maxRetries: 0 })
        await sdk.chat.completions.create({ model: 'm', messages: QUESTION }).catch(() => undefined)
      }
      const { counters } = backend
      assert.deepEqual([counters.requests, counters.succeeded, counters.throttled, counters.count(401)], [3, 2, 0, 1])
      assert.deepEqual([...counters.keys].sort(), ['a', 'b'])
      assert.throws(() => fresh.backend('other'), /there is no backend 'other', only 'only'/)
    } finally {
      await fresh.close()
    }
  })
})
