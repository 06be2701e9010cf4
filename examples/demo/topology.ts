import type { SimulatedBackendConfig } from './simulator/azure-simulator.js'

/** Calls per second that each of the three simulated backends can bear, for the calls that `workload.ts` plans. */
export const PER_BACKEND = 8
export const CAPACITY_PER_SECOND = 3 * PER_BACKEND

/** A call of `workload.ts` in the PTU's currency: some 150 tokens of prompt, and 24 of answer at three each. */
const TOKENS_PER_CALL = 222

/** Like a fast model with a short answer: some 350 ms a call. */
const LATENCY = { firstTokenMs: 150, perTokenMs: 8 }

export interface DemoBackend {
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
