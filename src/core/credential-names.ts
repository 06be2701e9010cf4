/**
 * Where a credential hides in a request. A backend with one of its own must see none of the caller's, in whichever of these places it
 * is; and what is configured for a backend under one of these names is a credential of the backend's.
 */

/**
 * What tells a server who the caller is, or whose account pays: in Azure OpenAI, OpenAI, Azure API Management, Azure Functions,
 * Google, LiteLLM, Portkey and Helicone.
 */
export const CREDENTIAL_HEADERS: readonly string[] = Object.freeze([
  'api-key', 'authorization', 'x-api-key', 'x-goog-api-key', 'ocp-apim-subscription-key', 'x-functions-key', 'x-litellm-api-key',
  'x-portkey-api-key', 'helicone-auth', 'cookie', 'proxy-authorization', 'openai-organization', 'openai-project',
])

/** Of these the ones that only say whose account pays: alone they open no door. */
export const ACCOUNT_HEADERS: readonly string[] = Object.freeze(['openai-organization', 'openai-project'])

/**
 * Azure OpenAI's realtime API takes `api-key`, API Management `subscription-key`, Google `key`, Azure Functions `code`, a shared access
 * signature `sig`.
 */
const CREDENTIAL_PARAMETERS: ReadonlySet<string> = new Set(['api-key', 'subscription-key', 'key', 'code', 'sig', 'access_token'])

/** @param name in any letter case */
export function isCredentialHeader(name: string): boolean {
  return CREDENTIAL_HEADERS.includes(name.toLowerCase())
}

/** @param name of a query parameter, decoded, in any letter case */
export function isCredentialParameter(name: string): boolean {
  return CREDENTIAL_PARAMETERS.has(name.toLowerCase())
}
