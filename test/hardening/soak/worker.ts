/**
 * The process that the soak runs in: one installed balancer, many callers, and a report on standard output at the end. It
 * never calls `process.exit`: that it ends is part of what is tested. Needs `--expose-gc`.
 */
import { writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent } from 'undici'
import { createRandom } from '../../../examples/demo/simulator/azure-simulator.js'
import { install, subscribe, type BackendOptions, type BalancerOptions, type InstalledBalancer } from '../../../src/index.js'
import { openHandles } from '../../support/open-handles.js'
import { BrokenSource } from './bodies.js'
import { call, GivenUp, makePlan, type Plan } from './callers.js'
import { Watch } from './watch.js'

export interface SoakOrder {
  readonly seed: number
  readonly requests: number
  readonly concurrency: number
  readonly rounds: number
  /** Base URLs of the servers. */
  readonly urls: readonly string[]
}

export interface SoakReport {
  readonly ms: number
  readonly cpuMs: number
  /** How many requests came to which end. */
  readonly outcomes: Readonly<Record<string, number>>
  /** Callers that have come to an end. */
  readonly settled: number
  readonly dispatched: number
  readonly ended: number
  /** Requests that were held and given up while they were. */
  readonly givenUpWhileWaiting: number
  /** How often the balancer told of what. */
  readonly events: Readonly<Record<string, number>>
  /** Everything that must not be, in words. */
  readonly violations: readonly string[]
  /** Of all backends and scopes, and the queue, after each round. */
  readonly leftInFlight: readonly number[]
  /** Timers, after each round. */
  readonly leftTimers: readonly number[]
  /** In use after a garbage collection, after each round, in bytes. */
  readonly heap: readonly number[]
  readonly arrayBuffers: readonly number[]
  readonly leftOpen: readonly string[]
  /** After `uninstall`, with requests still under way when it was called. */
  readonly destroyed: boolean
}

/** Of each round so much is for those that stall to come to their end. */
const QUIET_SHARE = 0.15

/** Requests under way when the balancer is uninstalled. */
const LAST_WAVE = 200

/** Rejections that the network is to blame for, or a body that a server cut off. */
const NETWORK = /^(ECONNRESET|ECONNREFUSED|EPIPE|UND_ERR_SOCKET|UND_ERR_HEADERS_TIMEOUT|UND_ERR_BODY_TIMEOUT|UND_ERR_RES_CONTENT_LENGTH_MISMATCH|HPE_.*)$/

const order = JSON.parse(process.argv[2] ?? '') as SoakOrder
const collectGarbage = globalThis.gc ?? (() => { throw new Error('start me with --expose-gc') })
const watch = new Watch()
process.on('warning', (warning) => { watch.complain(`warning: ${warning.stack}`) })
process.on('unhandledRejection', (reason) => { watch.complain(`unhandled rejection: ${reason instanceof Error ? reason.stack : String(reason)}`) })
process.on('uncaughtException', (error) => { watch.complain(`uncaught exception: ${error.stack}`) })

const outcomes: Record<string, number> = {}
let settled = 0

function count(outcome: string): void {
  settled++
  outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
}

/** What a caller's rejection means; a defect of ours is none of these. */
function judge(error: unknown, plan: Plan): string {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof GivenUp && plan.giveUp !== 'never') return 'given up'
    if (cause instanceof BrokenSource && plan.body.startsWith('broken')) return 'source broke off'
    const code = String((cause as NodeJS.ErrnoException).code)
    if (NETWORK.test(code) || cause.name === 'HTTPParserError') return 'network'
    if (code === 'ERR_OPLB_CLOSED') return 'closed'
  }
  watch.complain(`a ${plan.via} with ${plan.body}, given up ${plan.giveUp}, ended with: ${error instanceof Error ? error.stack : String(error)} ${error instanceof Error ? String(error.cause) : ''}`)
  return 'unexpected'
}

async function run(plan: Plan, balancer: InstalledBalancer, random: () => number): Promise<void> {
  try {
    count(await call(plan, balancer, random, (text) => { watch.complain(text) }))
  } catch (error) {
    count(judge(error, plan))
  }
}

function makeBackends(): BackendOptions[] {
  let asked = 0
  const more: Partial<BackendOptions>[] = [
    { apiKey: 'key-0' }, { weight: 3 }, { bearerToken: async () => { await sleep(0); return `token-${asked++}` } },
    // Of one length, since the servers count what arrives.
    { models: { 'gpt-4o-mini': 'gpt-4o-west' }, query: { 'api-version': '2024-10-21' } },
  ]
  return order.urls.map((url, i) => ({ url, name: `backend-${i}`, priority: 1 + Math.floor(i / 2), ...more[i] }))
}

const backends = makeBackends()

/** In turn, while requests are under way. */
const UPDATES: readonly Partial<BalancerOptions>[] = [
  { maxWaitMs: 150 }, { pacing: false, latencyGuard: false }, { backends: backends.slice(1) }, { backends }, { maxWaitMs: 0 }, { attemptTimeoutMs: 120 }, { pacing: true, latencyGuard: true },
  { maxWaitMs: 60, retryBudget: { ratio: 0, minPerSecond: 5 } }, { maxReplayBytes: 1_000 }, { backends: [...backends].reverse() },
  { maxReplayBytes: 1_000_000, attemptTimeoutMs: 2_000 }, { retryBudget: { ratio: 0.5, minPerSecond: 100 }, latencyGuard: false }, { maxAttempts: 2, maxWaitMs: 0 },
  { maxAttempts: 8, maxCooldownMs: 20 }, { latencyGuard: true, maxCooldownMs: 60 },
]

