/** Deterministic randomness: named streams, and stateless draws so that every policy meets the same luck. */

export type Draw = () => number

function hash(text: string): Draw { // xmur3, 32 bit
  let h = 1779033703 ^ text.length
  for (let i = 0; i < text.length; i++) {
    h = Math.imul(h ^ text.charCodeAt(i), 3432918353)
    h = (h << 13) | (h >>> 19)
  }
  return () => {
    h = Math.imul(h ^ (h >>> 16), 2246822507)
    h = Math.imul(h ^ (h >>> 13), 3266489909)
    return (h ^= h >>> 16) >>> 0
  }
}

/** sfc32, seeded by a name: `stream('1/arrivals')()` is uniform in [0, 1). */
export function stream(name: string): Draw {
  const word = hash(name)
  let a = word()
  let b = word()
  let c = word()
  let d = word()
  const next = (): number => {
    const t = (((a + b) | 0) + d) | 0
    d = (d + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (c << 21) | (c >>> 11)
    c = (c + t) | 0
    return (t >>> 0) / 4294967296
  }
  for (let i = 0; i < 12; i++) next() // sfc32 mixes its seed in 12 rounds
  return next
}

/** Uniform in [0, 1), a function of the integers alone: common random numbers across policies. */
export function drawOf(seed: number, ...integers: number[]): number {
  let h = seed >>> 0
  for (const x of integers) {
    h = Math.imul(h ^ (x | 0), 0x9e3779b1)
    h ^= h >>> 15
    h = Math.imul(h, 0x85ebca6b)
    h ^= h >>> 13
  }
  h = Math.imul(h, 0xc2b2ae35)
  h ^= h >>> 16
  return (h >>> 0) / 4294967296
}

export const exponential = (u: number, mean: number): number => -mean * Math.log(1 - u)

export function normal(next: Draw): number { // Box-Muller, one value
  const u = 1 - next()
  const v = next()
  return Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v)
}

export const lognormal = (next: Draw, median: number, sigma: number): number => median * Math.exp(sigma * normal(next))
