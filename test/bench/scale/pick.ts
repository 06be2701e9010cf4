import { startChild } from '../support/child.js'
import type { Compiled } from '../support/compile.js'
import type { Table } from '../support/table.js'
import type { PickCalls, Size } from './pick-worker.js'

const BACKENDS = [2, 5, 20, 100, 1_000]
const SCOPES = [1, 10, 100, 1_000]

/** What the number of backends and scopes costs. */
export async function benchPick(compiled: Compiled, quick: boolean): Promise<Table> {
  const sizes = BACKENDS.flatMap((backends): Size[] => [
    ...SCOPES.map((scopes) => ({ backends, scopes, halfThrottled: false })), { backends, scopes: 1, halfThrottled: true },
  ])
  const worker = startChild<PickCalls>(compiled.program('undici', 'test/bench/scale/pick-worker.ts'), ['--expose-gc'])
  try {
    const costs = await worker.call('measure', { sizes, rounds: quick ? 1 : 25, count: quick ? 100 : 2_000 })
    const cellsOf = (backends: number): Record<string, number> => {
      const cells: Record<string, number> = { backends }
      sizes.forEach((size, index) => {
        const cost = costs[index]
        if (size.backends !== backends || cost === undefined) return
        const key = size.halfThrottled ? 'half' : `scopes${size.scopes}`
        cells[`${key}Ns`] = cost.ns
        cells[`${key}KB`] = cost.heapKB
      })
      return cells
    }
    return {
      title: 'Size of the pool',
      note: 'A whole dispatch over a null dispatcher, all backends of one priority, requests of one scope after the other: nanoseconds in the best round.'
        + ' "KB" is what the pool holds on its heap after 20,000 requests. "half cooling down": 1 scope, of which every second backend has answered with a 429.',
      columns: [
        { key: 'backends', label: 'backends' },
        ...SCOPES.flatMap((scopes) => [{ key: `scopes${scopes}Ns`, label: `ns, ${scopes.toLocaleString('en-US')} ${scopes === 1 ? 'scope' : 'scopes'}` }, { key: `scopes${scopes}KB`, label: 'KB' }]),
        { key: 'halfNs', label: 'ns, half cooling down' },
      ],
      rows: BACKENDS.map(cellsOf),
    }
  } finally {
    await worker.stop()
  }
}
