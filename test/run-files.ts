/**
 * Runs the test files that it is given, several at once and the slow ones first. Each has a process of its own, but for those
 * of what is pure: they could not disturb each other if they wanted, and starting processes would be most of their time.
 *
 * `node --test` would sort them by name and leave one core free. With two cores that is one file at a time, although half of
 * the slow ones wait for timers and children, and with many a slow one that is begun last is waited for alone.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join, resolve, sep } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { pathToFileURL } from 'node:url'

/** A file that takes longer hangs: the slowest ones build and pack the project, which takes well under two minutes on two cores. */
const FILE_TIMEOUT_MS = 5 * 60_000

/** Those of more than two seconds on two idle cores, the slowest first. One that is missing here is only begun late. */
const SLOW = [
  'package/package', 'hardening/soak', 'bench-smoke', 'bench-faults', 'examples/recipes', 'integration/install', 'examples/demo', 'simulation/simulator',
  'simulation/regression', 'hardening/memory', 'compliance/transparency', 'docs', 'hardening/multi-process', 'architecture', 'simulation/report', 'clients/outcomes',
].map((name) => `test/${name}.test.ts`)

/** Nothing outlives a test there: the core keeps its state in objects, as `architecture.test.ts` sees to, and options are values. */
const PURE = ['test/core/', 'test/options/']

const rank = (file: string): number => {
  const at = SLOW.indexOf(file)
  return at < 0 ? SLOW.length : at
}

const given = process.argv.slice(2).map((file) => file.replaceAll(sep, '/')).sort((a, b) => rank(a) - rank(b))
const isPure = (file: string): boolean => PURE.some((folder) => file.startsWith(folder))
const pure = given.filter(isPure)
const files = given.filter((file) => !isPure(file))
if (pure.length > 0) {
  const folder = mkdtempSync(join(tmpdir(), 'pure-tests-'))
  process.once('exit', () => { rmSync(folder, { recursive: true }) })
  const all = join(folder, 'pure.test.mjs')
  writeFileSync(all, pure.map((file) => `import '${pathToFileURL(resolve(file)).href}'\n`).join(''))
  files.unshift(all)
}

// As many as there are cores and no more: several files start children of their own, and some measure time.
const results = run({ files, concurrency: availableParallelism(), timeout: FILE_TIMEOUT_MS })
results.on('test:fail', () => { process.exitCode = 1 })
results.pipe(new spec()).pipe(process.stdout)
