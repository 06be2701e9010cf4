/**
 * What the balancer does, for dashboards and metrics: events as they happen, and a snapshot whenever you ask.
 *
 *     npx tsx examples/status-and-events.ts
 */
import OpenAI from 'openai'
import { install, subscribe } from 'openai-priority-loadbalancer'
import { runLocally, type Local } from './support/run-locally.js'

async function main(local: Local): Promise<void> {
  const balancer = install({
    // The events below say it all; other programs want the log.
    logger: false,
    backends: [
      { name: 'east', url: 'https://contoso-east.openai.azure.com/openai/v1', priority: 1, apiKey: process.env.KEY_EAST },
      { name: 'west', url: 'https://contoso-west.openai.azure.com/openai/v1', priority: 2, apiKey: process.env.KEY_WEST },
    ],
  })

  const stops = [
    subscribe('failover', ({ requestId, attempt, backend, outcome, to }) => {
      console.log(`failover: request ${requestId}, attempt ${attempt} on ${backend} was ${outcome}, on to ${to ?? 'the queue'}`)
    }),
    subscribe('cooldown', ({ backend, scope, source, status }) => {
      console.log(`cooldown: ${backend} (${scope}), because of ${status} with ${source}`)
    }),
    subscribe('answered', ({ requestId, backend, status }) => {
      console.log(`answered: request ${requestId} by ${backend} with ${status}`)
    }),
  ]

  local.server('contoso-east.openai.azure.com').inject({ kind: 'status', status: 429, retryAfterMs: 30_000 }, 1)
  const client = new OpenAI({ baseURL: 'https://contoso-east.openai.azure.com/openai/v1', apiKey: 'not used' })
  await client.responses.create({ model: 'gpt-4o', input: 'Say hello.' })
  await client.responses.create({ model: 'gpt-4o', input: 'Say hello again.' })

  console.log(JSON.stringify(balancer.status(), undefined, 2))
  for (const stop of stops) stop()
  await balancer.uninstall()
}

// Below here: local servers in the place of the two above.
await runLocally({
  'contoso-east.openai.azure.com': { apiKeys: ['key-east'] },
  'contoso-west.openai.azure.com': { apiKeys: ['key-west'] },
}, main, { KEY_EAST: 'key-east', KEY_WEST: 'key-west' })
