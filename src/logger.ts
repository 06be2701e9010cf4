/**
 * Where log lines go: to the caller's logger, nowhere, or to a pino of our own. A log line is never worth a request: what a
 * logger throws must not end the request that had something to say, and a process that logs nothing must not pay for a logger.
 */
import { createRequire } from 'node:module'
import type * as Pino from 'pino'
import { describe, describeKind, hasMethod } from './options/checks.js'
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

const METHODS = ['debug', 'info', 'warn', 'error'] as const

export type LogLevel = (typeof METHODS)[number]

/** A logger that never throws and knows what is worth putting together. */
export type ResolvedLogger = Required<Logger>

/** The environment variable that sets the default logger's level. */
export const LOG_LEVEL_VARIABLE = 'OPENAI_LOADBALANCER_LOG_LEVEL'

/** One of pino's levels. Cooldowns and ejections are warnings: what an operator wants to know of, and rare. */
export const DEFAULT_LOG_LEVEL = 'warn'

/** pino's levels, with its numbers. */
const LEVELS = Object.freeze({ trace: 10, debug: 20, info: 30, warn: 40, error: 50, fatal: 60, silent: Infinity })

type PinoLevel = keyof typeof LEVELS

/**
 * The logger for the `logger` option.
 * @throws InvalidOptionsError when it is no logger, or the environment names a level that there is not.
 */
export function resolveLogger(value: unknown, env: Readonly<Record<string, string | undefined>>): ResolvedLogger {
  if (value === undefined) return createDefault(readLevel(env[LOG_LEVEL_VARIABLE]))
  if (value === false) return SILENT
  for (const method of METHODS) {
    if (hasMethod(value, method, 'logger')) continue
    throw new InvalidOptionsError('logger', `must be false or a logger with ${METHODS.join('(), ')}()`, `${describeKind(value)} without ${method}()`)
  }
  const logger = value as Logger
  return guard((level) => logger.isLevelEnabled === undefined || logger.isLevelEnabled(level), (level, fields, message) => { logger[level](fields, message) })
}

function readLevel(value: string | undefined): PinoLevel {
  if (value === undefined || value === '') return DEFAULT_LOG_LEVEL
  const level = value.trim().toLowerCase()
  if (Object.hasOwn(LEVELS, level)) return level as PinoLevel
  throw new InvalidOptionsError(`The environment variable ${LOG_LEVEL_VARIABLE}`, `must be one of ${Object.keys(LEVELS).join(', ')}`, describe(value))
}

/**
 * pino on stderr, so that a program's output on stdout stays what it is. Loading pino takes 20 to 40 ms, most of what
 * this package would cost at start-up, and most processes never log at level `warn`: it is loaded for the first line.
 */
function createDefault(level: PinoLevel): ResolvedLogger {
  let pino: Logger | undefined
  const isEnabled = (name: string): boolean => (LEVELS[name as PinoLevel] ?? 0) >= LEVELS[level]
  return guard(isEnabled, (name, fields, message) => {
    if (isEnabled(name)) (pino ??= loadPino(level))[name](fields, message)
  })
}

/**
 * Lines are written synchronously: a line that was logged right before `process.exit` or a crash is there, no thread or
 * handle waits in the background, and at the default level lines are as rare as cooldowns.
 */
function loadPino(level: PinoLevel): Logger {
  try {
    const { pino } = createRequire(import.meta.url)('pino') as typeof Pino
    return pino({ name: 'openai-priority-loadbalancer', level }, pino.destination({ fd: 2, sync: true }))
  } catch (error) {
    // A bundle that left pino out.
    warnProcess('openai-priority-loadbalancer cannot load pino: pass a logger of your own, or false.', error)
    return SILENT
  }
}

type Write = (level: LogLevel, fields: object, message: string) => void

/** Keeps what a logger throws from the request that had something to log. It is told once, as a warning of the process. */
function guard(isLevelEnabled: (level: string) => boolean, write: Write): ResolvedLogger {
  let hasFailed = false
  const report = (error: unknown): void => {
    if (!hasFailed) warnProcess('The logger of openai-priority-loadbalancer throws; requests go on without its lines.', error)
    hasFailed = true
  }
  const logger: Partial<ResolvedLogger> = {
    isLevelEnabled(level) {
      try {
        return isLevelEnabled(level)
      } catch (error) {
        report(error)
        return false
      }
    },
  }
  for (const level of METHODS) {
    logger[level] = (fields, message) => {
      try {
        write(level, fields, message)
      } catch (error) {
        report(error)
      }
    }
  }
  // The loop has filled in what was missing.
  return Object.freeze(logger as ResolvedLogger)
}

const SILENT = guard(() => false, () => {})

function warnProcess(message: string, error: unknown): void {
  process.emitWarning(`${message} ${error instanceof Error ? error.message : describeKind(error)}`, { type: 'LoadBalancerWarning', code: 'OPLB_LOGGER' })
}
