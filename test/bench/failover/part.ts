import { startChild } from '../support/child.js'
import type { Compiled } from '../support/compile.js'
import type { ServerCalls } from '../support/server.js'
import { quantile } from '../support/statistics.js'
import type { Table } from '../support/table.js'
import type { FailoverCalls, Run } from './worker.js'

const RUNS: readonly (Omit<Run, 'count'> & { readonly label: string })[] = [
  { label: 'undici.request, 1 KB', api: 'request', body: 'in hand', bytes: 1_000, concurrency: 1 },
  { label: 'undici.request, 1 KB, 50 at once', api: 'request', body: 'in hand', bytes: 1_000, concurrency: 50 },
  { label: 'undici.request, stream of 100 KB', api: 'request', body: 'stream', bytes: 100_000, concurrency: 1 },
  { label: 'native fetch, 1 KB', api: 'fetch', body: 'in hand', bytes: 1_000, concurrency: 1 },
  { label: 'native fetch, 1 MB', api: 'fetch', body: 'in hand', bytes: 1_000_000, concurrency: 1 },
]

/** How long a request that was refused waits for its next attempt. */
export async function benchFailover(compiled: Compiled, quick: boolean): Promise<Table[]> {
  const server = startChild<ServerCalls>(compiled.program('undici', 'test/bench/support/server.ts'))
  const client = startChild<FailoverCalls>(compiled.program('undici', 'test/bench/failover/worker.ts'))
  const rows: Record<string, string | number>[] = []
  try {
    await client.call('start', { throttled: await server.call('listen', 'throttled'), healthy: await server.call('listen', 'json') })
    for (const { label, ...run } of RUNS) {
      const count = quick ? 5 : run.bytes > 500_000 ? 300 : 1_500
      // Opens the connections and wakes the compiler.
      await client.call('run', { ...run, count: quick ? 1 : count / 5 })
      const { handedOn, written } = await client.call('run', { ...run, count })
      rows.push({
        request: label, failovers: count, handedOn50: quantile(handedOn, 0.5), handedOn99: quantile(handedOn, 0.99),
        written50: quantile(written, 0.5), written99: quantile(written, 0.99),
      })
    }
  } finally {
    await Promise.all([client.stop(), server.stop()])
  }
  return [{
    title: 'Failover',
    note: 'Milliseconds from the headers of a 429, as the client gets them, until the next attempt is handed to undici, and until undici has written its headers'
      + ' to a connection that is open already. What lies between the two is undici\'s: with 50 requests at once a request to a bare Agent waits as long.',
    columns: [
      { key: 'request', label: '' }, { key: 'failovers', label: 'failovers' },
      { key: 'handedOn50', label: 'handed on: p50', digits: 3 }, { key: 'handedOn99', label: 'p99', digits: 3 },
      { key: 'written50', label: 'written: p50', digits: 3 }, { key: 'written99', label: 'p99', digits: 3 },
    ],
    rows,
  }]
}
