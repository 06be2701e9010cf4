/** What an answer says of the limits it was measured against. Numbers are NaN where it says nothing. */
import { HeaderReader } from './headers.js'
import type { ResponseHeaders } from './types.js'

const reader = new HeaderReader([
  'azure-openai-deployment-utilization',
  'x-ratelimit-limit-requests', 'x-ratelimit-remaining-requests', 'x-ratelimit-reset-requests',
  'x-ratelimit-limit-tokens', 'x-ratelimit-remaining-tokens', 'x-ratelimit-reset-tokens',
])

export interface BucketSignals {
  limit: number
  remaining: number
  resetMs: number
}

export class LimiterSignals {
  /** Of provisioned throughput: 1 is the limit. */
  utilization = NaN
  readonly requests: BucketSignals = { limit: NaN, remaining: NaN, resetMs: NaN }
  readonly tokens: BucketSignals = { limit: NaN, remaining: NaN, resetMs: NaN }

  /** Reads into this object: answers are read one at a time and nothing is kept. @returns whether there was anything. */
  read(headers: ResponseHeaders): boolean {
    const values = reader.read(headers)
    if (values === undefined) return false
    this.utilization = readPercent(values[0])
    fill(this.requests, values[1], values[2], values[3])
    fill(this.tokens, values[4], values[5], values[6])
    return true
  }
}

function fill(bucket: BucketSignals, limit: string | undefined, remaining: string | undefined, reset: string | undefined): void {
  bucket.limit = toNumber(limit)
  bucket.remaining = toNumber(remaining)
  bucket.resetMs = readDuration(reset)
}

function toNumber(text: string | undefined): number {
  if (text === undefined || text === '') return NaN
  const value = Number(text)
  return value >= 0 && value < Infinity ? value : NaN
}
function readPercent(text: string | undefined): number {
  return text === undefined ? NaN : toNumber(text.endsWith('%') ? text.slice(0, -1) : text) / 100
}
const UNIT: Record<string, number> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 }
function readDuration(text: string | undefined): number {
  if (text === undefined || text === '') return NaN
  const s = Number(text)
  if (!Number.isNaN(s)) return s * 1000
  let ms = 0
  for (const [, a, u] of text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s)/g)) ms += Number(a) * (UNIT[u ?? ''] ?? NaN)
  return ms
}
