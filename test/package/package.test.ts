/** What npm would publish: the right files, loadable and typed the way users load it, depending on no more than it says. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, posix } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { publint } from 'publint'
import { startScriptedBackend } from '../support/scripted-backend.js'
import { binary, compile, createConsumer, packProject, repack, root, runNode, type PackedProject } from './packed-project.js'

/** Half as much again as it is today: a stray file, a bundled dependency or source maps would show. */
const MAX_TARBALL_BYTES = 160 * 1_024

const temp = mkdtempSync(join(tmpdir(), 'packed-'))
let packed: PackedProject
before(async () => { packed = await packProject(temp) })
after(() => rm(temp, { recursive: true, force: true }))

const paths = (): string[] => packed.files.map(({ path }) => path)

describe('the tarball', () => {
  test('holds the build, package.json, README, LICENSE and CHANGELOG, and nothing else', () => {
    const declarations = paths().filter((path) => /^dist\/types\/([a-z\d-]+\/)*[a-z\d-]+\.d\.ts$/.test(path))
    assert.deepEqual(paths().filter((path) => !declarations.includes(path)).sort(), [
      'CHANGELOG.md', 'LICENSE', 'README.md', 'dist/balancer.js', 'dist/index.js', 'dist/register.js', 'dist/undici-version.js', 'package.json',
    ])
  })

  test('declares what the entries lead to, and nothing from the inside', () => {
    const reached = new Set<string>()
    const follow = (path: string): void => {
      if (reached.has(path)) return
      reached.add(path)
      for (const [, next = ''] of readFileSync(join(packed.folder, path), 'utf8').matchAll(/(?:from|import) '(\..+)\.js'/g)) follow(posix.join(posix.dirname(path), `${next}.d.ts`))
    }
    follow('dist/types/index.d.ts')
    follow('dist/types/register.d.ts')
    assert.deepEqual(paths().filter((path) => path.endsWith('.d.ts') && !reached.has(path)), [])
    assert.ok(!paths().includes('dist/types/core/pool.d.ts'))
  })

  test(`is smaller than ${MAX_TARBALL_BYTES / 1_024} KiB`, () => {
    assert.ok(packed.size < MAX_TARBALL_BYTES, `${packed.size} bytes`)
  })

  test('is built anew whenever npm packs it', () => {
    assert.equal(packed.manifest.scripts.prepack, 'npm run build')
  })

  test('runs nothing on the machine that installs it', () => {
    assert.deepEqual(Object.keys(packed.manifest.scripts).filter((name) => /^(pre|post)?install$|^prepare$/.test(name)), [])
  })
})

describe('the manifest', () => {
  test('depends on pino at run time, on undici as a peer, and on nothing more', () => {
    assert.deepEqual(Object.keys(packed.manifest.dependencies ?? {}), ['pino'])
    assert.deepEqual(packed.manifest.peerDependencies, { undici: '^7.27.2 || ^8.0.0' })
    assert.equal(packed.manifest.optionalDependencies, undefined)
  })

  test('states the licence that the LICENSE file states, and a version that the changelog knows', async () => {
    assert.equal(packed.manifest.license, 'MIT')
    assert.match(await readFile(join(packed.folder, 'LICENSE'), 'utf8'), /^MIT License\n/)
    assert.match(await readFile(join(packed.folder, 'CHANGELOG.md'), 'utf8'), new RegExp(`^## .*\\b${packed.manifest.version.replaceAll('.', '\\.')}\\b`, 'm'))
  })

  test('offers the index and register, and no way past them', () => {
    assert.deepEqual(Object.keys(packed.manifest.exports), ['.', './register', './package.json'])
  })
})

describe('the linters of packages', () => {
  // attw: the profile `esm-only` leaves out what an ES module cannot offer by definition: node10 resolution, which knows no `exports`,
  // and `require()` on a Node that does not allow it for ES modules.
  const attw = async (tarball: string): ReturnType<typeof runNode> =>
    runNode([await binary('@arethetypeswrong/cli', 'attw'), tarball, '--profile', 'esm-only', '--no-definitely-typed', '--no-emoji', '--format', 'ascii'], root)
  const lint = async (tarball: string): Promise<string[]> => {
    const file = await readFile(tarball)
    const { messages } = await publint({ pack: { tarball: file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength) }, strict: true })
    return messages.map(({ type, code, path }) => `${type} ${code} at ${path.join('.')}`)
  }

  test('publint finds nothing', async () => {
    assert.deepEqual(await lint(packed.tarball), [])
  })

  test('attw finds nothing', async () => {
    const { code, output } = await attw(packed.tarball)
    assert.equal(code, 0, output)
  })

  test('both find missing declarations', async () => {
    const tarball = await repack(packed, 'untyped', (folder) => rm(join(folder, 'dist', 'types', 'register.d.ts')))
    assert.notDeepEqual(await lint(tarball), [])
    assert.notEqual((await attw(tarball)).code, 0)
  })
})

