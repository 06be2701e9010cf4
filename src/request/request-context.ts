/** What a request is given by the balancer that it came to. */
import type { Pool } from '../core/pool.js'
import type { System } from '../core/types.js'
import type { ActiveRequests } from './active-requests.js'
import type { Dispatch } from './undici.js'
import type { Destination } from './rewrite.js'

/** What really sends. */
export interface Inner {
  readonly dispatch: Dispatch
  /** Whether it takes handlers of the old style as they are. */
  readonly takesLegacy: boolean
  /** An undici mock that matches bodies as strings. */
  readonly isMockActive: boolean
}

export interface RequestContext {
  readonly pool: Pool<Destination>
  readonly system: System
  readonly maxReplayBytes: number
  readonly attemptTimeoutMs: number | undefined
  readonly requests: ActiveRequests
  /** Called when `requests` has become empty. */
  onIdle(): void
}
