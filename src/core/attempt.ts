import type { Backend, ScopeState } from './backend.js'
import type { Probing } from './health.js'
import type { PacedAttempt, Pacer } from './pacing/pacer.js'
import type { Attempt, BackendConfig, OutcomeClass, PoolRequest } from './types.js'

/** The one thing that is allocated for an attempt. Beyond what the shell may read, it carries what the pool needs until it ends. */
export class PoolAttempt<B extends BackendConfig> implements Attempt<B>, PacedAttempt {
  readonly backend: B
  readonly number: number
  readonly startedAt: number

  readonly request: PoolRequest
  readonly target: Backend<B>
  readonly scope: ScopeState
  /** The probe slot, when this attempt took it. */
  readonly probe: Probing | undefined
  /** That counted this attempt; an update may have replaced or removed the scope's since. */
  readonly pacer: Pacer | undefined
  /** 'ignored' until it is known. */
  outcome: OutcomeClass = 'ignored'
  /** Of the response; 0 as long as there is none. */
  status = 0
  /** Of a response that is not delivered at once, but perhaps later: kept for that. */
  latencyMs: number | undefined = undefined
  isSettled = false
  // The pacer's own.
  cost = 0
  sentRequests = 0
  sentTokens = 0

  constructor(request: PoolRequest, target: Backend<B>, scope: ScopeState, probe: Probing | undefined, now: number) {
    this.backend = target.config
    this.number = request.attempts
    this.startedAt = now
    this.request = request
    this.target = target
    this.scope = scope
    this.probe = probe
    this.pacer = scope.pacer
  }

  get kind(): 'send' {
    return 'send'
  }

  get isAnswered(): boolean {
    return this.status > 0
  }

  /** Whether this attempt decides on the backend's readmission. Once the state has moved on, it no longer does. */
  get isProbe(): boolean {
    return this.probe !== undefined && this.target.health === this.probe
  }
}
