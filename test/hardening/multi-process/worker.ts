/**
 * One of several processes or threads that share nothing but the backends: installs its own balancer, sends its requests
 * through Node's own fetch, says how it went, and ends by itself.
 */
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { install } from '../../../src/index.js'
import { keyOf, ORDER, type WorkerOrder, type WorkerReport } from './order.js'

const CONCURRENCY = 6

async function work({ id, requests, backends }: WorkerOrder): Promise<WorkerReport> {
  const balancer = install({
    backends: backends.map(([name, url, priority]) => ({ name, url, priority, apiKey: keyOf(id, name) })), logger: false, maxWaitMs: 5_000, retryBudget: { ratio: 1, minPerSecond: 100 },
    // A probe reaches a server, which counts it, but is no caller's request.
    probe: false,
  })
  const statuses: Record<string, number> = {}
  let left = requests
  const caller = async (): Promise<void> => {
    while (left-- > 0) {
      const response = await fetch(`${backends[0]?.[1]}/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-worker': id },
        body: JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: `from ${id}` }], max_tokens: 4 }),
      })
      await response.arrayBuffer()
      statuses[response.status] = (statuses[response.status] ?? 0) + 1
    }
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, caller))
  // The bodies of refusals may still be on their way.
  while (balancer.status().backends.some(({ inFlight }) => inFlight > 0)) await new Promise((resolve) => { setTimeout(resolve, 5) })
  const status = balancer.status()
  await balancer.uninstall()
  return { id, status, statuses }
}

if (isMainThread) {
  const report = await work(JSON.parse(process.env[ORDER] ?? '') as WorkerOrder)
  // The channel to the parent is all that keeps the process alive now.
  process.send?.(report, () => { process.disconnect() })
} else {
  parentPort?.postMessage(await work(workerData as WorkerOrder))
}
