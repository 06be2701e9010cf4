/** The project as npm would publish it, and consumer projects that use it, all in temporary folders and without the network. */
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readFile, rename, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { runGroup } from '../support/process-group.js'

export const root = fileURLToPath(new URL('../..', import.meta.url))
const modules = join(root, 'node_modules')

export interface Manifest {
  readonly name: string
  readonly version: string
  readonly license: string
  readonly engines: Record<string, string>
  readonly scripts: Record<string, string>
  readonly exports: Record<string, unknown>
  readonly dependencies?: Record<string, string>
  readonly peerDependencies?: Record<string, string>
  readonly optionalDependencies?: Record<string, string>
}

export interface PackedProject {
  readonly tarball: string
  /** Of the tarball, in bytes. */
  readonly size: number
  readonly unpackedSize: number
  readonly files: readonly { readonly path: string, readonly size: number }[]
  readonly manifest: Manifest
  /** Where it was unpacked. */
  readonly folder: string
  /** Where consumers go. */
  readonly temp: string
}

export interface Outcome {
  readonly code: number
  /** Both outputs, for the message of an assertion. */
  readonly output: string
}

/** Runs a program to its end, 2 minutes at most. Its own coverage is not ours: compilers and package tools would be measured. */
export async function run (command: string, args: readonly string[], cwd: string, more: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const { NODE_V8_COVERAGE: _coverage, NODE_OPTIONS: _options, FORCE_COLOR: _color, ...inherited } = process.env
  const { code, end, stdout, stderr } = await runGroup(command, args, { cwd, env: { ...inherited, NO_COLOR: '1', ...more }, timeoutMs: 120_000 })
  return { code: code ?? 1, output: `${stdout}${stderr}${code === null ? `\nended with ${end}` : ''}` }
}

export const runNode = (args: readonly string[], cwd: string, env?: NodeJS.ProcessEnv): Promise<Outcome> => run(process.execPath, args, cwd, env)

/** The command of a development dependency, for `runNode`. */
export async function binary (packageName: string, name: string): Promise<string> {
  const { bin } = JSON.parse(await readFile(join(modules, packageName, 'package.json'), 'utf8')) as { bin: string | Record<string, string> }
  return join(modules, packageName, typeof bin === 'string' ? bin : bin[name] ?? '')
}

/**
 * Builds and packs. The build goes to a folder of its own, so that other tests and a `dist` that is in use are left alone; what
 * belongs to the package is decided by `files` in package.json all the same. Everything is put into `temp`.
 */
export async function packProject (temp: string): Promise<PackedProject> {
  const stage = join(temp, 'stage')
  await mkdir(stage)
  for (const file of ['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'src', 'test', 'tsconfig.json', '.ci', '.config']) {
    // One that is missing is for the test of the tarball to tell.
    if (existsSync(join(root, file))) await cp(join(root, file), join(stage, file), { recursive: true })
  }
  await symlink(modules, join(stage, 'node_modules'), 'junction')
  must(await run('npm', ['run', '--silent', 'build'], stage), 'the build')
  const packed = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', temp], stage, { npm_config_loglevel: 'silent' })
  must(packed, 'npm pack')
  const [info] = Object.values(JSON.parse(packed.output.slice(packed.output.search(/^[[{]/m))) as object) as (Omit<PackedProject, 'tarball'> & { filename: string })[]
  if (info === undefined) throw new Error(`npm pack said nothing: ${packed.output}`)
  const tarball = join(temp, info.filename)
  must(await run('tar', ['-xzf', tarball], temp), 'tar')
  const folder = join(temp, 'package')
  return {
    tarball,
    size: info.size,
    unpackedSize: info.unpackedSize,
    files: info.files,
    manifest: JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as Manifest,
    folder,
    temp,
  }
}

/**
 * A project that has installed the tarball, as npm lays it out: our package as a folder, its dependencies beside it. Those are links to
 * the ones installed here. `files` are copied from `test/package/consumer`, without their `.txt`.
 */
export async function createConsumer (packed: PackedProject, undici: 'undici' | 'undici8', files: readonly string[], settings: { compilerOptions?: object, type?: 'module' | 'commonjs' } = {}): Promise<string> {
  const folder = await mkdtemp(join(packed.temp, 'consumer-'))
  await mkdir(join(folder, 'node_modules', '@types'), { recursive: true })
  await cp(packed.folder, join(folder, 'node_modules', packed.manifest.name), { recursive: true })
  for (const [name, target] of [['undici', undici], ['pino', 'pino'], ['@types/node', '@types/node']] as const) {
    await symlink(join(modules, target), join(folder, 'node_modules', name), 'junction')
  }
  await writeFile(join(folder, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type: settings.type ?? 'module' }))
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({
    compilerOptions: {
      target: 'ES2022', lib: ['ES2023'], types: ['node'], strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true,
      skipLibCheck: false, rootDir: '.', outDir: 'out', ...settings.compilerOptions,
    },
    include: ['*.ts', '*.cts', '*.mts'],
  }))
  for (const file of files) await cp(join(root, 'test', 'package', 'consumer', `${file}.txt`), join(folder, file))
  return folder
}

/** Declarations of the language, of Node and of undici, read once for all consumers with the same options. */
const sources = new Map<string, ts.SourceFile | undefined>()

/**
 * What `tsc -p .` does in the folder of a consumer. Here, not in a process of its own: the compiler has warmed up and most
 * declarations have been read after the first consumer, so that the others take a third of its time.
 */
export function compile (folder: string): Outcome {
  const unreadable = (diagnostic: ts.Diagnostic): never => { throw new Error(ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n')) }
  const config = ts.getParsedCommandLineOfConfigFile(join(folder, 'tsconfig.json'), {}, { ...ts.sys, onUnRecoverableConfigFileDiagnostic: unreadable })
  if (config === undefined) throw new Error(`${folder} has no tsconfig.json`)
  const host = ts.createCompilerHost(config.options)
  const read = host.getSourceFile.bind(host)
  const { module, moduleResolution } = config.options
  host.getSourceFile = (name, options, ...rest) => {
    if (name.startsWith(folder)) return read(name, options, ...rest)
    const key = JSON.stringify([name, options, module, moduleResolution])
    if (!sources.has(key)) sources.set(key, read(name, options, ...rest))
    return sources.get(key)
  }
  const program = ts.createProgram({ rootNames: config.fileNames, options: config.options, host })
  const found = [...config.errors, ...ts.getPreEmitDiagnostics(program), ...program.emit().diagnostics]
  const output = ts.formatDiagnostics(found, { getCanonicalFileName: (name) => name, getCurrentDirectory: () => folder, getNewLine: () => '\n' })
  return { code: found.some(({ category }) => category === ts.DiagnosticCategory.Error) ? 1 : 0, output }
}

/** A copy of the packed project with something changed, packed again: for showing that a check would find it. */
export async function repack (packed: PackedProject, name: string, change: (folder: string) => Promise<void>): Promise<string> {
  const folder = join(packed.temp, name, 'package')
  await mkdir(dirname(folder), { recursive: true })
  await cp(packed.folder, folder, { recursive: true })
  await change(folder)
  const tarball = join(packed.temp, `${name}.tgz`)
  must(await run('tar', ['-czf', tarball, '-C', dirname(folder), 'package'], packed.temp), 'tar')
  await rename(folder, `${folder}-done`)
  return tarball
}

function must ({ code, output }: Outcome, what: string): void {
  if (code !== 0) throw new Error(`${what} failed with ${code}:\n${output}`)
}
