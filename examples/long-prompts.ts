/**
 * Long prompts and whole answers, for work in the background: what is too long for one model goes to a larger one, and an answer
 * that is cut off is asked for once more, before the program has seen any of it.
 *
 *     npx tsx examples/long-prompts.ts
 */
import OpenAI from 'openai'
import { install, subscribe } from 'openai-priority-loadbalancer'
import { runLocally, type Local } from './support/run-locally.js'

async function main(local: Local): Promise<void> {
  const balancer = install({
    streamGuard: 'whole',
    streamIdleMs: 20_000,
    // The events below say it all; other programs want the log.
    logger: false,
    backends: [
      { name: 'east', url: 'https://contoso-east.openai.azure.com/openai/v1', priority: 1, apiKey: process.env.KEY_EAST },
      {
        name: 'long',
        url: 'https://contoso-long.openai.azure.com/openai/v1',
        priority: 2,
        apiKey: process.env.KEY_LONG,
        models: { 'gpt-4o': 'gpt-4.1' },
        largerContext: true,
      },
    ],
  })
  const stop = subscribe('failover', ({ backend, outcome, errorCode, to }) => {
    console.log(`failover: ${backend} ${outcome}${errorCode === undefined ? '' : ` (${errorCode})`}, on to ${to ?? 'the queue'}`)
  })

  // A whole answer takes its time, and the timeout has to allow for it: nothing arrives before all of it is there.
  const client = new OpenAI({ baseURL: 'https://contoso-east.openai.azure.com/openai/v1', apiKey: 'not used', timeout: 600_000 })
  const summarize = async (text: string): Promise<string> => {
    const stream = await client.chat.completions.create({ model: 'gpt-4o', stream: true, max_completion_tokens: 100, messages: [{ role: 'user', content: `Summarize: ${text}` }] })
    let model = ''
    let finish = ''
    for await (const chunk of stream) {
      model = chunk.model
      finish = chunk.choices[0]?.finish_reason ?? finish
    }
    return `${model}, ended with ${finish}`
  }

  const east = local.server('contoso-east.openai.azure.com')
  console.log(`a short text: ${await summarize('It was a dark and stormy night.')}`)
  east.inject({ kind: 'status', status: 400, body: TOO_LONG }, 1)
  console.log(`a long text: ${await summarize('It was a dark and stormy night. '.repeat(20_000))}`)
  east.inject({ kind: 'reset-mid-stream', afterParts: 4 }, 1)
  console.log(`an answer that is cut off: ${await summarize('The rain fell in torrents.')}`)

  stop()
  await balancer.uninstall()
}

/** As OpenAI says it. */
const TOO_LONG = {
  error: { message: 'This model\'s maximum context length is 128000 tokens.', type: 'invalid_request_error', param: 'messages', code: 'context_length_exceeded' },
}

// Below here: local servers in the place of the two above.
await runLocally({
  'contoso-east.openai.azure.com': { apiKeys: ['key-east'], deployments: { 'gpt-4o': undefined } },
  'contoso-long.openai.azure.com': { apiKeys: ['key-long'], deployments: { 'gpt-4.1': undefined } },
}, main, { KEY_EAST: 'key-east', KEY_LONG: 'key-long' })
