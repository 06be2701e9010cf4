/**
 * Several models on the same backends. A limit belongs to one deployment: when gpt-4o is throttled on a backend,
 * gpt-4o-mini goes on there.
 *
 *     npx tsx examples/several-models.ts
 */
import OpenAI from 'openai'
import { install } from 'openai-priority-loadbalancer'
import { runLocally } from './support/run-locally.js'

async function main(): Promise<void> {
  const balancer = install({
    backends: [
      { name: 'east', url: 'https://contoso-east.openai.azure.com/openai/v1', priority: 1, apiKey: process.env.KEY_EAST },
      { name: 'west', url: 'https://contoso-west.openai.azure.com/openai/v1', priority: 2, apiKey: process.env.KEY_WEST },
    ],
  })
  const client = new OpenAI({ baseURL: 'https://contoso-east.openai.azure.com/openai/v1', apiKey: 'not used' })
  for (let i = 0; i < 6; i++) {
    await client.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Say hello.' }] })
    await client.chat.completions.create({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'Say hello.' }] })
  }

  for (const backend of balancer.status().backends) {
    for (const { scope, state, successes, throttled } of backend.scopes) {
      console.log(`${backend.name} ${scope}: ${state}, ${successes} successes, ${throttled} throttled`)
    }
  }
  await balancer.uninstall()
}

// Below here: local servers in the place of the two above. East takes three requests for gpt-4o, and then three a minute.
await runLocally({
  'contoso-east.openai.azure.com': {
    apiKeys: ['key-east'],
    deployments: { 'gpt-4o': { kind: 'standard', requestsPerMinute: 3, requestLimiter: 'bucket' }, 'gpt-4o-mini': undefined },
  },
  'contoso-west.openai.azure.com': { apiKeys: ['key-west'] },
}, main, { KEY_EAST: 'key-east', KEY_WEST: 'key-west' })
