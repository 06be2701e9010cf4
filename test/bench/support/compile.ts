/**
 * The package and its benchmarks as plain JavaScript in a folder of their own, once beside each undici: what is
 * measured is what users get, without a loader in between.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { PEERS } from './machine.js'

const root = fileURLToPath(new URL('../../..', import.meta.url))

export interface Compiled {
  /** Path of a program, given that of its source in this project, with the given undici as its peer. */
  program(peer: 'undici' | 'undici8', source: string): string
  remove(): void
}

/** @param commit as it was then; without it as it is now. */
export function compilePackage(commit?: string): Compiled {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'priority-loadbalancer-bench-')))
  const [first, ...others] = PEERS.map(({ name }) => ({ name, path: join(folder, name) }))
  if (first === undefined) throw new Error('there is no undici to measure with')
  const from = commit === undefined ? root : checkOut(commit, join(folder, 'sources'))
  for (const source of ['src', 'test/bench']) transpile(from, source, first.path)
  writeFileSync(join(first.path, 'package.json'), '{ "type": "module" }')
  for (const { path } of others) cpSync(first.path, path, { recursive: true })
  for (const { name, path } of [first, ...others]) linkPackages(path, name)
  return {
    program: (peer, source) => join(folder, peer, source.replace(/\.ts$/, '.js')),
    remove: () => { rmSync(folder, { recursive: true, force: true }) },
  }
}

/** @throws what git says, where it knows no such commit. */
function checkOut(commit: string, target: string): string {
  mkdirSync(target)
  const archive = execFileSync('git', ['archive', '--format=tar', commit, 'src', 'test/bench'], { cwd: root, maxBuffer: 64 * 1_024 * 1_024 })
  execFileSync('tar', ['-x', '-C', target], { input: archive })
  return target
}

function transpile(from: string, source: string, target: string): void {
  const files = readdirSync(join(from, source), { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  for (const file of files) {
    const path = join(target, source, file.replace(/\.ts$/, '.js'))
    const { outputText } = ts.transpileModule(readFileSync(join(from, source, file), 'utf8'), {
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true },
    })
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, outputText)
  }
}

/** The packages that it needs at run time, with another undici under the name that it asks for. */
function linkPackages(path: string, peer: string): void {
  const modules = join(path, 'node_modules')
  mkdirSync(modules)
  for (const [name, target] of [['undici', peer], ['pino', 'pino']] as const) {
    symlinkSync(join(root, 'node_modules', target), join(modules, name), 'junction')
  }
}
