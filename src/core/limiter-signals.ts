/**
 * What an answer says of the limits that it was measured against: Azure's utilization of provisioned throughput, and the
 * `x-ratelimit-*` headers of Azure and OpenAI. Read with every answer, so it allocates nothing for parsed headers.
 */
import { HeaderReader } from './headers.js'
import type { ResponseHeaders } from './types.js'

type HeaderText = string | string[] | undefined

const NAMES = [
  'azure-openai-deployment-utilization',
  'x-ratelimit-limit-requests', 'x-ratelimit-remaining-requests', 'x-ratelimit-reset-requests',
  'x-ratelimit-limit-tokens', 'x-ratelimit-remaining-tokens', 'x-ratelimit-reset-tokens',
] as const

const reader = new HeaderReader(NAMES)

/** One limit. NaN where the answer says nothing, or nothing that makes sense: `-1` stands for unknown. */
export class BucketSignals {
  limit = NaN
  remaining = NaN
  /** Time until it is full again. */
  resetMs = NaN

  /** Share that is used up, from 0 to 1; NaN when that is unknown. */
  get used(): number {
    return 1 - this.remaining / this.limit
  }

  fill(limit: HeaderText, remaining: HeaderText, reset: HeaderText): void {
    this.limit = readAmount(limit, 0)
    this.remaining = readAmount(remaining, 0)
    this.resetMs = readDuration(reset)
  }
}

export class LimiterSignals {
  /** Of provisioned throughput: 1 is the limit. NaN when the answer does not say. */
  utilization = NaN
  readonly requests = new BucketSignals()
  readonly tokens = new BucketSignals()
  /** The answer says something of our quota. */
  isQuota = false

  /** Reads into this object: answers come one at a time, and what one says is used at once. */
  read(headers: ResponseHeaders): this {
    if (isRaw(headers)) {
      const values = reader.read(headers) ?? []
      return this.#fill(values[0], values[1], values[2], values[3], values[4], values[5], values[6])
    }
    return this.#fill(
      headers[NAMES[0]], headers[NAMES[1]], headers[NAMES[2]], headers[NAMES[3]], headers[NAMES[4]], headers[NAMES[5]], headers[NAMES[6]],
    )
  }

  /** Which limit refused a request: the one whose reset alone is told (Azure does so), else the one with less left. */
  get isRequestsBound(): boolean {
    const { requests, tokens } = this
    if (requests.used >= 0 && tokens.used >= 0) return requests.used > tokens.used
    if (requests.resetMs >= 0 !== tokens.resetMs >= 0) return requests.resetMs >= 0
    return requests.remaining === 0 && tokens.remaining !== 0
  }

  #fill(
    utilization: HeaderText, limitRequests: HeaderText, remainingRequests: HeaderText, resetRequests: HeaderText,
    limitTokens: HeaderText, remainingTokens: HeaderText, resetTokens: HeaderText,
  ): this {
    this.utilization = utilization === undefined ? NaN : readAmount(utilization, PERCENT) / 100
    this.requests.fill(limitRequests, remainingRequests, resetRequests)
    this.tokens.fill(limitTokens, remainingTokens, resetTokens)
    this.isQuota = this.utilization >= 0 || this.requests.remaining >= 0 || this.tokens.remaining >= 0
      || this.requests.resetMs >= 0 || this.tokens.resetMs >= 0
    return this
  }
}

function isRaw(headers: ResponseHeaders): headers is Extract<ResponseHeaders, readonly unknown[]> {
  return Array.isArray(headers)
}

const ZERO = 0x30
const NINE = 0x39
const POINT = 0x2e
const PERCENT = 0x25
const H = 0x68
const M = 0x6d
const S = 0x73

/** No sensible value is longer; keeps garbage cheap, and its numbers finite. */
const LONGEST_VALUE = 20

/** What `readDigits` stopped at. */
let end = 0

/** Digits with an optional fraction from a position on; NaN when there are none. By hand, since `Number()` takes '', '0x10' and '1e9', and costs more. */
function readDigits(text: string, from: number): number {
  let value = 0
  let scale = 0
  let at = from
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === POINT && scale === 0) scale = 1
    else if (code >= ZERO && code <= NINE) {
      value = value * 10 + code - ZERO
      scale *= 10
    } else break
  }
  end = at
  if (at === from || scale === 1) return NaN
  return scale === 0 ? value : value / scale
}

/** A number, and perhaps one sign after it. Of a repeated header the first; anything else is NaN. */
function readAmount(header: HeaderText, sign: number): number {
  if (header === undefined) return NaN
  const text = typeof header === 'string' ? header : header[0] ?? ''
  if (text.length > LONGEST_VALUE) return NaN
  const value = readDigits(text, 0)
  return end === text.length || (end === text.length - 1 && text.charCodeAt(end) === sign) ? value : NaN
}

/** Go's durations as OpenAI writes them (`12ms`, `1.2s`, `6m0s`, `1h2m3.5s`), or Azure's whole seconds. */
function readDuration(header: HeaderText): number {
  if (header === undefined) return NaN
  const text = typeof header === 'string' ? header : header[0] ?? ''
  if (text.length > LONGEST_VALUE) return NaN
  let ms = 0
  for (let at = 0; at < text.length; at = end) {
    const amount = readDigits(text, at)
    if (end === text.length) return at === 0 ? amount * 1_000 : NaN
    ms += amount * unitMs(text)
  }
  return text === '' ? NaN : ms
}

/** The unit at which the digits stopped; moves past it. NaN when it is none. */
function unitMs(text: string): number {
  const first = text.charCodeAt(end++)
  if (first === S) return 1_000
  if (first === H) return 3_600_000
  if (first !== M) return NaN
  if (text.charCodeAt(end) !== S) return 60_000
  end++
  return 1
}
