import type { Compiled } from '../support/compile.js'
import type { Table } from '../support/table.js'
import { benchInFlight } from './in-flight.js'
import { benchPick } from './pick.js'

/** Many backends, many scopes, many requests. */
export async function benchScale(compiled: Compiled, quick: boolean): Promise<Table[]> {
  return [await benchPick(compiled, quick), await benchInFlight(compiled, quick)]
}
