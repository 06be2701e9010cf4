/** How files may depend on each other and what they may touch. Each rule is also shown a sample that breaks it. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as rules from './support/architecture-rules.js'
import { readSourceFile, readSourceFiles, type SourceFile } from './support/source-files.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const src = readSourceFiles(root, 'src')
const everything = [...src, ...readSourceFiles(root, 'test'), ...readSourceFiles(root, 'examples')]
const manifest = JSON.parse(readFileSync(`${root}/package.json`, 'utf8')) as { dependencies: object, peerDependencies: object }
const importsOnlyDeclaredPackages = rules.importsOnlyDeclaredPackages([...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies)])

/** Files for a rule to judge: path and text in turn. */
function sample (files: Readonly<Record<string, string>>): SourceFile[] {
  return Object.entries(files).map(([path, text]) => readSourceFile(path, text))
}

/** The rule holds for the project, is broken by each of the bad samples, and lets the good one pass. */
function holds (sentence: string, rule: (files: readonly SourceFile[]) => string[], samples: { good: Record<string, string>, bad: Record<string, string>[], judges?: readonly SourceFile[] }): void {
  describe(sentence, () => {
    test('it does', () => { assert.deepEqual(rule(samples.judges ?? src), []) })
    test('a good sample passes', () => { assert.deepEqual(rule(sample(samples.good)), []) })
    samples.bad.forEach((bad, i) => {
      test(`bad sample ${i + 1} is found: ${Object.values(bad)[0]?.split('\n')[0]}`, () => {
        assert.equal(rule(sample(bad)).length, 1, rule(sample(bad)).join('\n') || 'nothing was found')
      })
    })
  })
}

test('there are files to judge', () => {
  assert.ok(src.length > 20)
  assert.ok(src.some(({ path }) => path === 'src/core/pick.ts'))
  assert.ok(everything.some(({ path }) => path === 'test/architecture.test.ts'))
})

holds('core imports only core', rules.coreImportsOnlyCore, {
  good: { 'src/core/pick.ts': "import { backoff } from './backoff.js'\nexport type { Status } from './types.js'" },
  bad: [
    { 'src/core/pick.ts': "import { InvalidOptionsError } from '../errors.js'" },
    { 'src/core/pick.ts': "import type { Dispatcher } from 'undici'" },
    { 'src/core/pick.ts': "import 'node:fs'" },
    { 'src/core/pick.ts': "export * from '../options.js'" },
    { 'src/core/pick.ts': "export type A = import('../options.js').Options" },
    { 'src/core/pick.ts': "const options = await import('../options.js')" },
    { 'src/core/pick.ts': "const options = require('../options.js')" },
    { 'src/core/pick.ts': "import options = require('../options.js')" },
  ],
})

holds('a request imports core, errors, itself, undici, and types of the rest', rules.requestImportsDownwards, {
  good: {
    'src/request/attempt.ts': "import { Agent } from 'undici'\nimport type { Backend } from '../backend.js'\nimport { type Options } from '../options.js'\n" +
      "import { classify } from '../core/classify.js'\nimport { CredentialError } from '../errors.js'\nimport { toRaw } from './response-headers.js'\nimport 'node:util'",
  },
  bad: [
    { 'src/request/attempt.ts': "import { DEFAULTS } from '../defaults.js'" },
    { 'src/request/attempt.ts': "import { DEFAULTS, type Options } from '../options.js'" },
    { 'src/request/attempt.ts': "import pino from 'pino'" },
    { 'src/request/attempt.ts': "import type { PriorityBalancer } from '../balancer.js'" },
    { 'src/request/attempt.ts': "import {} from '../defaults.js'" },
  ],
})

holds('telemetry imports types of the core, and nothing of undici', rules.telemetryImportsDownwards, {
  good: { 'src/telemetry/log.ts': "import type { PoolListener } from '../core/types.js'\nimport { pino } from 'pino'\nimport { message } from './message.js'" },
  bad: [
    { 'src/telemetry/log.ts': "import { classify } from '../core/classify.js'" },
    { 'src/telemetry/log.ts': "import type { AttemptHandler } from '../request/attempt.js'" },
    { 'src/telemetry/log.ts': "import type { Dispatcher } from 'undici'" },
    { 'src/telemetry/log.ts': "import type { PriorityBalancer } from '../balancer.js'" },
  ],
})

holds('nobody imports index.ts', rules.nobodyImportsTheIndex, {
  good: { 'src/register.ts': "import { install } from './install.js'", 'src/core/pick.ts': "import { a } from './index-of.js'" },
  bad: [{ 'src/register.ts': "import { install } from './index.js'" }, { 'src/core/pick.ts': "import type { Options } from '../index.js'" }],
})

holds('every package that is imported is a dependency', importsOnlyDeclaredPackages, {
  good: { 'src/install.ts': "import { Agent } from 'undici'\nimport 'node:fs'\nimport 'pino/file'" },
  bad: [{ 'src/install.ts': "import OpenAI from 'openai'" }, { 'src/install.ts': "import type { A } from 'undici8'" }, { 'src/install.ts': "import 'fs'" }],
})

holds('every relative import names a file, with its extension', rules.importsOnlyFilesThatExist, {
  good: { 'src/a.ts': "import './core/b.js'", 'src/core/b.ts': "import '../a.js'" },
  bad: [{ 'src/a.ts': "import './b'", 'src/b.ts': '' }, { 'src/a.ts': "import './b.js'" }],
})

