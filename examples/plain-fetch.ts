/**
 * No SDK at all: fetch to a made-up origin. The origin exists nowhere, so a program that forgot to install the balancer
 * fails at its first request, instead of sending everything to one backend.
 *
 *     npx tsx examples/plain-fetch.ts
 */
import { install } from 'openai-priority-loadbalancer'
import { runLocally } from './support/run-locally.js'

async function main(): Promise<void> {
  const ask = () => fetch('https://chat.balanced/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Say hello.' }] }),
  })
  console.log(`before install: ${await ask().then(({ status }) => status, (error: unknown) => String(error))}`)

  const balancer = install({
    intercept: ['https://chat.balanced'],
    backends: [
      { name: 'east', url: 'https://contoso-east.openai.azure.com/openai/v1', priority: 1, apiKey: process.env.KEY_EAST },
      { name: 'west', url: 'https://contoso-west.openai.azure.com/openai/v1', priority: 2, apiKey: process.env.KEY_WEST },
    ],
  })
  const response = await ask()
  const { choices } = await response.json() as { choices: { message: { content: string } }[] }
  console.log(`after install: ${response.status}, ${choices[0]?.message.content}`)
  await balancer.uninstall()
}

// Below here: local servers in the place of the two above.
await runLocally({
  'contoso-east.openai.azure.com': { apiKeys: ['key-east'] },
  'contoso-west.openai.azure.com': { apiKeys: ['key-west'] },
}, main, { KEY_EAST: 'key-east', KEY_WEST: 'key-west' })
