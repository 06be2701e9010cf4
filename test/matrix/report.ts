import type { Cell } from './plan.js'

export interface CellResult {
  readonly cell: Cell
  readonly nodeVersion: string
  readonly passed: number
  readonly seconds: number
  readonly failures: readonly { readonly name: string, readonly details: string }[]
}

/** `node 24, undici 8, openai 7` */
export function nameOf ({ node, undici, openai, tests }: Cell): string {
  return `node ${node}, undici ${undici}${openai === undefined ? '' : `, openai ${openai}`}${tests === undefined ? '' : `, ${tests}`}`
}

/** Each check that failed anywhere, with what it said the first time, and where else it failed. */
export function formatFailures (results: readonly CellResult[]): string {
  const failed = new Map<string, { details: string, cells: string[] }>()
  for (const { cell, failures } of results) {
    for (const { name, details } of failures) {
      const known = failed.get(name)
      if (known === undefined) failed.set(name, { details, cells: [nameOf(cell)] })
      else known.cells.push(nameOf(cell))
    }
  }
  return [...failed].map(([name, { details, cells: [first, ...others] }]) => [
    `FAILED: ${name}`, `  in ${first}`, ...others.map((cell) => `  and ${cell}`), details, '',
  ].join('\n')).join('\n')
}

/** One line a cell, in Markdown. */
export function formatTable (results: readonly CellResult[]): string {
  const head = ['Node', 'undici', 'openai', 'result', 'checks', 'seconds', 'failed']
  const rows = results.map(({ cell, nodeVersion, passed, seconds, failures }) => [
    nodeVersion, cell.undici, cell.openai ?? '-',
    failures.length > 0 ? 'FAILED' : cell.tests !== undefined ? `ok, ${cell.tests}` : cell.refusal === undefined ? 'ok' : 'ok, refused', String(passed), seconds.toFixed(1), failures.map(({ name }) => name).join('; '),
  ])
  const widths = head.map((title, column) => (column === head.length - 1 ? title.length : Math.max(...[head, ...rows].map((row) => row[column]?.length ?? 0))))
  const line = (row: readonly string[]): string => `| ${row.map((text, column) => text.padEnd(widths[column] ?? 0)).join(' | ')} |`
  return [line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)].join('\n')
}
