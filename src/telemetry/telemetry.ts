/** Turns what the pool tells into events, for whom listens: subscribers of a channel, and the logger. */
import type { Channel } from 'node:diagnostics_channel'
import type { ConfiguredBackend } from '../options/backend.js'
import type { Attempt, CooldownSource, OutcomeClass, PoolListener, PoolRequest } from '../core/types.js'
import type { LogLevel, ResolvedLogger } from '../logger.js'
import { channels } from './channels.js'
import type { BalancerEventName, BalancerEvents } from './events.js'
import { EVENT_LEVELS, logEvent } from './log-events.js'

/** A listener for the pool that publishes every event and logs it. With nobody to tell, a call allocates nothing. */
export function createTelemetry(logger: ResolvedLogger): PoolListener<ConfiguredBackend> {
  return new Telemetry(logger)
}

class Telemetry implements PoolListener<ConfiguredBackend> {
  readonly #logger: ResolvedLogger

  constructor(logger: ResolvedLogger) {
    this.#logger = logger
  }

  picked(request: PoolRequest, attempt: Attempt<ConfiguredBackend>): void {
    if (!this.#isHeard(channels.picked, EVENT_LEVELS.picked)) return
    this.#tell('picked', describeAttempt(request, attempt))
  }

  answered(request: PoolRequest, attempt: Attempt<ConfiguredBackend>, status: number, latencyMs: number): void {
    if (!this.#isHeard(channels.answered, EVENT_LEVELS.answered)) return
    this.#tell('answered', { ...describeAttempt(request, attempt), status, latencyMs })
  }

  failover(request: PoolRequest, from: Attempt<ConfiguredBackend>, outcome: OutcomeClass, to: ConfiguredBackend | undefined): void {
    if (!this.#isHeard(channels.failover, EVENT_LEVELS.failover)) return
    this.#tell('failover', { ...describeAttempt(request, from), outcome, to: to?.name })
  }

  cooldown(backend: ConfiguredBackend, scope: string, cooldownMs: number, source: CooldownSource, status: number): void {
    if (!this.#isHeard(channels.cooldown, EVENT_LEVELS.cooldown)) return
    this.#tell('cooldown', { ...describeBackend(backend), scope, cooldownMs, source, status })
  }

  ejected(backend: ConfiguredBackend, cooldownMs: number, reason: BalancerEvents['ejected']['reason']): void {
    const level = reason === 'misconfigured' ? 'error' : EVENT_LEVELS.ejected
    if (!this.#isHeard(channels.ejected, level)) return
    this.#tell('ejected', { ...describeBackend(backend), cooldownMs, reason }, level)
  }

  readmitted(backend: ConfiguredBackend, scope: string | undefined, after: 'ejected' | 'cooldown'): void {
    if (!this.#isHeard(channels.readmitted, EVENT_LEVELS.readmitted)) return
    this.#tell('readmitted', { ...describeBackend(backend), scope, after })
  }

  waiting(request: PoolRequest, queueLength: number): void {
    if (!this.#isHeard(channels.waiting, EVENT_LEVELS.waiting)) return
    this.#tell('waiting', { ...describeRequest(request), queueLength })
  }

  waited(request: PoolRequest, waitedMs: number, queueLength: number): void {
    if (!this.#isHeard(channels.waited, EVENT_LEVELS.waited)) return
    this.#tell('waited', { ...describeRequest(request), waitedMs, queueLength })
  }

  exhausted(request: PoolRequest, retryAfterMs: number | undefined, reason: BalancerEvents['exhausted']['reason']): void {
    if (!this.#isHeard(channels.exhausted, EVENT_LEVELS.exhausted)) return
    this.#tell('exhausted', { ...describeRequest(request), attempts: request.attempts, retryAfterMs, reason })
  }

  #isHeard(channel: Channel, level: LogLevel): boolean {
    return channel.hasSubscribers || this.#logger.isLevelEnabled(level)
  }

  #tell<K extends BalancerEventName>(name: K, event: BalancerEvents[K], level: LogLevel = EVENT_LEVELS[name]): void {
    if (this.#logger.isLevelEnabled(level)) logEvent(this.#logger, level, name, event)
    channels[name].publish(event)
  }
}

/** Numbers are given out when a request is first told of: who tells nobody pays nothing for them. */
const requestIds = new WeakMap<PoolRequest, number>()
let lastRequestId = 0

function identify(request: PoolRequest): number {
  let id = requestIds.get(request)
  if (id === undefined) requestIds.set(request, id = ++lastRequestId)
  return id
}

function describeRequest(request: PoolRequest) {
  return { requestId: identify(request), scope: request.scope }
}

function describeBackend({ name, url, priority }: ConfiguredBackend) {
  return { backend: name, url, priority }
}

function describeAttempt(request: PoolRequest, { backend, number }: Attempt<ConfiguredBackend>) {
  return { ...describeRequest(request), ...describeBackend(backend), attempt: number }
}
