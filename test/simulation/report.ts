/** Medians over seeds, against the oracle of the same seed, as Markdown. */
import type { Metrics } from './metrics.js'
import { REFERENCE, type Job, type Run, type SuiteName } from './suites.js'

export interface Row {
  readonly job: Omit<Job, 'seed'>
  readonly seeds: number
  /** Medians; goodput, capacity and the share of provisioned throughput as ratios to the oracle's. */
  readonly goodput: number
  /** Share of the calls that were answered in time. */
  readonly served: number
  readonly capacity: number
  readonly ptuShare: number
  readonly waste: number
  readonly otherWaste: number
  readonly addedP50: number
  readonly addedP99: number
  readonly totalP99: number
  readonly failed: number
  /** The most that any seed saw. */
  readonly maxAttempts: number
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const item of items) {
    const group = groups.get(keyOf(item))
    if (group === undefined) groups.set(keyOf(item), [item])
    else group.push(item)
  }
  return groups
}

function median(values: readonly number[]): number {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b)
  const half = sorted.length >> 1
  const upper = sorted[half] ?? NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[half - 1] ?? NaN) + upper) / 2
}

/** The oracle does not depend on the number of processes. */
function referenceKey({ topology, fault, arrivals, load, seed, start }: Job): string {
  return [topology, fault, arrivals, load, seed, start].join('|')
}

export function summarize(runs: readonly Run[]): Row[] {
  const references = new Map<string, Metrics>()
  for (const { job, metrics } of runs) if (job.policy === REFERENCE) references.set(referenceKey(job), metrics)
  const groups = groupBy(runs, ({ job }) => JSON.stringify({ ...job, seed: undefined }))
  return [...groups.values()].flatMap((group) => {
    const [first] = group
    if (first === undefined) return []
    const { seed: _, ...job } = first.job
    const ratio = (pick: (m: Metrics) => number): number => median(group.map((run) => {
      const reference = references.get(referenceKey(run.job))
      return reference === undefined ? NaN : pick(run.metrics) / pick(reference)
    }))
    const middle = (pick: (m: Metrics) => number): number => median(group.map((run) => pick(run.metrics)))
    return [{
      job, seeds: group.length, served: middle((m) => 1 - m.failed - m.late),
      goodput: ratio((m) => m.goodTps), capacity: ratio((m) => m.capUsed), ptuShare: ratio((m) => m.ptuCostPerSec),
      waste: middle((m) => m.waste), otherWaste: middle((m) => m.otherWaste), addedP50: middle((m) => m.addedP50),
      addedP99: middle((m) => m.addedP99), totalP99: middle((m) => m.totalP99), failed: middle((m) => m.failed),
      maxAttempts: Math.max(...group.map((run) => run.metrics.maxAttempts)),
    }]
  })
}

function showMs(ms: number): string {
  return ms >= 10_000 ? `${(ms / 1000).toFixed(0)} s` : ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${ms.toFixed(0)} ms`
}

function showNumber(x: number): string {
  return Number.isFinite(x) ? x.toFixed(3) : '-'
}

function showShare(x: number): string {
  return `${(100 * x).toFixed(2)} %`
}

const COLUMNS = [
  'policy', 'served', '429s per success', 'goodput/oracle', 'capacity used/oracle', '5xx and connection errors per success', 'PTU share of oracle\'s',
  'added p50', 'added p99', 'total p99', 'app failures', 'most attempts',
]

/** What people call them. The short names are part of the seeds of their random draws, so they stay. */
const TITLES: Readonly<Record<string, string>> = {
  'single+sdk': 'one backend, the SDK\'s retries',
  'seed(py)': 'Python package',
  'litellm-shuffle': 'LiteLLM-like, shuffle',
  'litellm-usage': 'LiteLLM-like, by usage',
  'p2c+cooldown': 'power of two choices',
  'ORACLE(60s)': 'oracle',
  'oracle(10s)': 'oracle with 10 s of patience',
  'oracle(0s)': 'oracle without patience',
  'balanced-pool': 'undici\'s BalancedPool',
  'atb': 'adaptive token buckets, 10 s of patience',
}

export function titleOfPolicy(name: string): string {
  return TITLES[name] ?? name
}

function showRow(row: Row): string {
  return `| ${[
    titleOfPolicy(row.job.policy), showShare(row.served), showNumber(row.waste), showNumber(row.goodput), showNumber(row.capacity), showNumber(row.otherWaste), showNumber(row.ptuShare),
    showMs(row.addedP50), showMs(row.addedP99), showMs(row.totalP99), `${(100 * row.failed).toFixed(2)} %`, String(row.maxAttempts),
  ].join(' | ')} |`
}

function titleOf({ topology, fault, arrivals, load, clients, shared }: Row['job']): string {
  const processes = clients === 1 ? '1 process' : `${clients} processes, ${shared ? 'shared' : 'no shared'} state`
  return [topology, ...fault === 'none' ? [] : [fault], arrivals, `${load}x`, processes].join(', ')
}

/** One table a cell, in the order in which the cells were run. */
export function toMarkdown(suite: SuiteName, rows: readonly Row[]): string {
  const cells = groupBy(rows, (row) => titleOf(row.job))
  const tables = [...cells].map(([title, cell]) => [
    `### ${title}\n`, `| ${COLUMNS.join(' | ')} |`, `|${'---|'.repeat(COLUMNS.length)}`, ...cell.map(showRow), '',
  ].join('\n'))
  return [`## ${suite} (median of ${rows[0]?.seeds ?? 0} seeds)\n`, ...tables].join('\n')
}

