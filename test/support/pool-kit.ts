/** The pool and its surroundings, for tests of the core. */
import assert from 'node:assert/strict'
import { isDelivered, mayMeanMore } from '../../src/core/classify.js'
import { Pool } from '../../src/core/pool.js'
import type { ProbeResult, SendProbe } from '../../src/core/probes.js'
import { PoolRequest, type Acquisition, type Attempt, type PoolEvents, type PoolListener } from '../../src/core/request.js'
import type { AnswerError, AttemptEnd, BackendConfig, BackendStatus, OutcomeClass, PoolConfig, ResponseHeaders } from '../../src/core/types.js'
import { VirtualSystem } from './virtual-system.js'

/** No pool holds more requests than this at once. */
export const MOST_WAITERS = 1_024

/** A backend as the core knows it, from as little as a test has to say. */
export function backend(name: string, priority = 1, more: Partial<BackendConfig> = {}): BackendConfig {
  const origin = `https://${name}.example`
  return {
    name, url: origin, priority, weight: 1, ownsCredential: false, models: undefined, origin, basePath: '', query: undefined, credential: undefined, ...more,
  }
}

/** The options' defaults, pacing apart: what a test says of cooldowns should not depend on what was learned. */
export function poolConfig(backends: readonly BackendConfig[], more: Partial<PoolConfig> = {}): PoolConfig {
  const [home] = backends.filter(({ enabled }) => enabled !== false).sort((a, b) => a.priority - b.priority)
  if (home === undefined) throw new RangeError('a pool needs a backend')
  return {
    backends, home, maxAttempts: undefined, maxWaitMs: 0, cooldownMs: 10_000, maxCooldownMs: 60_000, pacing: false, latencyGuard: false, probe: true,
    retryBudget: { ratio: 0.2, minPerSecond: 10 }, ...more,
  }
}

export class TestRequest extends PoolRequest {
  pinned = false
  wakes = 0
  onWake: (() => void) | undefined = undefined

  constructor(more: Partial<Pick<PoolRequest, 'scope' | 'bodyBytes' | 'pinned' | 'maxWaitMs'>> = {}) {
    super()
    Object.assign(this, more)
  }

  wake(): void {
    this.wakes++
    this.onWake?.()
  }
}

/** What an error says of itself. */
export interface Said {
  readonly code?: string
  readonly type?: string
  readonly param?: string
  /** In its message. */
  readonly isTooLarge?: boolean
}

function toError({ code, type, param }: Said): AnswerError | undefined {
  return code === undefined && type === undefined && param === undefined ? undefined : { code, type, param }
}

/** Writes down what it is told, a line each. */
export class RecordingListener implements PoolListener {
  readonly lines: string[] = []

  /** What was told since the last call. */
  take(): string[] {
    return this.lines.splice(0)
  }

  hears(): boolean {
    return true
  }

  tell<K extends keyof PoolEvents>(event: K, facts: PoolEvents[K]): void {
    this.lines.push([event, ...LINES[event](facts)].join(' '))
  }
}

const LINES: { readonly [K in keyof PoolEvents]: (facts: PoolEvents[K]) => readonly (string | number)[] } = {
  picked: ({ attempt }) => [attempt.backend.name, attempt.number],
  answered: ({ attempt }) => [attempt.backend.name, attempt.status, attempt.latencyMs],
  failover: ({ attempt, to }) => [attempt.backend.name, attempt.outcome, to?.name ?? '-'],
  cooldown: ({ backend, scope, cooldownMs, source, status }) => [backend.name, scope || '-', Math.round(cooldownMs), source, status],
  ejected: ({ backend, scope, cooldownMs, reason }) => [scope === undefined ? backend.name : `${backend.name}/${scope || '-'}`, Math.round(cooldownMs), reason],
  'caller-out': ({ attempt, cooldownMs }) => [attempt.backend.name, Math.round(cooldownMs), attempt.outcome],
  broken: ({ attempt }) => [attempt.backend.name, attempt.status],
  'suspect-request': ({ attempt, evidence }) => [attempt.backend.name, evidence],
  readmitted: ({ backend, scope, after }) => [backend.name, scope ?? '*', after],
  waiting: ({ queueLength }) => [queueLength],
  waited: ({ waitedMs, queueLength }) => [Math.round(waitedMs), queueLength],
  exhausted: ({ retryAfterMs, reason }) => [retryAfterMs === undefined ? '-' : Math.round(retryAfterMs), reason],
}

/** The pool's own probes, answered by the test by hand. */
export class ProbeDesk {
  /** Whom each went to, in order. */
  readonly sent: string[] = []
  readonly #open: ((result: ProbeResult) => void)[] = []

  /** Those without an answer. */
  get open(): number {
    return this.#open.length
  }

  readonly send: SendProbe = ({ name }, done) => {
    this.sent.push(name)
    this.#open.push(done)
  }

