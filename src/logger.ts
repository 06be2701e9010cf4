/** Where log lines go: the caller's logger, nowhere, or a pino of our own that is loaded when the first line is due. */
import { createRequire } from 'node:module'
import type * as Pino from 'pino'
import { describe, describeKind, hasMethod } from './options/checks.js'
import { DEFAULTS } from './options/defaults.js'
import { InvalidOptionsError } from './errors.js'

/** The part of a pino logger that is used. */
export interface Logger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
  /** Asked before a line is put together; without it every level counts as enabled. */
  isLevelEnabled?(level: string): boolean
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

/** A logger that never throws and knows what is worth putting together. */
export type ResolvedLogger = Required<Logger>

/** The environment variable that sets the default logger's level. */
export const LOG_LEVEL_VARIABLE = 'OPENAI_LOADBALANCER_LOG_LEVEL'

/** pino's levels, with its numbers. */
const LEVELS = Object.freeze({ trace: 10, debug: 20, info: 30, warn: 40, error: 50, fatal: 60, silent: Infinity })

type PinoLevel = keyof typeof LEVELS

const METHODS = ['debug', 'info', 'warn', 'error'] as const

/**
 * The logger for the `logger` option.
 * @throws InvalidOptionsError when it is no logger, or the environment names a level that there is not.
 */
export function resolveLogger(value: unknown, env: Readonly<Record<string, string | undefined>>): ResolvedLogger {
  if (value === undefined) return new DefaultLogger(readLevel(env[LOG_LEVEL_VARIABLE]))
  if (value === false) return SILENT
  for (const method of METHODS) {
    if (hasMethod(value, method, 'logger')) continue
    throw new InvalidOptionsError('logger', `must be false or a logger with ${METHODS.join('(), ')}()`, `${describeKind(value)} without ${method}()`)
  }
  return new GuardedLogger(value as Logger)
}

function readLevel(value: string | undefined): PinoLevel {
  if (value === undefined || value === '') return DEFAULTS.logLevel
  const level = value.trim().toLowerCase()
  if (Object.hasOwn(LEVELS, level)) return level as PinoLevel
  throw new InvalidOptionsError(`The environment variable ${LOG_LEVEL_VARIABLE}`, `must be one of ${Object.keys(LEVELS).join(', ')}`, describe(value))
}

const SILENT: ResolvedLogger = Object.freeze({ debug() {}, info() {}, warn() {}, error() {}, isLevelEnabled: () => false })

/** The caller's logger. What it throws must not end a request; it is told once, as a warning of the process. */
class GuardedLogger implements ResolvedLogger {
  readonly #target: Logger
  #failed = false

  constructor(target: Logger) {
    this.#target = target
  }

  isLevelEnabled(level: string): boolean {
    try {
      return this.#target.isLevelEnabled === undefined || this.#target.isLevelEnabled(level)
    } catch (error) {
      this.#report(error)
      return false
    }
  }

  debug(fields: object, message: string): void {
    this.#write('debug', fields, message)
  }

  info(fields: object, message: string): void {
    this.#write('info', fields, message)
  }

  warn(fields: object, message: string): void {
    this.#write('warn', fields, message)
  }

  error(fields: object, message: string): void {
    this.#write('error', fields, message)
  }

  #write(level: LogLevel, fields: object, message: string): void {
    try {
      this.#target[level](fields, message)
    } catch (error) {
      this.#report(error)
    }
  }

  #report(error: unknown): void {
    if (this.#failed) return
    this.#failed = true
    warnProcess('The logger given to openai-priority-loadbalancer throws; requests go on without its lines.', error)
  }
}

/**
 * pino on stderr, so that a program's output on stdout stays what it is. Loading pino takes 20 to 40 ms, most of what
 * this package would cost at start-up, and most processes never log at level `warn`: it is loaded for the first line.
 * Lines are written synchronously: a line that was logged right before `process.exit` or a crash is there, no
 * thread or handle waits in the background, and at the default level lines are as rare as cooldowns.
 */
class DefaultLogger implements ResolvedLogger {
  readonly #level: PinoLevel
  readonly #threshold: number
  #pino: Logger | undefined

  constructor(level: PinoLevel) {
    this.#level = level
    this.#threshold = LEVELS[level]
  }

  isLevelEnabled(level: string): boolean {
    return (LEVELS[level as PinoLevel] ?? 0) >= this.#threshold
  }

  debug(fields: object, message: string): void {
    if (this.isLevelEnabled('debug')) this.#load().debug(fields, message)
  }

  info(fields: object, message: string): void {
    if (this.isLevelEnabled('info')) this.#load().info(fields, message)
  }

  warn(fields: object, message: string): void {
    if (this.isLevelEnabled('warn')) this.#load().warn(fields, message)
  }

  error(fields: object, message: string): void {
    if (this.isLevelEnabled('error')) this.#load().error(fields, message)
  }

  #load(): Logger {
    this.#pino ??= this.#create()
    return this.#pino
  }

  #create(): Logger {
    try {
      const { pino } = createRequire(import.meta.url)('pino') as typeof Pino
      return pino({ name: 'openai-priority-loadbalancer', level: this.#level }, pino.destination({ fd: 2, sync: true }))
    } catch (error) {
      // A bundle that left pino out.
      warnProcess('openai-priority-loadbalancer cannot load pino: pass a logger of your own, or false.', error)
      return SILENT
    }
  }
}

function warnProcess(message: string, error: unknown): void {
  process.emitWarning(`${message} ${error instanceof Error ? error.message : describeKind(error)}`, { type: 'LoadBalancerWarning', code: 'OPLB_LOGGER' })
}
