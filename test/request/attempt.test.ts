import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, test } from 'node:test'
import type { ModernHandler, LegacyHandler } from '../../src/request/undici.js'
import { gate } from '../support/gate.js'
import { EAST, PAIRS, Scene, WEST } from '../support/scene.js'
import { recordingHandler, wholeHandler } from '../support/recording-handler.js'
import { turns } from '../support/until.js'

const reset = (): Error => Object.assign(new Error('ECONNRESET'), { code: 'ECONNRESET' })

for (const [caller, inner] of PAIRS) {
  describe(`a caller of the ${caller} style, a dispatcher of the ${inner} style`, () => {
    const scene = (options?: ConstructorParameters<typeof Scene>[2]): Scene => new Scene(caller, inner, options)

    describe('what the caller was told without complaint is no reason to blame it for what comes after', () => {
      for (const callback of ['onBodySent', 'onRequestSent', 'onResponseStarted'] as const) {
        test(`a connection that breaks after ${callback} goes on to the next backend`, () => {
          const it = scene()
          const recorder = it.send({}, { optional: [callback] })
          const first = it.inner.last.start()
          first.handler[callback]?.(Buffer.from('x'))
          first.fail(reset())
          assert.deepEqual(it.origins, ['east', 'west'])
          assert.equal(it.backend('east').failures, 1)
          it.inner.last.start().respond(200).end()
          assert.equal(recorder.events.at(-1)?.[0], 'end')
        })
      }

      test('nor is one that breaks after an informational answer', () => {
        const it = scene()
        it.send()
        it.inner.last.start().respond(103).fail(reset())
        assert.deepEqual(it.origins, ['east', 'west'])
        assert.equal(it.backend('east').failures, 1)
      })

      test('a response that breaks off before its first byte is its backend\'s failure', () => {
        const it = scene()
        const recorder = it.send()
        const error = reset()
        it.inner.last.start().respond(200).fail(error)
        assert.equal(recorder.error, error)
        assert.equal(it.backend('east').failures, 1)
      })
    })

    test('that a response has begun is told once, however many attempts it takes', () => {
      const it = scene()
      const recorder = it.send({}, { optional: ['onResponseStarted'] })
      for (let i = 0; i < 2; i++) {
        const call = it.inner.last.start()
        call.handler.onResponseStarted?.()
        call.respond(i === 0 ? 503 : 200).end()
      }
      assert.deepEqual(recorder.events.map(([kind]) => kind), ['start', 'response started', 'headers', 'end'])
    })

    test('that another response has begun is told after an informational one', () => {
      const it = scene()
      const recorder = it.send({}, { optional: ['onResponseStarted'] })
      const call = it.inner.last.start()
      for (const status of [103, 200]) {
        call.handler.onResponseStarted?.()
        call.respond(status)
      }
      assert.deepEqual(recorder.events.map(([kind]) => kind), ['start', 'response started', 'headers', 'response started', 'headers'])
    })

    test('the pool hears of each end as what it was', () => {
      const ends: string[] = []
      const it = scene({ attemptTimeoutMs: 5_000 })
      const settle = it.engine.pool.settle.bind(it.engine.pool)
      Object.assign(it.engine.pool, { settle: ((attempt, end, now) => { ends.push(end); settle(attempt, end, now) }) satisfies typeof settle })
      it.send()
      it.inner.last.start().fail(reset())
      it.inner.last.start()
      it.system.advance(5_000)
      it.send()
      it.inner.last.start().respond(200).fail(reset())
      it.send().abort(new Error('enough'))
      it.send({ upgrade: 'websocket' })
      it.inner.last.start().upgrade(101, {}, new PassThrough())
      assert.deepEqual(ends, ['reset', 'timeout', 'broken', 'unsent'])
    })

    test('a swallowed response that is let go is neither a failure nor a reason for another attempt', async () => {
      const it = scene()
      const recorder = it.send()
      const first = it.inner.last.start().respond(503, { 'content-length': '65537' })
      await turns(1)
      assert.equal(first.aborts.length, 1)
      assert.deepEqual(it.origins, ['east', 'west'])
      assert.equal(it.backend('east').failures, 1, 'the 503 itself')
      assert.equal(it.backend('west').attempts, 1)
      it.inner.last.start().respond(200).end()
      assert.deepEqual(recorder.events, [['start'], ['headers', 200, [], ''], ['end', []]])
    })

    describe('an upgrade', () => {
      test('leaves no timer behind', () => {
        const it = scene({ attemptTimeoutMs: 5_000 })
        it.send({ upgrade: 'websocket' })
        it.inner.last.start().upgrade(101, {}, new PassThrough())
        assert.equal(it.system.pending, 0)
      })

      test('is in flight until its socket closes, whatever undici still says, and then no failure', async () => {
        const it = scene()
        const recorder = it.send({ upgrade: 'websocket' })
        const socket = new PassThrough()
        const call = it.inner.last.start()
        call.upgrade(101, {}, socket)
        call.fail(reset())
        assert.equal(it.inFlight, 1)
        it.system.advance(1_000)
        socket.destroy()
        await turns(2)
        assert.equal(it.inFlight, 0)
        assert.equal(it.backend('east').failures, 0)
        assert.equal(recorder.terminals, 1)
      })
    })

    test('a body that is given up while it is read costs no backend an attempt', async () => {
      const it = scene()
      const next = gate<string>()
      const recorder = it.send({ body: (async function * () { yield await next.promise })(), headers: { 'content-length': '1' } })
      recorder.abort(new Error('enough'))
      next.open('a')
      await turns(2)
      assert.deepEqual(it.engine.status().backends.map(({ attempts }) => attempts), [0, 0])
    })

    test('a body of announced length is sent once it was read', async () => {
      const it = scene()
      it.send({ body: new PassThrough().end('abc'), headers: { 'content-length': '3' } })
      assert.equal(it.inner.calls.length, 0)
      await turns(2)
      assert.equal(String(it.inner.last.opts.body), 'abc')
    })

    test('an attempt that has failed reads no further while the next one waits for its credential', async () => {
      const key = gate<string>()
      const it = scene({ backends: [{ name: 'east', url: EAST, priority: 1 }, { name: 'west', url: WEST, priority: 2, apiKey: () => key.promise }] })
      it.send({ body: (async function * () { yield await Promise.resolve('a'); yield 'b' })() })
      const first = it.inner.last.start()
      const sent = first.opts.body as AsyncIterator<string>
      await sent.next()
      first.respond(429).end()
      await assert.rejects(sent.next(), /given up/)
      key.open('key')
      await turns(2)
      const again: string[] = []
      for await (const chunk of it.inner.last.opts.body as AsyncIterable<string>) again.push(chunk)
      assert.deepEqual(again, ['a', 'b'])
    })

    test('the source of a body is told when the answer has ended before it', async () => {
      const it = scene()
      const stream = new PassThrough()
      it.send({ body: stream })
      it.inner.last.start().respond(200).end()
      await turns(1)
      assert.equal(stream.destroyed, true)
      assert.equal(stream.errored, null)
    })

    test('a listener that ends a request as it is sent on leaves the next backend in good health', () => {
      const sent: { recorder?: ReturnType<Scene['send']> } = {}
      const write = (fields: object): void => {
        const { event, backend } = fields as { event?: string, backend?: string }
        if (event === 'picked' && backend === 'west') sent.recorder?.abort(new Error('from a listener'))
      }
      const it = scene({ logger: { debug: write, info: write, warn: write, error: write } })
      const recorder = sent.recorder = it.send()
      it.inner.last.start().respond(429)
      assert.equal(recorder.terminals, 1)
      assert.equal(it.backend('west').attempts, 1)
      assert.deepEqual([it.backend('west').state, it.backend('west').failures], ['available', 0])
    })

    test('the balancer\'s end by force comes before an answer of our own, which does not come then', async () => {
      const it = scene()
      const reason = new Error('by force')
      const recorder = it.send()
      for (let i = 0; i < 2; i++) it.inner.last.start().respond(429).end()
      await it.engine.destroy(reason)
      await turns(1)
      assert.deepEqual(recorder.events, [['start'], ['error', reason]])
    })

    test('an answer of our own ends without trailers', async () => {
      const it = scene()
      const seen: unknown[] = []
      const handler: ModernHandler & LegacyHandler = caller === 'new'
        ? { onRequestStart () {}, onResponseEnd (controller, trailers) { seen.push(trailers, controller.rawTrailers) } }
        : { onComplete (trailers) { seen.push({}, trailers) } }
      it.engine.dispatch(it.inner, { origin: 'https://east.example', path: '/openai/x', method: 'POST' }, wholeHandler(handler))
      for (let i = 0; i < 2; i++) it.inner.last.start().respond(429).end()
      await turns(1)
      assert.deepEqual(seen, [{}, []])
    })

    describe('the caller is asked to wait for a drain only where the dispatcher inside says so, for no other would ever come', () => {
      const dispatch = (it: Scene, more: object = {}, options: Parameters<typeof recordingHandler>[1] = {}): boolean =>
        it.engine.dispatch(it.inner, { origin: 'https://east.example', path: '/openai/x', method: 'POST', ...more }, recordingHandler(caller, options).handler)
      const east = (apiKey: () => string | Promise<string>): Scene =>
        scene({ backends: [{ name: 'east', url: EAST, priority: 1, apiKey }, { name: 'west', url: WEST, priority: 2 }] })

      test('not when its handler throws at the start, or gives up there', () => {
        assert.equal(dispatch(scene(), {}, { hooks: { start: () => { throw new Error('x') } } }), true)
        assert.equal(dispatch(scene(), {}, { hooks: { start: (self) => { self.abort(new Error('x')) } } }), true)
      })

      test('not while the body is read, or a credential is fetched', async () => {
        assert.equal(dispatch(scene(), { body: new PassThrough().end('a'), headers: { 'content-length': '1' } }), true)
        assert.equal(dispatch(east(() => Promise.resolve('key'))), true)
        await turns(2)
      })

      test('not when a credential is not to be had, or the dispatcher throws', () => {
        const it = east(() => { throw new Error('vault') })
        assert.equal(dispatch(it), true)
        const throwing = scene()
        throwing.inner.onDispatch = () => { throw new Error('no') }
        assert.equal(dispatch(throwing), true)
      })

      test('not when the request waits for a backend, or is turned away', () => {
        for (const maxWaitMs of [0, 10_000]) {
          const it = scene({ maxWaitMs })
          dispatch(it)
          for (let i = 0; i < 2; i++) it.inner.last.start().respond(429, { 'retry-after': '5' }).end()
          assert.equal(dispatch(it), true)
          assert.equal(it.inner.calls.length, 2)
        }
      })

      test('not when the function that gives the credential has ended the request itself', () => {
        const sent: { recorder?: ReturnType<typeof recordingHandler> } = {}
        const it = east(() => { sent.recorder?.abort(new Error('enough')); return 'key' })
        const recorder = sent.recorder = recordingHandler(caller)
        assert.equal(it.engine.dispatch(it.inner, { origin: 'https://east.example', path: '/openai/x', method: 'POST' }, recorder.handler), true)
        assert.equal(recorder.terminals, 1)
        assert.equal(it.inner.calls.length, 0)
      })

      test('but what is refused as it is, is answered as undici answers it: with false', () => {
        const thrown = new Error('headers')
        assert.equal(dispatch(scene(), { headers: (function * () { throw thrown })() }), false)
      })
    })
  })
}
