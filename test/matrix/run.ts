/**
 * `npm run test:matrix`: the package as npm would publish it, installed in consumer projects, on every Node, undici and openai that
 * it is made for. Every cell runs the same programs (`consumer/`), in plain JavaScript, against servers on loopback.
 *
 *     npm run test:matrix                                all cells, two at a time
 *     npm run test:matrix -- --quick                     the corners
 *     npm run test:matrix -- --only node=24,undici=8     one pair
 *     npm run test:matrix -- --keep                      leaves the projects where they are
 */
import { tmpdir } from 'node:os'
import { packProject, root } from '../package/packed-project.js'
import { killGroups } from '../support/process-group.js'
import { testCertificate } from '../support/tls.js'
import { runCell } from './cell.js'
import { keepFolder, makeFolder, removeFolder } from './folders.js'
import { findNode, type NodeBinary } from './nodes.js'
import { isWanted, planCells, readWanted } from './plan.js'
import { createProject, projectOf } from './projects.js'
import { formatFailures, formatTable, nameOf, type CellResult } from './report.js'

/** Two cores, on which the servers of a cell run too. */
const AT_ONCE = 2

const began = performance.now()
const say = (text: string): void => { console.log(`${((performance.now() - began) / 1_000).toFixed(0).padStart(4)} s  ${text}`) }

const wanted = readWanted(process.argv.slice(2))
const cells = planCells().filter((cell) => isWanted(cell, wanted))
if (cells.length === 0) throw new Error('there is no such cell')

const temp = await makeFolder(tmpdir())
try {
  const results = await runAll()
  const failed = results.filter(({ failures }) => failures.length > 0).length
  console.log(`\n${formatFailures(results)}\n${formatTable(results)}\n`)
  say(failed === 0 ? `all ${cells.length} cells are well` : `${failed} of ${cells.length} cells failed`)
  process.exitCode = failed === 0 ? 0 : 1
} catch (error) {
  say(`the matrix could not be run. ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
} finally {
  // After an error something else may still be under way.
  killGroups()
  if (wanted.keep) console.log(`the projects are in ${await keepFolder(temp)}`)
  else await removeFolder(temp)
}

async function runAll (): Promise<CellResult[]> {
  const [nodes, packed, { ca, cert, key }] = await Promise.all([findNodes(), packProject(temp), testCertificate()])
  say(`packed ${packed.manifest.name} ${packed.manifest.version}, ${packed.size} bytes; Node ${[...nodes.values()].map(({ version }) => version).join(', ')}`)
  const projects = new Map<string, string>()
  const consumers = cells.filter(({ tests }) => tests === undefined)
  const different = [...new Map(consumers.map((cell) => [projectOf(cell), cell])).values()]
  await inParallel(different, async (cell) => { projects.set(projectOf(cell), await createProject(packed, cell)) })
  say(`installed in ${projects.size} projects; ${cells.length} cells, ${AT_ONCE} at a time`)
  return inParallel(cells, async (cell) => {
    const folder = cell.tests === undefined ? known(projects, projectOf(cell)) : root
    const result = await runCell(cell, known(nodes, cell.node), folder, { MATRIX_CA: ca, MATRIX_CERT: cert, MATRIX_KEY: key })
    say(`${nameOf(cell)}: ${result.failures.length === 0 ? 'ok' : 'FAILED'}, ${result.passed} checks in ${result.seconds.toFixed(1)} s`)
    return result
  })
}

async function findNodes (): Promise<Map<string, NodeBinary>> {
  const nodes = new Map<string, NodeBinary>()
  // One after the other: npm is busy enough with one, and the project is being packed meanwhile.
  for (const version of new Set(cells.map(({ node }) => node))) nodes.set(version, await findNode(version))
  return nodes
}

/** `AT_ONCE` at a time, results in the order of the items. */
async function inParallel<Item, Result> (items: readonly Item[], act: (item: Item) => Promise<Result>): Promise<Result[]> {
  const results: Result[] = []
  const waiting = items.entries()
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (const [index, item] of waiting) results[index] = await act(item)
  }))
  return results
}

function known<Value> (map: ReadonlyMap<string, Value>, key: string): Value {
  const value = map.get(key)
  if (value === undefined) throw new Error(`nothing was prepared for ${key}`)
  return value
}
