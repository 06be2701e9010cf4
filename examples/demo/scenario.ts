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

/** Arrivals without memory (Poisson), prompts of 300 to 900 characters. `responses`: a fifth uses the Responses API. */
export function planWork(amount: { requests: number, rate: number, seed: number, responses: boolean }): PlannedCall[] {
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
  return calls
}
