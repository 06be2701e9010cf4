/**
 * Seen: after `install()` the CA, timeouts and limits of a global Agent that another copy of undici had made were dropped for
 * all traffic, without a word (any class named Agent was taken for a default that means nothing); and after `close()` of the
 * installed balancer every fetch of the process failed.
 */
import assert from 'node:assert/strict'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { completion } from '../support/openai-clients.js'
import { runScript, urlOf } from '../support/run-child.js'
import { startScriptedBackend, type ScriptedBackend } from '../support/scripted-backend.js'
import { testCertificate } from '../support/tls.js'

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const runsUndici8 = major > 22 || (major === 22 && minor >= 19)

let folder = ''
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'copies-'))
  for (const name of ['undici', 'undici8']) await cp(fileURLToPath(new URL(`../../node_modules/${name}`, import.meta.url)), join(folder, name), { recursive: true })
})
after(() => rm(folder, { recursive: true }))

/** The servers speak TLS with a certificate that only the Agent trusts. East says that it is full, west and elsewhere answer. */
async function startServers(t: TestContext): Promise<{ east: ScriptedBackend; west: ScriptedBackend; elsewhere: ScriptedBackend }> {
  const [east, west, elsewhere] = await Promise.all([1, 2, 3].map(() => startScriptedBackend({ protocol: 'https' }))) as [ScriptedBackend, ScriptedBackend, ScriptedBackend]
  t.after(() => Promise.all([east.close(), west.close(), elsewhere.close()]))
  east.always((call) => { call.respond(429, { 'retry-after': '30' }) })
  west.always(async (call) => {
    await call.request.body()
    call.respond(200, {}, completion('west'))
  })
  elsewhere.always(async (call) => { call.respond(200, [['set-cookie', 'a=1'], ['set-cookie', 'b=2']], `elsewhere got ${(await call.request.body()).length}`) })
  return { east, west, elsewhere }
}

/** Runs a program that has a global Agent of another copy, with this code after `install`. */
async function run(t: TestContext, setUp: string, code: string, install = "const { install } = await import(process.env.INDEX)"): Promise<{ answers: unknown; elsewhere: ScriptedBackend }> {
  const { east, west, elsewhere } = await startServers(t)
  const { ca } = await testCertificate()
  const { code: status, stdout, stderr } = await runScript(`
    import assert from 'node:assert/strict'
    const { EAST, WEST, ELSEWHERE, CA: ca, COPIES } = process.env
    const slots = [1, 2].map((n) => Symbol.for('undici.globalDispatcher.' + n))
    const ofFetch = slots[${major >= 26 ? 1 : 0}]
    const post = async (url, body = 'hello') => (await fetch(url + '/openai/v1/models', { method: 'POST', body, duplex: 'half' })).text()
    const answers = {}
    ${setUp}
    ${install}
    const before = slots.map((slot) => globalThis[slot])
    const balancer = install({ backends: [{ url: EAST, priority: 1 }, { url: WEST, priority: 2 }], logger: false })
    ${code}
    await balancer.uninstall()
    assert.deepEqual(slots.map((slot, i) => globalThis[slot] === before[i]), [true, true])
    console.log(JSON.stringify(answers))
  `, { env: { INDEX: urlOf('src/index.ts'), EAST: east.url, WEST: west.url, ELSEWHERE: elsewhere.url, CA: ca, COPIES: folder } })
  assert.deepEqual({ status, stderr }, { status: 0, stderr: '' }, stderr)
  return { answers: JSON.parse(stdout), elsewhere }
}

const copy = (folder: string): string => `const { createRequire } = await import('node:module'); const { Agent, setGlobalDispatcher: setGlobal } = createRequire(COPIES + '/')(COPIES + '/${folder}/index.js')`

/** Each leaves its class in `Agent`, and its way to make one global in `setGlobal`. */
const copies: readonly [name: string, setUp: string][] = [
  // Its version is that of Node: undici 6, which knows handlers of the old style alone, on Node 20 and 22.
  ['the undici inside Node', `await fetch(ELSEWHERE).catch(() => {}); const { constructor: Agent } = globalThis[ofFetch]
    const setGlobal = (agent) => { Object.defineProperty(globalThis, ofFetch, { value: agent, writable: true, enumerable: false, configurable: false }) }`],
  ['another undici 7', copy('undici')],
  ...(runsUndici8 ? [['another undici 8', copy('undici8')] as [string, string]] : []),
]

