/** The rules of the architecture. Each takes facts about files and returns what breaks it, one sentence each; nothing: all is well. */
import type { SourceFile } from './source-files.js'

type Rule = (files: readonly SourceFile[]) => string[]

const inCore = (path: string | undefined): boolean => path?.startsWith('src/core/') ?? false
const inRequest = (path: string | undefined): boolean => path?.startsWith('src/request/') ?? false
const inTelemetry = (path: string | undefined): boolean => path?.startsWith('src/telemetry/') ?? false

/** Made of the parts below; they may know the shell, the shell may not know them. */
const ENTRY_POINTS = new Set(['src/index.ts', 'src/install.ts', 'src/register.ts', 'src/balancer.ts', 'src/interceptor.ts'])

/** One broken import a line, for those that `allowed` turns down. */
function imports (of: (path: string) => boolean, why: string, allowed: (file: string | undefined, specifier: string, typeOnly: boolean, from: string) => boolean): Rule {
  return (files) => files.filter(({ path }) => of(path)).flatMap(({ path, imports }) => imports
    .filter(({ file, specifier, typeOnly }) => !allowed(file, specifier, typeOnly, path))
    .map(({ specifier, line }) => `${path}:${line} imports ${specifier}: ${why}`))
}

export const coreImportsOnlyCore: Rule = imports(inCore, 'core imports only core', (file) => inCore(file))

export const requestImportsDownwards: Rule = imports(inRequest, 'a request imports core, errors, itself, undici and node, and types', (file, specifier, typeOnly) => {
  if (file === undefined) return specifier === 'undici' || specifier.startsWith('node:')
  if (inRequest(file) || inCore(file) || file === 'src/errors.ts') return true
  return typeOnly && !ENTRY_POINTS.has(file)
})

export const telemetryImportsDownwards: Rule = imports(inTelemetry, 'telemetry imports itself, errors, packages and types', (file, specifier, typeOnly) => {
  if (file === undefined) return specifier !== 'undici'
  if (inTelemetry(file) || file === 'src/errors.ts') return true
  return typeOnly && !inRequest(file) && !ENTRY_POINTS.has(file)
})

export const nobodyImportsTheIndex: Rule = imports(() => true, 'index.ts is for users', (file) => file !== 'src/index.ts')

/** Packages that are not installed with this one would be found on the developer's machine only. */
export const importsOnlyDeclaredPackages = (declared: readonly string[]): Rule => imports(
  () => true, `not among the run-time and peer dependencies (${declared.join(', ')}), nor node's own`,
  (file, specifier) => file !== undefined || specifier.startsWith('node:') || declared.some((name) => specifier === name || specifier.startsWith(`${name}/`))
)

export const importsOnlyFilesThatExist: Rule = (files) => {
  const paths = new Set(files.map(({ path }) => path))
  return imports(() => true, 'there is no such file', (file) => file === undefined || paths.has(file))(files)
}

/** Types included: a reader who follows the imports reaches the bottom. */
export const noCycles: Rule = (files) => {
  const byPath = new Map(files.map((file) => [file.path, file]))
  const done = new Set<string>()
  const cycles: string[] = []
  function follow (path: string, trail: readonly string[]): void {
    const start = trail.indexOf(path)
    if (start >= 0) { cycles.push([...trail.slice(start), path].join(' -> ')); return }
    if (done.has(path)) return
    for (const { file } of byPath.get(path)?.imports ?? []) if (file !== undefined) follow(file, [...trail, path])
    done.add(path)
  }
  for (const { path } of files) follow(path, [])
  return cycles
}

/** One file knows the real clock, timers and chance. */
const SYSTEM = 'src/system.ts'

const UNCONTROLLED = new Set([
  'Date', 'Date.now', 'new Date()', 'performance', 'performance.now', 'performance.timeOrigin', 'process.hrtime', 'process.hrtime.bigint', 'process.uptime',
  'Math', 'Math.random', 'crypto.randomUUID', 'crypto.getRandomValues',
  'setTimeout', 'setInterval', 'setImmediate', 'AbortSignal.timeout',
])
const UNCONTROLLED_MODULES = new Set(['node:timers', 'node:timers/promises', 'node:perf_hooks', 'timers', 'timers/promises', 'perf_hooks'])

export const onlySystemTouchesClockAndChance: Rule = (files) => files.filter(({ path }) => path !== SYSTEM).flatMap(({ path, mentions, imports }) => [
  ...mentions.filter(({ name }) => UNCONTROLLED.has(name)).map(({ name, line }) => `${path}:${line} uses ${name}: only ${SYSTEM} may`),
  ...imports.filter(({ specifier }) => UNCONTROLLED_MODULES.has(specifier)).map(({ specifier, line }) => `${path}:${line} imports ${specifier}: only ${SYSTEM} may`),
])

const IMPURE = new Set(['async', 'await', 'Promise', 'queueMicrotask', 'process', 'console', 'fetch', 'require', 'globalThis', 'global'])

/** Matched on the first word of a mention, so that `process.env` counts. */
export const coreIsPureAndSynchronous: Rule = (files) => files.filter(({ path }) => inCore(path)).flatMap(({ path, mentions, mutableTopLevel }) => [
  ...mentions.filter(({ name }) => IMPURE.has(name.split('.')[0] ?? '')).map(({ name, line }) => `${path}:${line} uses ${name}: core is pure and synchronous`),
  ...mutableTopLevel.map(({ name, line }) => `${path}:${line} keeps state in ${name}: core's state is in its objects`),
])

export const MAX_LINES = 350

export const filesAreShort: Rule = (files) => files.filter(({ lines }) => lines > MAX_LINES).map(({ path, lines }) => `${path} has ${lines} lines, more than ${MAX_LINES}`)

export const noDefaultExports: Rule = (files) => files.flatMap(({ path, mentions }) =>
  mentions.filter(({ name }) => name === 'export default').map(({ line }) => `${path}:${line} has a default export: every importer would name it anew`))

export const namesFollowTheHabit: Rule = (files) => files.flatMap(({ path, types }) => [
  ...(/^[a-z\d]+(-[a-z\d]+)*(\.test)?\.ts$/.test(path.slice(path.lastIndexOf('/') + 1)) ? [] : [`${path}: file names are kebab-case`]),
  ...types.filter((name) => /^I[A-Z][a-z]/.test(name)).map((name) => `${path}: ${name}: types have no I before their name`),
])

/** The reason for an assertion may stand above the loop or the statement that it is part of. */
const REASON_LINES = 7

export const assertionsHaveReasons: Rule = (files) => files.flatMap(({ path, mentions, comments }) => mentions
  .filter(({ name, line }) => name === '!' && !comments.some((comment) => comment.line <= line && comment.line >= line - REASON_LINES))
  .map(({ line }) => `${path}:${line} asserts with ! and no comment says why that holds`))

export const nothingIsLeftForLater: Rule = (files) => files.flatMap(({ path, comments, mentions }) => [
  // A test may expect an error of the compiler: it is told when there is none.
  ...comments.filter(({ name }) => /\b(TODO|FIXME|XXX|HACK)\b|@ts-(ignore|nocheck)/.test(name) || (path.startsWith('src/') && name.includes('@ts-expect-error'))).map(({ name, line }) => `${path}:${line} leaves work for later: ${name}`),
  ...mentions.filter(({ name }) => /^(test|it|describe|suite)\.(only|skip|todo)$/.test(name)).map(({ name, line }) => `${path}:${line} has ${name}: every test runs`),
])
