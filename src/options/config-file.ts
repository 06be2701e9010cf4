/**
 * Options from a JSON file, for processes that get their balancing without a line of code. The reader of an error has no
 * line of code to look at either: every error names the file, and the option in it.
 */
import { readFileSync } from 'node:fs'
import { describe, describeKind, joinPath } from './checks.js'
import { InvalidOptionsError } from '../errors.js'
import { resolveOptions, type BalancerOptions, type ResolvedOptions } from './index.js'

/** The options that hold a secret, and may name an environment variable instead: `{ "env": "KEY_WEST" }`. */
const SECRETS = ['apiKey', 'bearerToken'] as const

/** And those of which any value may. */
const RECORDS = ['headers', 'query'] as const

type Environment = Readonly<Record<string, string | undefined>>

/** The options of a file. */
export interface ConfigFile {
  /** As they are written, with the secrets in their places. */
  readonly given: BalancerOptions
  readonly resolved: ResolvedOptions
}

/**
 * Reads options from a JSON file: those of `BalancerOptions`, as far as JSON can say them.
 * @throws InvalidOptionsError that names the file, when it cannot be read or parsed, or when an option is wrong.
 */
export function readConfigFile(path: string, env: Environment): ConfigFile {
  try {
    const given = parse(read(path))
    insertSecrets(given, env)
    return { given: given as BalancerOptions, resolved: resolveOptions(given as BalancerOptions) }
  } catch (error) {
    if (!(error instanceof InvalidOptionsError)) throw error
    throw new InvalidOptionsError(error.option, error.rule, error.received, { ...('cause' in error && { cause: error.cause }), file: path })
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new InvalidOptionsError('the file', 'must be readable', String((cause as NodeJS.ErrnoException).code), { cause })
  }
}

function parse(text: string): unknown {
  try {
    // Editors on Windows put a byte order mark in front.
    return JSON.parse(text.replace(/^\uFEFF/, ''))
  } catch {
    // V8's message repeats a piece of the file, which may be a key: neither it nor the error is passed on.
    throw new InvalidOptionsError('the file', 'must be valid JSON', text.trim() === '' ? 'an empty file' : 'text that does not parse')
  }
}

/** Puts values of the environment where the file names a variable. All else is left for the check of the options. */
function insertSecrets(options: unknown, env: Environment): void {
  const backends = isRecord(options) && Array.isArray(options.backends) ? options.backends as unknown[] : []
  for (const [index, backend] of backends.entries()) {
    if (!isRecord(backend)) continue
    for (const key of SECRETS) {
      const source = backend[key]
      if (isRecord(source)) backend[key] = readSecret(source, `backends[${index}].${key}`, env)
    }
    for (const key of RECORDS) {
      const values = backend[key]
      if (!isRecord(values)) continue
      for (const [name, source] of Object.entries(values)) {
        if (isRecord(source)) values[name] = readSecret(source, joinPath(`backends[${index}].${key}`, name), env)
      }
    }
  }
}

function readSecret(source: Record<string, unknown>, option: string, env: Environment): string {
  const { env: name, ...others } = source
  if (typeof name !== 'string' || name === '' || Object.keys(others).length > 0) {
    throw new InvalidOptionsError(option, 'must be a string or { "env": "NAME_OF_A_VARIABLE" }', 'an object of another form')
  }
  const value = Object.hasOwn(env, name) ? env[name] : undefined
  if (value !== undefined && value !== '') return value
  throw new InvalidOptionsError(option, `needs the environment variable ${describe(name)}`, `${describeKind(value)} there`)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
