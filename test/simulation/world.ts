/** Application, an SDK's retries, the interceptor, a policy in each client process, the backends: one run of it all. */
import type { Answer, AttemptResult, Decision, HeaderValues, Policy, PolicyInstance, RequestView } from './contract.js'
import { Engine } from './engine.js'
import { MetricsRecorder, type CallCounts, type Metrics } from './metrics.js'
import { drawOf, stream } from './random.js'
import { SimulatedBackend, type BackendSpec, type Fault } from './simulated-backend.js'
import { meanShape, trace, type Arrivals, type TraceOptions } from './workload.js'

export interface Scenario {
  readonly backends: readonly BackendSpec[]
  readonly faults?: readonly Fault[]
  /** Offered load as a multiple of the nominal capacity. */
  readonly load: number
  readonly arrivals?: Arrivals
  /** Client processes. */
  readonly clients?: number
  /** One policy instance for all processes. */
  readonly shared?: boolean
  readonly durationMs?: number
  readonly warmupMs?: number
  readonly tailMs?: number
  /** A success that was sent later than this is no good to anybody. */
  readonly deadlineMs?: number
  readonly streamFraction?: number
  readonly sdkMaxRetries?: number
  readonly burst?: TraceOptions['burst']
  readonly quietUntilMs?: number
  readonly rampAtMs?: number
}

const DEFAULTS = {
  durationMs: 900_000, warmupMs: 120_000, tailMs: 90_000, deadlineMs: 60_000, streamFraction: 0.5, sdkMaxRetries: 2,
  clients: 1, shared: false, arrivals: 'poisson' as Arrivals, faults: [] as readonly Fault[], burst: undefined, quietUntilMs: 0, rampAtMs: 0,
}

/** Nominal capacity of a set of backends in requests per second, for the mean request. */
export function capacityOf(backends: readonly BackendSpec[]): number {
  return backends.reduce((sum, b) => sum + b.rps * Math.min(1, b.tpmSlack ?? 1, b.rpmSlack ?? 1), 0)
}

/** What reaches the SDK from one interceptor call. */
interface SdkResult {
  readonly status?: number | undefined
  readonly error?: string | undefined
  readonly headers?: HeaderValues | undefined
  readonly final?: boolean | undefined
}

export function runScenario(scenario: Scenario, policy: Policy, seed: number): Metrics {
  return new World({ ...DEFAULTS, ...scenario }, policy, seed).run()
}

class World {
  readonly #scenario: Required<Scenario>
  readonly #policy: Policy
  readonly #seed: number
  readonly #luckSeed: number
  readonly #engine = new Engine()
  readonly #backends: SimulatedBackend[]
  readonly #metrics: MetricsRecorder
  readonly #instances: PolicyInstance[]
  readonly #parked = new Map<RequestView, () => void>()

  constructor(scenario: Required<Scenario>, policy: Policy, seed: number) {
    this.#scenario = scenario
    this.#policy = policy
    this.#seed = seed
    this.#luckSeed = Math.floor(drawOf(0x51ed, seed) * 4294967296)
    this.#backends = scenario.backends.map((spec, i) => new SimulatedBackend(i, spec, meanShape(), this.#luckSeed))
    for (const fault of scenario.faults) {
      for (const i of [fault.backend].flat()) this.#backends[i]?.faults.push(fault)
    }
    const { warmupMs, durationMs, tailMs, deadlineMs } = scenario
    this.#metrics = new MetricsRecorder(this.#backends, warmupMs, durationMs - tailMs, deadlineMs)
    const instances = this.#isShared() ? 1 : scenario.clients
    this.#instances = Array.from({ length: instances }, (_, client) => this.#createInstance(client))
  }

  run(): Metrics {
    const { backends, load, durationMs, arrivals, clients, streamFraction, burst, quietUntilMs, rampAtMs } = this.#scenario
    const capacity = capacityOf(backends)
    for (const arrival of trace({
      seed: this.#seed, ratePerSec: capacity * load, durationMs, arrivals, clients, streamFraction, burst, quietUntilMs, rampAtMs,
    })) {
      this.#engine.at(arrival.t, () => this.#startInterceptorCall({ arrival, sdkTry: 0, attempts: 0, rejects: 0 }))
    }
    this.#engine.run(durationMs + 600_000)
    return this.#metrics.report(capacity)
  }

