import { formatSeconds, type Dialect, type Refusal } from './deployment.js'

/** Whose words an error is in: a provisioned deployment is Azure's. */
export type Wording = Exclude<Dialect, 'ptu'>

/** The error bodies of Azure OpenAI and of OpenAI, in the shape in which their SDKs take them apart. */
export interface ErrorBody {
  readonly error: {
    readonly code: string | null
    readonly message: string
    readonly type?: string
    readonly param?: string | null
  }
}

export function throttledBody(dialect: Wording, refusal: Refusal): ErrorBody {
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

export function unauthorizedBody(dialect: Wording, scheme: 'api-key' | 'bearer' | undefined): ErrorBody {
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

export function notFoundBody(): ErrorBody {
  return { error: { code: '404', message: 'Resource not found' } }
}

export function unknownDeploymentBody(dialect: Wording, name: string): ErrorBody {
  if (dialect === 'azure') {
    return { error: { code: 'DeploymentNotFound', message: 'The API deployment for this resource does not exist.' } }
  }
  const message = `The model '${name}' does not exist or you do not have access to it.`
  return { error: { message, type: 'invalid_request_error', param: null, code: 'model_not_found' } }
}

export function badRequestBody(message: string): ErrorBody {
  return { error: { code: 'BadRequest', message, type: 'invalid_request_error', param: null } }
}
