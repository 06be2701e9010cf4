import type { TokenCost } from './deployment.js'
import type { Route } from './routes.js'

/** A request that the service understood. */
export interface Call {
  readonly operation: Route['operation']
  readonly deployment: string
  readonly stream: boolean
  /** The stream ends with a chunk that carries the usage. */
  readonly includeUsage: boolean
  /** Texts to embed; 1 for everything else. */
  readonly inputs: number
  readonly base64: boolean
  readonly estimate: TokenCost
  /** What it really is. */
  readonly real: TokenCost
}

/** Why a body is not a call. */
export class MalformedCall extends Error {}

/** Reads a call from a body. `answerTokens`: how long the answer is unless the call bounds it below that. */
export function parseCall(route: Route, bytes: Buffer, answerTokens: number): Call {
  const body = parseObject(bytes)
  const deployment = route.deployment ?? body['model']
  if (typeof deployment !== 'string' || deployment === '') throw new MalformedCall('you must provide a model parameter')
  if (body[INPUT[route.operation]] === undefined) throw new MalformedCall(`Missing required parameter: '${INPUT[route.operation]}'.`)
  const embeds = route.operation === 'embeddings'
  const bound = body['max_tokens'] ?? body['max_completion_tokens'] ?? body['max_output_tokens']
  const maxTokens = embeds ? 0 : typeof bound === 'number' && bound >= 0 ? bound : answerTokens
  const choices = Math.max(countOf(body['n']), countOf(body['best_of']))
  const promptTokens = Math.ceil(bytes.length / CHARACTERS_PER_TOKEN)
  const options = body['stream_options']
  return {
    operation: route.operation,
    deployment,
    stream: body['stream'] === true && !embeds,
    includeUsage: isObject(options) && options['include_usage'] === true,
    inputs: embeds && Array.isArray(body['input']) && typeof body['input'][0] !== 'number' ? body['input'].length : 1,
    base64: body['encoding_format'] === 'base64',
    estimate: { promptTokens, outputTokens: maxTokens * choices },
    real: { promptTokens, outputTokens: embeds ? 0 : Math.min(maxTokens, answerTokens) },
  }
}

const INPUT = { chat: 'messages', responses: 'input', embeddings: 'input' } as const

/** "The number of characters divided by four" stands for the prompt's tokens when a request is admitted. */
const CHARACTERS_PER_TOKEN = 4

function parseObject(bytes: Buffer): Record<string, unknown> {
  let body: unknown
  try {
    body = JSON.parse(bytes.toString('utf8'))
  } catch {
    throw new MalformedCall('We could not parse the JSON body of your request.')
  }
  if (!isObject(body)) throw new MalformedCall('The body of your request must be a JSON object.')
  return body
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function countOf(value: unknown): number {
  return typeof value === 'number' && value >= 1 ? Math.floor(value) : 1
}
