/** `install` and `register`, each time in a process of its own. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test, type TestContext } from 'node:test'
import { request } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import { BalancerClosedError } from '../../src/errors.js'
import { compiledPath } from '../support/compiled.js'
import { runNode, runScript, urlOf, type ChildResult } from '../support/run-child.js'
import { startScriptedBackend } from '../support/scripted-backend.js'
import { turns, until } from '../support/until.js'
import { scenarios } from './install-scenarios.js'

describe('install', { concurrency: 3 }, () => {
  for (const sentence of Object.keys(scenarios)) {
    test(sentence, async () => {
      const { code, stdout, stderr } = await runNode([compiledPath('test/integration/install-scenarios.ts'), sentence])
      assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: '', stderr: '' })
    })
  }
})

test('install works when something has called fetch before undici was loaded: what Node made for itself then is left alone', async (t) => {
  const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
  t.after(() => Promise.all([east.close(), west.close()]))
  east.always((call) => { call.respond(429, { 'retry-after': '5' }) })
  west.always(async (call) => { call.respond(200, {}, `west got ${(await call.request.body()).length} bytes`) })
  const { code, stdout, stderr } = await runScript(`
    import assert from 'node:assert/strict'
    const post = async (body) => (await fetch('${east.url}/v1/audio/transcriptions', { method: 'POST', body, duplex: 'half' })).text()
    assert.equal(await post('early'), '')
    const slots = ['undici.globalDispatcher.1', 'undici.globalDispatcher.2'].map(Symbol.for)
    const { install } = await import(${JSON.stringify(urlOf('src/index.ts'))})
    const before = slots.map((slot) => globalThis[slot])
    const balancer = install({ backends: [{ url: '${east.url}', priority: 1 }, { url: '${west.url}', priority: 2 }], logger: false })
    assert.deepEqual(slots.map((slot) => globalThis[slot] === balancer), [true, true])
    console.log(await post('x'.repeat(1000)), '/', await post(new Blob(['x'.repeat(2000)]).stream()))
    await balancer.uninstall()
    assert.deepEqual(slots.map((slot, i) => globalThis[slot] === before[i]), [true, true])
    assert.equal(await post('late'), '')
  `)
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: 'west got 1000 bytes / west got 2000 bytes\n', stderr: '' })
})

describe('register', { concurrency: 3 }, () => {
  /** An application that knows nothing of balancing. */
  const app = (url: string): string => `
    const response = await fetch('${url}/openai/v1/chat/completions', { method: 'POST', body: '{}', headers: { 'api-key': 'callers' } })
    console.log(response.status, await response.text())
  `
  async function register(t: TestContext, config: unknown, code: string, env: Record<string, string | undefined> = {}): Promise<ChildResult & { file: string }> {
    const folder = await mkdtemp(join(tmpdir(), 'register-'))
    t.after(() => rm(folder, { recursive: true }))
    const file = join(folder, 'balancer.json')
    await writeFile(file, typeof config === 'string' ? config : JSON.stringify(config))
    const result = await runScript(code, { env: { OPENAI_LOADBALANCER_CONFIG: file, ...env }, nodeArgs: ['--import', urlOf('src/register.ts')] })
    return { ...result, file }
  }

  test('balances with no line of code, by a file, with keys from the environment', async (t) => {
    const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
    t.after(() => Promise.all([east.close(), west.close()]))
    east.always((call) => { call.respond(429, { 'retry-after': '5' }) })
    west.always((call) => { call.respond(200, {}, `west got ${String(call.request.headers['api-key'])}`) })
    const config = { backends: [{ url: east.url, priority: 1 }, { url: west.url, priority: 2, apiKey: { env: 'KEY_WEST' } }] }
    const { code, stdout, stderr } = await register(t, config, app(east.url), { KEY_WEST: 'west-key' })
    assert.equal(code, 0, stderr)
    assert.equal(stdout, '200 west got west-key\n')
    assert.match(stderr, /"event":"cooldown"/, 'warnings are on stderr')
    const quiet = await register(t, config, app(east.url), { KEY_WEST: 'west-key', OPENAI_LOADBALANCER_LOG_LEVEL: 'silent' })
    assert.deepEqual({ ...quiet, file: '' }, { code: 0, stdout: '200 west got west-key\n', stderr: '', file: '' })
  })

  const valid = { backends: [{ url: 'https://east.example', priority: 1 }] }
  const wrong: [string, unknown, Record<string, string | undefined>, RegExp][] = [
    ['no variable', valid, { OPENAI_LOADBALANCER_CONFIG: undefined }, /InvalidOptionsError: The environment variable OPENAI_LOADBALANCER_CONFIG must name a JSON file with the options\. Received: nothing\./],
    ['an empty variable', valid, { OPENAI_LOADBALANCER_CONFIG: '' }, /must name a JSON file/],
    ['a file that is not there', valid, { OPENAI_LOADBALANCER_CONFIG: '/nowhere/balancer.json' }, /\/nowhere\/balancer\.json: the file must be readable\. Received: ENOENT\./],
    ['a file that is no JSON', '{ "backends": [PLANTED', {}, /balancer\.json: the file must be valid JSON/],
    ['a wrong option', { ...valid, maxWaitMs: '5s' }, {}, /balancer\.json: maxWaitMs must be milliseconds .* Received: "5s"\./],
    ['a misspelt option', { ...valid, maxWait: 5 }, {}, /balancer\.json: maxWait is not an option \(did you mean maxWaitMs\?\)/],
    ['a secret that is missing', { backends: [{ url: 'https://east.example', priority: 1, apiKey: { env: 'NO_SUCH_KEY' } }] }, {}, /backends\[0\]\.apiKey needs the environment variable "NO_SUCH_KEY"/],
    ['a wrong level of the log', valid, { OPENAI_LOADBALANCER_LOG_LEVEL: 'loud' }, /OPENAI_LOADBALANCER_LOG_LEVEL must be one of trace, .*Received: "loud"/],
  ]
  for (const [what, config, env, message] of wrong) {
    test(`${what} ends the process before the application begins, with a message that says so`, async (t) => {
      const { code, stdout, stderr } = await register(t, config, 'console.log("the application")', env)
      assert.equal(code, 1)
      assert.equal(stdout, '')
      assert.match(stderr, message)
      assert.doesNotMatch(stderr, /PLANTED/)
    })
  }
})

