/** The client: asks for event streams, one after the other, and says how long each took to its first output. */
import { Agent, request, type Dispatcher } from 'undici'
import { PriorityBalancer } from '../../../src/balancer.js'
import { answerCalls } from '../support/child.js'
import { keepDispatchers } from '../support/subjects.js'

/** `again` is a second bare Agent: what it differs by is noise. */
export type SubjectName = 'bare' | 'again' | 'ours'

export interface Round {
  readonly subject: SubjectName
  readonly api: 'request' | 'fetch'
  readonly url: string
  readonly count: number
}

const CREATE: Readonly<Record<SubjectName, (url: string) => Dispatcher>> = {
  bare: () => new Agent(),
  again: () => new Agent(),
  ours: (url) => new PriorityBalancer({ backends: [{ url, priority: 1 }, { url, priority: 2, name: 'second' }] }),
}

const BODY = JSON.stringify({ model: 'gpt-4o', stream: true, messages: [{ role: 'user', content: 'x'.repeat(900) }] })

/** In the first event that is no prelude. */
const OUTPUT = Buffer.from('" token"')

const dispatcherFor = keepDispatchers(CREATE)

const calls = {
  /** @returns for each request the microseconds from the call to its first output. */
  async round({ subject, api, url, count }: Round): Promise<number[]> {
    const dispatcher = dispatcherFor(subject, url)
    const took: number[] = []
    for (let number = 0; number < count; number++) took.push(await timeOne(api, `${url}/openai/deployments/gpt-4o/chat/completions`, dispatcher))
    return took
  },
}

export type FirstOutputCalls = typeof calls

async function timeOne(api: Round['api'], url: string, dispatcher: Dispatcher): Promise<number> {
  const headers = { 'content-type': 'application/json' }
  const began = performance.now()
  let body: AsyncIterable<Uint8Array>
  if (api === 'request') {
    body = (await request(url, { method: 'POST', headers, body: BODY, dispatcher })).body
  } else {
    const answer = await fetch(url, { method: 'POST', headers, body: BODY, dispatcher } as unknown as RequestInit)
    if (answer.body === null) throw new Error('an answer has no body')
    body = answer.body
  }
  let ended = NaN
  for await (const chunk of body) {
    if (Number.isNaN(ended) && Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).includes(OUTPUT)) ended = performance.now()
  }
  if (Number.isNaN(ended)) throw new Error('a stream had no output')
  return (ended - began) * 1_000
}

answerCalls(calls)
