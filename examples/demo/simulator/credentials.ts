import type { IncomingHttpHeaders } from 'node:http'

export interface Credential {
  readonly scheme: 'api-key' | 'bearer'
  readonly value: string
}

export interface AcceptedCredentials {
  /** Keys that are accepted, as `api-key` everywhere and as bearer token on the v1 paths. With neither list everybody is let in. */
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
