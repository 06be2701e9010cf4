/**
 * A backend's own credential: a key or token that is known, or a function that fetches one. It has to reach one header of
 * one backend, and nothing that is printed: no log line, no error, no inspection of an object.
 */
import { describeKind } from './checks.js'
import { CredentialError, InvalidOptionsError } from '../errors.js'

/**
 * A secret, or a function that gives one, at once or as a promise. The function is asked for every attempt, so it
 * should keep its token until shortly before it expires, as `getBearerTokenProvider` of `@azure/identity` does.
 */
export type CredentialOption = string | (() => string | Promise<string>)

type CredentialProvider = () => unknown

/** Sent as `api-key` (Azure), or as `authorization` with `Bearer` before it (OpenAI, Entra ID). */
export class Credential {
  /** The request header that carries it. */
  readonly header: 'api-key' | 'authorization'

  // Private fields are in no inspection, no JSON and no string form of this object.
  readonly #backend: string
  readonly #provider: CredentialProvider | undefined
  #secret: string | undefined
  #value: string

  constructor(backend: string, header: 'api-key' | 'authorization', source: string | CredentialProvider) {
    this.#backend = backend
    this.header = header
    this.#provider = typeof source === 'function' ? source : undefined
    this.#secret = undefined
    this.#value = typeof source === 'string' ? this.#format(source) : ''
    Object.freeze(this)
  }

  /**
   * The header's value. At once when it is known at once, so that a fixed key costs a request nothing.
   * @throws CredentialError (or rejects with it) when the function fails or gives something that cannot be sent.
   */
  resolve(): string | Promise<string> {
    const provider = this.#provider
    if (provider === undefined) return this.#value
    let given: unknown
    try {
      given = provider()
    } catch (cause) {
      throw this.#fail(cause)
    }
    if (typeof given !== 'object' || given === null) return this.#accept(given)
    return Promise.resolve(given).then((secret) => this.#accept(secret), (cause: unknown) => { throw this.#fail(cause) })
  }

  /** Checks and formats what a function gave; the same secret as last time was checked then. */
  #accept(secret: unknown): string {
    if (secret === this.#secret && typeof secret === 'string') return this.#value
    const fault = findFault(secret, this.header)
    if (fault !== undefined) throw new CredentialError(this.#backend, `its function gave ${fault}`)
    this.#secret = secret as string
    this.#value = this.#format(secret as string)
    return this.#value
  }

  #format(secret: string): string {
    return this.header === 'authorization' ? `Bearer ${secret}` : secret
  }

  #fail(cause: unknown): CredentialError {
    return new CredentialError(this.#backend, 'its function failed (see the cause)', { cause })
  }
}

/** What keeps a secret from being sent, in words that do not repeat it; `undefined` when nothing does. */
function findFault(secret: unknown, header: 'api-key' | 'authorization'): string | undefined {
  if (typeof secret !== 'string' || secret === '') return `${describeKind(secret)} instead of a non-empty string`
  if (secret.trim() !== secret) return 'a string with white space around it'
  // RFC 9110 section 5.5: visible characters, space, tab and what is above ASCII; above Latin-1 has no single byte.
  if (/[^\t\x20-\x7e\x80-\xff]/.test(secret)) return 'a string with characters that no header may have'
  if (header === 'authorization' && /^bearer\s/i.test(secret)) return 'a string that begins with "Bearer ", which is added by itself'
  return undefined
}

/**
 * Reads `apiKey` and `bearerToken` of one backend.
 * @throws InvalidOptionsError that tells of the secret only what is wrong with it.
 */
export function readCredential(options: { apiKey?: unknown; bearerToken?: unknown }, path: string, backend: string): Credential | undefined {
  if (options.apiKey !== undefined && options.bearerToken !== undefined) {
    throw new InvalidOptionsError(path, 'must have either apiKey or bearerToken', 'both')
  }
  if ('apiKey' in options && options.bearerToken === undefined) return new Credential(backend, 'api-key', checkSource(options.apiKey, `${path}.apiKey`, 'api-key'))
  if ('bearerToken' in options) return new Credential(backend, 'authorization', checkSource(options.bearerToken, `${path}.bearerToken`, 'authorization'))
  return undefined
}

function checkSource(source: unknown, path: string, header: 'api-key' | 'authorization'): string | CredentialProvider {
  if (typeof source === 'function') return source as CredentialProvider
  // Taken for "no credential", a missing environment variable would send the caller's own key to this backend.
  if (source === undefined) {
    throw new InvalidOptionsError(path, 'must be a string or a function (is an environment variable missing? leave the option out to pass the caller\'s credential on)', 'undefined')
  }
  const fault = findFault(source, header)
  if (fault !== undefined) throw new InvalidOptionsError(path, 'must be a string that can be sent in a header, or a function that gives one', fault)
  return source as string
}
