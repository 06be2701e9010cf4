import type { Admission, SimulatedDeployment } from './deployment.js'

export type Dialect = 'azure' | 'openai'

/** The headers in which a refusal can say when to come back. */
export type RetryHeader = 'retry-after' | 'retry-after-ms' | 'x-ms-retry-after-ms'

/** What the services say of their limits: on every answer, and more of it on a refusal. */
export function limitHeaders(
  deployment: SimulatedDeployment, dialect: Dialect, now: number, refusal?: Extract<Admission, { admitted: false }>,
): Record<string, string> {
  const headers: Record<string, string> = {}
  if (deployment.utilization !== undefined) {
    headers['azure-openai-deployment-utilization'] = `${deployment.utilization.percent(now).toFixed(1)}%`
    headers['x-ms-deployment-name'] = deployment.name
    return headers
  }
  for (const dimension of ['requests', 'tokens'] as const) {
    const limit = deployment[dimension]
    if (limit === undefined) continue
    headers[`x-ratelimit-remaining-${dimension}`] = String(Math.floor(limit.remaining(now)))
    if (dialect === 'openai') {
      headers[`x-ratelimit-limit-${dimension}`] = String(limit.perMinute)
      headers[`x-ratelimit-reset-${dimension}`] = formatGoDuration(limit.resetMs(now))
    } else if (refusal?.reason === dimension) {
      headers[`x-ratelimit-reset-${dimension}`] = formatSeconds(refusal.waitMs)
    }
  }
  return headers
}

/** Provisioned and OpenAI answers are exact to the millisecond; pay-as-you-go speaks of whole seconds only. */
export function usualRetryHeaders(deployment: SimulatedDeployment, dialect: Dialect): readonly RetryHeader[] {
  return deployment.utilization !== undefined || dialect === 'openai' ? ['retry-after-ms', 'retry-after'] : ['retry-after']
}

export function retryHeaders(waitMs: number, names: readonly RetryHeader[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, name === 'retry-after' ? formatSeconds(waitMs) : String(Math.ceil(waitMs))]))
}

/** Rounded up, and at least one: a service never invites back at once. */
export function formatSeconds(ms: number): string {
  return String(Math.max(1, Math.ceil(ms / 1000)))
}

/** As Go prints durations, and OpenAI its resets: `17ms`, `1.5s`, `6m0s`. */
export function formatGoDuration(ms: number): string {
  const whole = Math.ceil(ms)
  if (whole < 1000) return `${whole}ms`
  const minutes = Math.floor(whole / 60_000)
  const seconds = `${(whole - minutes * 60_000) / 1000}s`
  return minutes === 0 ? seconds : `${minutes}m${seconds}`
}
