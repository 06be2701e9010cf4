/**
 * What an answer says of the limits that it was measured against: Azure's utilization of provisioned throughput, and the
 * `x-ratelimit-*` headers of Azure and OpenAI. Read with every answer, so it allocates nothing.
 */
import { HeaderReader, readDuration, readNumber, readPercent, readText, type HeaderValue } from '../headers.js'
import type { ResponseHeaders } from '../types.js'

const reader = new HeaderReader([
  'azure-openai-deployment-utilization',
  'x-ratelimit-limit-requests', 'x-ratelimit-remaining-requests', 'x-ratelimit-reset-requests',
  'x-ratelimit-limit-tokens', 'x-ratelimit-remaining-tokens', 'x-ratelimit-reset-tokens',
  'x-ms-spillover-from-deployment', 'x-ms-is-spilled-over', 'x-ms-spillover-error',
], (headers, values) => {
  values[0] = headers['azure-openai-deployment-utilization']
  values[1] = headers['x-ratelimit-limit-requests']
  values[2] = headers['x-ratelimit-remaining-requests']
  values[3] = headers['x-ratelimit-reset-requests']
  values[4] = headers['x-ratelimit-limit-tokens']
  values[5] = headers['x-ratelimit-remaining-tokens']
  values[6] = headers['x-ratelimit-reset-tokens']
  values[7] = headers['x-ms-spillover-from-deployment']
  values[8] = headers['x-ms-is-spilled-over']
  values[9] = headers['x-ms-spillover-error']
})

const NOTHING: readonly undefined[] = []

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

  /** Only together do they tell all of a bucket: Azure's remaining alone says nothing that lasts. */
  get isWhole(): boolean {
    return this.used >= 0 && this.resetMs >= 0
  }

  fill(limit: HeaderValue | undefined, remaining: HeaderValue | undefined, reset: HeaderValue | undefined): void {
    this.limit = readNumber(limit)
    this.remaining = readNumber(remaining)
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
  /** The deployment was full, and another one of the same resource has answered in its place (Azure OpenAI, spillover). */
  isSpilled = false

  /** It tells how full a bucket is: a utilization, or all of limit, remaining and reset. */
  get tellsLevel(): boolean {
    return this.utilization >= 0 || this.requests.isWhole || this.tokens.isWhole
  }

  /** Reads into this object: answers come one at a time, and what one says is used at once. */
  read(headers: ResponseHeaders): this {
    const values = reader.read(headers)
    // Most backends never say a word of limits: then there is nothing to read, and nothing left from before to clear.
    if (values === undefined) return this.isQuota || this.isSpilled ? this.#fill(NOTHING) : this
    return this.#fill(values)
  }

  #fill(values: readonly (HeaderValue | undefined)[]): this {
    this.utilization = readPercent(values[0]) / 100
    this.requests.fill(values[1], values[2], values[3])
    this.tokens.fill(values[4], values[5], values[6])
    this.isSpilled = isSaid(values[7]) || isSaid(values[8]) || isSaid(values[9])
    this.isQuota = this.utilization >= 0 || this.requests.remaining >= 0 || this.tokens.remaining >= 0
      || this.requests.resetMs >= 0 || this.tokens.resetMs >= 0
    return this
  }

  /** Which limit refused a request: that of requests where nothing is left of it, or only its reset is told (Azure does so); else that of tokens. */
  get isRequestsBound(): boolean {
    const { requests, tokens } = this
    return requests.remaining === 0 || (requests.resetMs >= 0 && !(tokens.resetMs >= 0))
  }
}

function isSaid(value: HeaderValue | undefined): boolean {
  return value !== undefined && !/^(?:false|0)?$/i.test(readText(value))
}
