/**
 * A backend that refuses says in one of seven headers when to come back, in one of five notations: which of them to believe,
 * and how to read it.
 */
import { HeaderReader, readDuration, readNumber, readText, type HeaderValue } from './headers.js'
import type { CooldownSource, ResponseHeaders, System } from './types.js'

/** How long an answer asks to be left alone, and which header said so. */
export interface RetryHint {
  /** Milliseconds, 0 or more. */
  readonly ms: number
  readonly source: Exclude<CooldownSource, 'default'>
}

// In the order of trust: the exact ones first; a rate limit's reset is the time until its bucket is full again,
// which overstates the wait, so it comes last.
const reader = new HeaderReader([
  'retry-after-ms', 'x-ms-retry-after-ms', 'retry-after',
  'x-ratelimit-remaining-requests', 'x-ratelimit-reset-requests',
  'x-ratelimit-remaining-tokens', 'x-ratelimit-reset-tokens',
])

/** No backend means to be left alone for more than a year: such a value is a mistake, and the next source is better. */
const ABSURD_MS = 365 * 24 * 3_600_000

/**
 * Reads how long an answer asks to be left alone: `retry-after-ms`, `x-ms-retry-after-ms`, `retry-after` (seconds, also
 * with a fraction, or a date: RFC 9110 section 10.2.3), then `x-ratelimit-reset-*` of the limits whose `remaining` is 0,
 * the longer where both are. Negative, empty, past, absurd and unreadable values count as absent. Never throws.
 *
 * @returns `undefined` when no header says anything.
 */
export function readRetryAfter(headers: ResponseHeaders, system: Pick<System, 'wallNow'>): RetryHint | undefined {
  const values = reader.read(headers)
  if (values === undefined) return undefined
  const [exactMs, azureMs, seconds, remainingRequests, resetRequests, remainingTokens, resetTokens] = values
  return toHint(readNumber(exactMs), 'retry-after-ms')
    ?? toHint(readNumber(azureMs), 'x-ms-retry-after-ms')
    ?? toHint(readSecondsOrDate(seconds, system), 'retry-after')
    ?? longer(
      isUsedUp(remainingRequests) ? toHint(readDuration(resetRequests), 'x-ratelimit-reset-requests') : undefined,
      isUsedUp(remainingTokens) ? toHint(readDuration(resetTokens), 'x-ratelimit-reset-tokens') : undefined,
    )
}

/**
 * Whether the answer says how much is left, and that it is more than nothing: refused all the same, the request alone was too large.
 * Not where it says when to come back, or leaves one of the two open.
 */
export function saysRoomIsLeft(headers: ResponseHeaders): boolean {
  const values = reader.read(headers)
  if (values === undefined) return false
  const [exactMs, azureMs, seconds, remainingRequests, , remainingTokens] = values
  if (exactMs !== undefined || azureMs !== undefined || seconds !== undefined) return false
  const remaining = [remainingRequests, remainingTokens].filter((value) => value !== undefined)
  return remaining.length > 0 && remaining.every((value) => readNumber(value) > 0)
}

/** True for the headers that exist to say "come back later". A rate limit's reset is on good answers too. */
export function isRetryHeader(source: CooldownSource): boolean {
  return source === 'retry-after-ms' || source === 'x-ms-retry-after-ms' || source === 'retry-after'
}

function toHint(ms: number, source: RetryHint['source']): RetryHint | undefined {
  return ms >= 0 && ms <= ABSURD_MS ? { ms: Math.min(ms), source } : undefined
}

function longer(a: RetryHint | undefined, b: RetryHint | undefined): RetryHint | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return b.ms > a.ms ? b : a
}

function readSecondsOrDate(value: HeaderValue | undefined, system: Pick<System, 'wallNow'>): number {
  const seconds = readNumber(value)
  return Number.isNaN(seconds) ? readDate(value, system) : seconds * 1_000
}

/** The three forms of RFC 9110 section 5.6.7 begin with the day's name; `Date.parse` alone would take almost anything. */
function readDate(value: HeaderValue | undefined, system: Pick<System, 'wallNow'>): number {
  const text = readText(value)
  if (!/^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)/.test(text)) return NaN
  // The form of asctime() names no zone and means GMT, where Date.parse would take local time.
  return Date.parse(text.endsWith('GMT') ? text : `${text} GMT`) - system.wallNow()
}

/** `-1` stands for "unknown" and is not "nothing left". */
function isUsedUp(remaining: HeaderValue | undefined): boolean {
  return readNumber(remaining) === 0
}
