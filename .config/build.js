/**
 * `npm run build`: what npm publishes, in `dist`. All modules of `src` become one, because each file costs a program that starts about
 * half a millisecond. It is not minified and says above each part which file it is from, so that a stack trace can be read without a map.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, readdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { build } from 'esbuild'
import ts from 'typescript'

const ENTRIES = ['index', 'register']
const TYPES = join('dist', 'types')
/** Stays a file of its own: it has to run before the import of undici beside it. */
const CHECK = './undici-version.js'

process.chdir(join(import.meta.dirname, '..'))
rmSync('dist', { recursive: true, force: true })
execFileSync(process.execPath, [createRequire(import.meta.url).resolve('typescript/bin/tsc'), '-p', 'src'], { stdio: 'inherit' })
removeUnreachable()

/** @type {import('esbuild').BuildOptions} */
const options = { outdir: 'dist', format: 'esm', platform: 'node', target: 'node20.18', logLevel: 'warning' }
await build({ ...options, entryPoints: ['src/request/undici-version.ts'] })
await build({
  ...options,
  entryPoints: ENTRIES.map((name) => `src/${name}.ts`),
  bundle: true,
  packages: 'external',
  external: [CHECK],
  // What both entries need, once: a class must be the same for whoever comes by either.
  splitting: true,
  chunkNames: 'balancer',
})

/** Most declarations are of modules that no consumer can get at. */
function removeUnreachable () {
  const reachable = new Set()
  const visit = (/** @type {string} */ file) => {
    if (reachable.has(file)) return
    reachable.add(file)
    for (const { fileName } of ts.preProcessFile(readFileSync(file, 'utf8')).importedFiles) {
      if (fileName.startsWith('.')) visit(join(dirname(file), fileName.replace(/\.js$/, '.d.ts')))
    }
  }
  for (const name of ENTRIES) visit(join(TYPES, `${name}.d.ts`))
  for (const path of readdirSync(TYPES, { recursive: true, encoding: 'utf8' })) {
    const file = join(TYPES, path)
    if (path.endsWith('.d.ts') && !reachable.has(file)) rmSync(file)
  }
}
