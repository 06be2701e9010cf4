/**
 * Tests of your own code with undici's MockAgent: install the balancer while the mock is the global dispatcher, and it
 * sends through the mock. The mock sees the requests as the backends would.
 *
 *     npx tsx examples/tests-with-mock-agent.ts
 */
import assert from 'node:assert/strict'
import OpenAI from 'openai'
import { install } from 'openai-priority-loadbalancer'
import { MockAgent, getGlobalDispatcher, setGlobalDispatcher } from 'undici'

const former = getGlobalDispatcher()
const mock = new MockAgent()
mock.disableNetConnect()
setGlobalDispatcher(mock)

// The code under test sets up the balancer as always.
const balancer = install({
  logger: false,
  backends: [
    { name: 'east', url: 'https://contoso-east.openai.azure.com/openai/v1', priority: 1, apiKey: 'key-east' },
    { name: 'west', url: 'https://contoso-west.openai.azure.com/openai/v1', priority: 2, apiKey: 'key-west' },
  ],
})

mock.get('https://contoso-east.openai.azure.com')
  .intercept({ path: '/openai/v1/responses', method: 'POST', headers: { 'api-key': 'key-east' } })
  .reply(429, { error: { code: '429' } }, { headers: { 'retry-after': '30' } })
mock.get('https://contoso-west.openai.azure.com')
  .intercept({ path: '/openai/v1/responses', method: 'POST', headers: { 'api-key': 'key-west' }, body: (body) => body.includes('hello') })
  .reply(200, { id: 'resp_1', object: 'response', output: [] }, { headers: { 'content-type': 'application/json' } })

const client = new OpenAI({ baseURL: 'https://contoso-east.openai.azure.com/openai/v1', apiKey: 'not used', maxRetries: 0 })
const answer = await client.responses.create({ model: 'gpt-4o', input: 'Say hello.' })

assert.equal(answer.id, 'resp_1')
mock.assertNoPendingInterceptors()
const [east, west] = balancer.status().backends
assert.equal(east?.scopes[0]?.state, 'cooldown')
assert.equal(west?.successes, 1)
console.log('east was throttled, west answered, no mock is left over')

await balancer.uninstall()
await mock.close()
setGlobalDispatcher(former)
