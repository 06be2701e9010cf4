import type { Compiled } from './compile.js'
import type { Table } from './table.js'

/**
 * A part of the benchmark.
 * @param quick so few rounds that the numbers mean nothing, but everything runs once.
 * @param before the package as it was at another commit, to be measured in the same run where a part can do that.
 */
export type Bench = (compiled: Compiled, quick: boolean, before: Compiled | undefined) => Promise<Table[]>
