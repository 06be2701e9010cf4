import { setMaxListeners } from 'node:events'
import type { Send } from './client.js'
import type { CallRecord, RunLog } from './run-log.js'
import type { PlannedCall } from './workload.js'

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
