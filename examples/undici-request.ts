/**
 * Without touching the rest of the process: a balancer as `dispatcher` of single requests, and as an interceptor of an
 * undici Agent.
 *
 *     npx tsx examples/undici-request.ts
 */
import OpenAI from 'openai'
import { PriorityBalancer, priorityInterceptor, type BalancerOptions } from 'openai-priority-loadbalancer'
import { getGlobalDispatcher, request } from 'undici'
import { runLocally } from './support/run-locally.js'

async function main(): Promise<void> {
  const backends: BalancerOptions['backends'] = [
    { name: 'east', url: 'https://contoso-east.openai.azure.com/openai/v1', priority: 1, apiKey: process.env.KEY_EAST },
    { name: 'west', url: 'https://contoso-west.openai.azure.com/openai/v1', priority: 2, apiKey: process.env.KEY_WEST },
  ]
  const url = 'https://contoso-east.openai.azure.com/openai/v1/responses'
  const body = JSON.stringify({ model: 'gpt-4o', input: 'Say hello.' })

  // What really sends: here the global dispatcher. Without the option: a new Agent of undici's.
  const balancer = new PriorityBalancer({ backends, dispatcher: getGlobalDispatcher() })
  const viaRequest = await request(url, { method: 'POST', body, dispatcher: balancer })
  await viaRequest.body.dump()
  console.log(`undici.request: ${viaRequest.statusCode}`)

  // `as never`: the types of Node's own fetch (@types/node) are those of another undici than the one that is installed.
  const viaFetch = await fetch(url, { method: 'POST', body, dispatcher: balancer as never })
  await viaFetch.body?.cancel()
  console.log(`fetch: ${viaFetch.status}`)

  const client = new OpenAI({ baseURL: 'https://contoso-east.openai.azure.com/openai/v1', apiKey: 'not used', fetchOptions: { dispatcher: balancer as never } })
  const viaClient = await client.responses.create({ model: 'gpt-4o', input: 'Say hello.' })
  console.log(`openai: ${viaClient.status}`)
  await balancer.close()

  const interceptor = priorityInterceptor({ backends })
  const composed = getGlobalDispatcher().compose(interceptor)
  const viaComposed = await request(url, { method: 'POST', body, dispatcher: composed })
  await viaComposed.body.dump()
  console.log(`composed: ${viaComposed.statusCode}, ${interceptor.status().backends.map(({ name, successes }) => `${name} ${successes}`).join(', ')}`)
  await interceptor.close()
}

// Below here: local servers in the place of the two above.
await runLocally({
  'contoso-east.openai.azure.com': { apiKeys: ['key-east'] },
  'contoso-west.openai.azure.com': { apiKeys: ['key-west'] },
}, main, { KEY_EAST: 'key-east', KEY_WEST: 'key-west' })