holds('there is no import cycle, types included', rules.noCycles, {
  good: { 'src/a.ts': "import './b.js'\nimport './c.js'", 'src/b.ts': "import './c.js'", 'src/c.ts': '' },
  bad: [
    { 'src/a.ts': "import './a.js'" },
    { 'src/a.ts': "import './b.js'", 'src/b.ts': "import type { C } from './c.js'", 'src/c.ts': "export type { A } from './a.js'" },
    { 'src/z.ts': '', 'src/y.ts': "import './core/x.js'", 'src/core/x.ts': "type Y = import('../y.js').Y" },
  ],
})

holds('clock, timers and chance are touched in system.ts alone', rules.onlySystemTouchesClockAndChance, {
  good: {
    'src/system.ts': 'setTimeout(() => Date.now() + performance.now() + Math.random())',
    'src/core/a.ts': "const at = Date.parse(text) + new Date(0).getTime() + Math.max(1, 2)\nsystem.now()\nsystem.setTimeout\nconst o = { setTimeout: 1, now: 2 }\n// Date.now()\n'Math.random()'\n" +
      'interface T { setTimeout(): void, at: Date }\nclass C { random = 1; setInterval () {} }',
  },
  bad: [
    'Date.now()', 'const now = Date.now', 'new Date()', 'new Date', 'Date()', 'const { now } = Date', "Date['now']()", 'globalThis.Date.now()', 'f(Date)',
    'performance.now()', 'const { now } = performance', 'process.hrtime()', 'process.hrtime.bigint()', 'Math.random()', 'const { random } = Math', 'f(Math.random)',
    'setTimeout(f, 1)', 'globalThis.setTimeout(f, 1)', 'setInterval(f, 1)', 'setImmediate(f)', 'const later = setTimeout', 'const timers = { setTimeout }', 'AbortSignal.timeout(5)',
    'function f (timer = setTimeout) {}', "import { setTimeout as sleep } from 'node:timers/promises'", "import { performance as clock } from 'node:perf_hooks'",
  ].map((text) => ({ 'src/core/a.ts': text })),
})

holds('core is pure and synchronous, and keeps its state in objects', rules.coreIsPureAndSynchronous, {
  good: { 'src/core/a.ts': 'const TABLE = [1]\nclass C { #n = 0; next () { let m = this.#n++; return m } }\ntype P = Promise<void>', 'src/install.ts': 'let installed = 0\nawait Promise.all([])' },
  bad: [
    'async function f () {}', 'const f = async () => {}', 'class C { async f () {} }', 'await f', 'new Promise(f)', 'Promise.resolve()', 'queueMicrotask(f)',
    'process.env.KEY', "console.log('x')", "fetch('http://x')", 'let count = 0', 'export var count = 0',
  ].map((text) => ({ 'src/core/a.ts': text })),
})

holds(`no file is longer than ${rules.MAX_LINES} lines`, rules.filesAreShort, {
  good: { 'src/a.ts': '//\n'.repeat(rules.MAX_LINES) },
  bad: [{ 'src/a.ts': '//\n'.repeat(rules.MAX_LINES + 1) }],
})

holds('there is no default export', rules.noDefaultExports, {
  good: { 'src/a.ts': 'export class A {}\nexport { b } from "./b.js"' },
  bad: [{ 'src/a.ts': 'export default class A {}' }, { 'src/a.ts': 'class A {}\nexport default A' }, { 'src/a.ts': 'export default function f () {}' }],
})

holds('every non-null assertion has its reason in a comment', rules.assertionsHaveReasons, {
  good: { 'src/a.ts': '// Bounded by the loop.\nf(a[0]!)\nconst b = a[1]! // as above\nif (!a) f(a !== b)' },
  bad: [{ 'src/a.ts': 'f(a[0]!)' }, { 'src/a.ts': `// Far away.${'\n'.repeat(9)}f(a!.b)` }, { 'src/a.ts': 'f(a[0]!)\n// too late' }],
})

holds('names follow the habit', rules.namesFollowTheHabit, {
  good: { 'src/core/retry-after.ts': 'interface Item {}\ntype InvalidX = 1\ninterface IO {}', 'test/core/retry-after.test.ts': '', 'test/issue-4.test.ts': '' },
  bad: [{ 'src/core/retryAfter.ts': '' }, { 'src/Core.ts': '' }, { 'src/retry_after.ts': '' }, { 'src/a.ts': 'interface IBackend {}' }, { 'src/a.ts': 'type IBackend = 1' }],
  judges: everything,
})

holds('nothing is left for later', rules.nothingIsLeftForLater, {
  good: { 'src/a.ts': "// To do so would be wrong.\nconst text = 'TODO'\ntest('x', f)", 'test/a.test.ts': '// @ts-expect-error: no backends\ninstall({})' },
  bad: [
    { 'src/a.ts': '// TODO: later' }, { 'src/a.ts': 'function f () {\n  /* FIXME */\n}' }, { 'src/a.ts': 'f(\n// @ts-ignore\n1)' }, { 'src/a.ts': '// @ts-expect-error\nf()' },
    { 'src/a.ts': 'test.only(f)' }, { 'src/a.ts': "describe.skip('x', f)" }, { 'src/a.ts': "it.todo('x')" },
  ],
  judges: everything,
})
