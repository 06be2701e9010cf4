import { startChild } from '../support/child.js'
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
export async function benchPure(compiled: Compiled, quick: boolean, before?: Compiled): Promise<Table[]> {
  const rounds = quick ? 2 : 25
  const count = quick ? 200 : 5_000
  const names = Object.keys(SUBJECTS) as SubjectName[]
  const rows = names.map((name): Record<string, string | number> => ({ subject: SUBJECTS[name].label }))
  for (const { name: peer } of PEERS) {
    const program = (of: Compiled): string => of.program(peer, 'test/bench/pure/worker.ts')
    const { now: costs, before: former } = await measureAll({ now: program(compiled), ...(before && { before: program(before) }) }, names, rounds, count, quick)
    names.forEach((name, index) => {
      const base = costs.get(name.endsWith('iterable') ? 'bare-iterable' : 'bare')
      const cost = costs.get(name)
      if (base === undefined || cost === undefined) return
      Object.assign(rows[index] ?? {}, {
        [`${peer}-best`]: cost.best, [`${peer}-median`]: cost.median, [`${peer}-over`]: cost.best - base.best,
        [`${peer}-bytes`]: cost.bytes, [`${peer}-bytes-over`]: cost.bytes - base.bytes,
      })
      const was = former?.get(name)
      if (was !== undefined) Object.assign(rows[index] ?? {}, { [`${peer}-before`]: was.best, [`${peer}-ratio`]: cost.best / was.best, [`${peer}-bytes-before`]: was.bytes })
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
        ...(before === undefined ? [] : [
          { key: `${name}-before`, label: 'ns before' }, { key: `${name}-ratio`, label: 'ratio', digits: 3 }, { key: `${name}-bytes-before`, label: 'bytes before' },
        ]),
      ]),
    ],
    rows,
  }]
}

/** Programs that know the same subjects: as they are now and, where that is wanted, as they were before. */
interface Programs<T> {
  readonly now: T
  readonly before?: T
}

async function measureAll(
  programs: Programs<string>, names: readonly SubjectName[], rounds: number, count: number, quick: boolean,
): Promise<Programs<Map<SubjectName, Cost>>> {
  const start = (program: string) => names.map((name) => ({ name, child: startChild<PureCalls>(program, NODE_OPTIONS), times: [] as number[], weights: [] as number[] }))
  const now = start(programs.now)
  const before = programs.before === undefined ? [] : start(programs.before)
  // A subject beside the same one as it was: what disturbs one disturbs the other.
  const children = now.flatMap((subject, index) => [subject, ...before.slice(index, index + 1)])
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
    const costs = (of: typeof now) => new Map(of.map(({ name, times, weights }) => [name, { best: Math.min(...times), median: median(times), bytes: median(weights) }]))
    return { now: costs(now), ...(before.length > 0 && { before: costs(before) }) }
  } finally {
    await Promise.all(children.map(({ child }) => child.stop()))
  }
}
