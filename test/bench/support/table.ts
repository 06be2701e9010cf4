/** The result of a measurement, for people and for programs. */
export interface Table {
  readonly title: string
  /** What is in it, in a sentence or two. */
  readonly note: string
  readonly columns: readonly Column[]
  /** Values by the columns' keys. What was not measured is left out. */
  readonly rows: readonly Readonly<Record<string, string | number>>[]
}

export interface Column {
  readonly key: string
  readonly label: string
  /** Digits after the point, for numbers. Default: 0 */
  readonly digits?: number
}

export function toMarkdown({ title, note, columns, rows }: Table): string {
  const isNumber = ({ key }: Column): boolean => rows.every((row) => typeof (row[key] ?? 0) === 'number')
  const lines = [
    columns.map(({ label }) => label),
    columns.map((column) => (isNumber(column) ? '--:' : '---')),
    ...rows.map((row) => columns.map(({ key, digits = 0 }) => show(row[key], digits))),
  ]
  return [`### ${title}`, '', note, '', ...lines.map((cells) => `| ${cells.join(' | ')} |`), ''].join('\n')
}

function show(value: string | number | undefined, digits: number): string {
  if (value === undefined) return '–'
  return typeof value === 'string' ? value : value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}
