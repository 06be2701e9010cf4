/** What users import, and nothing else: whatever is named here is kept from version to version. */
export { PriorityBalancer } from './balancer.js'
export { DEFAULTS, type BackendOptions, type BalancerOptions, type CredentialOption, type LimitsOption, type Logger, type StreamGuard, type Traffic } from './options/index.js'
export { BalancerClosedError, CredentialError, InstallError, InvalidOptionsError, LoadBalancerError } from './errors.js'
export { install, type InstalledBalancer } from './install.js'
export { priorityInterceptor, type PriorityInterceptor } from './interceptor.js'
export { withTraffic } from './traffic.js'
export * from './telemetry/events.js'
export type { BackendState, BackendStatus, Out, PoolStatus, QueueStatus, ScopeStatus, WaitStatus } from './core/types.js'
