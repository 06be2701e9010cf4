/**
 * What is kept so that a request can be sent again is let go when it no longer can be: at the commit point, not at the end
 * of the body. The measure is a bare Agent: fetch and undici hold on to some bodies themselves until the response has ended.
 */
import assert from 'node:assert/strict'
import { setImmediate as turn } from 'node:timers/promises'
import { describe, test, type TestContext } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Agent, request, type Dispatcher } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import { startScriptedBackend, type ScriptedCall } from '../support/scripted-backend.js'
import { until } from '../support/until.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const MIB = 1024 * 1024

/** Requests at once, each with a body of 1 MiB: above the size up to which undici is given, and keeps, one Buffer. */
const REQUESTS = 16

/** What a measurement may be off, in MiB. A copy of all bodies is four times that. */
const SLACK = 4

/** Buffers and strings in use, in MiB. */
async function measure(): Promise<number> {
  for (let i = 0; i < 2; i++) {
    await turn()
    collectGarbage()
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return (heapUsed + arrayBuffers) / MIB
}

/** Reads requests to their end, keeps nothing of them, and lets the test answer: with headers and one piece, the rest later. */
async function startPatientServer(t: TestContext): Promise<{ url: string, arrived: ScriptedCall[] }> {
  const arrived: ScriptedCall[] = []
  const backend = await startScriptedBackend()
  t.after(() => backend.close())
  backend.always((call) => { call.request.stream.resume().on('end', () => { arrived.push(call) }) })
  return { url: `${backend.url}/openai/v1`, arrived }
}

function begin(call: ScriptedCall): void {
  call.head(200)
  void call.write('first')
}

interface Held {
  /** Reads the response to its end. */
  end(): Promise<unknown>
}

/** Makes its body itself, so that nothing else holds on to it. */
type Caller = (url: string, dispatcher: Dispatcher, i: number, signal?: AbortSignal) => Promise<Held>

const text = (i: number): string => `${i} `.padEnd(MIB, 'x')
const bytes = (i: number): Buffer => Buffer.alloc(MIB, i + 1)

async function * pieces(i: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < 4; at++) {
    await turn()
    yield Buffer.alloc(MIB / 4, i + 1)
  }
}

const byFetch = (makeBody: (i: number) => unknown): Caller => async (url, dispatcher, i, signal) => {
  const response = await fetch(`${url}/responses`, { method: 'POST', body: makeBody(i), duplex: 'half', signal: signal ?? null, dispatcher } as unknown as RequestInit)
  return { end: () => response.arrayBuffer() }
}

const byRequest = (makeBody: (i: number) => unknown): Caller => async (url, dispatcher, i, signal) => {
  const { body } = await request(`${url}/responses`, { method: 'POST', body: makeBody(i) as Buffer, dispatcher, ...(signal && { signal }) })
  return { end: () => body.arrayBuffer() }
}

const CALLERS = {
  'fetch of a string': byFetch(text),
  'fetch of bytes': byFetch(bytes),
  'fetch of a Blob': byFetch((i) => new Blob([bytes(i)])),
  'fetch of a stream': byFetch((i) => ReadableStream.from(pieces(i))),
  'request with a Buffer': byRequest(bytes),
  'request with a string': byRequest(text),
  'request with an async generator': byRequest(pieces),
} as const satisfies Readonly<Record<string, Caller>>

/** Where the balancer keeps something that the Agent would not. */
const RECORDED: readonly string[] = ['fetch of a string', 'fetch of bytes', 'fetch of a Blob', 'request with an async generator']

function makeBalancer(url: string): PriorityBalancer {
  return new PriorityBalancer({ backends: [{ url, priority: 1 }], logger: false, maxWaitMs: 60_000 })
}

/** In MiB above the beginning: with the answer awaited, with its headers delivered, at the end. */
async function holdOpen(t: TestContext, call: Caller, make: (url: string) => Dispatcher): Promise<[waiting: number, committed: number, ended: number]> {
  const server = await startPatientServer(t)
  const dispatcher = make(server.url)
  t.after(() => dispatcher.destroy())
  const before = await measure()
  const calls = Array.from({ length: REQUESTS }, (_, i) => call(server.url, dispatcher, i))
  await until(() => server.arrived.length === REQUESTS, 'all requests arrived')
  const waiting = await measure() - before
  for (const call of server.arrived) begin(call)
  const held = await Promise.all(calls)
  const committed = await measure() - before
  for (const call of server.arrived) call.end('last')
  await Promise.all(held.map((one) => one.end()))
  return [waiting, committed, await measure() - before]
}

