/**
 * What is played when no backends are given: three simulated ones, and calls that are too many for one of them and not for
 * all three. Both stand here because the limits are made for the calls.
 */
import { createRandom, type SimulatedBackendConfig } from './simulator/azure-simulator.js'

/** Calls per second that each of the three simulated backends can bear, for the calls that are planned below. */
const PER_BACKEND = 8
export const CAPACITY_PER_SECOND = 3 * PER_BACKEND

/** Such a call in the PTU's currency: some 150 tokens of prompt, and 24 of answer at three each. */
const TOKENS_PER_CALL = 222

/** Like a fast model with a short answer: some 350 ms a call. */
const LATENCY = { firstTokenMs: 150, perTokenMs: 8 }

interface DemoBackend {
  readonly simulated: SimulatedBackendConfig
  readonly priority: number
}

/** A provisioned deployment, and two pay-as-you-go ones that share what it cannot take. */
export const TOPOLOGY: readonly DemoBackend[] = [
  {
    priority: 1,
    simulated: {
      name: 'ptu-eastus',
      apiKeys: ['simulated-key-eastus'],
      limits: { kind: 'provisioned', tokensPerSecond: PER_BACKEND * TOKENS_PER_CALL, depthMs: 2000 },
      latency: LATENCY,
    },
  },
  {
    priority: 2,
    simulated: {
      name: 'paygo-westus',
      apiKeys: ['simulated-key-westus'],
      limits: { kind: 'standard', requestsPerMinute: PER_BACKEND * 60, requestWindowMs: 1000, tokensPerMinute: PER_BACKEND * 60 * 300 },
      latency: LATENCY,
    },
  },
  {
    priority: 2,
    simulated: {
      name: 'paygo-sweden',
      apiKeys: ['simulated-key-sweden'],
      limits: { kind: 'standard', requestsPerMinute: PER_BACKEND * 60, requestWindowMs: 10_000, tokensPerMinute: PER_BACKEND * 60 * 300 },
      latency: LATENCY,
    },
  },
]

/** How a run begins, for what is learned slowly is missed in the beginning. `--help` says what they are. */
export const STARTS = ['steady', 'burst', 'ramp', 'outage'] as const
export type Start = (typeof STARTS)[number]

/** Calls at once: more than the three take within their windows, fewer than they take in ten seconds. */
const BURST = 60

/** The part of a run for which its start lasts: that of a ramp or of an outage. */
const START_PART = 1 / 3

/** The load before the step of a ramp, as a part of all of it. */
const RAMP_LOAD = 1 / 10

/** How much of the load is there, on average over a run. */
export function averageLoad(start: Start): number {
  return start === 'ramp' ? 1 - START_PART * (1 - RAMP_LOAD) : 1
}

/** For how long all backends are out, in milliseconds from the first call on. */
export function outageMs({ start, requests, rate }: { start: Start, requests: number, rate: number }): number {
  return start === 'outage' ? START_PART * requests / rate * 1000 : 0
}

/** One call, planned before anything is sent, so that both runs get the same. */
export interface PlannedCall {
  /** After the start of the run. */
  readonly atMs: number
  readonly kind: 'chat' | 'chat-stream' | 'response'
  readonly prompt: string
}

/** Bounds the answer; the simulator answers with 24 tokens. */
export const MAX_OUTPUT_TOKENS = 40

const SENTENCE = 'Describe in one sentence why a request that meets a busy backend should go to the next one. '

interface Amount {
  readonly requests: number
  /** Calls per second, once all of the load is there. */
  readonly rate: number
  readonly seed: number
  /** A fifth uses the Responses API. */
  readonly responses: boolean
  readonly start: Start
}

/** Arrivals without memory (Poisson), prompts of 300 to 900 characters. The same calls at every start, at other times. */
export function planWork(amount: Amount): PlannedCall[] {
  const random = createRandom(amount.seed)
  const calls: PlannedCall[] = []
  let atMs = 0
  for (let n = 0; n < amount.requests; n += 1) {
    const kind = random()
    const length = 300 + Math.floor(600 * random())
    calls.push({
      atMs,
      kind: kind < 0.4 ? 'chat-stream' : kind < 0.6 && amount.responses ? 'response' : 'chat',
      prompt: SENTENCE.repeat(Math.ceil(length / SENTENCE.length)).slice(0, length),
    })
    atMs += -Math.log(1 - random()) * 1000 / amount.rate
  }
  const toStart = moveStart(amount, calls)
  return calls.map((call) => ({ ...call, atMs: toStart(call.atMs) }))
}

/** When a call starts that would start at some time under a steady load. */
function moveStart({ start, requests, rate }: Amount, calls: readonly PlannedCall[]): (atMs: number) => number {
  if (start === 'burst') {
    // Those who would have come one by one until then come together.
    const burstAt = calls[Math.min(BURST, calls.length) - 1]?.atMs ?? 0
    return (atMs) => Math.max(burstAt, atMs)
  }
  if (start === 'ramp') {
    const stepAt = START_PART * requests / rate / averageLoad(start) * 1000
    return (atMs) => atMs < stepAt * RAMP_LOAD ? atMs / RAMP_LOAD : atMs + stepAt * (1 - RAMP_LOAD)
  }
  return (atMs) => atMs
}
