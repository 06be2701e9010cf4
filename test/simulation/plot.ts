/** 429s per success as a picture that any terminal and any README can show. */
import { titleOfPolicy, type Row } from './report.js'

const LEAST = 0.001
const DECADES = 4
const COLUMNS_PER_DECADE = 10
const LABEL_COLUMNS = 34

function columnOf(value: number): number {
  const column = Math.round(Math.log10(value / LEAST) * COLUMNS_PER_DECADE)
  return Math.min(DECADES * COLUMNS_PER_DECADE, Math.max(0, column))
}

function showValue(value: number): string {
  return value === 0 ? '0' : value < LEAST ? `< ${LEAST}` : value.toPrecision(2)
}

function drawScale(): string {
  const marks = Array.from({ length: DECADES + 1 }, (_, decade) => String(LEAST * 10 ** decade))
  // Each mark begins in the column of its value.
  return ' '.repeat(LABEL_COLUMNS) + marks.map((mark) => mark.padEnd(COLUMNS_PER_DECADE)).join('').trimEnd()
}

function drawRow(row: Row): string {
  return `  ${titleOfPolicy(row.job.policy)}`.padEnd(LABEL_COLUMNS) + `${'·'.repeat(columnOf(row.waste))}● ${showValue(row.waste)}`
}

/** A logarithmic scale: each ten columns are a factor of ten. One block for each load, in the order of the rows. */
export function plotWaste(rows: readonly Row[]): string {
  const loads = [...new Set(rows.map(({ job }) => job.load))]
  const blocks = loads.flatMap((load) => [
    `offered load ${load}x`, ...rows.filter(({ job }) => job.load === load).map(drawRow),
  ])
  return [drawScale(), ...blocks].join('\n')
}
