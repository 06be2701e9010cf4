/**
 * A backend that refuses says in one of seven headers when to come back, in one of several notations: which of them to believe,
 * and how to read it.
 */
import { HeaderReader, readDuration, readNumber, readTexts, type HeaderValue } from './headers.js'
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
 * with a fraction or a unit, or a date: RFC 9110 section 10.2.3), then `x-ratelimit-reset-*` of the limits whose `remaining` is 0,
 * the longer where both are. Of a header that is repeated, or has a list, the longest counts. A date is compared with the answer's
 * own `date`, for our clock may be wrong. Negative, empty, past, absurd and unreadable values count as absent. Never throws.
 *
 * @returns `undefined` when no header says anything.
 */
export function readRetryAfter(headers: ResponseHeaders, system: Pick<System, 'wallNow'>): RetryHint | undefined {
  const values = reader.read(headers)
  if (values === undefined) return undefined
  const [exactMs, azureMs, seconds, remainingRequests, resetRequests, remainingTokens, resetTokens] = values
  return longest(headers, exactMs, 'retry-after-ms', (text) => readSpan(text, 1))
    ?? longest(headers, azureMs, 'x-ms-retry-after-ms', (text) => readSpan(text, 1))
    ?? longest(headers, seconds, 'retry-after', (text) => readSecondsOrDate(text, headers, system))
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

/** Of all that a header says, the longest that makes sense. */
function longest(headers: ResponseHeaders, first: HeaderValue | undefined, source: RetryHint['source'], read: (text: string) => number): RetryHint | undefined {
  if (first === undefined) return undefined
  let hint: RetryHint | undefined
  for (const text of readTexts(headers, source)) for (const one of splitList(text)) hint = longer(hint, toHint(read(one), source))
  return hint
}

/** A date has a comma of its own. */
function splitList(text: string): string[] {
  return isDate(text) ? [text] : text.split(/,\s+/)
}

/** The three forms of RFC 9110 section 5.6.7 begin with the day's name, ISO 8601 with the year; `Date.parse` alone would take almost anything. */
function isDate(text: string): boolean {
  return /^(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)|\d{4}-\d\d-\d\dT)/.test(text)
}

function readSecondsOrDate(text: string, headers: ResponseHeaders, system: Pick<System, 'wallNow'>): number {
  if (!isDate(text)) return readSpan(text, 1_000)
  const until = readDate(text)
  const [said = ''] = readTexts(headers, 'date')
  const ms = isDate(said) ? until - readDate(said) : NaN
  // Past by the answer's own clock it is no better than none.
  return ms >= 0 ? ms : until - system.wallNow()
}

function readDate(text: string): number {
  // The form of asctime() names no zone and means GMT, where Date.parse would take local time.
  const hasZone = /(?:GMT|[+-]\d\d:?\d\d|Z)$/.test(text)
  return Date.parse(hasZone ? text : `${text}${text.includes('T') && !text.includes(' ') ? 'Z' : ' GMT'}`)
}

/** By the first letters of its name, in milliseconds; `m` alone are minutes. */
const UNITS: readonly (readonly [RegExp, number])[] = [
  [/^(?:ms|msecs?|millis|milliseconds?)$/, 1], [/^(?:s|secs?|seconds?)$/, 1_000], [/^(?:m|mins?|minutes?)$/, 60_000], [/^(?:h|hrs?|hours?)$/, 3_600_000],
]

/** `30`, `30s`, `30 seconds`, `1m30s` (Go) or `00:00:30` (.NET). @param unitMs of a number without a unit. NaN for anything else. */
function readSpan(text: string, unitMs: number): number {
  const number = readNumber(text)
  if (!Number.isNaN(number)) return number * unitMs
  const clock = /^(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2}(?:\.\d+)?)$/.exec(text)
  if (clock !== null) return ((Number(clock[1] ?? 0) * 60 + Number(clock[2])) * 60 + Number(clock[3])) * 1_000
  const named = /^(\d{1,12}(?:\.\d{1,12})?) ?([a-z]{1,12})$/i.exec(text)
  const unit = named?.[2]?.toLowerCase() ?? ''
  const [, ms] = UNITS.find(([name]) => name.test(unit)) ?? []
  return ms === undefined ? readDuration(text) : Number(named?.[1]) * ms
}

/** `-1` stands for "unknown" and is not "nothing left". */
function isUsedUp(remaining: HeaderValue | undefined): boolean {
  return readNumber(remaining) === 0
}