describe('the end of a balancer', () => {
  const options = (url: string) => ({ backends: [{ url, priority: 1 }], logger: false as const })
  const call = (url: string, dispatcher: PriorityBalancer) => request(`${url}/v1/models`, { dispatcher })

  for (const style of ['a promise', 'a callback'] as const) {
    test(`close with ${style} waits for what is under way, and takes nothing new`, async (t) => {
      const backend = await startScriptedBackend()
      t.after(() => backend.close())
      const balancer = new PriorityBalancer(options(backend.url))
      const answer = call(backend.url, balancer)
      const taken = await backend.next()
      let isClosed = false
      const closed = (style === 'a promise' ? balancer.close() : new Promise<void>((resolve) => { balancer.close(resolve) })).then(() => { isClosed = true })
      assert.equal(balancer.closed, true)
      await assert.rejects(call(backend.url, balancer), BalancerClosedError)
      await turns()
      assert.deepEqual([isClosed, balancer.destroyed], [false, false])
      taken.respond(200, {}, 'late')
      assert.equal(await (await answer).body.text(), 'late')
      await closed
      assert.equal(balancer.destroyed, true)
      await until(() => backend.connections.open === 0, 'its connections are closed')
      await balancer.close()
    })

    for (const reason of [undefined, new Error('enough')]) {
      test(`destroy with ${style} ${reason === undefined ? 'aborts what is under way with a BalancerClosedError' : 'aborts it with the reason given'}`, async (t) => {
        const backend = await startScriptedBackend()
        t.after(() => backend.close())
        const balancer = new PriorityBalancer(options(backend.url))
        const answer = call(backend.url, balancer)
        const taken = await backend.next()
        const end = (): Promise<void> => {
          if (style === 'a promise') return reason === undefined ? balancer.destroy() : balancer.destroy(reason)
          return new Promise((resolve) => { if (reason === undefined) balancer.destroy(resolve); else balancer.destroy(reason, resolve) })
        }
        const [rejected] = await Promise.all([assert.rejects(answer, (error) => reason === undefined ? error instanceof BalancerClosedError : error === reason), end()])
        assert.equal(rejected, undefined)
        await taken.aborted
        assert.equal(balancer.destroyed, true)
      })
    }
  }

  test('destroy after close ends what close waits for', async (t) => {
    const backend = await startScriptedBackend()
    t.after(() => backend.close())
    const balancer = new PriorityBalancer(options(backend.url))
    const answer = call(backend.url, balancer)
    await backend.next()
    const closed = balancer.close()
    await Promise.all([assert.rejects(answer, BalancerClosedError), balancer.destroy(), closed])
  })
})