/** The mean of each policy over all cells, and the share that each cell answers. Both are in the order in which they were run. */
export function toColdMarkdown(rows: readonly Row[]): string {
  const policies = [...groupBy(rows, ({ job }) => job.policy)]
  const python = new Map(rows.filter(({ job }) => job.policy === 'seed(py)').map((row) => [cellOf(row), row.served]))
  const mean = (own: readonly Row[], pick: (row: Row) => number): number => own.reduce((sum, row) => sum + pick(row), 0) / own.length
  const overall = policies.map(([policy, own]) => {
    const fewer = own.filter((row) => row.served < (python.get(cellOf(row)) ?? 0) - 0.005).length
    return `| ${[titleOfPolicy(policy), showShare(mean(own, (row) => row.served)), showNumber(mean(own, (row) => row.waste)), showMs(mean(own, (row) => row.addedP99)), String(fewer)].join(' | ')} |`
  })
  const names = policies.map(([policy]) => titleOfPolicy(policy))
  const cells = [...groupBy(rows, cellOf)].map(([title, own]) => `| ${[title, ...policies.map(([policy]) => {
    const row = own.find(({ job }) => job.policy === policy)
    return row === undefined ? '-' : `${(100 * row.served).toFixed(1)} (${row.waste.toFixed(2)})`
  })].join(' | ')} |`)
  return [
    `## cold starts (mean over ${new Set(rows.map(cellOf)).size} cells, each a median of ${rows[0]?.seeds ?? 0} seeds)\n`,
    '| policy | served | 429s per success | added p99 | cells in which it serves fewer than the Python package |', '|---|---|---|---|---|', ...overall,
    '\nEach cell: served in % (429s per success).\n', `| cell | ${names.join(' | ')} |`, `|---|${'---|'.repeat(names.length)}`, ...cells, '',
  ].join('\n')
}

function cellOf({ job: { topology, start, load, clients } }: Row): string {
  return [topology, start, `${load}x`, clients === 1 ? '1 process' : `${clients} processes`].join('; ')
}

/** For a README: one row a policy, one column a load. Those that have no second process to share with are shown as the one that they are. */
export function pickOverview(rows: readonly Row[], loads: readonly number[], clients: number): Row[] {
  return rows.filter(({ job }) => {
    const isAlone = !rows.some((other) => other.job.policy === job.policy && other.job.clients === clients)
    return loads.includes(job.load) && job.topology === 'STD' && job.fault === 'none' && job.arrivals === 'poisson' && !job.shared
      && job.clients === (isAlone ? 1 : clients)
  })
}

export function toOverview(rows: readonly Row[]): string {
  const loads = [...new Set(rows.map(({ job }) => job.load))]
  const lines = [...groupBy(rows, ({ job }) => job.policy)].map(([policy, own]) => `| ${[titleOfPolicy(policy), ...loads.map((load) => {
    const row = own.find(({ job }) => job.load === load)
    return row === undefined ? '-' : `${showNumber(row.waste)} · ${(100 * row.failed).toFixed(1)} % · ${showNumber(row.capacity)}`
  })].join(' | ')} |`)
  return [`| policy | ${loads.map((load) => `${load}x`).join(' | ')} |`, `|---|${'---|'.repeat(loads.length)}`, ...lines].join('\n')
}
