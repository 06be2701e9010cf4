/**
 * The application that is balanced: it makes planned calls through the openai package and writes down what it sees of
 * them. It is the same in both runs; that there is a balancer under it, it does not know.
 */
import { setMaxListeners } from 'node:events'
import OpenAI, { AzureOpenAI } from 'openai'
import type { Target } from './arguments.js'
import type { PooledBackend } from './backends.js'
import { MAX_OUTPUT_TOKENS, type PlannedCall } from './scenario.js'

/** One call of the application, however many attempts it took. */
interface CallRecord {
  readonly startedAtMs: number
  /** `undefined`: still open, or given up on Ctrl-C. */
  endedAtMs: number | undefined
  /** What the openai package finally threw; `undefined` for a success. */
  failure: string | undefined
}

/** One request on the wire, and what came back. */
interface AttemptRecord {
  /** When the response headers, or the error, came. */
  readonly atMs: number
  readonly backend: string
  /** `undefined`: no answer at all. */
  readonly status: number | undefined
}

/** What is known of a run while it is under way and afterwards. Times count from its start. */
export class RunLog {
  readonly calls: CallRecord[] = []
  readonly attempts: AttemptRecord[] = []
  /** 429s that the openai package was shown, be they a backend's or the balancer's. */
  throttledSeen = 0
  /** `undefined` until the run is over. */
  durationMs: number | undefined
  interrupted = false
  readonly #startedAt = performance.now()

  nowMs(): number {
    return performance.now() - this.#startedAt
  }
}

/** Makes one call and takes its answer in whole. Rejects with what the openai package throws. */
export type Send = (call: PlannedCall, signal: AbortSignal) => Promise<void>

/**
 * The application: the openai package, set up for one backend as anyone would. The same in both runs; that there is a
 * balancer under it, it does not know. `onThrottled` is told of every 429 that the package is shown.
 */
export function createSender(backend: PooledBackend, target: Target, onThrottled: () => void): Send {
  const client = createClient(backend, target, async (input, init) => {
    const response = await fetch(input, init)
    if (response.status === 429) onThrottled()
    return response
  })
  const model = backend.models?.[target.name] ?? target.name
  return async (call, signal) => {
    switch (call.kind) {
      case 'chat':
        await client.chat.completions.create(chatRequest(model, call), { signal })
        return
      case 'chat-stream': {
        const stream = await client.chat.completions.create({ ...chatRequest(model, call), stream: true }, { signal })
        const chunks = stream[Symbol.asyncIterator]()
        while (!(await chunks.next()).done);
        return
      }
      case 'response':
        await client.responses.create({ model, input: call.prompt, max_output_tokens: MAX_OUTPUT_TOKENS }, { signal })
    }
  }
}

function chatRequest(model: string, call: PlannedCall) {
  return { model, messages: [{ role: 'user' as const, content: call.prompt }], max_completion_tokens: MAX_OUTPUT_TOKENS }
}

function createClient(backend: PooledBackend, target: Target, fetch: typeof globalThis.fetch): OpenAI {
  const { scheme, value } = backend.credential
  const common = { fetch, logLevel: 'off' as const, defaultQuery: Object.fromEntries(backend.query ?? []) }
  if (target.kind === 'deployment') {
    const credential = scheme === 'api-key' ? { apiKey: value } : { azureADTokenProvider: () => Promise.resolve(value) }
    return new AzureOpenAI({ ...common, ...credential, baseURL: `${backend.url}/openai`, apiVersion: target.apiVersion })
  }
  // The package knows bearer tokens only; Azure's v1 API takes its keys in a header of their own as well.
  const headers = scheme === 'api-key' ? { 'api-key': value, 'authorization': null } : {}
  return new OpenAI({ ...common, baseURL: backend.url, apiKey: value, defaultHeaders: headers })
}

/**
 * Starts each call when its time has come, whether earlier ones have been answered or not, as users do; with
 * `concurrency` calls in flight the next one waits. Ends when all have ended, or at once when `signal` aborts.
 */
export async function sendAll(
  work: readonly PlannedCall[], send: Send, log: RunLog, options: { concurrency: number, signal: AbortSignal },
): Promise<void> {
  const { concurrency, signal } = options
  // Every call in flight listens to it: what looks like a leak is the number of calls.
  setMaxListeners(0, signal)
  const open = new Set<Promise<void>>()
  const aborted = new Promise<void>((resolve) => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => { resolve() }, { once: true })
  })
  for (const call of work) {
    await sleepUntil(call.atMs, log, signal)
    while (open.size >= concurrency && !signal.aborted) await Promise.race([...open, aborted])
    if (signal.aborted) break
    const sent: Promise<void> = sendOne(call, send, log, signal).finally(() => open.delete(sent))
    open.add(sent)
  }
  await Promise.race([Promise.all(open), aborted])
  log.durationMs = log.nowMs()
  log.interrupted = signal.aborted
}

async function sendOne(call: PlannedCall, send: Send, log: RunLog, signal: AbortSignal): Promise<void> {
  const record: CallRecord = { startedAtMs: log.nowMs(), endedAtMs: undefined, failure: undefined }
  log.calls.push(record)
  try {
    await send(call, signal)
  } catch (error) {
    if (signal.aborted) return
    record.failure = describeFailure(error)
  }
  record.endedAtMs = log.nowMs()
}

/** Short enough to count equal ones: `429 RateLimitError`, `APIConnectionError`. */
function describeFailure(error: unknown): string {
  const { status } = error as { status?: unknown }
  const name = error instanceof Error ? error.constructor.name : 'unknown error'
  return typeof status === 'number' ? `${status} ${name}` : name
}

function sleepUntil(atMs: number, log: RunLog, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const finish = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', finish)
      resolve()
    }
    const timer = setTimeout(finish, Math.max(0, atMs - log.nowMs()))
    signal.addEventListener('abort', finish, { once: true })
  })
}
