/**
 * A child process that is given TypeScript spends half a second of processor time on getting ready to read it, and the
 * suite starts dozens. Here the project is compiled once for a test file, beside its packages, and its children start from
 * that. Coverage is still that of the sources: the source maps say which line is whose.
 */
import { mkdtempSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { buildSync } from 'esbuild'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Where the programs are that tests start, and what they import. */
const FOLDERS = ['src', 'examples', 'test/support', 'test/integration', 'test/hardening']

/** The examples import the package by its name. */
const PACKAGE = { name: 'openai-priority-loadbalancer', type: 'module', exports: { '.': './src/index.js', './register': './src/register.js' } }

let folder: string | undefined

/** All of it, as in the project but in JavaScript, until this process ends. */
function compile(): string {
  const compiled = realpathSync(mkdtempSync(join(tmpdir(), 'priority-loadbalancer-test-')))
  process.once('exit', () => { rmSync(compiled, { recursive: true, force: true }) })
  symlinkSync(join(root, 'node_modules'), join(compiled, 'node_modules'), 'junction')
  writeFileSync(join(compiled, 'package.json'), JSON.stringify(PACKAGE))
  const files = FOLDERS.flatMap((name) => readdirSync(join(root, name), { recursive: true, encoding: 'utf8' }).map((file) => join(root, name, file)))
  buildSync({
    entryPoints: files.filter((file) => file.endsWith('.ts') && !/\.(test|d)\.ts$/.test(file)),
    outdir: compiled, outbase: root, format: 'esm', platform: 'node', target: 'node20.18', sourcemap: 'inline', logLevel: 'warning',
  })
  return compiled
}

/** Path of a program that node runs without a loader, given that of its source in this project. */
export function compiledPath(source: string): string {
  folder ??= compile()
  return join(folder, source.replace(/\.ts$/, '.js'))
}

/** URL of a module of the project, for an `import` in such a program. */
export function urlOf(source: string): string {
  return pathToFileURL(compiledPath(source)).href
}
