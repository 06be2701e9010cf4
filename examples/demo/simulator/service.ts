import type { IncomingHttpHeaders } from 'node:http'
import { MalformedCall, parseCall, type Call } from './call.js'
import { accepts, readCredential, type AcceptedCredentials } from './credentials.js'
import {
  Deployment, limitHeaders, refusalHeaders, type DeploymentLimits, type Dialect, type RetryHeader,
} from './deployment.js'
import * as errors from './errors.js'
import type { Wording } from './errors.js'
import { matchRoute } from './routes.js'

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
    if (route === undefined) return turnDown(404, errors.notFoundBody())
    const credential = readCredential(request.headers)
    if (!accepts(this.#config, credential, route.deployment === undefined)) {
      return turnDown(401, errors.unauthorizedBody(this.#dialect, credential?.scheme))
    }
    let call: Call
    try {
      call = parseCall(route, request.body, this.#config.answerTokens ?? 24)
    } catch (error) {
      if (error instanceof MalformedCall) return turnDown(400, errors.badRequestBody(error.message))
      throw error
    }
    const deployment = this.#find(call.deployment)
    if (deployment === undefined) return turnDown(404, errors.unknownDeploymentBody(this.#dialect, call.deployment))
    return this.#admit(deployment, call, now)
  }

  #admit(deployment: Deployment, call: Call, now: number): Decision {
    const refusal = deployment.admit(now, call.estimate)
    const dialect: Dialect = deployment.utilization === undefined ? this.#dialect : 'ptu'
    const headers = limitHeaders(deployment, dialect, now)
    if (dialect === 'ptu') headers['x-ms-deployment-name'] = call.deployment
    if (refusal === undefined) return { admitted: true, headers, call, complete: (at) => deployment.complete(at, call.estimate, call.real) }
    Object.assign(headers, refusalHeaders(dialect, refusal, this.#config.retryHeaders))
    return turnDown(429, errors.throttledBody(this.#dialect, refusal), headers)
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
