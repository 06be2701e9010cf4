/** Several balancers at work on the same backends at once: in a cluster of four processes, and in four threads of one. */
import assert from 'node:assert/strict'
import cluster from 'node:cluster'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { AzureSimulator } from '../../examples/demo/simulator/azure-simulator.js'
import { compiledPath } from '../support/compiled.js'
import { within } from '../support/until.js'
import { keyOf, ORDER, type WorkerOrder, type WorkerReport } from './multi-process/order.js'

const WORKER = compiledPath('test/hardening/multi-process/worker.ts')
const NAMES = ['ptu', 'west', 'east'] as const

/** Different for each, so that no sum is right by chance. */
const orders = (kind: string, simulator: AzureSimulator): WorkerOrder[] => [40, 50, 60, 70].map((requests, i) => ({
  id: `${kind}-${i}`, requests, backends: NAMES.map((name, at) => [name, simulator.backend(name).url, at + 1] as const),
}))

interface Ended { readonly report: WorkerReport, readonly code: number | null }

/** What it sends before it ends by itself. */
async function gather(worker: { on(event: 'message', listener: (report: WorkerReport) => void): unknown }, exit: Promise<unknown[]>, id: string): Promise<Ended> {
  const reports: WorkerReport[] = []
  worker.on('message', (report) => reports.push(report))
  const [code] = await within(exit, `the end of ${id}`, 60_000) as [number | null]
  const [report] = reports
  assert.ok(report !== undefined && reports.length === 1, `${id} reported ${reports.length} times, exit code ${code}`)
  return { report, code }
}

function inCluster(simulator: AzureSimulator): Promise<Ended[]> {
  cluster.setupPrimary({ exec: WORKER, execArgv: [] })
  return Promise.all(orders('process', simulator).map((order) => {
    const worker = cluster.fork({ [ORDER]: JSON.stringify(order) })
    return gather(worker, once(worker, 'exit'), order.id)
  }))
}

function inThreads(simulator: AzureSimulator): Promise<Ended[]> {
  return Promise.all(orders('thread', simulator).map((order) => {
    const worker = new Worker(WORKER, { workerData: order, execArgv: [] })
    return gather(worker, once(worker, 'exit'), order.id)
  }))
}

/** Who showed which key to whom: `worker key port`, as the servers saw it. */
class Arrivals {
  readonly seen = new Map<string, number>()
  readonly #listen = (message: unknown): void => {
    const { headers, socket } = (message as { request: IncomingMessage }).request
    const line = `${headers['x-worker']} ${headers['api-key']} ${socket.localPort}`
    this.seen.set(line, (this.seen.get(line) ?? 0) + 1)
  }

  start(): void { subscribe('http.server.request.start', this.#listen) }
  stop(): void { unsubscribe('http.server.request.start', this.#listen) }
}

for (const [kind, run] of [['process', inCluster], ['thread', inThreads]] as const) {
  describe(`four balancers, each in a ${kind} of its own`, () => {
    const arrivals = new Arrivals()
    let simulator: AzureSimulator
    let ended: Ended[]

    before(async () => {
      // 220 requests: more than the first two take at once, so that they have to go on, and wait.
      simulator = await AzureSimulator.start({
        backends: [
          { name: 'ptu', limits: { kind: 'provisioned', tokensPerSecond: 400, depthMs: 500 } },
          { name: 'west', limits: { kind: 'standard', requestsPerMinute: 600, requestWindowMs: 1_000 } },
          { name: 'east', latency: { firstTokenMs: 5, perTokenMs: 0 } },
        ],
      })
      simulator.inject('west', { kind: 'status', status: 500 }, 3)
      simulator.inject('west', { kind: 'reset-before-headers' }, 2)
      simulator.inject('east', { kind: 'status', status: 429, retryAfterMs: 30 }, 4)
      arrivals.start()
      ended = await run(simulator)
    })
    after(async () => {
      arrivals.stop()
      await simulator.close()
    })

    const sum = (of: (report: WorkerReport) => number): number => ended.reduce((total, { report }) => total + of(report), 0)

    test('every request is answered with 200, and every worker ends by itself', () => {
      for (const { id, requests } of orders(kind, simulator)) {
        const { report, code } = ended.find((one) => one.report.id === id) ?? assert.fail(`nothing of ${id}`)
        assert.deepEqual(report.statuses, { 200: requests }, id)
        assert.equal(code, 0, id)
      }
    })

    test('the sums of what the balancers counted are what the servers counted', (t) => {
      for (const [i, name] of NAMES.entries()) {
        const { counters } = simulator.backend(name)
        const counted = (field: 'attempts' | 'successes' | 'throttled' | 'failures' | 'inFlight'): number => sum(({ status }) => status.backends[i]?.[field] ?? NaN)
        t.diagnostic(`${name}: ${ended.map(({ report }) => report.status.backends[i]?.attempts).join(' + ')} attempts, ${counters.requests} arrived, ${counters.throttled} throttled`)
        assert.equal(counted('attempts'), counters.requests, `${name}: attempts`)
        assert.equal(counted('successes'), counters.succeeded, `${name}: successes`)
        assert.equal(counted('throttled'), counters.throttled, `${name}: throttled`)
        assert.equal(counted('failures'), counters.requests - counters.succeeded - counters.throttled, `${name}: failures`)
        assert.equal(counted('inFlight'), 0, `${name}: in flight`)
      }
      assert.equal(sum(({ status }) => status.waiting), 0)
      assert.ok(simulator.backend('ptu').counters.throttled > 0 && simulator.backend('west').counters.count(500) === 3, 'nothing had to go on to another backend')
    })

    test('each balancer knows of its own requests alone', () => {
      for (const { report } of ended) {
        const arrived = [...arrivals.seen].filter(([line]) => line.startsWith(`${report.id} `)).reduce((total, [, times]) => total + times, 0)
        assert.equal(report.status.backends.reduce((total, backend) => total + backend.attempts, 0), arrived, report.id)
        assert.deepEqual(report.status.backends.map(({ name, url }) => [name, url]), NAMES.map((name) => [name, simulator.backend(name).url]))
      }
    })

    test('each shows each backend its own key, and no other', () => {
      const allowed = new Set(orders(kind, simulator).flatMap(({ id }) => NAMES.map((name) => `${id} ${keyOf(id, name)} ${new URL(simulator.backend(name).url).port}`)))
      assert.deepEqual([...arrivals.seen.keys()].filter((line) => !allowed.has(line)), [])
      assert.ok(arrivals.seen.size > ended.length, 'only one backend was asked')
    })
  })
}
