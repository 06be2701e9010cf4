/** Options come in at five places. At each of them every option is read once, inherited ones too, and never again. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { Agent } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import { install } from '../../src/install.js'
import { priorityInterceptor } from '../../src/interceptor.js'
import type { BackendOptions, BalancerOptions } from '../../src/options/index.js'
import { runScript, urlOf } from '../support/run-child.js'

const east = { url: 'https://east.example/openai/v1', priority: 1, name: 'east', weight: 3 }

/** An object whose every property counts how often it is read. */
function countReads<T extends object>(values: T, reads: Map<string, number>, prefix = ''): T {
  const counting = {}
  for (const [name, value] of Object.entries(values)) {
    const get = (): unknown => {
      reads.set(prefix + name, (reads.get(prefix + name) ?? 0) + 1)
      return value
    }
    Object.defineProperty(counting, name, { get, enumerable: true })
  }
  return counting as T
}

interface Edge {
  readonly name: string
  readonly open: (t: TestContext, options: BalancerOptions) => { readonly update: (changes: Partial<BalancerOptions>) => void; readonly names: () => string[] }
}

const edges: readonly Edge[] = [
  {
    name: 'install',
    open: (t, options) => {
      const balancer = install(options)
      t.after(() => balancer.uninstall())
      return { update: (changes) => { balancer.update(changes) }, names: () => balancer.status().backends.map(({ name }) => name) }
    },
  },
  {
    name: 'new PriorityBalancer',
    open: (t, options) => {
      const balancer = new PriorityBalancer(options)
      t.after(() => balancer.close())
      return { update: (changes) => { balancer.update(changes) }, names: () => balancer.status().backends.map(({ name }) => name) }
    },
  },
  {
    name: 'priorityInterceptor',
    open: (_t, options) => {
      const interceptor = priorityInterceptor(options)
      return { update: (changes) => { interceptor.update(changes) }, names: () => interceptor.status().backends.map(({ name }) => name) }
    },
  },
]

for (const { name, open } of edges) {
  describe(name, () => {
    test('reads each option once, those of the backends included', (t) => {
      const reads = new Map<string, number>()
      const backend = countReads({ ...east, apiKey: 'key', models: countReads({ a: 'b' }, reads, 'models.'), query: countReads({ v: '1' }, reads, 'query.') }, reads, 'backend.')
      open(t, countReads({ backends: [backend], intercept: ['https://chat.balanced'], maxAttempts: 2, maxWaitMs: 5, retryBudget: countReads({ ratio: 1 }, reads, 'retryBudget.'), logger: false as const }, reads))
      assert.equal(reads.size, 16)
      assert.deepEqual(new Set(reads.values()), new Set([1]), JSON.stringify([...reads]))
    })

    test('update reads each change once, and nothing of what was given before', (t) => {
      const reads = new Map<string, number>()
      const { update, names } = open(t, countReads({ backends: [countReads(east, reads, 'backend.')], logger: false as const }, reads))
      const before = new Map(reads)
      update(countReads({ maxAttempts: 3, backends: [countReads({ ...east, name: 'later' }, reads, 'later.')] }, reads, 'changes.'))
      assert.deepEqual(names(), ['later'])
      update({ maxWaitMs: 1 })
      const added = Object.fromEntries([...reads].filter(([option]) => !before.has(option)))
      assert.deepEqual(added, { 'changes.backends': 1, 'changes.maxAttempts': 1, 'later.url': 1, 'later.priority': 1, 'later.weight': 1, 'later.name': 1 })
      assert.deepEqual(new Map([...reads].filter(([option]) => before.has(option))), before)
    })

    test('an object that is changed after it was handed over changes nothing, also at the next update', (t) => {
      const backends: BackendOptions[] = [{ ...east }]
      const { update, names } = open(t, { backends, logger: false })
      backends[0] = { ...east, url: 'https://elsewhere.example', name: 'elsewhere' }
      backends.push({ ...east, name: 'sneaked in' })
      update({ maxAttempts: 2 })
      assert.deepEqual(names(), ['east'])
    })

    test('does not look at the environment again at an update', (t) => {
      const { update, names } = open(t, { backends: [east] })
      process.env.OPENAI_LOADBALANCER_LOG_LEVEL = 'no such level'
      t.after(() => { delete process.env.OPENAI_LOADBALANCER_LOG_LEVEL })
      update({ maxAttempts: 2 })
      assert.deepEqual(names(), ['east'])
    })

    test('takes options that are inherited or computed', (t) => {
      class Options {
        get backends(): BackendOptions[] { return [new Backend()] }
        get logger() { return false as const }
      }
      class Backend {
        get url() { return east.url }
        get priority() { return 1 }
        get name() { return 'computed' }
      }
      assert.deepEqual(open(t, new Options()).names(), ['computed'])
    })

    test('takes options whose prototype holds them', (t) => {
      const options = Object.create({ backends: [Object.create(east) as BackendOptions], logger: false }) as BalancerOptions
      assert.deepEqual(open(t, options).names(), ['east'])
    })
  })
}

