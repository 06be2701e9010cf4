// `withTraffic`: what the requests say that are made in the async context of a function.
import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { InvalidOptionsError, withTraffic, type Traffic } from '../src/index.js'
import { Scene, WEST } from './support/scene.js'
import { runScript, urlOf } from './support/run-child.js'

const WAITS = { maxWaitMs: 5_000 }

/** How many requests wait after one more that both backends refuse for so long. */
function waitsAfter(it: Scene, retryAfterMs: number, send: () => unknown): number {
  send()
  while (it.inner.calls.length > 0 && it.engine.status().backends.some(({ inFlight }) => inFlight > 0)) {
    it.inner.last.start().respond(429, { 'retry-after-ms': String(retryAfterMs) }).end()
  }
  return it.engine.status().waiting
}

const scene = (options: ConstructorParameters<typeof Scene>[2] = {}): Scene => new Scene('new', 'new', options)

describe('withTraffic gives back', () => {
  test('a value', () => {
    const value = {}
    assert.equal(withTraffic(WAITS, () => value), value)
  })

  test('the very promise', async () => {
    const promise = turn('later')
    assert.equal(withTraffic(WAITS, () => promise), promise)
    assert.equal(await promise, 'later')
  })

  test('what fn throws, and what its promise rejects with', async () => {
    const error = new Error('of fn')
    assert.throws(() => withTraffic(WAITS, () => { throw error }), error)
    await assert.rejects(withTraffic(WAITS, () => Promise.reject(error)), error)
  })
})

describe('what withTraffic says', () => {
  test('holds for a request of fn, also after an await, and for none outside', async () => {
    const it = scene()
    const send = (): void => { it.send() }
    assert.equal(waitsAfter(scene(), 4_000, send), 0)
    const counts = await withTraffic(WAITS, async () => {
      const first = scene(), second = scene()
      const at = waitsAfter(first, 4_000, () => { first.send() })
      await turn()
      return [at, waitsAfter(second, 4_000, () => { second.send() })]
    })
    assert.deepEqual(counts, [1, 1])
    const after = scene()
    assert.equal(waitsAfter(after, 4_000, () => { after.send() }), 0)
  })

  test('needs no option, and goes before the options', () => {
    const it = scene({ maxWaitMs: 60_000, requestHeaders: false })
    assert.equal(waitsAfter(it, 4_000, () => withTraffic({ maxWaitMs: 0 }, () => it.send())), 0)
  })

  test('is said otherwise by a header, which goes before it, field by field', () => {
    const it = scene({ requestHeaders: true })
    const send = () => it.send({ headers: { 'x-balancer-max-wait-ms': '5000' } })
    assert.equal(waitsAfter(it, 4_000, () => withTraffic({ maxWaitMs: 0, deadlineMs: 2_000 }, send)), 0, 'deadlineMs is still that of the context')
    const other = scene({ requestHeaders: true })
    assert.equal(waitsAfter(other, 4_000, () => withTraffic({ maxWaitMs: 0 }, () => other.send({ headers: { 'x-balancer-max-wait-ms': '5000' } }))), 1)
  })

  test('holds although a header says the like without the option', () => {
    const it = scene()
    assert.equal(waitsAfter(it, 4_000, () => withTraffic(WAITS, () => it.send({ headers: { 'x-balancer-max-wait-ms': '0' } }))), 1)
    assert.deepEqual(it.inner.last.opts.headers, {})
  })

  test('is taken from the inner of two, and from the outer where the inner says nothing of a field', () => {
    const it = scene()
    const send = () => it.send()
    assert.equal(waitsAfter(it, 4_000, () => withTraffic({ maxWaitMs: 0 }, () => withTraffic(WAITS, send))), 1)
    const bounded = scene()
    const sendBounded = () => bounded.send()
    assert.equal(waitsAfter(bounded, 4_000, () => withTraffic({ deadlineMs: 2_000 }, () => withTraffic({ ...WAITS, deadlineMs: undefined }, sendBounded))), 0)
  })

  test('bounds a request by deadlineMs', async () => {
    const it = scene()
    const recorder = withTraffic({ deadlineMs: 1_000 }, () => it.send())
    it.inner.last.start()
    it.system.advance(1_000)
    await turn()
    assert.match(String(recorder.error), /within deadlineMs \(1000 ms\)/)
  })

  test('is read when a request is dispatched: a later attempt in another context is still of that request', () => {
    const it = scene({ backends: [{ url: WEST, priority: 1 }], intercept: ['https://east.example/openai'] })
    withTraffic(WAITS, () => it.send())
    withTraffic({ maxWaitMs: 0 }, () => it.inner.last.start().respond(429, { 'retry-after-ms': '4000' }).end())
    assert.equal(it.engine.status().waiting, 1)
  })

  test('is copied: a change of the object afterwards says nothing', () => {
    const it = scene()
    const traffic: Traffic = { maxWaitMs: 5_000 }
    assert.equal(waitsAfter(it, 4_000, () => withTraffic(traffic, () => {
      traffic.maxWaitMs = 0
      return it.send()
    })), 1)
  })
})