for (const [name, setUp] of copies) {
  describe(`an Agent of ${name} that was global before install`, { concurrency: 2 }, () => {
    const withCa = `${setUp}; const agent = new Agent({ connect: { ca } }); setGlobal(agent)`

    test('sends everything, with its CA: what is balanced, and what passes through', async (t) => {
      const { answers } = await run(t, withCa, `
        const { OpenAI } = await import('openai')
        const { request } = await import('undici')
        const client = new OpenAI({ apiKey: 'key', baseURL: EAST + '/openai/v1', maxRetries: 0 })
        answers.sdk = (await client.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'hi' }] })).choices[0].message.content
        answers.passed = await post(ELSEWHERE, 'x'.repeat(1_000_000))
        answers.streamed = await post(ELSEWHERE, new Blob(['x'.repeat(1_000_000)]).stream())
        answers.cookies = (await fetch(ELSEWHERE)).headers.getSetCookie()
        answers.request = await (await request(ELSEWHERE, { method: 'POST', body: 'hello' })).body.text()
        answers.attempts = balancer.status().backends.map(({ attempts }) => attempts)
      `)
      assert.deepEqual(answers, {
        sdk: 'west', passed: 'elsewhere got 1000000', streamed: 'elsewhere got 1000000', cookies: ['a=1', 'b=2'], request: 'elsewhere got 5', attempts: [1, 1],
      })
    })

    test('can be handed over as `dispatcher` as well', async (t) => {
      const { answers } = await run(t, `${setUp}; const agent = new Agent({ connect: { ca } }); setGlobal(agent)`, `
        const { PriorityBalancer } = await import(process.env.INDEX)
        const dispatcher = new PriorityBalancer({ backends: [{ url: EAST, priority: 1 }, { url: WEST, priority: 2 }], logger: false, dispatcher: agent })
        answers.balanced = (await (await fetch(EAST + '/v1/models', { method: 'POST', body: 'hello', dispatcher })).json()).choices[0].message.content
        answers.passed = await (await fetch(ELSEWHERE, { method: 'POST', body: 'hello', dispatcher })).text()
        await dispatcher.close()
        answers.open = [agent.closed, agent.destroyed]
      `)
      assert.deepEqual(answers, { balanced: 'west', passed: 'elsewhere got 5', open: [false, false] })
    })

    test('keeps its limits', async (t) => {
      const { answers, elsewhere } = await run(t, `${setUp}; setGlobal(new Agent({ connections: 1, pipelining: 1, connect: { ca } }))`, `
        answers.all = await Promise.all(['a', 'bb', 'ccc'].map((body) => post(ELSEWHERE, body)))
      `)
      assert.deepEqual(answers, { all: ['elsewhere got 1', 'elsewhere got 2', 'elsewhere got 3'] })
      assert.equal(elsewhere.connections.opened - (name === 'the undici inside Node' ? 1 : 0), 1, 'one connection; Node\'s own fetch had tried one without the CA')
    })

    test('is left open by close, destroy and uninstall; what passes through goes on, what is balanced is refused', async (t) => {
      const { answers } = await run(t, withCa, `
        const refused = () => post(EAST).then(() => 'answered', (error) => error.cause?.code)
        await balancer.close()
        answers.closed = [await post(ELSEWHERE), await refused()]
        await balancer.destroy()
        answers.destroyed = [await post(ELSEWHERE), await refused()]
        await balancer.uninstall()
        answers.uninstalled = await post(ELSEWHERE)
        answers.open = [agent.closed, agent.destroyed]
      `)
      assert.deepEqual(answers, {
        closed: ['elsewhere got 5', 'ERR_OPLB_CLOSED'], destroyed: ['elsewhere got 5', 'ERR_OPLB_CLOSED'], uninstalled: 'elsewhere got 5', open: [false, false],
      })
    })

    test('stays in force when its only setting is an interceptor, a factory or a patched method', async (t) => {
      const lead = '{ connect: { ca } }'
      const ways = [
        `const inner = new Agent(${lead}); const plain = new Agent(); const dispatch = (opts, handler) => { seen++; return inner.dispatch(opts, handler) }
         setGlobal(new Proxy(plain, { get: (target, key) => key === 'dispatch' ? dispatch : target[key] }))`,
        `const inner = new Agent(${lead}); const agent = new Agent(); agent.dispatch = (opts, handler) => { seen++; return inner.dispatch(opts, handler) }; setGlobal(agent)`,
        `const inner = new Agent(${lead}); setGlobal(new Agent({ factory: () => { seen++; return inner } }))`,
      ]
      for (const way of ways) {
        const { answers } = await run(t, `let seen = 0; ${setUp}; ${way}`, 'answers.passed = await post(ELSEWHERE); answers.seen = seen')
        assert.deepEqual(answers, { passed: 'elsewhere got 5', seen: 1 }, way)
      }
    })
  })
}

describe('a default that a copy of undici has made for itself', { concurrency: 2 }, () => {
  const trust = 'process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0"; process.removeAllListeners("warning")'

  test('is replaced where it is Node\'s, and close breaks nothing all the same', async (t) => {
    const { answers } = await run(t, `${trust}; await post(ELSEWHERE); const nodes = globalThis[ofFetch]; const { dispatch } = nodes; let seen = 0
      Object.getPrototypeOf(Object.getPrototypeOf(nodes)).dispatch = function (...args) { if (this === nodes) seen++; return dispatch.apply(this, args) }`, `
      seen = 0
      answers.balanced = JSON.parse(await post(EAST)).choices[0].message.content
      answers.seen = seen
      await balancer.close()
      answers.closed = await post(ELSEWHERE)
    `)
    assert.deepEqual(answers, { balanced: 'west', seen: 0, closed: 'elsewhere got 5' })
  })

  test('leaves how stack traces are made as it was', async (t) => {
    const { answers } = await run(t, `${trust}; await post(ELSEWHERE); const prepare = Error.prepareStackTrace; Error.stackTraceLimit = 7`, `
      answers.same = [Error.prepareStackTrace === prepare, Error.stackTraceLimit]
    `)
    assert.deepEqual(answers, { same: [true, 7] })
  })
})
