/**
 * Microsoft Entra ID instead of keys: one token provider for all backends of a tenant.
 *
 *     npx tsx examples/entra-id.ts
 */
import OpenAI from 'openai'
import { install } from 'openai-priority-loadbalancer'
// In your own code: from '@azure/identity'. The stand-in has the same shape.
import { DefaultAzureCredential, getBearerTokenProvider } from './support/azure-identity.js'
import { runLocally } from './support/run-locally.js'

async function main(): Promise<void> {
  // The provider keeps its token until shortly before it expires; the balancer asks it for every attempt.
  const bearerToken = getBearerTokenProvider(new DefaultAzureCredential(), 'https://cognitiveservices.azure.com/.default')
  const balancer = install({
    backends: [
      { name: 'east', url: 'https://contoso-east.openai.azure.com/openai/v1', priority: 1, bearerToken },
      { name: 'west', url: 'https://contoso-west.openai.azure.com/openai/v1', priority: 1, bearerToken },
    ],
  })
  const client = new OpenAI({ baseURL: 'https://contoso-east.openai.azure.com/openai/v1', apiKey: 'not used' })

  await Promise.all(Array.from({ length: 20 }, () => client.responses.create({ model: 'gpt-4o', input: 'Say hello.' })))
  console.log(`20 answers with ${DefaultAzureCredential.issued} token`)
  await balancer.uninstall()
}

// Below here: local servers in the place of the two above.
await runLocally({
  'contoso-east.openai.azure.com': { bearerTokens: ['entra-token-1'] },
  'contoso-west.openai.azure.com': { bearerTokens: ['entra-token-1'] },
}, main)