  #isShared(): boolean {
    return this.#policy.clairvoyant === true || this.#scenario.shared
  }

  #createInstance(client: number): PolicyInstance {
    const engine = this.#engine
    return this.#policy.create({
      backends: this.#backends.map(({ index, spec, limits }) => ({ index, name: spec.name, priority: spec.priority, kind: spec.kind, limits })),
      env: {
        now: () => engine.now,
        random: stream(`${this.#seed}/policy/${this.#policy.name}/${client}`),
        setTimer: (callback, delayMs) => engine.after(delayMs, callback),
        wake: (view) => {
          const resume = this.#parked.get(view)
          this.#parked.delete(view)
          resume?.()
        },
      },
      clients: this.#scenario.shared ? 1 : this.#scenario.clients,
      world: this.#policy.clairvoyant ? { engine, backends: this.#backends } : undefined,
    })
  }

  #startInterceptorCall(call: CallCounts): void {
    const r = call.arrival
    const instance = this.#instances[this.#isShared() ? 0 : r.client]
    if (instance === undefined) throw new RangeError(`no policy instance for client ${r.client}`)
    this.#ask(call, {
      id: r.id, client: r.client, stream: r.stream, bodyBytes: r.bodyBytes, maxTokens: r.maxTokens, sdkRetry: call.sdkTry,
      callAt: this.#engine.now, firstSeenAt: r.t, attempt: 0, tried: [], last: null, truth: this.#policy.clairvoyant ? r : undefined,
    }, instance)
  }

  #ask(call: CallCounts, view: RequestView, instance: PolicyInstance): void {
    const decision: Decision = instance.pick(this.#engine.now, view)
    if (typeof decision === 'number') return this.#send(call, view, instance, decision)
    if ('queue' in decision) return void this.#parked.set(view, () => this.#ask(call, view, instance))
    if ('wait' in decision) return void this.#engine.after(Math.max(0.5, decision.wait), () => this.#ask(call, view, instance))
    if ('surface' in decision) return this.#giveToSdk(call, view.last ?? {})
    call.rejects++
    const ms = Math.max(0, Math.ceil(decision.reject))
    const headers: HeaderValues = { 'retry-after': String(decision.seconds ?? Math.max(1, Math.ceil(ms / 1000))) }
    if (decision.seconds === undefined) headers['retry-after-ms'] = String(ms)
    this.#giveToSdk(call, { status: 429, headers, final: decision.final })
  }

  #send(call: CallCounts, view: RequestView, instance: PolicyInstance, index: number): void {
    const backend = this.#backends[index]
    if (backend === undefined) throw new RangeError(`policy ${this.#policy.name} picked backend ${index}`)
    const engine = this.#engine
    const r = call.arrival
    const sentAt = engine.now
    const attempt = call.attempts++
    view.attempt++
    view.tried.push(index)
    const oneWay = this.#policy.clairvoyant ? 0 : backend.spec.rttMs * 0.4
    engine.after(oneWay, () => {
      const answer = backend.serve(engine.now, r, attempt)
      const delay = (ms: number): number => Math.max(sentAt + oneWay, sentAt + ms) - engine.now
      const result = (): AttemptResult => ({
        status: answer.status ?? 0, error: answer.error, headers: answer.headers ?? {}, latencyMs: engine.now - sentAt,
      })
      if (answer.status === 200) {
        engine.after(delay(answer.headersAfterMs), () => instance.onHeaders?.(engine.now, index, view, result()))
        this.#metrics.admitted(backend, r, sentAt)
        engine.after(delay(answer.totalAfterMs), () => {
          backend.finish(engine.now, r)
          this.#metrics.served(backend, r, sentAt)
          instance.onResult(engine.now, index, view, result())
          this.#metrics.done(call, { sentAt, backend: index }, engine.now)
        })
        return
      }
      this.#metrics.failedAttempt(backend, answer, sentAt)
      engine.after(delay(answer.totalAfterMs), () => {
        view.last = answer
        instance.onResult(engine.now, index, view, result())
        this.#ask(call, view, instance)
      })
    })
  }

  /** An unsuccessful end of an interceptor call, as openai-node treats it. */
  #giveToSdk(call: CallCounts, { status = 0, error, headers, final }: SdkResult | Answer & { final?: boolean }): void {
    const isRetryable = error !== undefined || status === 408 || status === 409 || status === 429 || status >= 500
    if (!isRetryable || final || call.sdkTry >= this.#scenario.sdkMaxRetries) {
      this.#metrics.done(call, undefined, this.#engine.now)
      return
    }
    let ms = parseFloat(headers?.['retry-after-ms'] ?? '')
    if (!(ms >= 0)) ms = parseFloat(headers?.['retry-after'] ?? '') * 1000
    if (!(ms >= 0 && ms <= 60000)) {
      ms = Math.min(0.5 * 2 ** call.sdkTry, 8) * 1000 * (1 - 0.25 * drawOf(this.#luckSeed, call.arrival.id, call.sdkTry, 991))
    }
    call.sdkTry++
    this.#engine.after(ms, () => this.#startInterceptorCall(call))
  }
}
