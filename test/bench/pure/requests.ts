/** A request as the `openai` package sends it through fetch, and what Azure OpenAI and OpenAI answer. */
import type { DispatchOptions } from '../../../src/request/undici.js'
import type { Answer } from './null-dispatcher.js'

export const ORIGIN = 'https://my-resource.openai.azure.com'

/** Azure names the deployment in the path: the body is not looked at. */
export const DEPLOYMENT_PATH = '/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21'

/** OpenAI and Azure's v1 API name the model in the body. */
export const V1_PATH = '/openai/v1/chat/completions'

/** One kilobyte of prompt. */
export const BODY = Buffer.from(JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'x'.repeat(950) }], temperature: 0.7 }))

export function makeRequest(path: string, more: Partial<DispatchOptions> = {}): DispatchOptions {
  return {
    origin: ORIGIN,
    path,
    method: 'POST',
    headers: {
      'accept': 'application/json',
      'content-type': 'application/json',
      'user-agent': 'AzureOpenAI/JS 6.49.0',
      'x-stainless-retry-count': '0',
      'x-stainless-lang': 'js',
      'x-stainless-package-version': '6.49.0',
      'x-stainless-os': 'Linux',
      'x-stainless-arch': 'x64',
      'x-stainless-runtime': 'node',
      'x-stainless-runtime-version': 'v22.0.0',
      'api-key': '0123456789abcdef0123456789abcdef',
      'accept-language': '*',
      'sec-fetch-mode': 'cors',
      'accept-encoding': 'gzip, deflate',
      'content-length': String(BODY.byteLength),
    },
    body: BODY,
    maxRedirections: 0,
    ...more,
  }
}

/** What fetch makes of a string: an iterable that can be read once. */
export async function* makeIterable(): AsyncGenerator<Uint8Array> {
  yield BODY
}

export const ANSWER: Answer = {
  'content-type': 'application/json',
  'apim-request-id': '2f1e63cb-9d4b-4a0c-a5d5-7f2a7a4b4a11',
  'strict-transport-security': 'max-age=31536000; includeSubDomains; preload',
  'x-content-type-options': 'nosniff',
  'x-ms-region': 'East US',
  'x-request-id': '0c5ae0d4-6e6d-4a55-bd2c-2a8f0a5a1c9e',
  'azureml-model-session': 'd010-20241010000000',
  'x-ms-client-request-id': 'f7a9d8f0-31a1-4fa2-a0a1-0f4e2a9b8c7d',
  'date': 'Mon, 02 Nov 2026 10:00:00 GMT',
}

/** A fifth of both quotas is used: well below what pacing would hold back. */
export const ANSWER_WITH_LIMITS: Answer = {
  ...ANSWER,
  'x-ratelimit-limit-requests': '10000',
  'x-ratelimit-limit-tokens': '30000000',
  'x-ratelimit-remaining-requests': '8000',
  'x-ratelimit-remaining-tokens': '24000000',
  'x-ratelimit-reset-requests': '12s',
  'x-ratelimit-reset-tokens': '12.5s',
}
