/**
 * maxWaitMs: when every backend is throttled, hold a request for a while instead of answering it with a 429.
 *
 *     npx tsx examples/waiting.ts
 */
import OpenAI, { RateLimitError } from 'openai'
import { install } from 'openai-priority-loadbalancer'
import { runLocally } from './support/run-locally.js'

async function main(): Promise<void> {
  for (const maxWaitMs of [0, 10_000]) {
    const balancer = install({
      maxWaitMs,
      backends: [{ name: 'ptu', url: 'https://contoso-ptu.openai.azure.com/openai/v1', priority: 1, apiKey: process.env.KEY_PTU }],
    })
    // Without retries of its own, so that what the balancer says can be seen.
    const client = new OpenAI({ baseURL: 'https://contoso-ptu.openai.azure.com/openai/v1', apiKey: 'not used', maxRetries: 0 })
    const calls = Array.from({ length: 8 }, () => client.responses.create({ model: 'gpt-4o', input: 'Say hello.' }))
    const results = await Promise.allSettled(calls)

    const answered = results.filter(({ status }) => status === 'fulfilled').length
    const refusal = results.find((result) => result.status === 'rejected')?.reason as unknown
    console.log(`maxWaitMs ${maxWaitMs}: ${answered} of ${calls.length} answered`)
    if (refusal instanceof RateLimitError) {
      console.log(`  the others: ${refusal.status}, retry-after ${refusal.headers.get('retry-after')}`)
    }
    await balancer.uninstall()
  }
}

// Below here: a local server in the place of the one above, which takes about four such requests a second.
await runLocally({
  'contoso-ptu.openai.azure.com': { apiKeys: ['key-ptu'], limits: { kind: 'provisioned', tokensPerSecond: 300, depthMs: 500 } },
}, main, { KEY_PTU: 'key-ptu' })
