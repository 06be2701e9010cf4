/** Lenient header readers of the simulated world. They answer NaN for what is absent or unusable. */
import type { HeaderValues } from './contract.js'

export function readNumber(value: string | undefined): number {
  if (value === undefined || value === '') return NaN
  const number = Number(value)
  return Number.isFinite(number) ? number : NaN
}

/** Retry-After in milliseconds: `retry-after-ms`, then `retry-after` in seconds. */
export function readRetryAfterMs(headers: HeaderValues): number {
  const ms = readNumber(headers['retry-after-ms'])
  if (ms >= 0) return ms
  const seconds = readNumber(headers['retry-after'])
  return seconds >= 0 ? seconds * 1000 : NaN
}

const UNIT_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }

/** '12ms', '1.2s', '6m0s', '1h2m3s' or '7' (seconds), in milliseconds. */
export function readDurationMs(value: string | undefined): number {
  if (value === undefined || value === '') return NaN
  const seconds = Number(value)
  if (Number.isFinite(seconds)) return seconds * 1000
  let ms = NaN
  for (const [, amount, unit] of value.matchAll(/([\d.]+)(ms|s|m|h)/g)) {
    ms = (Number.isNaN(ms) ? 0 : ms) + Number(amount) * (UNIT_MS[unit ?? ''] ?? NaN)
  }
  return ms
}
