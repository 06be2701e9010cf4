/**
 * A provisioned deployment (PTU) first; what it cannot take spills over to pay-as-you-go.
 *
 *     npx tsx examples/ptu-first.ts
 */
import OpenAI from 'openai'
import { install } from 'openai-priority-loadbalancer'
import { runLocally } from './support/run-locally.js'

async function main(): Promise<void> {
  const balancer = install({
    backends: [
      { name: 'ptu', url: 'https://contoso-ptu.openai.azure.com/openai/v1', priority: 1, apiKey: process.env.KEY_PTU },
      { name: 'east', url: 'https://contoso-east.openai.azure.com/openai/v1', priority: 2, apiKey: process.env.KEY_EAST },
      { name: 'west', url: 'https://contoso-west.openai.azure.com/openai/v1', priority: 2, apiKey: process.env.KEY_WEST },
    ],
  })

  // The client as it was before. Its own key is never sent, since each backend has one.
  const client = new OpenAI({ baseURL: 'https://contoso-ptu.openai.azure.com/openai/v1', apiKey: 'not used' })
  const ask = () => client.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Say hello.' }] })

  await Promise.all(Array.from({ length: 12 }, ask))
  for (const { name, attempts, successes, throttled } of balancer.status().backends) {
    console.log(`${name}: ${attempts} attempts, ${successes} successes, ${throttled} throttled`)
  }
  await balancer.uninstall()
}

// Below here: local servers in the place of the three above.
await runLocally({
  'contoso-ptu.openai.azure.com': { apiKeys: ['key-ptu'], limits: { kind: 'provisioned', tokensPerSecond: 100, depthMs: 2_000 } },
  'contoso-east.openai.azure.com': { apiKeys: ['key-east'] },
  'contoso-west.openai.azure.com': { apiKeys: ['key-west'] },
}, main, { KEY_PTU: 'key-ptu', KEY_EAST: 'key-east', KEY_WEST: 'key-west' })
