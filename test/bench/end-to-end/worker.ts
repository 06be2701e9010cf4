/** The client: sends rounds of requests and says what each took. */
import { Agent, BalancedPool, request, RetryAgent, type Dispatcher } from 'undici'
import { PriorityBalancer } from '../../../src/balancer.js'
import { answerCalls } from '../support/child.js'
import { keepDispatchers } from '../support/subjects.js'
import { WORKLOADS, type Api, type SubjectName, type WorkloadName } from './workloads.js'

export interface Round {
  readonly subject: SubjectName
  readonly workload: WorkloadName
  readonly api: Api
  readonly url: string
  readonly count: number
}

export interface Took {
  /** Wall time of the round. */
  readonly ms: number
  /** CPU time of this process, of all its threads. */
  readonly cpuMs: number
}

const CREATE: Readonly<Record<SubjectName, (url: string) => Dispatcher>> = {
  bare: () => new Agent(),
  again: () => new Agent(),
  pool: (url) => new BalancedPool(url),
  retry: () => new RetryAgent(new Agent()),
  // Two of one server: what the latency guard moves over when the machine is busy meets the same.
  ours: (url) => new PriorityBalancer({ backends: [{ url, priority: 1 }, { url, priority: 2, name: 'second' }] }),
}

const dispatcherFor = keepDispatchers(CREATE)
const bodies = new Map<number, string>()

const SEND: Readonly<Record<Api, (url: string, body: string, dispatcher: Dispatcher) => Promise<void>>> = {
  async request(url, body, dispatcher) {
    const answer = await request(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body, dispatcher })
    check(answer.statusCode, await countBytes(answer.body))
  },
  async fetch(url, body, dispatcher) {
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body, dispatcher }
    const answer = await fetch(url, init as unknown as RequestInit)
    check(answer.status, await countBytes(answer.body ?? []))
  },
}

const calls = {
  async round({ subject, workload, api, url, count }: Round): Promise<Took> {
    const { bytes, concurrency } = WORKLOADS[workload]
    const dispatcher = dispatcherFor(subject, url)
    const body = bodyOf(bytes)
    let left = count
    const began = performance.now()
    const cpu = process.cpuUsage()
    await Promise.all(Array.from({ length: Math.min(concurrency, count) }, async () => {
      while (left-- > 0) await SEND[api](`${url}/openai/deployments/gpt-4o/chat/completions`, body, dispatcher)
    }))
    const { user, system } = process.cpuUsage(cpu)
    return { ms: performance.now() - began, cpuMs: (user + system) / 1_000 }
  },
}

export type EndToEndCalls = typeof calls

function bodyOf(bytes: number): string {
  const known = bodies.get(bytes)
  if (known !== undefined) return known
  const frame = JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: '' }] })
  const body = JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'x'.repeat(bytes - frame.length) }] })
  bodies.set(bytes, body)
  return body
}

async function countBytes(body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<number> {
  let bytes = 0
  for await (const chunk of body) bytes += chunk.byteLength
  return bytes
}

function check(status: number, bytes: number): void {
  if (status !== 200 || bytes === 0) throw new Error(`a request was answered with ${status} and ${bytes} bytes`)
}

answerCalls(calls)
