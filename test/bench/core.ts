/**
 * What the core costs a request that needs no failover: acquire, headers and settle, in nanoseconds of CPU time and bytes, with 5, 100
 * and 1,000 backends, for answers with and without rate-limit headers. Markdown on stdout.
 *
 *   node --expose-gc --import tsx test/bench/core.ts
 */
import { Pool } from '../../src/core/pool.js'
import { PoolRequest, type PoolListener } from '../../src/core/request.js'
import type { BackendConfig, PoolConfig } from '../../src/core/types.js'

const ROUNDS = 9
const CALLS = 200_000

const nothing = (): void => {}
const SILENT: PoolListener = { hears: () => false, tell: nothing }

const HEADERS = {
  'no limits': { 'content-type': 'application/json', 'apim-request-id': '6f2c' },
  'PTU': { 'content-type': 'application/json', 'azure-openai-deployment-utilization': '41.3%' },
  'Azure': { 'content-type': 'application/json', 'x-ratelimit-remaining-requests': '592', 'x-ratelimit-remaining-tokens': '99017' },
  'OpenAI': {
    'content-type': 'application/json', 'x-ratelimit-limit-requests': '10000', 'x-ratelimit-limit-tokens': '2000000',
    'x-ratelimit-remaining-requests': '9999', 'x-ratelimit-remaining-tokens': '1999000', 'x-ratelimit-reset-requests': '6ms',
    'x-ratelimit-reset-tokens': '30ms',
  },
} as const

class Request extends PoolRequest {
  override readonly scope = 'gpt-4o'
  override readonly bodyBytes = 2_400
  readonly pinned = false
  wake(): void {}
}

/** Equal backends of one priority: every one of them is looked at. Time moves by 1 ms a call, as at 1,000 requests a second. */
function createPool(count: number, pacing: boolean): Pool {
  const backends = Array.from({ length: count }, (_, i): BackendConfig => ({
    name: `b${i}`, url: `https://b${i}.example`, priority: 1, weight: 1, ownsCredential: true, models: undefined,
    origin: `https://b${i}.example`, basePath: '', query: undefined, credential: undefined,
  }))
  const [home] = backends
  if (home === undefined) throw new RangeError('no backends')
  const config: PoolConfig = {
    backends, home, maxAttempts: undefined, maxWaitMs: 0, cooldownMs: 10_000, maxCooldownMs: 60_000, pacing, latencyGuard: pacing, probe: true,
    retryBudget: { ratio: 0.2, minPerSecond: 10 },
  }
  const system = { now: () => 0, wallNow: () => 0, random: Math.random, setTimer: () => ({ cancel: nothing }), nextTurn: nothing }
  return new Pool(config, system, SILENT)
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? NaN
}

function measure(count: number, headers: Readonly<Record<string, string>>, pacing: boolean): { ns: number; bytes: number; kept: number } {
  const pool = createPool(count, pacing)
  let now = 0
  const run = (calls: number): void => {
    for (let i = 0; i < calls; i++) {
      now += 1
      const attempt = pool.acquire(new Request(), now)
      if (attempt.kind !== 'send') throw new Error(`not sent: ${attempt.kind}`)
      pool.conclude(attempt, pool.headers(attempt, 200, headers, now), now)
      pool.settle(attempt, 'completed', now)
    }
  }
  const times: number[] = []
  const bytes: number[] = []
  globalThis.gc?.()
  const before = process.memoryUsage().heapUsed
  // A forced collection throws away compiled code as well, where no object that it was made for is alive: none from here to the end.
  run(CALLS)
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.cpuUsage()
    run(CALLS)
    const { user, system } = process.cpuUsage(start)
    times.push(((user + system) * 1_000) / CALLS)
    const heap = process.memoryUsage().heapUsed
    run(500) // few enough that hardly ever a collection comes in between
    bytes.push((process.memoryUsage().heapUsed - heap) / 500)
  }
  globalThis.gc?.()
  return { ns: median(times), bytes: median(bytes), kept: (process.memoryUsage().heapUsed - before) / (CALLS + ROUNDS * (CALLS + 500)) }
}

console.log('| backends | answers | pacing | CPU ns a request | bytes a request | bytes kept |\n|---|---|---|---|---|---|')
for (const count of [5, 100, 1_000]) {
  for (const [name, headers] of Object.entries(HEADERS)) {
    for (const pacing of [false, true]) {
      const { ns, bytes, kept } = measure(count, headers, pacing)
      console.log(`| ${count} | ${name} | ${pacing ? 'on' : 'off'} | ${ns.toFixed(0)} | ${bytes.toFixed(0)} | ${kept.toFixed(2)} |`)
    }
  }
}
