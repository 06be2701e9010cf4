/** What an option is when it is not given, in one place. Options that are not here have no default, or one that depends on others. */
export const DEFAULTS = Object.freeze({
  /** Of a backend. */
  weight: 1,
  /** Of a backend. */
  home: false,
  /** 16 MiB: far above a prompt with images, far below what a process would miss. */
  maxReplayBytes: 16 * 1024 * 1024,
  /** A balancer should not turn throttling into latency unless it is asked to. */
  maxWaitMs: 0,
  /** Azure's limits on requests are enforced over slices of 1 s or 10 s: after the longer one, a backend that said nothing is worth a try. */
  cooldownMs: 10_000,
  /** Limits are per minute: whatever a header says, after a minute the counter has begun anew. */
  maxCooldownMs: 60_000,
  pacing: true,
  latencyGuard: true,
  /** Finagle's: a fifth on top of the traffic, and enough for a process with little traffic to fail over at all. */
  retryBudget: Object.freeze({ ratio: 0.2, minPerSecond: 10 }),
  logLevel: 'warn' as const,
})
