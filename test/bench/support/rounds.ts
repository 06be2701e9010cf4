/** Rounds of several subjects that are measured beside each other: what all of them share, and how far chance alone goes. */
import { quantile } from './statistics.js'

/** From the lower to the upper quartile. */
export function bandOf(values: readonly number[]): string {
  return `${quantile(values, 0.25).toFixed(2)}–${quantile(values, 0.75).toFixed(2)}`
}

/** Nobody always goes first. */
export function rotate<T>(values: readonly T[], by: number): T[] {
  const at = (by + values.length) % values.length
  return [...values.slice(at), ...values.slice(0, at)]
}
