/**
 * A backend's own credential: a key or token that is known, or a function that fetches one. It has to reach one header of
 * one backend, and nothing that is printed: no log line, no error, no inspection of an object.
 */
import type { BackendCredential } from '../core/types.js'
import { describeKind } from './checks.js'
import { CredentialError, InvalidOptionsError } from '../errors.js'

/**
 * A secret, or a function that gives one, at once or as a promise. The function is asked for every attempt, so it should keep its
 * token until shortly before it expires, as `getBearerTokenProvider` of `@azure/identity` does. Of calls that take time one is under
 * way at once, for all that need it, and for 30 s at most. After a backend has refused what the function gave (401 or 403), the next
 * call is told so by `{ refused: true }`: time to drop what was kept.
 */
export type CredentialOption = string | ((hint?: { refused: boolean }) => string | Promise<string>)

type CredentialProvider = (hint?: { refused: boolean }) => unknown

/**
 * Longest that a call may take, in milliseconds. A token service that is restarted, or a managed identity that retries, takes up to
 * 20 s; who waits longer than this is better served by another backend.
 */
const CALL_MS = 30_000

/** A call of a function that is under way. */
interface Call {
  readonly promise: Promise<unknown>
  /** Monotonic time. */
  readonly expiresAt: number
}

/** A user's function. A vault that takes few calls at a time must not be asked by every request of a burst. */
class KeyFunction {
  static readonly #known = new WeakMap<CredentialProvider, KeyFunction>()
  readonly #provider: CredentialProvider
  #call: Call | undefined
  #wasRefused = false

  private constructor(provider: CredentialProvider) {
    this.#provider = provider
  }

  /** The same for the same function: its call is shared over an update of the backends, and by backends that have it in common. */
  static of(provider: CredentialProvider): KeyFunction {
    const known = this.#known.get(provider) ?? new KeyFunction(provider)
    this.#known.set(provider, known)
    return known
  }

  /** @returns what the function gives, or a promise of it. */
  ask(now: number): unknown {
    if (this.#call !== undefined && !(this.#call.expiresAt <= now)) return this.#call.promise
    const isHinted = this.#wasRefused
    const given = isHinted ? this.#provider({ refused: true }) : this.#provider()
    if (typeof given !== 'object' || given === null) {
      if (isHinted) this.#wasRefused = false
      return given
    }
    const promise = Promise.resolve(given).then((secret: unknown) => {
      if (isHinted) this.#wasRefused = false
      return secret
    })
    const call: Call = { promise, expiresAt: now + CALL_MS }
    const end = (): void => { if (this.#call === call) this.#call = undefined }
    this.#call = call
    promise.then(end, end)
    return promise
  }

  leftMs(now: number): number {
    return this.#call === undefined ? CALL_MS : Math.max(0, this.#call.expiresAt - now)
  }

  refused(): void {
    this.#wasRefused = true
  }
}

/** Sent as `api-key` (Azure), or as `authorization` with `Bearer` before it (OpenAI, Entra ID). */
export class Credential implements BackendCredential {
  /** The request header that carries it. */
  readonly header: 'api-key' | 'authorization'

  // Private fields are in no inspection, no JSON and no string form of this object.
  readonly #backend: string
  readonly #function: KeyFunction | undefined
  #secret: string | undefined
  #value: string

  constructor(backend: string, header: 'api-key' | 'authorization', source: string | CredentialProvider) {
    this.#backend = backend
    this.header = header
    this.#function = typeof source === 'function' ? KeyFunction.of(source) : undefined
    this.#secret = undefined
    this.#value = typeof source === 'string' ? this.#format(source) : ''
    Object.freeze(this)
  }

  /**
   * The header's value. At once when it is known at once, so that a fixed key costs a request nothing; else from the one call of the
   * function that is under way.
   * @param now monotonic time in milliseconds
   * @throws CredentialError (or rejects with it) when the function fails or gives something that cannot be sent.
   */
  resolve(now: number): string | Promise<string> {
    if (this.#function === undefined) return this.#value
    let given: unknown
    try {
      given = this.#function.ask(now)
    } catch (cause) {
      throw this.#fail(' (see the cause)', { cause })
    }
    if (!(given instanceof Promise)) return this.#accept(given)
    return given.then((secret) => this.#accept(secret), (cause: unknown) => { throw this.#fail(' (see the cause)', { cause }) })
  }

  get isFetched(): boolean {
    return this.#function !== undefined
  }

  /** How long the call that is under way may still take. */
  leftMs(now: number): number {
    return this.#function?.leftMs(now) ?? CALL_MS
  }

  /** What became of a call that took too long: from now on another one may be made. */
  expire(): CredentialError {
    return this.#fail(`: it gave nothing within ${CALL_MS / 1000} s`)
  }

  /** The backend has refused this value. */
  refuse(value: string): void {
    // One that has been replaced since says nothing of the one that replaced it.
    if (value === this.#value) this.#function?.refused()
  }

  /** Checks and formats what a function gave; the same secret as last time was checked then. */
  #accept(secret: unknown): string {
    if (secret === this.#secret && typeof secret === 'string') return this.#value
    const fault = findFault(secret, this.header)
    if (fault !== undefined) throw this.#fail(`: it gave ${fault}`)
    this.#secret = secret as string
    this.#value = this.#format(secret as string)
    return this.#value
  }

  #format(secret: string): string {
    return this.header === 'authorization' ? `Bearer ${secret}` : secret
  }

  #fail(how: string, options?: ErrorOptions): CredentialError {
    const option = this.header === 'authorization' ? 'bearerToken' : 'apiKey'
    const problem = `the ${option} function of ${JSON.stringify(this.#backend)} failed${how}`
    return new CredentialError(this.#backend, problem, options)
  }
}

/** What keeps a value from being sent in a header, in words that do not repeat it; `undefined` when nothing does. */
export function findHeaderFault(secret: unknown): string | undefined {
  if (typeof secret !== 'string' || secret === '') return `${describeKind(secret)} instead of a non-empty string`
  if (secret.trim() !== secret) return 'a string with white space around it'
  // RFC 9110 section 5.5: visible characters, space, tab and what is above ASCII; above Latin-1 has no single byte.
  if (/[^\t\x20-\x7e\x80-\xff]/.test(secret)) return 'a string with characters that no header may have'
  return undefined
}

function findFault(secret: unknown, header: 'api-key' | 'authorization'): string | undefined {
  const fault = findHeaderFault(secret)
  if (fault !== undefined || header === 'api-key' || !/^bearer\s/i.test(secret as string)) return fault
  return 'a string that begins with "Bearer ", which is added by itself'
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