/** An update comes after so many requests. */
const UPDATE_EVERY = 100
let updates = 0

const events: Record<string, number> = {}
const waiting = new Set<number>()
for (const event of ['picked', 'answered', 'failover', 'cooldown', 'ejected', 'readmitted', 'waiting', 'waited', 'exhausted'] as const) {
  subscribe(event, (payload) => {
    events[event] = (events[event] ?? 0) + 1
    if (!('requestId' in payload)) return
    if (event === 'waiting') waiting.add(payload.requestId)
    else waiting.delete(payload.requestId)
  })
}

function inFlight(balancer: InstalledBalancer): number {
  const status = balancer.status()
  return status.waiting + status.backends.reduce((sum, backend) => sum + backend.inFlight + backend.scopes.reduce((ofScopes, scope) => ofScopes + scope.inFlight, 0), 0)
}

const began = performance.now()
const leftInFlight: number[] = []
const leftTimers: number[] = []
const heap: number[] = []
const arrayBuffers: number[] = []
let givenUpWhileWaiting = 0
let leftOpen: string[] = ['not looked for']
let destroyed = false
let isReported = false

function report(): void {
  isReported = true
  const { user, system } = process.cpuUsage()
  const all: SoakReport = {
    ms: performance.now() - began, cpuMs: (user + system) / 1_000, outcomes, settled, dispatched: watch.dispatched, ended: watch.ended, givenUpWhileWaiting, events,
    violations: [...watch.violations, ...watch.unended], leftInFlight, leftTimers, heap, arrayBuffers, leftOpen, destroyed,
  }
  writeSync(1, JSON.stringify(all))
}

async function soak(): Promise<void> {
  const handles = openHandles()
  const random = createRandom(order.seed)
  const agent = new Agent({ bodyTimeout: 400, headersTimeout: 400 })
  const balancer = install({ backends, dispatcher: agent, logger: false, intercept: order.urls, cooldownMs: 20, maxCooldownMs: 60, maxWaitMs: 100, retryBudget: { ratio: 0.5, minPerSecond: 100 } })
  watch.attach(balancer)
  for (let round = 0; round < order.rounds; round++) {
    await callAll(balancer, random)
    // Drains and given-up requests take another moment.
    await settle(() => inFlight(balancer) === 0, 3_000)
    leftInFlight.push(inFlight(balancer))
    leftTimers.push(openHandles().get('Timeout') ?? 0)
    await measure()
  }
  givenUpWhileWaiting = waiting.size
  const wave = Array.from({ length: LAST_WAVE }, () => run(makePlan(random, order.urls, false), balancer, random))
  await sleep(5)
  const ending = balancer.uninstall()
  await Promise.all(wave)
  await within(ending, 'uninstall()')
  await within(agent.close(), 'closing the agent')
  destroyed = balancer.destroyed
  const findLeftOpen = (): string[] => [...openHandles()]
    .filter(([name, number]) => number > (handles.get(name) ?? 0))
    .map(([name, number]) => `${number} ${name}`)
  // Sockets need a turn or two to close.
  await settle(() => findLeftOpen().length === 0, 300)
  leftOpen = findLeftOpen()
}

/** One round. */
async function callAll(balancer: InstalledBalancer, random: () => number): Promise<void> {
  const all = Math.ceil(order.requests / order.rounds)
  let left = all
  const caller = async (): Promise<void> => {
    while (left > 0) {
      if (left-- % UPDATE_EVERY === 0) balancer.update(UPDATES[updates++ % UPDATES.length] ?? {})
      await run(makePlan(random, order.urls, left > all * QUIET_SHARE), balancer, random)
    }
  }
  await Promise.all(Array.from({ length: order.concurrency }, caller))
}

/** Waits for it for so long at most; whether it came is for the test to judge. */
async function settle(condition: () => boolean, forMs: number): Promise<void> {
  for (let i = 0; i < forMs / 10 && !condition(); i++) await sleep(10)
}

async function measure(): Promise<void> {
  for (let i = 0; i < 2; i++) {
    await sleep(0)
    collectGarbage()
  }
  const memory = process.memoryUsage()
  heap.push(memory.heapUsed)
  arrayBuffers.push(memory.arrayBuffers)
}

/** Complains instead of hanging: what was found so far is worth reading. */
async function within(promise: Promise<unknown>, what: string): Promise<void> {
  const late = new AbortController()
  await Promise.race([promise, sleep(5_000, undefined, { signal: late.signal }).then(() => { watch.complain(`${what} was not over within 5 s`) }, () => {})])
  late.abort()
}

// A request that is forgotten leaves nothing that would keep the process alive.
process.on('beforeExit', () => {
  if (isReported) return
  watch.complain('the process came to its end while requests were under way')
  report()
})
await soak()
report()
