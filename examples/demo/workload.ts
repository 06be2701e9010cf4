import { createRandom } from './random.js'

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
