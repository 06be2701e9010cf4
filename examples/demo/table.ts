import type { BackendSummary, RunSummary } from './statistics.js'

/** The runs side by side, a column each. */
export function renderTable(runs: readonly RunSummary[]): string {
  const rows: string[][] = [['', ...runs.map((run) => run.name)]]
  const add = (label: string, show: (run: RunSummary) => string): void => { rows.push([label, ...runs.map(show)]) }
  add('requests', (run) => String(run.requests))
  add('successes', (run) => String(run.successes))
  add('failures', (run) => String(run.failures))
  if (runs.some((run) => run.unfinished > 0)) add('unfinished', (run) => String(run.unfinished))
  add('duration', (run) => formatSeconds(run.durationMs))
  add('p50 of successes', (run) => formatMs(run.p50Ms))
  add('p99 of successes', (run) => formatMs(run.p99Ms))
  add('429s from backends', (run) => String(run.throttled))
  add('429s per success', (run) => run.throttledPerSuccess?.toFixed(3) ?? '-')
  add('429s seen by the SDK', (run) => String(run.throttledSeen))
  const divider = rows.length
  for (const backend of listBackends(runs)) {
    add(`calls to ${backend.name} (priority ${backend.priority})`, (run) => {
      const found = run.backends.find((one) => one.name === backend.name)
      return found === undefined ? '-' : formatCalls(found)
    })
  }
  return align(rows, divider)
}

/** What the successes of a run do not show: why calls failed, most frequent first. */
export function renderFailures(runs: readonly RunSummary[]): string {
  const lines = runs.flatMap(({ name, failuresByKind }) => {
    const kinds = Object.entries(failuresByKind).sort((a, b) => b[1] - a[1])
    return kinds.length === 0 ? [] : [`failures of ${name}: ${kinds.map(([kind, count]) => `${count} x ${kind}`).join(', ')}\n`]
  })
  return lines.join('')
}

function formatCalls({ calls, successes }: BackendSummary): string {
  return calls === successes ? String(calls) : `${calls} (${successes} ok)`
}

function listBackends(runs: readonly RunSummary[]): BackendSummary[] {
  const byName = new Map(runs.flatMap((run) => run.backends).map((backend) => [backend.name, backend]))
  return [...byName.values()].sort((a, b) => a.priority - b.priority)
}

/** Labels to the left, values to the right, a rule under the heading and above the backends. */
function align(rows: readonly string[][], divider: number): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const rule = '-'.repeat(widths.reduce((sum, width) => sum + width, 3 * (widths.length - 1)))
  const pad = (cell: string, column: number): string => column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)
  const [heading = '', ...lines] = rows.map((row) => row.map(pad).join('   '))
  return [heading, rule, ...lines.slice(0, divider - 1), rule, ...lines.slice(divider - 1)].map((line) => `${line}\n`).join('')
}

function formatSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}

function formatMs(ms: number | undefined): string {
  return ms === undefined ? '-' : `${Math.round(ms)} ms`
}
