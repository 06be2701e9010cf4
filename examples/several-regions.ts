/**
 * Several regions: the near ones share the traffic by weight, the far one helps when both are out.
 *
 *     npx tsx examples/several-regions.ts
 */
import OpenAI from 'openai'
import { install } from 'openai-priority-loadbalancer'
import { runLocally, type Local } from './support/run-locally.js'

async function main(local: Local): Promise<void> {
  const balancer = install({
    backends: [
      // Three quarters of the traffic and one quarter: only the relation of the weights counts.
      { name: 'sweden', url: 'https://contoso-sweden.openai.azure.com/openai/v1', priority: 1, weight: 3, apiKey: process.env.KEY_SWEDEN },
      { name: 'france', url: 'https://contoso-france.openai.azure.com/openai/v1', priority: 1, weight: 1, apiKey: process.env.KEY_FRANCE },
      { name: 'eastus', url: 'https://contoso-eastus.openai.azure.com/openai/v1', priority: 2, apiKey: process.env.KEY_EASTUS },
    ],
  })
  const client = new OpenAI({ baseURL: 'https://contoso-sweden.openai.azure.com/openai/v1', apiKey: 'not used' })
  const ask = () => client.responses.create({ model: 'gpt-4o', input: 'Say hello.' })
  const countSuccesses = () => balancer.status().backends.map(({ name, successes }) => `${name} ${successes}`).join(', ')

  for (let i = 0; i < 40; i++) await ask()
  console.log(`All regions are well:       ${countSuccesses()}`)

  await local.server('contoso-sweden.openai.azure.com').close()
  for (let i = 0; i < 10; i++) await ask()
  console.log(`Sweden refuses connections: ${countSuccesses()}`)

  await local.server('contoso-france.openai.azure.com').close()
  for (let i = 0; i < 10; i++) await ask()
  console.log(`France does, too:           ${countSuccesses()}`)
  console.log(`States: ${balancer.status().backends.map(({ name, state }) => `${name} ${state}`).join(', ')}`)
  await balancer.uninstall()
}

// Below here: local servers in the place of the three above.
await runLocally({
  'contoso-sweden.openai.azure.com': { apiKeys: ['key-sweden'] },
  'contoso-france.openai.azure.com': { apiKeys: ['key-france'] },
  'contoso-eastus.openai.azure.com': { apiKeys: ['key-eastus'] },
}, main, { KEY_SWEDEN: 'key-sweden', KEY_FRANCE: 'key-france', KEY_EASTUS: 'key-eastus' })
