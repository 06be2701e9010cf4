/**
 * A logger of your own: pino's shape, fields first. Four methods are enough; `isLevelEnabled` saves the work for lines
 * that no one reads.
 *
 *     npx tsx examples/custom-logger.ts
 */
import OpenAI from 'openai'
import { install, type Logger } from 'openai-priority-loadbalancer'
import { runLocally, type Local } from './support/run-locally.js'

async function main(local: Local): Promise<void> {
  const write = (level: string) => (fields: object, message: string) => {
    const { event } = fields as { event?: string }
    console.log(`${level.padEnd(5)} [${event ?? 'start'}] ${message}`)
  }
  const logger: Logger = {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    isLevelEnabled: (level) => level !== 'debug',
  }
  const balancer = install({
    // A logger of pino's can be given as it is: logger: pino().child({ component: 'openai' }). For none: logger: false.
    logger,
    backends: [
      { name: 'east', url: 'https://contoso-east.openai.azure.com/openai/v1', priority: 1, apiKey: process.env.KEY_EAST },
      { name: 'west', url: 'https://contoso-west.openai.azure.com/openai/v1', priority: 2, apiKey: process.env.KEY_WEST },
    ],
  })

  local.server('contoso-east.openai.azure.com').inject({ kind: 'status', status: 429, retryAfterMs: 20 }, 1)
  const client = new OpenAI({ baseURL: 'https://contoso-east.openai.azure.com/openai/v1', apiKey: 'not used' })
  await client.responses.create({ model: 'gpt-4o', input: 'Say hello.' })
  await balancer.uninstall()
}

// Below here: local servers in the place of the two above.
await runLocally({
  'contoso-east.openai.azure.com': { apiKeys: ['key-east'] },
  'contoso-west.openai.azure.com': { apiKeys: ['key-west'] },
}, main, { KEY_EAST: 'key-east', KEY_WEST: 'key-west' })