describe('withTraffic throws at once, and does not call fn, where', () => {
  let calls = 0
  const fn = () => calls++
  const wrong: readonly (readonly [what: string, traffic: unknown, message: string])[] = [
    ['there is no object', undefined, 'traffic must be an object. Received: undefined.'],
    ['there is something else', 'background', 'traffic must be an object. Received: a string.'],
    ['a field is misspelt', { maxWait: 1 }, 'traffic.maxWait is not an option (did you mean maxWaitMs?). Received: a number.'],
    ['a field is of a later version', { class: 'background' }, 'traffic.class is not an option (known are maxWaitMs, deadlineMs, stream). Received: a string.'],
    ['maxWaitMs is negative', { maxWaitMs: -1 }, 'traffic.maxWaitMs must be a whole number of milliseconds from 0 to 86400000. Received: -1.'],
    ['maxWaitMs is more than a day', { maxWaitMs: 86_400_001 }, 'traffic.maxWaitMs must be a whole number of milliseconds from 0 to 86400000. Received: 86400001.'],
    ['maxWaitMs is text', { maxWaitMs: '5000' }, 'traffic.maxWaitMs must be a whole number of milliseconds from 0 to 86400000. Received: "5000".'],
    ['maxWaitMs is no number', { maxWaitMs: NaN }, 'traffic.maxWaitMs must be a whole number of milliseconds from 0 to 86400000. Received: NaN.'],
    ['deadlineMs is 0', { deadlineMs: 0 }, 'traffic.deadlineMs must be a whole number of milliseconds from 1 to 86400000. Received: 0.'],
    ['stream is another word', { stream: 'output' }, 'traffic.stream must be "whole". Received: "output".'],
    ['a field is null', { stream: null }, 'traffic.stream must be "whole". Received: null.'],
  ]
  for (const [what, traffic, message] of wrong) {
    test(what, () => {
      assert.throws(() => withTraffic(traffic as Traffic, fn), (error: unknown) => error instanceof InvalidOptionsError && error.message === message)
      assert.equal(calls, 0)
    })
  }

  test('fn is no function', () => {
    assert.throws(() => withTraffic({}, undefined as never), { name: 'InvalidOptionsError', message: 'fn must be a function. Received: undefined.' })
    assert.throws(() => withTraffic({}, Promise.resolve() as never), { name: 'InvalidOptionsError', message: 'fn must be a function. Received: an object.' })
  })
})

test('no context is looked up before the first call of withTraffic', async () => {
  const output = await runScript(`
    import { AsyncLocalStorage } from 'node:async_hooks'
    let lookups = 0
    const { getStore } = AsyncLocalStorage.prototype
    AsyncLocalStorage.prototype.getStore = function () { lookups++; return getStore.call(this) }
    const { Engine } = await import(${JSON.stringify(urlOf('src/engine.ts'))})
    const { resolveOptions } = await import(${JSON.stringify(urlOf('src/options/index.ts'))})
    const { withTraffic } = await import(${JSON.stringify(urlOf('src/traffic.ts'))})
    const engine = new Engine(resolveOptions({ backends: [{ url: 'https://a.example', priority: 1 }], logger: false }))
    const inner = { dispatch: () => true, takesLegacy: false, isMockActive: false }
    const handler = { onRequestStart() {}, onResponseStart() {}, onResponseData() {}, onResponseEnd() {}, onResponseError() {} }
    const send = () => engine.dispatch(inner, { origin: 'https://a.example', path: '/x', method: 'GET' }, handler)
    send()
    console.log('before', lookups)
    withTraffic({}, send)
    console.log('after', lookups > 0)
    process.exit()
  `)
  assert.match(JSON.stringify(output), /before 0\\+nafter true/)
})

test('a copy of the package finds what withTraffic of another copy says', () => {
  withTraffic({}, () => {})
  const shared = (globalThis as Record<symbol, unknown>)[Symbol.for('openai-priority-loadbalancer.traffic')]
  assert.ok(shared instanceof AsyncLocalStorage)
  const it = scene()
  assert.equal(waitsAfter(it, 4_000, () => shared.run({ maxWaitMs: 5_000 }, () => it.send())), 1)
})
