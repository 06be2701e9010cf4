/**
 * What Azure OpenAI, or OpenAI, says to a request: is there such a path, who asks, what for, is there room, and in which
 * words is it turned down. Decided without a socket or a clock, so that it can be tried with a plain object.
 */
import type { IncomingHttpHeaders } from 'node:http'
import {
  Deployment, formatSeconds, limitHeaders, refusalHeaders,
  type DeploymentLimits, type Dialect, type Refusal, type RetryHeader, type TokenCost,
} from './deployment.js'

/** What a simulated service accepts and how it words its answers. */
export interface ServiceConfig extends AcceptedCredentials {
  /** How it words headers and errors. Default `azure`. A provisioned deployment has its own headers. */
  readonly dialect?: Wording
  /** Limits of every deployment; each deployment has its own. Default unlimited. */
  readonly limits?: DeploymentLimits
  /** The deployments that exist; `undefined` takes `limits`. Left out: every name exists. */
  readonly deployments?: Readonly<Record<string, DeploymentLimits | undefined>>
  /** In which headers a refusal says when to come back. Default: what a service of this kind does. */
  readonly retryHeaders?: readonly RetryHeader[]
  /** Length of an answer in tokens, unless the request bounds it below that. Default 24. */
  readonly answerTokens?: number
}

/** A request as it came in. */
export interface ReceivedRequest {
  readonly method: string
  /** With query. */
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

export type Decision =
  /** Turned down. */
  | { readonly admitted: false, readonly status: number, readonly headers: Record<string, string>, readonly body: unknown }
  /** To be answered; `complete` is to be called when the answer is out. */
  | { readonly admitted: true, readonly headers: Record<string, string>, readonly call: Call, complete(now: number): void }

/** Decides, without a socket or a clock of its own, what the service says to a request. */
export class SimulatedService {
  readonly #config: ServiceConfig
  readonly #dialect: Wording
  readonly #deployments = new Map<string, Deployment>()

  constructor(config: ServiceConfig) {
    this.#config = config
    this.#dialect = config.dialect ?? 'azure'
  }

