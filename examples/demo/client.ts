import OpenAI, { AzureOpenAI } from 'openai'
import type { Target } from './arguments.js'
import type { PooledBackend } from './pool.js'
import { MAX_OUTPUT_TOKENS, type PlannedCall } from './workload.js'

/** Makes one call and takes its answer in whole. Rejects with what the openai package throws. */
export type Send = (call: PlannedCall, signal: AbortSignal) => Promise<void>

/**
 * The application: the openai package, set up for one backend as anyone would. The same in both runs; that there is a
 * balancer under it, it does not know. `onThrottled` is told of every 429 that the package is shown.
 */
export function createSender(backend: PooledBackend, target: Target, onThrottled: () => void): Send {
  const client = createClient(backend, target, async (input, init) => {
    const response = await fetch(input, init)
    if (response.status === 429) onThrottled()
    return response
  })
  const model = backend.models?.[target.name] ?? target.name
  return async (call, signal) => {
    switch (call.kind) {
      case 'chat':
        await client.chat.completions.create(chatRequest(model, call), { signal })
        return
      case 'chat-stream': {
        const stream = await client.chat.completions.create({ ...chatRequest(model, call), stream: true }, { signal })
        const chunks = stream[Symbol.asyncIterator]()
        while (!(await chunks.next()).done);
        return
      }
      case 'response':
        await client.responses.create({ model, input: call.prompt, max_output_tokens: MAX_OUTPUT_TOKENS }, { signal })
    }
  }
}

function chatRequest(model: string, call: PlannedCall) {
  return { model, messages: [{ role: 'user' as const, content: call.prompt }], max_completion_tokens: MAX_OUTPUT_TOKENS }
}

function createClient(backend: PooledBackend, target: Target, fetch: typeof globalThis.fetch): OpenAI {
  const { scheme, value } = backend.credential
  const common = { fetch, logLevel: 'off' as const, defaultQuery: Object.fromEntries(backend.query ?? []) }
  if (target.kind === 'deployment') {
    const credential = scheme === 'api-key' ? { apiKey: value } : { azureADTokenProvider: () => Promise.resolve(value) }
    return new AzureOpenAI({ ...common, ...credential, baseURL: `${backend.url}/openai`, apiVersion: target.apiVersion })
  }
  // The package knows bearer tokens only; Azure's v1 API takes its keys in a header of their own as well.
  const headers = scheme === 'api-key' ? { 'api-key': value, 'authorization': null } : {}
  return new OpenAI({ ...common, baseURL: backend.url, apiKey: value, defaultHeaders: headers })
}
