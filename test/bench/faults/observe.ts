/** Runs one scenario through the real `openai` package over a pool of its own, and tells what came of it: no judgement here. */
import OpenAI from 'openai'
import { PriorityBalancer } from '../../../src/balancer.js'
import type { BackendOptions, BalancerOptions } from '../../../src/options/index.js'
import { subscribe } from '../../../src/telemetry/events.js'
import { scaleTimes, type Scenario } from './scenarios.js'
import { HEALTHY_MODEL, startService, TIMES } from './service.js'
import type { Call, Observed } from './verdict.js'

/** What the balancer is told besides its backends. */
export type SetUpName = 'defaults' | 'tuned'

export interface Manner {
  readonly setUp: SetUpName
  readonly isStream: boolean
  /** By which every time is multiplied, those of the options and of the client included. */
  readonly scale: number
}

/** The budget that the benchmark gives to everyone: milliseconds for a request, and two retries. */
const CLIENT = { timeout: 30_000, maxRetries: 2 } as const

/** A hang is told no sooner, however short the other times are. */
const SHORTEST_HANG_S = 10

/** Numbers tell apart the backends of runs that go on at once: events are the process's own. */
let runs = 0

/** @throws InvalidOptionsError where the package does not know an option. */
export function makeBalancer(urls: readonly [a: string, b: string], names: readonly [a: string, b: string], { setUp, scale }: Pick<Manner, 'setUp' | 'scale'>): PriorityBalancer {
  const isTuned = setUp === 'tuned'
  const larger: Partial<BackendOptions> & { largerContext?: boolean } = isTuned ? { largerContext: true } : {}
  const tuning: Partial<BalancerOptions> & Record<string, unknown> = isTuned ? { attemptTimeoutMs: 10_000 * scale, streamGuard: 'whole', streamIdleMs: 5_000 * scale } : {}
  return new PriorityBalancer({
    backends: [{ url: urls[0], priority: 1, name: names[0] }, { url: urls[1], priority: 2, name: names[1], ...larger }], logger: false, ...tuning,
  })
}

export async function observe(scenario: Scenario, manner: Manner): Promise<Observed> {
  const began = performance.now()
  const seconds = (): number => (performance.now() - began) / 1_000
  const times = scaleTimes(TIMES, manner.scale)
  const run = ++runs
  const [nameOfA, nameOfB] = [`A of run ${run}`, `B of run ${run}`]
  const toldAnswered: ('A' | 'B')[] = []
  const stop = subscribe('answered', ({ backend }) => {
    if (backend === nameOfA) toldAnswered.push('A')
    if (backend === nameOfB) toldAnswered.push('B')
  })
  const [a, b] = await Promise.all([startService('A', scenario.ofA, times, seconds), startService('B', scenario.ofB, times, seconds)])
  const ending: (() => Promise<unknown>)[] = [() => a.close(), () => b.close()]
  try {
    const balancer = makeBalancer([a.url, b.url], [nameOfA, nameOfB], manner)
    ending.push(() => balancer.destroy())
    const client = new OpenAI({
      baseURL: a.url, apiKey: 'callers-key', logLevel: 'off', maxRetries: CLIENT.maxRetries, timeout: CLIENT.timeout * manner.scale,
      fetchOptions: { dispatcher: balancer } as unknown as NonNullable<ConstructorParameters<typeof OpenAI>[0]>['fetchOptions'] & object,
    })
    const hangsAfter = Math.max(scenario.hangsAfter * manner.scale, SHORTEST_HANG_S)
    const calls: Call[] = []
    for (const at of scenario.sequence?.(manner.scale) ?? [0]) {
      // A timer may be early by a part of a millisecond.
      const ms = Math.ceil((at - seconds()) * 1_000) + 1
      if (at > 0 && ms > 1) await new Promise((resolve) => { setTimeout(resolve, ms) })
      calls.push(await ask(client, 'gpt-4o', manner.isStream, hangsAfter, seconds))
    }
    // What a server has sent to its end and what a client has read to its end are a turn apart.
    await new Promise((resolve) => { setTimeout(resolve, 10) })
    const told = [...toldAnswered]
    const attempts = [...a.attempts, ...b.attempts].sort((one, other) => one.at - other.at)
    const after = await ask(client, HEALTHY_MODEL, manner.isStream, SHORTEST_HANG_S, seconds)
    return { calls, attempts, isAliveAfter: after.end === 'answer', toldAnswered: told }
  } finally {
    stop()
    await Promise.all(ending.map((end) => end()))
  }
}

/** One request, to its end. */
async function ask(client: OpenAI, model: string, isStream: boolean, hangsAfter: number, seconds: () => number): Promise<Call> {
  const beganAt = seconds()
  const controller = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const hang = new Promise<'hang'>((resolve) => { timer = setTimeout(() => { resolve('hang') }, hangsAfter * 1_000) })
  try {
    const answer = read(client, model, isStream, controller.signal)
    answer.catch(() => {})
    const result = await Promise.race([answer, hang])
    const took = seconds() - beganAt
    return result === 'hang' ? { beganAt, seconds: took, end: 'hang' } : { beganAt, seconds: took, end: 'answer', ...result }
  } catch (error) {
    return { beganAt, seconds: seconds() - beganAt, end: 'error', error: describe(error), code: error instanceof OpenAI.APIError ? error.code ?? undefined : undefined }
  } finally {
    clearTimeout(timer)
    controller.abort()
  }
}

interface Answer {
  readonly text: string
  readonly model: string | undefined
  readonly hasUsage: boolean
}

/** As an application would: what the package hands out without an error is taken as the answer. */
async function read(client: OpenAI, model: string, isStream: boolean, signal: AbortSignal): Promise<Answer> {
  const messages = [{ role: 'user' as const, content: 'Count to sixty.' }]
  if (!isStream) {
    const answer = await client.chat.completions.create({ model, messages }, { signal })
    return { text: answer.choices[0]?.message.content ?? '', model: answer.model, hasUsage: answer.usage !== undefined }
  }
  let text = ''
  let answeredBy: string | undefined
  let hasUsage = false
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } }, { signal })) {
    text += chunk.choices[0]?.delta.content ?? ''
    answeredBy = chunk.model
    if (chunk.usage != null) hasUsage = true
  }
  return { text, model: answeredBy, hasUsage }
}

/** `BadRequestError: 400 ...`, `TypeError: terminated` */
function describe(error: unknown): string {
  return error instanceof Error ? `${error.constructor.name}: ${error.message}` : String(error)
}
