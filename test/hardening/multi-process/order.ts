/** What the workers are told, and what they tell. */
import type { PoolStatus } from '../../../src/index.js'

export interface WorkerOrder {
  readonly id: string
  readonly requests: number
  /** Name and base URL. */
  readonly backends: readonly (readonly [name: string, url: string, priority: number])[]
}

export interface WorkerReport {
  readonly id: string
  readonly status: PoolStatus
  /** Of the answers that its callers got. */
  readonly statuses: Readonly<Record<string, number>>
}

/** The key of one worker for one backend: one that is shown to another backend, or by another worker, is found out. */
export function keyOf(worker: string, backend: string): string {
  return `key-of-${worker}-for-${backend}`
}

/** The environment variable in which a process finds its order; a thread has it as `workerData`. */
export const ORDER = 'MULTI_PROCESS_ORDER'
