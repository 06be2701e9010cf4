import type { Compiled } from './compile.js'
import type { Table } from './table.js'

/** A part of the benchmark. @param quick so few rounds that the numbers mean nothing, but everything runs once. */
export type Bench = (compiled: Compiled, quick: boolean) => Promise<Table[]>