const show = (values: readonly number[]): string => values.map((value) => value.toFixed(1)).join(', ')

describe(`${REQUESTS} responses are held open, to requests of 1 MiB each: no more memory is in use than with a bare Agent`, () => {
  for (const [name, call] of Object.entries(CALLERS)) {
    test(name, async (t) => {
      const bare = await holdOpen(t, call, () => new Agent())
      const [waiting, committed, ended] = await holdOpen(t, call, makeBalancer)
      t.diagnostic(`MiB while waiting, after the commit, at the end: ${show([waiting, committed, ended])}; bare ${show(bare)}`)
      if (RECORDED.includes(name)) assert.ok(waiting - bare[0] > REQUESTS - SLACK, 'nothing was kept for a replay, so nothing can be shown to be let go')
      assert.ok(committed - bare[1] < SLACK, 'after the commit')
      assert.ok(ended - bare[2] < SLACK, 'at the end')
    })
  }
})

describe('a request that is given up leaves nothing', () => {
  const generators = CALLERS['request with an async generator']

  /** The outcome of each is the abort. */
  async function giveUp(calls: readonly Promise<unknown>[], giver: AbortController): Promise<void> {
    giver.abort()
    for (const { status } of await Promise.allSettled(calls)) assert.equal(status, 'rejected')
  }

  for (const name of ['fetch of a string', 'request with an async generator'] as const) {
    test(`while the answer is awaited: ${name}`, async (t) => {
      const server = await startPatientServer(t)
      const balancer = makeBalancer(server.url)
      t.after(() => balancer.destroy())
      const before = await measure()
      const giver = new AbortController()
      const calls = Array.from({ length: REQUESTS }, (_, i) => CALLERS[name](server.url, balancer, i, giver.signal))
      await until(() => server.arrived.length === REQUESTS, 'all requests arrived')
      const waiting = await measure() - before
      await giveUp(calls, giver)
      const after = await measure() - before
      t.diagnostic(`MiB: ${show([waiting, after])}`)
      assert.ok(waiting > REQUESTS - SLACK)
      assert.ok(after < SLACK, show([waiting, after]))
      assert.equal(balancer.status().backends[0]?.inFlight, 0)
    })
  }

  test('while it is held for a backend, with its body in memory', async (t) => {
    const server = await startPatientServer(t)
    const balancer = makeBalancer(server.url)
    t.after(() => balancer.destroy())
    const giver = new AbortController()
    const first = generators(server.url, balancer, 0, giver.signal)
    await until(() => server.arrived.length === 1, 'the first request arrived')
    server.arrived[0]?.respond(429, { 'retry-after': '30' })
    await until(() => balancer.status().waiting === 1, 'the first request is held')
    const before = await measure()
    const calls = Array.from({ length: REQUESTS }, (_, i) => CALLERS['fetch of bytes'](server.url, balancer, i, giver.signal))
    await until(() => balancer.status().waiting === REQUESTS + 1, 'all are held')
    const waiting = await measure() - before
    await giveUp([first, ...calls], giver)
    const after = await measure() - before
    t.diagnostic(`MiB: ${show([waiting, after])}`)
    assert.ok(waiting > REQUESTS - SLACK)
    assert.ok(after < SLACK, show([waiting, after]))
    assert.equal(balancer.status().waiting, 0)
  })

  test('without a word: a response of fetch that is neither read nor referred to any more ends its request', async (t) => {
    const server = await startPatientServer(t)
    const balancer = makeBalancer(server.url)
    t.after(() => balancer.destroy())
    const calls = Array.from({ length: REQUESTS }, (_, i) => CALLERS['fetch of bytes'](server.url, balancer, i).then(() => undefined))
    await until(() => server.arrived.length === REQUESTS, 'all requests arrived')
    for (const call of server.arrived) begin(call)
    await Promise.all(calls)
    assert.equal(balancer.status().backends[0]?.inFlight, REQUESTS)
    await until(async () => {
      await measure()
      return balancer.status().backends[0]?.inFlight === 0
    }, 'nothing in flight')
  })
})
