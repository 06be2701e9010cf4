/**
 * How long the caller of an event stream waits for its first output. A balancer that looks at the beginning of a stream holds the
 * prelude back until there is output: that must not make the output late.
 */
import { startChild, type Child } from '../support/child.js'
import type { Compiled } from '../support/compile.js'
import { bandOf, rotate } from '../support/rounds.js'
import type { Manner, ServerCalls } from '../support/server.js'
import { median, quantile } from '../support/statistics.js'
import type { Table } from '../support/table.js'
import type { FirstOutputCalls, Round, SubjectName } from './worker.js'

const STREAMS = [
  { manner: 'prelude', label: 'output along with the prelude', count: 200 },
  { manner: 'prelude-and-pause', label: 'output 2 ms after the prelude', count: 60 },
] as const satisfies readonly { manner: Manner, label: string, count: number }[]

const APIS = { request: 'undici.request', fetch: 'native fetch' } as const
const API_NAMES = Object.keys(APIS) as Round['api'][]
const SUBJECTS = ['bare', 'again', 'ours'] as const satisfies readonly SubjectName[]

/** Two processes that do the same differ by some hundredths for as long as they live: one pair would take that for a difference. */
const GENERATIONS = 5
const ROUNDS = 3

/** Rounds that open connections and wake the compiler, in every process. */
const WARM_UP_ROUNDS = 5

type Key = `${typeof STREAMS[number]['manner']} ${Round['api']}`
type Took = Record<SubjectName, number[][]>

/** Rounds are interleaved, and each is compared with bare's round beside it. */
export async function benchFirstOutput(compiled: Compiled, quick: boolean): Promise<Table[]> {
  const server = startChild<ServerCalls>(compiled.program('undici', 'test/bench/support/server.ts'))
  const took = new Map<Key, Took>()
  try {
    const urls = new Map<Manner, string>()
    for (const { manner } of STREAMS) urls.set(manner, await server.call('listen', manner))
    for (let generation = 0; generation < (quick ? 1 : GENERATIONS); generation++) await measure(compiled.program('undici', 'test/bench/first-output/worker.ts'), urls, quick, generation, took)
  } finally {
    await server.stop()
  }
  const rounds = quick ? 1 : GENERATIONS * ROUNDS
  const rows = STREAMS.flatMap(({ manner, label }) => API_NAMES.map((api) => ({ stream: label, api: APIS[api], ...compare(took.get(`${manner} ${api}`)) })))
  return [{
    title: 'First output of a stream',
    note: `Time from the call to the first output of an event stream that begins as Azure's do, as ratios to a bare Agent: of the medians and of the slowest twentieths of ${rounds} interleaved rounds, three in every process, and each subject in a process of its own.`
      + ' "A/A" is a second bare Agent. A band goes from the lower to the upper quartile: what lies within A/A\'s is noise.',
    columns: [
      { key: 'stream', label: '' }, { key: 'api', label: '' }, { key: 'bareUs', label: 'bare: µs' },
      { key: 'again', label: 'A/A', digits: 2 }, { key: 'againBand', label: 'band' }, { key: 'ours', label: 'balanced', digits: 2 }, { key: 'oursBand', label: 'band' },
      { key: 'againLate', label: 'A/A: p95', digits: 2 }, { key: 'oursLate', label: 'balanced: p95', digits: 2 },
    ],
    rows,
  }]
}

/** One process for each subject, from its start to its end. */
async function measure(worker: string, urls: ReadonlyMap<Manner, string>, quick: boolean, generation: number, took: Map<Key, Took>): Promise<void> {
  const clients = Object.fromEntries(SUBJECTS.map((name) => [name, startChild<FirstOutputCalls>(worker)])) as Record<SubjectName, Child<FirstOutputCalls>>
  try {
    for (let round = 0; round < (quick ? 0 : WARM_UP_ROUNDS); round++) {
      for (const api of API_NAMES) for (const subject of SUBJECTS) await clients[subject].call('round', { subject, api, url: urls.get('prelude') ?? '', count: STREAMS[0].count })
    }
    for (const { manner, count } of STREAMS) {
      for (const api of API_NAMES) {
        const times = took.get(`${manner} ${api}`) ?? { bare: [], again: [], ours: [] }
        took.set(`${manner} ${api}`, times)
        for (let round = 0; round < (quick ? 1 : ROUNDS); round++) {
          for (const subject of rotate(SUBJECTS, generation + round)) {
            times[subject].push(await clients[subject].call('round', { subject, api, url: urls.get(manner) ?? '', count: quick ? 2 : count }))
          }
        }
      }
    }
  } finally {
    await Promise.all(Object.values(clients).map((child) => child.stop()))
  }
}

function compare(took: Took = { bare: [], again: [], ours: [] }): Record<string, string | number> {
  const ratios = (name: SubjectName, share: number): number[] => took[name].map((times, round) => quantile(times, share) / quantile(took.bare[round] ?? [], share))
  const [again, ours] = [ratios('again', 0.5), ratios('ours', 0.5)]
  return {
    bareUs: median(took.bare.flat()), again: median(again), againBand: bandOf(again), ours: median(ours), oursBand: bandOf(ours),
    againLate: median(ratios('again', 0.95)), oursLate: median(ratios('ours', 0.95)),
  }
}
