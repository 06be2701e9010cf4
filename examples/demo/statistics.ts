import type { Run } from './run.js'

export interface BackendSummary {
  readonly name: string
  readonly priority: number
  /** Requests that it answered or that failed on it, retries and failovers included. */
  readonly calls: number
  /** 2xx. */
  readonly successes: number
  readonly throttled: number
  /** Connection failures and all other statuses. */
  readonly failures: number
}

/** What the report says of one run. Durations in milliseconds; `undefined` where there was nothing to measure. */
export interface RunSummary {
  readonly name: string
  readonly title: string
  readonly requests: number
  readonly successes: number
  readonly failures: number
  /** Under way when the run was interrupted. */
  readonly unfinished: number
  readonly failuresByKind: Readonly<Record<string, number>>
  readonly durationMs: number
  /** Of the successes, from the call to the end of its answer. */
  readonly p50Ms: number | undefined
  readonly p99Ms: number | undefined
  /** Real 429s, sent by backends. */
  readonly throttled: number
  readonly throttledPerSuccess: number | undefined
  /** 429s that the openai package was shown, made by a backend or by the balancer. */
  readonly throttledSeen: number
  readonly backends: readonly BackendSummary[]
  readonly interrupted: boolean
}

export function summarize({ plan, backends, log }: Run): RunSummary {
  const ended = log.calls.filter((call) => call.endedAtMs !== undefined)
  const succeeded = ended.filter((call) => call.failure === undefined)
  const latencies = succeeded.map((call) => (call.endedAtMs ?? 0) - call.startedAtMs).sort((a, b) => a - b)
  const throttled = log.attempts.filter((attempt) => attempt.status === 429).length
  return {
    name: plan.name,
    title: plan.title,
    requests: log.calls.length,
    successes: succeeded.length,
    failures: ended.length - succeeded.length,
    unfinished: log.calls.length - ended.length,
    failuresByKind: countBy(ended.flatMap((call) => call.failure ?? [])),
    durationMs: log.durationMs ?? log.nowMs(),
    p50Ms: percentile(latencies, 0.5),
    p99Ms: percentile(latencies, 0.99),
    throttled,
    throttledPerSuccess: succeeded.length === 0 ? undefined : throttled / succeeded.length,
    throttledSeen: log.throttledSeen,
    backends: backends.map(({ name, priority }) => {
      const attempts = log.attempts.filter((attempt) => attempt.backend === name)
      const successes = attempts.filter((attempt) => isSuccess(attempt.status)).length
      const throttled = attempts.filter((attempt) => attempt.status === 429).length
      return { name, priority, calls: attempts.length, successes, throttled, failures: attempts.length - successes - throttled }
    }),
    interrupted: log.interrupted,
  }
}

export function isSuccess(status: number | undefined): boolean {
  return status !== undefined && status >= 200 && status < 300
}

/** Nearest rank: the smallest value that is not exceeded by a share `p` of the values. */
export function percentile(sorted: readonly number[], p: number): number | undefined {
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)]
}

function countBy(words: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const word of words) counts[word] = (counts[word] ?? 0) + 1
  return counts
}