describe('a consumer', () => {
  for (const undici of ['undici', 'undici8'] as const) {
    for (const [resolution, compilerOptions] of [
      ['node16', { module: 'node16', moduleResolution: 'node16' }],
      ['bundler', { module: 'esnext', moduleResolution: 'bundler' }],
    ] as const) {
      test(`compiles with moduleResolution ${resolution} against ${undici}, declarations checked, and runs`, async (t) => {
        const folder = await createConsumer(packed, undici, ['main.ts'], { compilerOptions })
        const compiled = compile(folder)
        assert.equal(compiled.code, 0, compiled.output)
        if (undici === 'undici8' && !runsUndici8()) { t.diagnostic('not run: undici 8 needs a newer Node'); return }
        const ran = await runNode([join('out', 'main.js')], folder)
        assert.equal(ran.code, 0, ran.output)
        assert.match(ran.output, /^the consumer is content$/m)
      })
    }
  }

  test('that is CommonJS compiles with nodenext, and loads the package by require() where Node allows it', async () => {
    const folder = await createConsumer(packed, 'undici', ['main.cts'], { compilerOptions: { module: 'nodenext', moduleResolution: 'nodenext' }, type: 'commonjs' })
    const compiled = compile(folder)
    assert.equal(compiled.code, 0, compiled.output)
    const ran = await runNode([join('out', 'main.cjs')], folder)
    if (requiresModules()) {
      assert.equal(ran.code, 0, ran.output)
      assert.match(ran.output, /^east\.example\/openai\/v1$/m)
    } else {
      assert.match(ran.output, /ERR_REQUIRE_ESM/)
    }
  })

  test('that gives wrong types does not compile', async () => {
    const folder = await createConsumer(packed, 'undici', [], { compilerOptions: { module: 'node16', moduleResolution: 'node16' } })
    await writeFile(join(folder, 'wrong.ts'), "import { install } from 'openai-priority-loadbalancer'\ninstall({ backends: [{ url: 1, priority: 1 }] })\n")
    const { code, output } = compile(folder)
    assert.notEqual(code, 0)
    assert.match(output, /wrong\.ts\(2,\d+\): error TS2322/)
  })

  test('that knows nothing of the package is balanced by --import .../register and a file', async (t) => {
    const backend = await startScriptedBackend()
    t.after(() => backend.close())
    backend.always((call) => { call.respond(200, {}, `${call.request.path} ${String(call.request.headers['api-key'])}`) })
    const folder = await createConsumer(packed, 'undici', ['registered.mjs'])
    const config = join(folder, 'backends.json')
    await writeFile(config, JSON.stringify({ intercept: ['https://chat.balanced'], backends: [{ url: backend.url, priority: 1, apiKey: { env: 'KEY_WEST' } }] }))
    const ran = await runNode(['--import', 'openai-priority-loadbalancer/register', 'registered.mjs'], folder, { OPENAI_LOADBALANCER_CONFIG: config, KEY_WEST: 'key-of-west' })
    assert.equal(ran.code, 0, ran.output)
    assert.match(ran.output, /^200 \/openai\/v1\/responses key-of-west$/m)
  })

  test('meets the same classes by both entries, under the names that they are exported by', async () => {
    const folder = await createConsumer(packed, 'undici', [])
    const program = `
      import * as index from 'openai-priority-loadbalancer'
      for (const [name, value] of Object.entries(index)) if (/^[A-Z][a-z]/.test(name) && value.name !== name) console.log(name, 'is called', value.name)
      await import('openai-priority-loadbalancer/register').catch((error) => { console.log(error.constructor === index.InvalidOptionsError, error.stack) })
    `
    const { output } = await runNode(['--input-type=module', '--eval', program], folder)
    assert.match(output, /^true InvalidOptionsError: The environment variable OPENAI_LOADBALANCER_CONFIG .*\n +at file:.*\/dist\/register\.js:\d+/)
  })

  test('with an undici that is too old is told so before that undici is loaded', async () => {
    const folder = await createConsumer(packed, 'undici', [])
    const undici = join(folder, 'node_modules', 'undici')
    await rm(undici)
    await mkdir(undici)
    await writeFile(join(undici, 'package.json'), JSON.stringify({ name: 'undici', version: '7.27.1', main: 'index.js' }))
    await writeFile(join(undici, 'index.js'), "throw new Error('loaded'); exports.Agent = exports.Dispatcher = exports.errors = exports.util = {}")
    for (const entry of ['', '/register']) {
      const { code, output } = await runNode(['--input-type=module', '--eval', `import 'openai-priority-loadbalancer${entry}'`], folder)
      assert.notEqual(code, 0)
      assert.match(output, /Error: openai-priority-loadbalancer needs undici 7\.27\.2 or newer, or 8; found 7\.27\.1, .* Run: npm install undici@7/)
      assert.match(output, /\/dist\/undici-version\.js:\d+/)
    }
  })

  test('cannot reach past the exports', async () => {
    const folder = await createConsumer(packed, 'undici', [])
    const { output } = await runNode(['--input-type=module', '--eval', "await import('openai-priority-loadbalancer/dist/balancer.js')"], folder)
    assert.match(output, /ERR_PACKAGE_PATH_NOT_EXPORTED/)
  })
})

/** undici 8 asks for Node 22.19; on less it does not load. */
function runsUndici8 (): boolean {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  return major > 22 || (major === 22 && minor >= 19)
}

function requiresModules (): boolean {
  return Boolean((process.features as { require_module?: boolean }).require_module)
}
