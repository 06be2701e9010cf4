/** Who asks for what, and when: the same for every policy under the same seed. */
import { OUTPUT_WEIGHT } from '../../examples/demo/simulator/deployment.js'
import { exponential, lognormal, normal, stream, type Draw } from './random.js'

export interface Shape {
  readonly prompt: number
  readonly maxTokens: number
  readonly output: number
  readonly bodyBytes: number
  /** What a pay-as-you-go deployment charges at admission: characters / 4 + max_tokens. */
  readonly estTokens: number
}

export interface Arrival extends Shape {
  readonly id: number
  readonly t: number
  /** This request's own luck with latency, standard normal. */
  readonly z: number
  readonly stream: boolean
  readonly client: number
}

/** Lognormal prompts, a few settings of max_tokens, lognormal outputs cut at max_tokens. */
export function drawShape(next: Draw): Shape {
  const prompt = Math.max(8, Math.round(Math.min(16000, lognormal(next, 600, 0.9))))
  const m = next()
  const maxTokens = m < 0.3 ? 256 : m < 0.8 ? 512 : 1024
  const output = Math.max(1, Math.round(Math.min(maxTokens, lognormal(next, 0.4 * maxTokens, 0.6))))
  const bodyBytes = Math.round(prompt * 4 * Math.exp(0.15 * normal(next))) + 150 // characters per token vary
  return { prompt, maxTokens, output, bodyBytes, estTokens: Math.ceil(bodyBytes / 4) + maxTokens }
}

export interface MeanShape {
  readonly estTokens: number
  readonly ptuCost: number
  readonly tokens: number
}

let mean: MeanShape | undefined

/** The mean request, by Monte Carlo with a fixed seed: capacities do not depend on the run's seed. */
export function meanShape(): MeanShape {
  if (mean !== undefined) return mean
  const next = stream('mean-shape')
  let est = 0
  let ptu = 0
  let tokens = 0
  const n = 200_000
  for (let i = 0; i < n; i++) {
    const s = drawShape(next)
    est += s.estTokens
    ptu += s.prompt + OUTPUT_WEIGHT * s.output
    tokens += s.prompt + s.output
  }
  mean = { estTokens: est / n, ptuCost: ptu / n, tokens: tokens / n }
  return mean
}

export type Arrivals = 'poisson' | 'mmpp'

export interface TraceOptions {
  readonly seed: number
  readonly ratePerSec: number
  readonly durationMs: number
  readonly arrivals?: Arrivals
  readonly clients?: number
  readonly streamFraction?: number
  /** So many requests at once (a millisecond apart), on top of the rest. */
  readonly burst?: { readonly at: number; readonly count: number } | undefined
  /** Before this there are none but those of a burst. */
  readonly quietUntilMs?: number
  /** Before this there is a tenth of the load. */
  readonly rampAtMs?: number
}

/**
 * `poisson`, or `mmpp`: two states, half and twice the mean rate, mean stays of 40 s and 20 s
 * (0.5 x 2/3 + 2 x 1/3 = 1: the long-run rate is the same).
 */
export function trace({
  seed, ratePerSec, durationMs, arrivals = 'poisson', clients = 1, streamFraction = 0.5, burst, quietUntilMs = 0, rampAtMs = 0,
}: TraceOptions): Arrival[] {
  const nextArrival = stream(`${seed}/arrivals/${arrivals}`)
  const nextShape = stream(`${seed}/shape`)
  const out: Arrival[] = []
  const base = ratePerSec / 1000
  const drawRequest = (at: number): Omit<Arrival, 'id'> => ({
    t: at, ...drawShape(nextShape), z: normal(nextShape), stream: nextShape() < streamFraction, client: Math.floor(nextShape() * clients),
  })
  let t = 0
  let high = false
  let until = 0
  for (;;) {
    let rate = base
    if (arrivals === 'mmpp') {
      while (t >= until) {
        high = !high
        until += exponential(nextArrival(), high ? 20_000 : 40_000)
      }
      rate = base * (high ? 2 : 0.5)
    }
    const gap = exponential(nextArrival(), 1 / rate)
    if (arrivals === 'mmpp' && t + gap > until) {
      t = until // memoryless: draw again after the switch
      continue
    }
    t += gap
    if (t >= durationMs) break
    const request = drawRequest(t)
    if (t < quietUntilMs || (t < rampAtMs && nextShape() > 0.1)) continue
    out.push({ id: out.length, ...request })
  }
  if (burst === undefined) return out
  for (let i = 0; i < burst.count; i++) out.push({ id: out.length, ...drawRequest(burst.at + i) })
  return out.sort((a, b) => a.t - b.t)
}
