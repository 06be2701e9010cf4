/**
 * What `install` does to a process. Each scenario has one of its own: `install.test.ts` runs this file once for each
 * sentence. A scenario passes when the process ends by itself, with exit code 0 and nothing on stderr.
 */
import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import { Agent, MockAgent, ProxyAgent, getGlobalDispatcher, request, setGlobalDispatcher } from 'undici'
import { BalancerClosedError, InstallError, InvalidOptionsError } from '../../src/errors.js'
import { install } from '../../src/install.js'
import type { BalancerOptions } from '../../src/options/index.js'
import { azureClient, chat, completion, openaiClient } from '../support/openai-clients.js'
import { startProxy } from '../support/proxy.js'
import { startScriptedBackend, type ScriptedBackend } from '../support/scripted-backend.js'
import { turns, until } from '../support/until.js'

type Scenario = (backends: readonly [ScriptedBackend, ScriptedBackend]) => Promise<void>

const SLOTS = [Symbol.for('undici.globalDispatcher.1'), Symbol.for('undici.globalDispatcher.2')] as const
const readSlots = (): unknown[] => SLOTS.map((slot) => (globalThis as Record<symbol, unknown>)[slot])

/** East has priority 1 and says that it is full; west answers. */
const optionsFor = ([east, west]: readonly [ScriptedBackend, ScriptedBackend], more: Partial<BalancerOptions> = {}): BalancerOptions => ({
  backends: [{ url: east.url, priority: 1, name: 'east' }, { url: west.url, priority: 2, name: 'west' }], logger: false, ...more,
})

const isInstallError = (message: RegExp) => (error: unknown): boolean => {
  assert.ok(error instanceof InstallError, String(error))
  assert.equal(error.code, 'ERR_OPLB_INSTALL')
  assert.match(error.message, message)
  return true
}

/** The cause of fetch's `TypeError: fetch failed`. */
async function causeOf(promise: Promise<unknown>): Promise<unknown> {
  const error = await promise.then(() => assert.fail('should have failed'), (reason: unknown) => reason)
  return error instanceof TypeError ? error.cause : error
}

const say = async (url: string): Promise<string> => (await fetch(`${url}/openai/v1/models`)).text()

