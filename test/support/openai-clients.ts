/** The real `openai` package, set up the way its users do, and the answers that it understands. */
import OpenAI, { AzureOpenAI, type ClientOptions } from 'openai'
import type { AzureClientOptions } from 'openai/azure'
import type { Dispatcher } from 'undici'

export const API_VERSION = '2024-10-21'

/** Node's own fetch takes any dispatcher; its types know only the undici that Node ships. */
function through(dispatcher: Dispatcher | undefined): Pick<ClientOptions, 'fetchOptions'> {
  return dispatcher === undefined ? {} : { fetchOptions: { dispatcher } as unknown as NonNullable<ClientOptions['fetchOptions']> }
}

/** A client for Azure OpenAI's deployments: `{url}/openai/deployments/{model}/...?api-version=...`. */
export function azureClient(url: string, dispatcher?: Dispatcher, more: AzureClientOptions = {}): AzureOpenAI {
  return new AzureOpenAI({ endpoint: url, apiKey: 'callers-key', apiVersion: API_VERSION, maxRetries: 0, logLevel: 'off', ...through(dispatcher), ...more })
}

/** A client for OpenAI, or for Azure OpenAI's v1 API: `{baseURL}/...`, with the model in the body. */
export function openaiClient(baseURL: string, dispatcher?: Dispatcher, more: ClientOptions = {}): OpenAI {
  return new OpenAI({ baseURL, apiKey: 'callers-key', maxRetries: 0, logLevel: 'off', ...through(dispatcher), ...more })
}

/** Asks for a chat completion and gives its text. */
export async function chat(client: OpenAI, options: OpenAI.RequestOptions = {}, model = 'gpt-4o'): Promise<string> {
  const answer = await client.chat.completions.create({ model, messages: [{ role: 'user', content: 'Hello' }] }, options)
  return answer.choices[0]?.message.content ?? ''
}

/** A chat completion with this text, as the services answer it. */
export function completion(content: string): object {
  return {
    id: 'chatcmpl-1', object: 'chat.completion', created: 1_760_000_000, model: 'gpt-4o-2024-11-20',
    choices: [{ index: 0, message: { role: 'assistant', content, refusal: null }, logprobs: null, finish_reason: 'stop' }],
    usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
  }
}

/** One event of a streamed chat completion. */
export function chunk(content: string): string {
  const event = { id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1_760_000_000, model: 'gpt-4o-2024-11-20', choices: [{ index: 0, delta: { content }, finish_reason: null }] }
  return `data: ${JSON.stringify(event)}\n\n`
}

/** An error body of OpenAI's shape. */
export function apiError(code: string, message = `for the test: ${code}`): object {
  return { error: { message, type: 'invalid_request_error', param: null, code } }
}
