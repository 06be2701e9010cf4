import type { Manner } from '../support/server.js'

export interface Workload {
  readonly label: string
  /** Of the request's body. */
  readonly bytes: number
  readonly manner: Manner
  /** Requests under way at once. */
  readonly concurrency: number
  /** Requests in one round of `request`, and of fetch: enough for some 50 ms. */
  readonly count: { readonly request: number; readonly fetch: number }
}

export const WORKLOADS = {
  json: { label: 'JSON, 1 KB', bytes: 1_000, manner: 'json', concurrency: 32, count: { request: 800, fetch: 200 } },
  image: { label: 'JSON, 100 KB', bytes: 100_000, manner: 'json', concurrency: 16, count: { request: 160, fetch: 96 } },
  audio: { label: 'body of 10 MB', bytes: 10_000_000, manner: 'json', concurrency: 2, count: { request: 6, fetch: 4 } },
  events: { label: 'SSE, 64 events', bytes: 1_000, manner: 'events', concurrency: 32, count: { request: 64, fetch: 32 } },
} as const satisfies Record<string, Workload>

export type WorkloadName = keyof typeof WORKLOADS

/** How the requests are sent. */
export const APIS = { request: 'undici.request', fetch: 'native fetch' } as const

export type Api = keyof typeof APIS

/** Who sends them. `bare` twice: what lies between the two is noise. */
export const SUBJECTS = { bare: 'bare', again: 'A/A', pool: 'BalancedPool', retry: 'RetryAgent', ours: 'ours' } as const

export type SubjectName = keyof typeof SUBJECTS
