/** Sends single requests through the balancer, and counts with V8's precise coverage what each of them walks through. */
import { createServer, type ServerResponse } from 'node:http'
import { Session, type Profiler } from 'node:inspector'
import type { AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import { Agent, request, RetryAgent, type Dispatcher } from 'undici'
import { PriorityBalancer } from '../../../src/balancer.js'
import { answerCalls } from '../support/child.js'

/** What one request walked through. */
export interface Walk {
  readonly files: readonly { readonly file: string; readonly functions: readonly string[]; readonly calls: number }[]
}

/** Enough for whatever is set up lazily. */
const WARM_UPS = 50

const BODY = JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello.' }] })

const calls = {
  /** A request that is answered 200 at once. */
  good: () => trace('src/', undefined, (url) => new PriorityBalancer({ backends: backends(url), logger: false })),
  /** Answered 429 by the first backend, 200 by the second. */
  failover: () => trace('src/', 'a', (url) => new PriorityBalancer({ backends: backends(url), logger: false })),
  /** The same good request through undici's own retries: what to compare with. */
  retryAgent: () => trace('undici/lib/', undefined, () => new RetryAgent(new Agent(), {}), (file) => /handler|interceptor|retry-agent/.test(file)),
}

export type TraceCalls = typeof calls

function backends(url: string) {
  return [{ name: 'a', url: `${url}/a/v1`, priority: 1 }, { name: 'b', url: `${url}/b/v1`, priority: 2 }]
}

async function trace(folder: string, full: string | undefined, make: (url: string) => Dispatcher, counts: (file: string) => boolean = () => true): Promise<Walk> {
  let isFull = false
  const server = createServer((incoming, response) => {
    incoming.resume().on('end', () => { answer(response, isFull && full !== undefined && incoming.url?.startsWith(`/${full}/`) === true) })
  })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const dispatcher = make(url)
  const send = async (): Promise<void> => {
    const { statusCode, body } = await request(`${url}/a/v1/chat/completions`, { dispatcher, method: 'POST', headers: { 'content-type': 'application/json' }, body: BODY })
    await body.text()
    if (statusCode !== 200) throw new Error(`answered ${statusCode}`)
  }
  try {
    for (let i = 0; i < WARM_UPS; i++) await send()
    isFull = true
    return await count(folder, counts, send)
  } finally {
    await dispatcher.destroy()
    server.closeAllConnections()
    server.close()
  }
}

function answer(response: ServerResponse, isFull: boolean): void {
  const body = '{"choices":[]}'
  response.writeHead(isFull ? 429 : 200, { 'content-type': 'application/json', 'content-length': body.length, ...(isFull && { 'retry-after': '1' }) }).end(body)
}

async function count(folder: string, counts: (file: string) => boolean, run: () => Promise<void>): Promise<Walk> {
  const session = new Session()
  session.connect()
  const post = promisify<string, object | undefined, object>(session.post.bind(session) as never)
  await post('Profiler.enable', undefined)
  await post('Profiler.startPreciseCoverage', { callCount: true, detailed: false })
  await post('Profiler.takePreciseCoverage', undefined)
  await run()
  const { result } = await post('Profiler.takePreciseCoverage', undefined) as Profiler.TakePreciseCoverageReturnType
  session.disconnect()
  const files = result.filter(({ url }) => url.includes(folder) && counts(url)).flatMap(({ url, functions }) => {
    const called = functions.map(({ functionName, ranges }) => ({ functionName, calls: ranges[0]?.count ?? 0 }))
      // That fields have initial values is no function to a reader.
      .filter((one) => one.calls > 0 && one.functionName !== '<instance_members_initializer>')
    if (called.length === 0) return []
    return [{
      file: url.slice(url.lastIndexOf(folder)), functions: called.map(({ functionName }) => functionName || '(anonymous)'),
      calls: called.reduce((sum, one) => sum + one.calls, 0),
    }]
  })
  return { files }
}

answerCalls(calls)
