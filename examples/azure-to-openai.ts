/**
 * Azure OpenAI first, OpenAI when Azure is out: two services, each with its own key, model name and query.
 *
 *     npx tsx examples/azure-to-openai.ts
 */
import OpenAI from 'openai'
import { install } from 'openai-priority-loadbalancer'
import { runLocally, type Local } from './support/run-locally.js'

async function main(local: Local): Promise<void> {
  const balancer = install({
    backends: [
      {
        name: 'azure',
        url: 'https://contoso.openai.azure.com/openai/v1',
        priority: 1,
        apiKey: process.env.AZURE_OPENAI_API_KEY,
        // What the application calls gpt-4o is deployed under another name here.
        models: { 'gpt-4o': 'contoso-gpt4o-eu' },
        query: { 'api-version': 'preview' },
      },
      { name: 'openai', url: 'https://api.openai.com/v1', priority: 2, bearerToken: process.env.OPENAI_API_KEY },
    ],
  })
  const client = new OpenAI({ baseURL: 'https://api.openai.com/v1' })
  const ask = async () => {
    const { model } = await client.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Say hello.' }] })
    console.log(`answered by ${model}`)
  }

  await ask()
  local.server('contoso.openai.azure.com').inject({ kind: 'status', status: 503, retryAfter: '2' })
  await ask()
  await balancer.uninstall()

  console.log()
  for (const host of ['contoso.openai.azure.com', 'api.openai.com']) {
    for (const { path, headers, body } of local.server(host).received) {
      const { model } = JSON.parse(body.toString()) as { model: string }
      console.log(`${host} got ${path} for ${model}, api-key: ${String(headers['api-key'])}, authorization: ${String(headers.authorization)}`)
    }
  }
}

// Below here: local servers in the place of the two above.
await runLocally({
  'contoso.openai.azure.com': { apiKeys: ['key-azure'], deployments: { 'contoso-gpt4o-eu': undefined } },
  'api.openai.com': { bearerTokens: ['sk-openai'], dialect: 'openai', deployments: { 'gpt-4o': undefined } },
}, main, { AZURE_OPENAI_API_KEY: 'key-azure', OPENAI_API_KEY: 'sk-openai' })