test('an inherited dispatcher is the one that install sends through', async (t) => {
  const asked: string[] = []
  const agent = new Agent()
  t.after(() => agent.close())
  const dispatcher = agent.compose(() => (opts, handler) => {
    asked.push(`${String(opts.origin)}${opts.path}`)
    handler.onResponseError?.(null as never, new Error('far enough'))
    return true
  })
  const balancer = install(Object.create({ backends: [east], dispatcher, logger: false }) as BalancerOptions)
  t.after(() => balancer.uninstall())
  await assert.rejects(fetch('https://elsewhere.example/path'))
  assert.deepEqual(asked, ['https://elsewhere.example/path'])
})

test('register reads its file once, and each option in it once', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'read-once-'))
  t.after(() => rm(folder, { recursive: true }))
  const file = join(folder, 'balancer.json')
  await writeFile(file, JSON.stringify({ backends: [{ ...east, apiKey: { env: 'KEY_EAST' } }], maxWaitMs: 5, logger: false }))
  const spy = `
    import fs from 'node:fs'
    import { syncBuiltinESMExports } from 'node:module'
    const reads = {}
    const count = (name) => { reads[name] = (reads[name] ?? 0) + 1 }
    const counting = (target, prefix) => new Proxy(target, { get: (object, key) => { if (typeof key === 'string') count(prefix + key); return Reflect.get(object, key) } })
    const { readFileSync } = fs
    fs.readFileSync = (path, ...rest) => { if (path === process.env.OPENAI_LOADBALANCER_CONFIG) count('the file'); return readFileSync(path, ...rest) }
    syncBuiltinESMExports()
    const { parse } = JSON
    JSON.parse = (...args) => {
      const value = parse(...args)
      return value?.backends === undefined ? value : counting({ ...value, backends: [counting(value.backends[0], 'backend.')] }, '')
    }
    process.once('exit', () => { console.log(JSON.stringify(reads)) })
  `
  const nodeArgs = ['--import', `data:text/javascript,${encodeURIComponent(spy)}`, '--import', urlOf('src/register.ts')]
  const { code, stdout, stderr } = await runScript('', { env: { OPENAI_LOADBALANCER_CONFIG: file, KEY_EAST: 'key' }, nodeArgs })
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  const reads = JSON.parse(stdout) as Record<string, number>
  // Where a secret may name an environment variable is looked at before, to put the value there.
  assert.deepEqual(reads, { 'the file': 1, 'backends': 3, 'backend.apiKey': 2, 'backend.bearerToken': 1, 'backend.headers': 1, 'backend.query': 1, 'backend.url': 1, 'backend.priority': 1, 'backend.name': 1, 'backend.weight': 1, 'maxWaitMs': 1, 'logger': 1 })
})