export const scenarios: Readonly<Record<string, Scenario>> = {
  async 'one line at start-up balances the openai package, fetch and undici\'s request'(both) {
    const [east, west] = both
    const balancer = install(optionsFor(both))
    assert.equal(await chat(azureClient(east.url)), 'west')
    assert.equal(await chat(openaiClient(`${east.url}/openai/v1`)), 'west')
    assert.equal((await fetch(`${east.url}/v1/models`)).status, 200)
    const { body } = await request(`${east.url}/v1/models`)
    await body.dump()
    assert.equal(balancer.status().backends.length, 2)
    assert.ok(west.calls.length >= 4)
    await balancer.uninstall()
  },

  async 'uninstall puts back what stood under both symbols, and fetch works on'(both) {
    const before = readSlots()
    const balancer = install(optionsFor(both))
    assert.deepEqual(readSlots().map((value) => value === balancer), [true, true])
    await balancer.uninstall()
    readSlots().forEach((value, i) => { assert.equal(value, before[i]) })
    assert.equal((await fetch(`${both[0].url}/v1/models`)).status, 429, 'no balancer is left')
    assert.equal(balancer.closed, true)
  },

  async 'uninstall again does nothing more, and install can follow'(both) {
    const balancer = install(optionsFor(both))
    await Promise.all([balancer.uninstall(), balancer.uninstall()])
    await balancer.uninstall()
    const again = install(optionsFor(both))
    assert.equal(await chat(azureClient(both[0].url)), 'west')
    await balancer.uninstall()
    assert.equal(getGlobalDispatcher() === again || readSlots().includes(again), true, 'the first one takes nothing away from the second')
    assert.equal(await chat(azureClient(both[0].url)), 'west')
    await again.uninstall()
  },

  async 'installing twice for the same URLs, or for URLs below or above, throws and changes nothing'(both) {
    const [east, west] = both
    const balancer = install(optionsFor(both, { intercept: [`${east.url}/openai`, 'https://chat.balanced'] }))
    const elsewhere = [{ url: west.url, priority: 1 }]
    for (const intercept of [`${east.url}/openai`, `${east.url}/openai/v1`, east.url, 'https://chat.balanced/v1', 'https://CHAT.balanced:443']) {
      assert.throws(() => install({ backends: elsewhere, intercept: [intercept], logger: false }), isInstallError(/^intercept: .* is balanced already/))
      assert.deepEqual(readSlots(), [balancer, balancer])
    }
    assert.equal(await chat(openaiClient('https://chat.balanced/v1')), 'west')
    await balancer.uninstall()
  },

  async 'another copy of the package knows what is installed'(both) {
    const balancer = install(optionsFor(both))
    const copy = await import(`${new URL('../../src/install.js', import.meta.url).href}?copy`) as { install: typeof install }
    assert.notEqual(copy.install, install)
    assert.throws(() => copy.install(optionsFor(both)), isInstallError(/is balanced already/))
    const other = copy.install({ backends: [{ url: both[1].url, priority: 1, name: 'other' }], intercept: ['https://other.balanced'], logger: false, dispatcher: new Agent() })
    await assert.rejects(balancer.uninstall(), isInstallError(/installed later/))
    await other.uninstall()
    await balancer.uninstall()
  },

  async 'balancers for different URLs stack, each with its own pool, and unwind in order'(both) {
    const [east] = both
    const third = await startScriptedBackend()
    third.always((call) => { call.respond(200, {}, completion('third')) })
    const before = readSlots()
    const first = install(optionsFor(both))
    const second = install({ backends: [{ url: `${third.url}/second`, priority: 1, name: 'second' }], intercept: ['https://second.balanced'], logger: false })
    assert.equal(await chat(azureClient(east.url)), 'west')
    assert.equal(await chat(openaiClient('https://second.balanced/v1')), 'third')
    assert.equal(third.calls.at(-1)?.request.path, '/second/v1/chat/completions')
    assert.equal(second.status().backends[0]?.attempts, 1)
    assert.equal(first.status().backends[0]?.attempts, 1)
    await second.uninstall()
    assert.deepEqual(readSlots(), [first, first])
    assert.equal(await chat(azureClient(east.url)), 'west')
    await first.uninstall()
    assert.deepEqual(readSlots().map((value, i) => value === before[i]), [true, true])
    await third.close()
  },

  async 'a backend that another installed balancer would balance again is refused'(both) {
    const [east, west] = both
    const first = install({ ...optionsFor(both), intercept: [`${east.url}/openai`] })
    const onTop = { intercept: ['https://second.balanced'], logger: false } as const
    assert.throws(() => install({ ...onTop, backends: [{ url: west.url, priority: 1 }, { url: `${east.url}/openai/v1`, priority: 1 }] }), isInstallError(/^backends\[1\]\.url: .* is balanced already/))
    assert.throws(() => install({ ...onTop, backends: [{ url: east.url, priority: 1 }] }), isInstallError(/^backends\[0\]\.url/))
    assert.deepEqual(readSlots(), [first, first])
    // With a dispatcher of its own it does not pass the first one.
    const aside = install({ ...onTop, backends: [{ url: east.url, priority: 1 }], dispatcher: new Agent() })
    await aside.uninstall()
    await first.uninstall()
  },

  async 'uninstalling out of order says what to do, and can be done later'(both) {
    const first = install(optionsFor(both))
    const second = install({ backends: [{ url: 'https://second.example', priority: 1 }], logger: false })
    await assert.rejects(first.uninstall(), isInstallError(/^A balancer that was installed later sends through this one\. Uninstall that one first\.$/))
    assert.equal(await chat(azureClient(both[0].url)), 'west', 'and until then it works')
    await second.uninstall()
    await first.uninstall()
    assert.equal((await fetch(`${both[0].url}/v1/models`)).status, 429)
  },

  async 'fetch was called before install: it is balanced from then on, and afterwards no more'(both) {
    assert.equal((await fetch(`${both[0].url}/v1/models`)).status, 429)
    const before = readSlots()
    const balancer = install(optionsFor(both))
    assert.equal(await chat(azureClient(both[0].url)), 'west')
    const form = new FormData()
    form.set('file', new Blob(['x'.repeat(100_000)]), 'big.txt')
    assert.equal((await fetch(`${both[0].url}/v1/audio/transcriptions`, { method: 'POST', body: form })).status, 200)
    const call = both[1].calls.at(-1)
    assert.ok((await call?.request.body())?.includes('x'.repeat(100_000)))
    await balancer.uninstall()
    readSlots().forEach((value, i) => { assert.equal(value, before[i]) })
    assert.equal((await fetch(`${both[0].url}/v1/models`)).status, 429)
  },

  async 'a MockAgent that was set before stays in force'() {
    const mock = new MockAgent()
    mock.disableNetConnect()
    mock.get('https://east.example').intercept({ path: '/openai/v1/chat/completions', method: 'POST', body: (body) => body.includes('gpt-4o') }).reply(429, {}, { headers: { 'retry-after': '5' } })
    mock.get('https://west.example').intercept({ path: '/openai/v1/chat/completions', method: 'POST', headers: { 'api-key': 'west' } }).reply(200, completion('mocked'), { headers: { 'content-type': 'application/json' } })
    setGlobalDispatcher(mock)
    const balancer = install({
      backends: [{ url: 'https://east.example/openai/v1', priority: 1 }, { url: 'https://west.example/openai/v1', priority: 2, apiKey: 'west' }], logger: false,
    })
    assert.equal(await chat(openaiClient('https://east.example/openai/v1')), 'mocked')
    mock.assertNoPendingInterceptors()
    await assert.rejects(fetch('https://nowhere.example/'), 'the network stays off')
    await balancer.uninstall()
    assert.equal(getGlobalDispatcher(), mock)
    await mock.close()
  },

  async 'a ProxyAgent that was set before stays in force'(both) {
    const proxy = await startProxy({ routes: { 'east.example:80': both[0].host, 'west.example:80': both[1].host } })
    const agent = new ProxyAgent(proxy.url)
    setGlobalDispatcher(agent)
    const balancer = install({ backends: [{ url: 'http://east.example', priority: 1 }, { url: 'http://west.example', priority: 2 }], logger: false })
    assert.equal(await chat(azureClient('http://east.example')), 'west')
    const seen = [...proxy.tunnels.map(({ authority }) => authority), ...proxy.forwarded.map(({ url }) => new URL(url).host)]
    assert.deepEqual(seen.map((host) => host.replace(/:80$/, '')), ['east.example', 'west.example'])
    await balancer.uninstall()
    await agent.close()
    await proxy.close()
  },

  async 'options.dispatcher goes before what was global, and is left open'(both) {
    const asked: string[] = []
    const agent = new Agent()
    const own = agent.compose((dispatch) => (opts, handler) => {
      asked.push(String(opts.origin))
      return dispatch(opts, handler)
    })
    const balancer = install(optionsFor(both, { dispatcher: own }))
    assert.equal(await chat(azureClient(both[0].url)), 'west')
    assert.deepEqual(asked, [both[0].url, both[1].url])
    await balancer.uninstall()
    const { statusCode, body } = await request(`${both[1].url}/v1/models`, { dispatcher: own })
    await body.dump()
    assert.equal(statusCode, 200)
    await agent.close()
  },

  async 'a dispatcher that was set afterwards stays, and the balancer ends'(both) {
    const before = readSlots()
    const balancer = install(optionsFor(both))
    const later = new Agent()
    setGlobalDispatcher(later)
    const after = readSlots()
    assert.equal((await fetch(`${both[0].url}/v1/models`)).status, 429, 'past the balancer')
    await balancer.uninstall()
    assert.equal(getGlobalDispatcher(), later)
    readSlots().forEach((value, i) => { assert.equal(value, after[i] === balancer ? before[i] : after[i]) })
    await assert.rejects(request(`${both[0].url}/v1/models`, { dispatcher: balancer }), BalancerClosedError)
    await later.close()
  },

  async 'a frozen global object is told of, and nothing is changed'(both) {
    const before = readSlots()
    Object.freeze(globalThis)
    assert.throws(() => install(optionsFor(both)), isInstallError(/^The global dispatcher cannot be set, because globalThis is frozen\. Install before it is frozen, or pass/))
    readSlots().forEach((value, i) => { assert.equal(value, before[i]) })
    return Promise.resolve()
  },

  async 'installed before the global object is frozen, it works on'(both) {
    const balancer = install(optionsFor(both))
    // Node itself defines some globals at their first use, which would fail in a frozen object.
    await chat(azureClient(both[0].url))
    Object.freeze(globalThis)
    assert.equal(await chat(azureClient(both[0].url)), 'west')
    await assert.rejects(balancer.uninstall(), isInstallError(/globalThis is frozen/))
  },

  async 'a patched fetch is not called to find out whether it gets here'(both) {
    const native = globalThis.fetch
    let calls = 0
    globalThis.fetch = (...args) => { calls++; return native(...args) }
    const balancer = install(optionsFor(both))
    assert.equal(calls, 0)
    assert.equal(await chat(azureClient(both[0].url)), 'west')
    assert.equal(calls, 1)
    await balancer.uninstall()
  },

  async 'where there is no fetch, undici\'s own functions are balanced all the same'(both) {
    Reflect.deleteProperty(globalThis, 'fetch')
    const balancer = install(optionsFor(both))
    const { statusCode, body } = await request(`${both[0].url}/v1/models`)
    await body.dump()
    assert.equal(statusCode, 200)
    await balancer.uninstall()
  },

  async 'a fetch that does not get here is told of, and nothing is changed'(both) {
    const before = readSlots()
    // As Node's own looks, from another realm.
    globalThis.fetch = Object.assign(() => Promise.reject(new Error('elsewhere')), { toString: () => 'function fetch' })
    const source = Function.prototype.toString
    Function.prototype.toString = function toString() { return this === globalThis.fetch ? 'require(\'internal/deps/undici/undici\')' : source.call(this) }
    assert.throws(() => install(optionsFor(both)), isInstallError(/Node's fetch does not go through it.*pass a PriorityBalancer as `dispatcher`/))
    Function.prototype.toString = source
    readSlots().forEach((value, i) => { assert.equal(value, before[i]) })
    assert.throws(() => install({ backends: [] }), InvalidOptionsError)
    return Promise.resolve()
  },

  async 'wrong options throw before anything is changed'() {
    const before = readSlots()
    assert.throws(() => install({ backends: [{ url: 'nonsense://x', priority: 1 }] }), InvalidOptionsError)
    readSlots().forEach((value, i) => { assert.equal(value, before[i]) })
    return Promise.resolve()
  },

  async 'uninstall ends those that wait with a BalancerClosedError, and waits for those under way'(both) {
    const [east, west] = both
    for (const backend of both) backend.always((call) => { call.respond(429, { 'retry-after': '20' }) })
    const balancer = install(optionsFor(both, { maxWaitMs: 60_000 }))
    const held = causeOf(fetch(`${east.url}/openai/deployments/full/chat/completions`, { method: 'POST', body: '{}' }))
    await until(() => balancer.status().waiting === 1)
    west.byHand()
    east.byHand()
    const underWay = say(east.url)
    const call = await east.next()
    const done = balancer.uninstall()
    assert.ok(await held instanceof BalancerClosedError)
    let isDone = false
    void done.then(() => { isDone = true })
    await turns()
    assert.equal(isDone, false)
    call.respond(200, {}, 'late')
    assert.equal(await underWay, 'late')
    await done
    assert.equal(balancer.destroyed, true)
  },

  async 'update adds and removes backends, keeps what is known of those that stay, and lets held requests see the new ones'(both) {
    const [east, west] = both
    for (const backend of both) backend.always((call) => { call.respond(429, { 'retry-after': '30' }) })
    const third = await startScriptedBackend()
    third.always((call) => { call.respond(200, {}, completion('third')) })
    const balancer = install(optionsFor(both, { maxWaitMs: 60_000 }))
    const held = chat(azureClient(east.url))
    await until(() => balancer.status().waiting === 1)
    const { backends } = optionsFor(both)
    balancer.update({ backends: [...backends, { url: third.url, priority: 3, name: 'third' }] })
    assert.equal(await held, 'third')
    const states = (): string[] => balancer.status().backends.map(({ name, state, attempts }) => `${name} ${state} ${attempts}`)
    assert.deepEqual(states(), ['east cooldown 1', 'west cooldown 1', 'third available 1'])
    balancer.update({ backends: [{ url: third.url, priority: 1, name: 'third' }, { url: west.url, priority: 2, name: 'west' }] })
    assert.deepEqual(states(), ['third available 1', 'west cooldown 1'])
    assert.equal(await chat(azureClient(east.url)), 'third', 'east\'s URL is balanced on, though east is gone')
    assert.equal(east.calls.length, 1)
    assert.throws(() => { balancer.update({ backends: [] }) }, InvalidOptionsError)
    assert.throws(() => { balancer.update({ dispatcher: new Agent() } as never) }, InvalidOptionsError)
    assert.deepEqual(states(), ['third available 2', 'west cooldown 1'])
    await balancer.uninstall()
    await third.close()
  },

  async 'update does not take over URLs that another installed balancer has'(both) {
    const [east] = both
    const first = install(optionsFor(both))
    const second = install({ backends: [{ url: 'https://second.example', priority: 1 }], logger: false })
    for (const balancer of [first, second]) {
      const other = balancer === first ? 'https://second.example' : east.url
      assert.throws(() => { balancer.update({ backends: [{ url: `${other}/openai`, priority: 1 }] }) }, isInstallError(/^intercept: .* is balanced already/))
      balancer.update({ maxAttempts: 3 })
    }
    assert.deepEqual(second.intercept, ['https://second.example'])
    assert.equal(second.status().backends[0]?.name, 'second.example')
    assert.equal(await chat(azureClient(east.url)), 'west')
    await second.uninstall()
    await first.uninstall()
  },

  async 'a process that has nothing more to do ends, although a balancer is installed'(both) {
    install(optionsFor(both))
    assert.equal(await chat(azureClient(both[0].url)), 'west')
  },

  async 'a request that is held keeps the process alive until it is served'(both) {
    for (const backend of both) {
      backend.always((call) => { if (backend.calls.length === 1) call.respond(429, { 'retry-after-ms': '40' }); else call.respond(200, {}, completion('served')) })
    }
    install(optionsFor(both, { maxWaitMs: 5_000 }))
    const served = chat(azureClient(both[0].url))
    process.once('exit', () => { assert.equal(answer, 'served') })
    let answer = ''
    answer = await served
  },
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const name = process.argv[2] ?? ''
  const run = scenarios[name]
  if (run === undefined) throw new RangeError(`there is no scenario "${name}"`)
  const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
  east.always((call) => { call.respond(429, { 'retry-after': '5' }) })
  west.always(async (call) => {
    await call.request.body()
    call.respond(200, {}, completion('west'))
  })
  await run([east, west])
  await Promise.all([east.close(), west.close()])
}
