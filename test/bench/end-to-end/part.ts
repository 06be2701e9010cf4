import { startChild, type Child } from '../support/child.js'
import type { Compiled } from '../support/compile.js'
import type { Manner, ServerCalls } from '../support/server.js'
import { bandOf, rotate } from '../support/rounds.js'
import { median } from '../support/statistics.js'
import type { Column, Table } from '../support/table.js'
import { APIS, SUBJECTS, WORKLOADS, type Api, type SubjectName, type WorkloadName } from './workloads.js'
import type { EndToEndCalls, Took } from './worker.js'

type Clients = Readonly<Record<SubjectName, Child<EndToEndCalls>>>

const NAMES = Object.keys(SUBJECTS) as SubjectName[]
/** All but the one that they are compared with. */
const COMPARED = NAMES.filter((name) => name !== 'bare')

/** Thousands of requests for each subject. */
const WARM_UP_ROUNDS = 10

/**
 * Whole requests over the loopback, with the server in another process. Rounds are interleaved and compared with bare's round
 * beside them. Each subject has a process of its own, as in an application: in one process undici's own code would be compiled
 * for the handlers of all of them, which costs whoever has others than bare's a tenth.
 */
export async function benchEndToEnd(compiled: Compiled, quick: boolean): Promise<Table[]> {
  const rounds = quick ? 1 : 11
  const server = startChild<ServerCalls>(compiled.program('undici', 'test/bench/support/server.ts'))
  const worker = compiled.program('undici', 'test/bench/end-to-end/worker.ts')
  const clients = Object.fromEntries(NAMES.map((name) => [name, startChild<EndToEndCalls>(worker)])) as Clients
  const rows: Record<string, string | number>[] = []
  try {
    const urls = new Map<Manner, string>()
    for (const manner of ['json', 'events'] as const) urls.set(manner, await server.call('listen', manner))
    if (!quick) await warmUp(clients, urls.get('json') ?? '')
    for (const workload of Object.keys(WORKLOADS) as WorkloadName[]) {
      for (const api of Object.keys(APIS) as Api[]) {
        const { label, count, manner } = WORKLOADS[workload]
        const requests = quick ? 2 : count[api]
        const took = new Map<SubjectName, Took[]>(NAMES.map((name) => [name, []]))
        // The first round opens connections.
        for (let round = quick ? 0 : -1; round < rounds; round++) {
          for (const subject of rotate(NAMES, round)) {
            const result = await clients[subject].call('round', { subject, workload, api, url: urls.get(manner) ?? '', count: requests })
            if (round >= 0) took.get(subject)?.push(result)
          }
        }
        rows.push({ workload: label, api: APIS[api], ...compare(took, requests) })
      }
    }
  } finally {
    await Promise.all([server, ...Object.values(clients)].map((child) => child.stop()))
  }
  return [{
    title: 'End to end on the loopback',
    note: `Ratios to a bare Agent: medians over ${rounds} interleaved rounds, each subject in a process of its own. "rate" is requests per second (more is better), "CPU" the client's CPU time for each request (less is better).`
      + ' "A/A" is a second bare Agent: its band, from the lower to the upper quartile, is noise, and so is everything within it.',
    columns: [
      { key: 'workload', label: '' }, { key: 'api', label: '' }, { key: 'bareUs', label: 'bare: µs CPU' },
      ...COMPARED.flatMap(columnsOf),
      { key: 'rateBand', label: 'A/A band, rate' }, { key: 'cpuBand', label: 'CPU' },
    ],
    rows,
  }]
}

/** Before everybody's code is compiled, the compiler's own time is most of what is measured. */
async function warmUp(clients: Clients, url: string): Promise<void> {
  for (const api of Object.keys(APIS) as Api[]) {
    for (let round = 0; round < WARM_UP_ROUNDS; round++) {
      for (const subject of NAMES) await clients[subject].call('round', { subject, workload: 'json', api, url, count: WORKLOADS.json.count[api] })
    }
  }
}

function columnsOf(name: SubjectName): Column[] {
  return [{ key: `${name}Rate`, label: `${SUBJECTS[name]}: rate`, digits: 2 }, { key: `${name}Cpu`, label: 'CPU', digits: 2 }]
}

function compare(took: ReadonlyMap<SubjectName, readonly Took[]>, requests: number): Record<string, string | number> {
  const bare = took.get('bare') ?? []
  const cells: Record<string, string | number> = { bareUs: median(bare.map(({ cpuMs }) => cpuMs)) * 1_000 / requests }
  for (const name of COMPARED) {
    const rates = ratios(bare, took.get(name) ?? [], (base, own) => base.ms / own.ms)
    const cpus = ratios(bare, took.get(name) ?? [], (base, own) => own.cpuMs / base.cpuMs)
    cells[`${name}Rate`] = median(rates)
    cells[`${name}Cpu`] = median(cpus)
    if (name === 'again') Object.assign(cells, { rateBand: bandOf(rates), cpuBand: bandOf(cpus) })
  }
  return cells
}

function ratios(bare: readonly Took[], own: readonly Took[], compareTwo: (base: Took, own: Took) => number): number[] {
  return own.flatMap((round, index) => {
    const base = bare[index]
    return base === undefined ? [] : [compareTwo(base, round)]
  })
}
