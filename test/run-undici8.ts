/**
 * `npm run test:undici8`: the tests over sockets with undici 8 as the peer, instead of undici 7. On a Node that undici 8
 * does not run on, with Node 24 from the npm registry.
 */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findNode } from './matrix/nodes.js'

/** As in `run.ts`. */
const FILE_TIMEOUT_MS = 5 * 60_000

const root = fileURLToPath(new URL('..', import.meta.url))
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const isNewEnough = major > 22 || (major === 22 && minor >= 19)
const node = isNewEnough ? process.execPath : (await findNode('24')).path

const files = ['compliance', 'clients', 'integration', 'regressions'].flatMap((folder) =>
  readdirSync(join(root, 'test', folder)).filter((file) => file.endsWith('.test.ts')).map((file) => join('test', folder, file)))
const { status, error } = spawnSync(
  node, ['--import', './test/support/swap-undici.mjs', '--import', 'tsx', '--test', '--test-reporter=spec', `--test-timeout=${FILE_TIMEOUT_MS}`, ...files],
  { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] },
)
if (error !== undefined) console.error(error)
process.exit(status ?? 1)
