import { Pool } from '../../src/core/pool.js'
import type { Attempt, BackendConfig, OutcomeClass, PoolConfig, PoolListener, PoolRequest } from '../../src/core/types.js'
import { VirtualSystem } from './virtual-system.js'

/** A backend as the core knows it, from as little as a test has to say. */
export function backend(name: string, priority = 1, more: Partial<BackendConfig> = {}): BackendConfig {
  return { name, url: `https://${name}.example`, priority, weight: 1, ownsCredential: false, models: undefined, ...more }
}

/** The options' defaults, pacing apart: what a test says of cooldowns should not depend on what was learned. */
export function poolConfig(backends: readonly BackendConfig[], more: Partial<PoolConfig> = {}): PoolConfig {
  const [home] = [...backends].sort((a, b) => a.priority - b.priority)
  if (home === undefined) throw new RangeError('a pool needs a backend')
  return {
    backends, home, maxAttempts: undefined, maxWaitMs: 0, cooldownMs: 10_000, maxCooldownMs: 60_000, pacing: false, latencyGuard: false,
    retryBudget: { ratio: 0.2, minPerSecond: 10 }, ...more,
  }
}

export class TestRequest implements PoolRequest {
  scope = ''
  bodyBytes = 0
  pinned = false
  attempts = 0
  tried: unknown[] | undefined = undefined
  lastOutcome: OutcomeClass | undefined = undefined
  waitingSince = NaN
  wakes = 0
  onWake: (() => void) | undefined = undefined

  constructor(more: Partial<Pick<PoolRequest, 'scope' | 'bodyBytes' | 'pinned'>> = {}) {
    Object.assign(this, more)
  }

  wake(): void {
    this.wakes++
    this.onWake?.()
  }
}

/** Writes down what it is told, a line each. */
export class RecordingListener implements PoolListener {
  readonly lines: string[] = []

  /** What was told since the last call. */
  take(): string[] {
    return this.lines.splice(0)
  }

  picked(_request: PoolRequest, attempt: Attempt): void {
    this.lines.push(`picked ${attempt.backend.name} ${attempt.number}`)
  }
  answered(_request: PoolRequest, attempt: Attempt, status: number, latencyMs: number): void {
    this.lines.push(`answered ${attempt.backend.name} ${status} ${latencyMs}`)
  }
  failover(_request: PoolRequest, from: Attempt, outcome: OutcomeClass, to: BackendConfig | undefined): void {
    this.lines.push(`failover ${from.backend.name} ${outcome} ${to?.name ?? '-'}`)
  }
  cooldown(backend: BackendConfig, scope: string, cooldownMs: number, source: string, status: number): void {
    this.lines.push(`cooldown ${backend.name} ${scope || '-'} ${Math.round(cooldownMs)} ${source} ${status}`)
  }
  ejected(backend: BackendConfig, cooldownMs: number, reason: string): void {
    this.lines.push(`ejected ${backend.name} ${Math.round(cooldownMs)} ${reason}`)
  }
  readmitted(backend: BackendConfig, scope: string | undefined, after: string): void {
    this.lines.push(`readmitted ${backend.name} ${scope ?? '*'} ${after}`)
  }
  waiting(_request: PoolRequest, queueLength: number): void {
    this.lines.push(`waiting ${queueLength}`)
  }
  waited(_request: PoolRequest, waitedMs: number, queueLength: number): void {
    this.lines.push(`waited ${Math.round(waitedMs)} ${queueLength}`)
  }
  exhausted(_request: PoolRequest, retryAfterMs: number | undefined, reason: string): void {
    this.lines.push(`exhausted ${retryAfterMs === undefined ? '-' : Math.round(retryAfterMs)} ${reason}`)
  }
}

/** A pool with all that a test needs around it. */
export function createPool(
  backends: readonly BackendConfig[], more: Partial<PoolConfig> = {}, seed = 1,
): { pool: Pool<BackendConfig>; system: VirtualSystem; listener: RecordingListener; config: PoolConfig } {
  const system = new VirtualSystem(seed)
  const listener = new RecordingListener()
  const config = poolConfig(backends, more)
  return { pool: new Pool(config, system, listener), system, listener, config }
}
