/**
 * `npm test`: every `test/**\/*.test.ts` with node:test, under c8, held against the coverage thresholds.
 *
 *     npm test                      everything, with coverage
 *     npm test -- core/pick raw     only files whose path contains one of the words, without coverage
 *
 * The files are listed here because `node --test` understands globs only from Node 21 on and never looks for `.ts` on Node 20.
 * What is measured rather than tested lives in `test/bench` and `test/matrix` and has commands of its own.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { REPEAT, SEED } from './support/seed.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const c8 = createRequire(import.meta.url).resolve('c8/bin/c8.js')
const elsewhere = [join('test', 'bench') + sep, join('test', 'matrix') + sep]
const words = process.argv.slice(2).map((word) => word.replaceAll('/', sep))

function list (folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file)).sort()
}

const files = list('test')
  .filter((file) => file.endsWith('.test.ts') && !elsewhere.some((folder) => file.startsWith(folder)))
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))

if (files.length === 0) {
  console.error(`no test file matches ${words.join(' ')}`)
  process.exit(1)
}

/** Without what a developer's shell may hold: a proxy, a key or options of ours would lead the tests out of the loopback. */
const own = Object.entries(process.env).filter(([name]) => !/^(https?_proxy|no_proxy|all_proxy|node_use_env_proxy|openai_.*|azure_openai_.*)$/i.test(name))
/** One seed for the properties of all files. */
const env = { ...Object.fromEntries(own), SEED: String(SEED) }

function run (args: string[]): number {
  const { status, error } = spawnSync(process.execPath, args, { cwd: root, env, stdio: ['ignore', 'inherit', 'inherit'] })
  if (error !== undefined) console.error(error)
  return status ?? 1
}

const tests = ['--import', 'tsx', join('test', 'run-files.ts'), ...files]

/** Says once more at the end, where it is seen, how to have the same again. */
function finish (status: number): never {
  if (status !== 0) console.error(REPEAT)
  process.exit(status)
}

if (words.length > 0) finish(run(tests))

/** A file of types is empty at run time: nothing loads it, and c8 would count each of its lines as missed. */
function isOnlyTypes (file: string): boolean {
  const { outputText } = ts.transpileModule(readFileSync(join(root, file), 'utf8'), {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true, removeComments: true },
  })
  return outputText.trim() === 'export {};'
}
const excludes = list('src').filter((file) => file.endsWith('.ts') && isOnlyTypes(file)).flatMap((file) => ['--exclude', file.replaceAll(sep, '/')])

// The thresholds for everything are in .c8rc.json; the core, which is pure, has to be covered whole. Both are held over
// folders: a line does not become untested by moving to a file of its own.
const all = run([c8, ...excludes, process.execPath, ...tests])
const core = run([c8, 'check-coverage', ...excludes, '--include', 'src/core/**/*.ts', '--100'])
finish(all || core)