  decide(request: ReceivedRequest, now: number): Decision {
    const route = request.method === 'POST' ? matchRoute(request.path.split('?', 1)[0] ?? '') : undefined
    if (route === undefined) return turnDown(404, notFoundBody())
    const credential = readCredential(request.headers)
    if (!accepts(this.#config, credential, route.deployment === undefined)) {
      return turnDown(401, unauthorizedBody(this.#dialect, credential?.scheme))
    }
    let call: Call
    try {
      call = parseCall(route, request.body, this.#config.answerTokens ?? 24)
    } catch (error) {
      if (error instanceof MalformedCall) return turnDown(400, badRequestBody(error.message))
      throw error
    }
    const deployment = this.#find(call.deployment)
    if (deployment === undefined) return turnDown(404, unknownDeploymentBody(this.#dialect, call.deployment))
    return this.#admit(deployment, call, now)
  }

  #admit(deployment: Deployment, call: Call, now: number): Decision {
    const refusal = deployment.admit(now, call.estimate)
    const dialect: Dialect = deployment.utilization === undefined ? this.#dialect : 'ptu'
    const headers = limitHeaders(deployment, dialect, now)
    if (dialect === 'ptu') headers['x-ms-deployment-name'] = call.deployment
    if (refusal === undefined) return { admitted: true, headers, call, complete: (at) => deployment.complete(at, call.estimate, call.real) }
    Object.assign(headers, refusalHeaders(dialect, refusal, this.#config.retryHeaders))
    return turnDown(429, throttledBody(this.#dialect, refusal), headers)
  }

  #find(name: string): Deployment | undefined {
    const found = this.#deployments.get(name)
    if (found !== undefined) return found
    const known = this.#config.deployments
    if (known !== undefined && !Object.hasOwn(known, name)) return undefined
    const deployment = new Deployment(known?.[name] ?? this.#config.limits)
    this.#deployments.set(name, deployment)
    return deployment
  }
}

function turnDown(status: number, body: unknown, headers: Record<string, string> = {}): Decision {
  return { admitted: false, status, headers, body }
}

/** What a path asks for, and of which deployment; `undefined`: the body's `model` says. */
interface Route {
  readonly operation: 'chat' | 'responses' | 'embeddings'
  readonly deployment: string | undefined
}

const OPERATIONS: Readonly<Record<string, Route['operation']>> = {
  'chat/completions': 'chat',
  'responses': 'responses',
  'embeddings': 'embeddings',
}

/** Azure by deployment, Azure by model, and OpenAI's own paths. A prefix in front, as a gateway adds one, is accepted. */
const BY_DEPLOYMENT = /\/openai\/deployments\/([^/]+)\/(chat\/completions|embeddings)$/
const BY_MODEL = /\/v1\/(chat\/completions|responses|embeddings)$/

/** The route of a path without query, or `undefined` when the service has no such path. */
function matchRoute(path: string): Route | undefined {
  const byDeployment = BY_DEPLOYMENT.exec(path)
  if (byDeployment !== null) return build(byDeployment[2], byDeployment[1])
  const byModel = BY_MODEL.exec(path)
  return byModel === null ? undefined : build(byModel[1], undefined)
}

function build(name: string | undefined, deployment: string | undefined): Route | undefined {
  const operation = OPERATIONS[name ?? '']
  return operation === undefined ? undefined : { operation, deployment: deployment === undefined ? undefined : decode(deployment) }
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

export interface Credential {
  readonly scheme: 'api-key' | 'bearer'
  readonly value: string
}

interface AcceptedCredentials {
  /** Keys that are accepted, as `api-key` everywhere and as bearer token on the v1 paths. With neither list every request is let in. */
  readonly apiKeys?: readonly string[]
  /** Bearer tokens that are accepted. */
  readonly bearerTokens?: readonly string[]
}

export function readCredential(headers: IncomingHttpHeaders): Credential | undefined {
  const key = headers['api-key']
  if (typeof key === 'string' && key !== '') return { scheme: 'api-key', value: key }
  const token = /^Bearer\s+(\S+)$/i.exec(headers.authorization ?? '')?.[1]
  return token === undefined ? undefined : { scheme: 'bearer', value: token }
}

export function accepts(accepted: AcceptedCredentials, credential: Credential | undefined, isV1: boolean): boolean {
  const { apiKeys, bearerTokens } = accepted
  if (apiKeys === undefined && bearerTokens === undefined) return true
  if (credential === undefined) return false
  if (credential.scheme === 'bearer' && bearerTokens?.includes(credential.value)) return true
  return (credential.scheme === 'api-key' || isV1) && apiKeys?.includes(credential.value) === true
}

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
class MalformedCall extends Error {}

/** Reads a call from a body. `answerTokens`: how long the answer is unless the call bounds it below that. */
function parseCall(route: Route, bytes: Buffer, answerTokens: number): Call {
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

/** Whose words an error is in: a provisioned deployment is Azure's. */
type Wording = Exclude<Dialect, 'ptu'>

/** The error bodies of Azure OpenAI and of OpenAI, in the shape in which their SDKs take them apart. */
interface ErrorBody {
  readonly error: {
    readonly code: string | null
    readonly message: string
    readonly type?: string
    readonly param?: string | null
  }
}

function throttledBody(dialect: Wording, refusal: Refusal): ErrorBody {
  const seconds = formatSeconds(refusal.waitMs)
  if (dialect === 'openai') {
    const message = `Rate limit reached on ${refusal.reason} per min. Please try again in ${seconds}s.`
    return { error: { message, type: refusal.reason, param: null, code: 'rate_limit_exceeded' } }
  }
  const what = refusal.reason === 'utilization'
    ? 'the provisioned throughput of this deployment'
    : refusal.reason === 'requests' ? 'the call rate limit of this deployment' : 'the token rate limit of this deployment'
  return { error: { code: '429', message: `Requests have exceeded ${what}. Please retry after ${seconds} seconds.` } }
}

function unauthorizedBody(dialect: Wording, scheme: 'api-key' | 'bearer' | undefined): ErrorBody {
  if (dialect === 'openai') {
    const message = scheme === undefined ? 'You did not provide an API key.' : 'Incorrect API key provided.'
    return { error: { message, type: 'invalid_request_error', param: null, code: 'invalid_api_key' } }
  }
  const message = scheme === 'bearer'
    ? 'Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have expired.'
    : 'Access denied due to invalid subscription key or wrong API endpoint. '
      + 'Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource.'
  return { error: { code: '401', message } }
}

/** Bodies of the statuses that can be ordered as a fault. Azure's 500 has been seen without an `error`. */
export function faultBody(status: number): unknown {
  switch (status) {
    case 400: return { error: { code: 'content_filter', message: 'The prompt triggered the content management policy.', param: 'prompt' } }
    case 408: return { error: { code: 'Timeout', message: 'The operation was timeout.' } }
    case 429: return { error: { code: 'no_capacity', message: 'The system is currently experiencing high demand.' } }
    case 500: return { statusCode: 500, message: 'Internal server error' }
    case 503: return { error: { code: 'server_is_overloaded', message: 'The server is overloaded. Please try again later.' } }
    default: return { error: { code: String(status), message: `The service answered with status ${status}.` } }
  }
}

function notFoundBody(): ErrorBody {
  return { error: { code: '404', message: 'Resource not found' } }
}

function unknownDeploymentBody(dialect: Wording, name: string): ErrorBody {
  if (dialect === 'azure') {
    return { error: { code: 'DeploymentNotFound', message: 'The API deployment for this resource does not exist.' } }
  }
  const message = `The model '${name}' does not exist or you do not have access to it.`
  return { error: { message, type: 'invalid_request_error', param: null, code: 'model_not_found' } }
}

function badRequestBody(message: string): ErrorBody {
  return { error: { code: 'BadRequest', message, type: 'invalid_request_error', param: null } }
}
