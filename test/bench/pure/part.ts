import { startChild, type Child } from '../support/child.js'
import type { Compiled } from '../support/compile.js'
import { PEERS } from '../support/machine.js'
import { median } from '../support/statistics.js'
import type { Table } from '../support/table.js'
import { SUBJECTS, type SubjectName } from './subjects.js'
import type { PureCalls } from './worker.js'

/** For each subject: a young generation that has room for many batches' garbage. */
const NODE_OPTIONS = ['--min-semi-space-size=64', '--max-semi-space-size=64']

interface Cost {
  readonly best: number
  readonly median: number
  readonly bytes: number
}

/** Time and memory for each dispatch over a synchronous null dispatcher. Rounds are interleaved: what disturbs one subject disturbs all. */
export async function benchPure(compiled: Compiled, quick: boolean): Promise<Table[]> {
  const rounds = quick ? 2 : 25
  const count = quick ? 200 : 5_000
  const names = Object.keys(SUBJECTS) as SubjectName[]
  const rows = names.map((name): Record<string, string | number> => ({ subject: SUBJECTS[name].label }))
  for (const { name: peer } of PEERS) {
    const costs = await measureAll(compiled.program(peer, 'test/bench/pure/worker.ts'), names, rounds, count, quick)
    names.forEach((name, index) => {
      const base = costs.get(name.endsWith('iterable') ? 'bare-iterable' : 'bare')
      const cost = costs.get(name)
      if (base === undefined || cost === undefined) return
      Object.assign(rows[index] ?? {}, {
        [`${peer}-best`]: cost.best, [`${peer}-median`]: cost.median, [`${peer}-over`]: cost.best - base.best,
        [`${peer}-bytes`]: cost.bytes, [`${peer}-bytes-over`]: cost.bytes - base.bytes,
      })
    })
  }
  return [{
    title: 'Pure cost of a dispatch',
    note: `Over a null dispatcher that answers before \`dispatch\` returns; ${rounds} interleaved rounds of ${count} dispatches, each subject in a process of its own.`
      + ' "ns" is the best round, "over bare" its distance from the best round of the bare dispatcher; bytes are what is allocated on the heap.',
    columns: [
      { key: 'subject', label: '' },
      ...PEERS.flatMap(({ name, version }) => [
        { key: `${name}-best`, label: `ns, undici ${version}` }, { key: `${name}-median`, label: 'median' }, { key: `${name}-over`, label: 'over bare' },
        { key: `${name}-bytes`, label: 'bytes' }, { key: `${name}-bytes-over`, label: 'over bare' },
      ]),
    ],
    rows,
  }]
}

async function measureAll(program: string, names: readonly SubjectName[], rounds: number, count: number, quick: boolean): Promise<Map<SubjectName, Cost>> {
  const children = names.map((name) => ({ name, child: startChild<PureCalls>(program, NODE_OPTIONS), times: [] as number[], weights: [] as number[] }))
  try {
    if (quick) await Promise.all(children.map(({ name, child }) => child.call('start', { name, ms: 10 })))
    else for (const { name, child } of children) await child.call('start', { name, ms: 200 })
    for (let round = 0; round < rounds; round++) {
      for (const { child, times, weights } of children) {
        times.push(await child.call('time', count))
        // Before the last rounds the compiler may still be at work, and allocates for itself.
        if (round >= rounds - 5) weights.push(await child.call('weigh', 4 * count))
      }
    }
    return new Map(children.map(({ name, times, weights }) => [name, { best: Math.min(...times), median: median(times), bytes: median(weights) }]))
  } finally {
    await Promise.all(children.map(({ child }: { child: Child<PureCalls> }) => child.stop()))
  }
}
