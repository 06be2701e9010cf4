import type { Backend, ScopeState } from './backend.js'
import type { BackendConfig, BackendStatus, ScopeStatus } from './types.js'

/** A copy of what is known of a backend, for people and dashboards. */
export function describeBackend<B extends BackendConfig>(backend: Backend<B>, now: number): BackendStatus {
  const { config, health } = backend
  const scopes = [...backend.scopes.values()].map((scope) => describeScope(scope, now))
  const isCooling = scopes.length > 0 && scopes.every((scope) => scope.state === 'cooldown')
  const scopeCooldownMs = isCooling ? Math.min(...scopes.map((scope) => scope.cooldownMs)) : 0
  return {
    name: config.name,
    url: config.url,
    priority: config.priority,
    weight: config.weight,
    state: health.kind !== 'available' ? health.kind : isCooling ? 'cooldown' : 'available',
    cooldownMs: Math.max(health.kind === 'ejected' ? health.until - now : 0, scopeCooldownMs),
    inFlight: backend.inFlight,
    attempts: backend.attempts,
    successes: backend.successes,
    throttled: backend.throttled,
    failures: backend.failures,
    lastLatencyMs: Number.isNaN(backend.lastLatencyMs) ? undefined : backend.lastLatencyMs,
    scopes,
  }
}

function describeScope(scope: ScopeState, now: number): ScopeStatus {
  const pace = scope.pacer?.pace(now) ?? []
  const cooldownMs = Math.max(0, scope.cooldownUntil - now)
  const isPaced = pace.some((limit) => limit.waitMs > 0)
  return {
    scope: scope.name,
    state: cooldownMs > 0 ? 'cooldown' : isPaced ? 'paced' : 'available',
    cooldownMs,
    attempts: scope.attempts,
    successes: scope.successes,
    throttled: scope.throttled,
    failures: scope.failures,
    inFlight: scope.inFlight,
    pace,
  }
}