  /** Ends the oldest that is open. */
  answer(result: ProbeResult): void {
    const done = this.#open.shift()
    if (done === undefined) assert.fail('no probe is open')
    done(result)
  }
}

/** A pool with all that a test needs around it: time stands still but for `system.advance`. */
export class PoolKit {
  readonly system: VirtualSystem
  readonly listener = new RecordingListener()
  readonly config: PoolConfig
  readonly pool: Pool

  /** @param probes answers the pool's own probes; without it there are none, and requests are the probes. */
  constructor(backends: readonly BackendConfig[], more: Partial<PoolConfig> = {}, seed = 1, probes?: ProbeDesk) {
    this.system = new VirtualSystem(seed)
    this.config = poolConfig(backends, more)
    this.pool = new Pool(this.config, this.system, this.listener, probes?.send)
  }

  get now(): number {
    return this.system.now()
  }

  acquire(request = new TestRequest()): Acquisition {
    return this.pool.acquire(request, this.now)
  }

  /** Acquires, and insists on being sent. */
  send(request = new TestRequest()): Attempt {
    const acquired = this.acquire(request)
    if (acquired.kind !== 'send') assert.fail(`expected to be sent, got ${JSON.stringify(acquired)}`)
    return acquired
  }

  /** Response headers, of which the body is still to come, but for what an error says where that would be read. */
  headers(attempt: Attempt, status: number, headers: ResponseHeaders = {}, said: Said = {}): OutcomeClass {
    let outcome = this.pool.headers(attempt, status, headers, this.now)
    if (mayMeanMore(status) && this.pool.canMove(attempt.request)) outcome = this.pool.reconsider(attempt, toError(said), false, headers, this.now)
    this.pool.conclude(attempt, outcome, this.now)
    if (isDelivered(outcome)) this.pool.deliver(attempt)
    return outcome
  }

  /** Response headers, and nothing after them. */
  answer(attempt: Attempt, status: number, headers: ResponseHeaders = {}, said: Said = {}): OutcomeClass {
    const outcome = this.headers(attempt, status, headers, said)
    this.pool.settle(attempt, 'completed', this.now)
    return outcome
  }

  /** What the body of a 429 says, read after its headers. */
  correct(attempt: Attempt, said: Said, headers: ResponseHeaders = {}): OutcomeClass {
    this.pool.correct(attempt, toError(said), said.isTooLarge === true, headers, this.now)
    return attempt.outcome
  }

  settle(attempt: Attempt, end: AttemptEnd): void {
    this.pool.settle(attempt, end, this.now)
  }

  /** One request that is answered 429 by one backend after the other, each with its wait in milliseconds. */
  throttle(scope: string, ...waits: readonly number[]): void {
    const request = new TestRequest({ scope })
    for (const wait of waits) this.answer(this.send(request), 429, { 'retry-after-ms': String(wait) })
  }

  /** A request that is bound to the home backend, whose answer tells it to be left alone for so long. */
  coolHome(waitMs: number, scope = ''): void {
    this.answer(this.send(new TestRequest({ scope, pinned: true })), 429, { 'retry-after-ms': String(waitMs) })
  }

  /** From here on chance says this, and the same again and again: 0 takes all jitter away. */
  setChance(value: number): void {
    this.system.random = () => value
  }

  /** Where a number of requests go that come at once and are all given up again. */
  count(times: number, scope = ''): Record<string, number> {
    const counts: Record<string, number> = {}
    for (let i = 0; i < times; i++) {
      const attempt = this.send(new TestRequest({ scope }))
      counts[attempt.backend.name] = (counts[attempt.backend.name] ?? 0) + 1
      this.settle(attempt, 'aborted')
    }
    return counts
  }

  statusOf(name: string): BackendStatus {
    const status = this.pool.status(this.now).backends.find((one) => one.name === name)
    if (status === undefined) assert.fail(`there is no backend ${name}`)
    return status
  }

  update(backends: readonly BackendConfig[], more: Partial<PoolConfig> = {}): void {
    this.pool.update({ ...poolConfig(backends), ...more }, this.now)
  }
}

/** That each got its share of all, within four standard deviations: one run in 16,000 is further off by chance. */
export function assertShares(counts: Readonly<Record<string, number>>, shares: Readonly<Record<string, number>>): void {
  const times = Object.values(counts).reduce((sum, count) => sum + count, 0)
  const total = Object.values(shares).reduce((sum, share) => sum + share, 0)
  for (const [name, share] of Object.entries(shares)) {
    const expected = share / total
    const deviation = Math.abs((counts[name] ?? 0) / times - expected)
    assert.ok(deviation <= 4 * Math.sqrt(expected * (1 - expected) / times), `${name}: ${counts[name]} of ${times}, expected ${expected * times}`)
  }
}
