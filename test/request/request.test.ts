import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, test } from 'node:test'
import type { AnyHandler } from '../../src/request/undici.js'
import { turns } from '../support/until.js'
import { gate } from '../support/gate.js'
import { EAST, PAIRS, Scene, WEST } from '../support/scene.js'
import { recordingHandler, wholeHandler, type Recorder } from '../support/recording-handler.js'

const withCode = (code: string): Error => Object.assign(new Error(code), { code })
const kinds = (recorder: Recorder): string[] => recorder.events.map(([kind]) => kind)
const pairs = (caller: string, inner: string): string => `a caller of the ${caller} style, a dispatcher of the ${inner} style`

for (const [caller, inner] of PAIRS) {
  describe(pairs(caller, inner), () => {
    const scene = (options?: ConstructorParameters<typeof Scene>[2]): Scene => new Scene(caller, inner, options)

    describe('one attempt', () => {
      test('reaches the caller as it comes', () => {
        const it = scene()
        const recorder = it.send({}, { optional: ['onBodySent', 'onRequestSent', 'onResponseStarted'] })
        const call = it.inner.last.start()
        call.handler.onBodySent?.(Buffer.from('ping'))
        call.handler.onRequestSent?.()
        call.handler.onResponseStarted?.()
        call.respond(103, { link: '</a>' }, 'Early Hints').respond(200, { 'set-cookie': ['a', 'b'] }, 'OK').data('po').data('ng').end({ 'x-sum': '7' })
        assert.deepEqual(recorder.events, [
          ['start'], ['body sent', 'ping'], ['request sent'], ['response started'],
          ['headers', 103, ['link', '</a>'], 'Early Hints'], ['headers', 200, ['set-cookie', 'a', 'set-cookie', 'b'], 'OK'], ['data', 'pong'], ['end', ['x-sum', '7']],
        ])
        assert.equal(it.inFlight, 0)
        assert.equal(it.underWay, 0)
        assert.equal(it.system.pending, 0)
      })

      test('has only those of the optional callbacks that the caller has', () => {
        const it = scene()
        it.send({}, { optional: [] })
        assert.equal(it.inner.last.handler.onBodySent, undefined)
        assert.equal(it.inner.last.handler.onRequestSent, undefined)
      })

      test('gives back what the dispatcher says of its load', () => {
        const it = scene()
        it.inner.result = false
        const dispatch = (): boolean => it.engine.dispatch(it.inner, { origin: 'https://east.example', path: '/openai/x', method: 'GET' }, recordingHandler(caller).handler)
        assert.equal(dispatch(), false)
        it.inner.result = true
        assert.equal(dispatch(), true)
      })

      test('may start twice, as HTTP/2 does with a refused stream: the newer controller is the one that works', () => {
        const it = scene()
        const recorder = it.send()
        it.inner.last.start().start()
        recorder.abort(new Error('enough'))
        assert.deepEqual(kinds(recorder), ['start', 'error'])
        assert.equal(it.inner.last.aborts.length, 1)
      })

      test('is in flight until its body has ended', () => {
        const it = scene()
        it.send()
        it.inner.last.start().respond(200)
        assert.equal(it.backend('east').inFlight, 1)
        it.inner.last.data('x').end()
        assert.equal(it.backend('east').inFlight, 0)
      })
    })

    describe('a failover', () => {
      test('goes on at the headers, and the caller sees one request', () => {
        const it = scene()
        const recorder = it.send()
        const first = it.inner.last.start().respond(429, { 'retry-after': '5' })
        assert.deepEqual(it.origins, ['east', 'west'])
        first.data('too many').end()
        it.inner.last.start().respond(200).data('fine').end()
        assert.deepEqual(recorder.events, [['start'], ['headers', 200, [], ''], ['data', 'fine'], ['end', []]])
        assert.equal(it.inFlight, 0)
        assert.equal(it.system.pending, 0)
        assert.equal(it.backend('east').throttled, 1)
      })

      test('hears nothing more of an attempt that is over, whatever it still says', () => {
        const it = scene()
        const recorder = it.send({}, { optional: ['onBodySent', 'onRequestSent', 'onResponseStarted'] })
        const first = it.inner.last.start().fail(withCode('ECONNRESET'))
        first.respond(200).respond(103).data('late').end().fail(new Error('late'))
        first.handler.onBodySent?.(Buffer.from('late'))
        first.handler.onRequestSent?.()
        first.handler.onResponseStarted?.()
        const socket = new PassThrough()
        first.upgrade(101, {}, socket)
        assert.equal(socket.destroyed, true)
        assert.deepEqual(kinds(recorder), ['start'])
        it.inner.last.start().respond(200).end()
        it.inner.last.data('late').fail(new Error('late'))
        it.inner.last.handler.onResponseStarted?.()
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'end'])
      })

      test('takes the error first in a proxy\'s refusal: start, error, data, end', () => {
        const it = scene()
        const recorder = it.send()
        it.inner.last.start().fail(withCode('UND_ERR_ABORTED')).data('Proxy Authentication Required').end()
        it.inner.last.respond(200).end()
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'end'])
      })

      test('ends with the last real error when no backend is left', () => {
        const it = scene()
        const recorder = it.send()
        it.inner.last.fail(withCode('ECONNREFUSED'))
        const last = withCode('ENOTFOUND')
        it.inner.last.fail(last)
        assert.deepEqual(recorder.events, [['start'], ['error', last]])
        assert.equal(it.underWay, 0)
      })

      test('ends with the last real answer when no backend is left', () => {
        const it = scene()
        const recorder = it.send()
        it.inner.last.fail(withCode('ECONNREFUSED'))
        it.inner.last.start().respond(503, { 'x-from': 'west' }).data('sorry').end()
        assert.deepEqual(recorder.events, [['start'], ['headers', 503, ['x-from', 'west'], ''], ['data', 'sorry'], ['end', []]])
      })

      test('does not happen for a path that lives on one backend', () => {
        const it = scene()
        const recorder = it.send({ path: '/openai/files/file-1' })
        it.inner.last.start().respond(429, { 'retry-after': '5' }).end()
        assert.deepEqual(it.origins, ['east'])
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'end'])
        const failing = it.send({ path: '/openai/files/file-1' })
        it.inner.last.fail(withCode('ECONNREFUSED'))
        assert.deepEqual(it.origins, ['east', 'east'])
        assert.equal((failing.error as Error).message, 'ECONNREFUSED')
      })

      test('does not happen once the response is the caller\'s', () => {
        const it = scene()
        const recorder = it.send()
        const reset = withCode('ECONNRESET')
        it.inner.last.start().respond(200).data('half').fail(reset)
        assert.deepEqual(recorder.events, [['start'], ['headers', 200, [], ''], ['data', 'half'], ['error', reset]])
        assert.deepEqual(it.origins, ['east'])
        assert.equal(it.backend('east').failures, 1)
        assert.equal(it.backend('east').state, 'available')
        assert.equal(it.inFlight, 0)
      })

      test('sends the same body again', async () => {
        const it = scene()
        it.send({ body: 'text' })
        it.inner.last.fail(withCode('ECONNREFUSED'))
        assert.deepEqual(it.inner.calls.map(({ opts }) => opts.body), ['text', 'text'])
        await turns(1)
      })

      test('cannot happen once a body that is not kept was begun', async () => {
        const it = scene({ maxReplayBytes: 0 })
        const generate = async function * (): AsyncGenerator<string> { yield await Promise.resolve('a'); yield 'b' }
        const recorder = it.send({ body: generate() })
        await (it.inner.last.opts.body as AsyncGenerator<string>).next()
        it.inner.last.start().respond(429).end()
        assert.deepEqual(it.origins, ['east'])
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'end'])
      })

      test('rewrites the model for each backend anew, and the length with it', () => {
        const it = scene({ backends: [{ url: EAST, priority: 1, models: { m: 'a-longer-name' } }, { url: WEST, priority: 2 }] })
        it.send({ body: '{"model":"m"}', headers: { 'content-length': '13' } })
        it.inner.last.fail(withCode('ECONNREFUSED'))
        const [first, second] = it.inner.calls
        assert.equal(String(first?.opts.body), '{"model":"a-longer-name"}')
        assert.deepEqual(first?.headers, ['content-length', '25'])
        assert.equal(second?.opts.body, '{"model":"m"}')
        assert.deepEqual(second?.opts.headers, { 'content-length': '13' })
      })

      test('writes a length that is repeated once', () => {
        const it = scene()
        it.send({ body: 'abc', headers: { 'content-length': '3, 3' } })
        assert.deepEqual(it.inner.last.opts.headers, { 'content-length': '3' })
      })
    })

    describe('a response that is not wanted', () => {
      const limit = 65_536

      test('is read to its end, so that its connection can be used again', async () => {
        const it = scene()
        it.send()
        const first = it.inner.last.start().respond(429, { 'content-length': String(limit) })
        assert.equal(it.backend('east').inFlight, 1)
        first.data(Buffer.alloc(limit)).end()
        await turns(2)
        assert.deepEqual(first.aborts, [])
        assert.equal(it.backend('east').inFlight, 0)
        it.inner.last.start().respond(200).end()
        assert.equal(it.system.pending, 0)
      })

      test('is let go past 64 KiB, a moment later', async () => {
        const it = scene()
        it.send()
        const first = it.inner.last.start().respond(429).data(Buffer.alloc(limit))
        await turns(1)
        assert.deepEqual(first.aborts, [])
        first.data(Buffer.alloc(1))
        assert.deepEqual(first.aborts, [], 'not from inside undici\'s callback')
        assert.equal(it.backend('east').inFlight, 0)
        first.data(Buffer.alloc(1))
        await turns(1)
        assert.equal(first.aborts.length, 1)
      })

      test('is let go at once when it announces more', async () => {
        const it = scene()
        it.send()
        const first = it.inner.last.start().respond(503, { 'content-length': String(limit + 1) })
        await turns(1)
        assert.equal(first.aborts.length, 1)
        assert.equal(it.backend('east').inFlight, 0)
      })

      test('is let go after a second when it stalls', async () => {
        const it = scene()
        it.send()
        const first = it.inner.last.start().respond(429)
        it.system.advance(999)
        await turns(1)
        assert.deepEqual(first.aborts, [])
        it.system.advance(1)
        await turns(1)
        assert.equal(first.aborts.length, 1)
      })

      test('may break off', () => {
        const it = scene()
        const recorder = it.send()
        it.inner.last.start().respond(429).fail(withCode('ECONNRESET'))
        assert.equal(it.backend('east').inFlight, 0)
        it.inner.last.start().respond(200).end()
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'end'])
        assert.equal(it.system.pending, 0)
      })

      test('is not paused with the caller\'s', () => {
        const it = scene()
        const recorder = it.send({}, { hooks: { headers: (self) => { self.pause() } } })
        const first = it.inner.last.start().respond(429)
        it.inner.last.start().respond(200)
        first.data('x')
        assert.equal(first.paused, false)
        assert.equal(it.inner.last.paused, true)
        recorder.resume()
        assert.equal(it.inner.last.paused, false)
      })
    })

    describe('backpressure', () => {
      test('reaches the attempt whose response the caller gets', () => {
        const it = scene()
        const recorder = it.send({}, { hooks: { data: (self) => { self.pause() } } })
        const call = it.inner.last.start().respond(200).data('a')
        assert.equal(call.paused, true)
        recorder.resume()
        assert.deepEqual([call.paused, call.resumes], [false, 1])
        call.end()
        recorder.pause()
        recorder.resume()
        assert.equal(call.resumes, 1, 'what comes next on this connection is not ours to resume')
      })

      test('that was asked for while an attempt was failing holds for the next', () => {
        const it = scene()
        const recorder = it.send({}, { hooks: { start: (self) => { if (self.style === 'new') self.pause() } } })
        it.inner.last.start().respond(429).end()
        const second = it.inner.last.start().respond(200)
        assert.equal(second.paused, caller === 'new')
        if (caller === 'new') recorder.resume()
        assert.equal(second.paused, false)
      })
    })

    describe('the caller gives up', () => {
      const reason = new Error('enough')
      const endsWith = (it: Scene, recorder: Recorder, before: string[]): void => {
        assert.deepEqual(kinds(recorder), [...before, 'error'])
        assert.equal(recorder.error, reason)
        assert.equal(it.inFlight, 0)
        assert.equal(it.underWay, 0)
        assert.deepEqual(it.engine.status().backends.map(({ state, failures }) => [state, failures]), [['available', 0], ['available', 0]])
      }

      test('as soon as the request starts', () => {
        const it = scene()
        const recorder = it.send({}, { hooks: { start: (self) => { self.abort(reason) } } })
        // The recorder writes an event down when its hook is over.
        assert.deepEqual(kinds(recorder), ['error', 'start'])
        assert.equal(recorder.error, reason)
        assert.equal(it.inner.calls.length, 0)
        assert.equal(it.underWay, 0)
      })

      test('while the body is read', async () => {
        const it = scene()
        const next = gate<string>()
        let closed = false
        const generate = async function * (): AsyncGenerator<string> { try { yield await next.promise } finally { closed = true } }
        const recorder = it.send({ body: generate(), headers: { 'content-length': '1' } })
        recorder.abort(reason)
        endsWith(it, recorder, ['start'])
        next.open('a')
        await turns(2)
        assert.equal(closed, true)
        assert.equal(it.inner.calls.length, 0)
      })

      test('while a credential is fetched', async () => {
        const token = gate<string>()
        const it = scene({ backends: [{ name: 'east', url: EAST, priority: 1, bearerToken: () => token.promise }, { name: 'west', url: WEST, priority: 2 }] })
        const recorder = it.send()
        recorder.abort(reason)
        endsWith(it, recorder, ['start'])
        token.open('t')
        await turns(2)
        assert.equal(it.inner.calls.length, 0)
      })

      test('while the credential is fetched that then fails', async () => {
        const token = gate<string>()
        const it = scene({ backends: [{ name: 'east', url: EAST, priority: 1, bearerToken: () => token.promise }, { name: 'west', url: WEST, priority: 2 }] })
        const recorder = it.send()
        recorder.abort(reason)
        token.fail(new Error('too late'))
        await turns(2)
        endsWith(it, recorder, ['start'])
      })

      test('before there is a connection: it is aborted when there is one', () => {
        const it = scene()
        const recorder = it.send()
        recorder.abort(reason)
        endsWith(it, recorder, ['start'])
        assert.deepEqual(it.inner.last.aborts, [])
        it.inner.last.start()
        assert.deepEqual(it.inner.last.aborts, [reason])
        assert.equal(recorder.terminals, 1)
      })

      for (const attempt of [1, 2]) {
        test(`in attempt ${attempt}`, () => {
          const it = scene()
          const recorder = it.send()
          if (attempt === 2) it.inner.last.start().respond(429, { 'retry-after': '0.001' }).end()
          const call = it.inner.last.start()
          recorder.abort(reason)
          recorder.abort(new Error('again'))
          it.system.advance(100)
          assert.deepEqual(call.aborts, [reason])
          endsWith(it, recorder, ['start'])
        })
      }

      test('while it waits for a backend', () => {
        const it = scene({ maxWaitMs: 10_000 })
        const recorder = it.send()
        for (const backend of ['east', 'west']) {
          assert.equal(it.origins.at(-1), backend)
          it.inner.last.start().respond(429, { 'retry-after': '5' }).end()
        }
        assert.equal(it.engine.status().waiting, 1)
        recorder.abort(reason)
        assert.equal(it.engine.status().waiting, 0)
        assert.equal(it.system.pending, 0)
        it.system.advance(60_000)
        endsWith(it, recorder, ['start'])
        assert.equal(it.inner.calls.length, 2)
      })

      test('in the headers, in the body', () => {
        for (const where of ['headers', 'data'] as const) {
          const it = scene()
          const recorder = it.send({}, { hooks: { [where]: (self: Recorder) => { self.abort(reason) } } })
          const call = it.inner.last.start().respond(200)
          if (where === 'data') call.data('x')
          assert.deepEqual(call.aborts, [reason])
          assert.equal(recorder.terminals, 1)
          assert.equal(recorder.error, reason)
          assert.equal(it.inFlight, 0)
          assert.equal(it.backend('east').failures, 0)
        }
      })

      test('in the middle of the body', () => {
        const it = scene()
        const recorder = it.send()
        const call = it.inner.last.start().respond(200).data('x')
        recorder.abort(reason)
        assert.deepEqual(call.aborts, [reason])
        endsWith(it, recorder, ['start', 'headers', 'data'])
      })

      test('at the end, or later: too late to be told', () => {
        const it = scene()
        const recorder = it.send({}, { hooks: { end: (self) => { self.abort(reason) } } })
        const call = it.inner.last.start().respond(200).end()
        recorder.abort(reason)
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'end'])
        assert.deepEqual(call.aborts, [])
      })

      test('without a reason, or with one that is no Error', () => {
        for (const [given, check] of [[undefined, (error: unknown) => (error as { code: string }).code === 'UND_ERR_ABORTED'], ['enough', (error: unknown) => error === 'enough']] as const) {
          const it = scene()
          const recorder = it.send()
          it.inner.last.start()
          recorder.abort(given)
          assert.ok(check(recorder.error))
          assert.equal(recorder.terminals, 1)
        }
      })

      test('and the source of its body is told', async () => {
        const it = scene()
        const stream = new PassThrough()
        const recorder = it.send({ body: stream })
        recorder.abort(reason)
        await turns(1)
        assert.deepEqual([stream.destroyed, stream.errored], [true, null])
      })

      test('before an answer of our own, which does not come then', async () => {
        const it = scene()
        const recorder = it.send()
        for (let i = 0; i < 2; i++) it.inner.last.start().respond(429).end()
        recorder.abort(reason)
        await turns(1)
        assert.deepEqual(recorder.events, [['start'], ['error', reason]])
        assert.equal(it.underWay, 0)
      })
    })

    describe('what the caller\'s own handler throws', () => {
      const thrown = new Error('thrown by the caller')
      const throws = (): void => { throw thrown }
      const isToldOf = (it: Scene, recorder: Recorder, before: string[]): void => {
        assert.deepEqual(kinds(recorder), [...before, 'error'])
        assert.equal(recorder.error, thrown)
        assert.deepEqual(it.origins.length <= 1, true, 'no other backend is tried')
        assert.deepEqual(it.engine.status().backends.map(({ state, failures, inFlight }) => [state, failures, inFlight]), [['available', 0, 0], ['available', 0, 0]])
        assert.equal(it.underWay, 0)
      }

      test('at the start', () => {
        const it = scene()
        isToldOf(it, it.send({}, { hooks: { start: throws } }), [])
      })

      test('at informational headers', () => {
        const it = scene()
        const recorder = it.send({}, { hooks: { headers: throws } })
        it.inner.last.start().callback(() => it.inner.last.respond(103))
        isToldOf(it, recorder, ['start'])
      })

      test('at headers', () => {
        const it = scene()
        const recorder = it.send({}, { hooks: { headers: throws } })
        it.inner.last.start().callback(() => it.inner.last.respond(200))
        isToldOf(it, recorder, ['start'])
      })

      test('at data', () => {
        const it = scene()
        const recorder = it.send({}, { hooks: { data: throws } })
        it.inner.last.start().respond(200).callback(() => it.inner.last.data('x'))
        isToldOf(it, recorder, ['start', 'headers'])
      })

      test('at the end, as undici\'s retry handler does', () => {
        const it = scene()
        const recorder = it.send({}, { hooks: { end: throws } })
        it.inner.last.start().respond(200).callback(() => it.inner.last.end())
        isToldOf(it, recorder, ['start', 'headers'])
      })

      test('at an upgrade', () => {
        const it = scene()
        const recorder = it.send({ upgrade: 'websocket' }, { hooks: { upgrade: throws } })
        it.inner.last.start().callback(() => it.inner.last.upgrade(101, {}, new PassThrough()))
        isToldOf(it, recorder, ['start'])
      })

      for (const [hook, callback] of [['bodySent', 'onBodySent'], ['requestSent', 'onRequestSent'], ['responseStarted', 'onResponseStarted']] as const) {
        test(`in ${callback}`, () => {
          const it = scene()
          const recorder = it.send({}, { hooks: { [hook]: throws }, optional: [callback] })
          const call = it.inner.last.start()
          call.callback(() => call.handler[callback]?.(Buffer.from('x')))
          isToldOf(it, recorder, ['start'])
        })
      }

      test('when it is told of an error goes up to who has called', () => {
        const it = scene()
        const recorder = it.send({}, { hooks: { error: throws } })
        it.inner.last.fail(withCode('ECONNREFUSED'))
        assert.throws(() => it.inner.last.fail(withCode('ECONNREFUSED')), thrown)
        assert.equal(it.underWay, 0)
        assert.equal(recorder.terminals, 0)
      })

      test('when its wait is over goes past the others that wait', (t) => {
        const it = scene({ maxWaitMs: 10_000 })
        const deferred: (() => void)[] = []
        it.send({}, { hooks: { error: throws } })
        const other = it.send()
        for (let i = 0; i < 4; i++) it.inner.calls[i]?.start().respond(429, { 'retry-after': '5' }).end()
        assert.equal(it.engine.status().waiting, 2)
        t.mock.method(globalThis, 'queueMicrotask', (callback: () => void) => { deferred.push(callback) })
        void it.engine.close()
        assert.equal((other.error as { code: string }).code, 'ERR_OPLB_CLOSED')
        assert.equal(deferred.length, 1)
        assert.throws(() => { deferred[0]?.() }, thrown)
      })
    })

    describe('an upgrade', () => {
      test('is handed over with its socket, and in flight until that closes', async () => {
        const it = scene()
        const socket = new PassThrough()
        const seen: unknown[] = []
        const recorder = it.send({ upgrade: 'websocket' }, { hooks: { upgrade: (_self, given) => seen.push(given) } })
        it.inner.last.start().upgrade(101, { upgrade: 'websocket' }, socket)
        assert.deepEqual(recorder.events, [['start'], ['upgrade', 101, ['upgrade', 'websocket']]])
        assert.deepEqual(seen, [socket])
        assert.equal(it.underWay, 0)
        assert.equal(it.backend('east').inFlight, 1)
        socket.destroy()
        await turns(2)
        assert.equal(it.backend('east').inFlight, 0)
        recorder.abort(new Error('late'))
        assert.equal(recorder.terminals, 1)
      })

      test('that is refused goes on to the next backend', () => {
        const it = scene()
        const recorder = it.send({ upgrade: 'websocket' })
        it.inner.last.start().respond(503).end()
        it.inner.last.start().upgrade(101, {}, new PassThrough())
        assert.deepEqual(kinds(recorder), ['start', 'upgrade'])
        assert.deepEqual(it.origins, ['east', 'west'])
      })
    })

    describe('an attempt that takes too long', () => {
      test('is given up, and the next one is made', () => {
        const it = scene({ attemptTimeoutMs: 5_000 })
        const recorder = it.send()
        const first = it.inner.last.start()
        it.system.advance(5_000)
        assert.equal((first.aborts[0] as { code: string }).code, 'UND_ERR_HEADERS_TIMEOUT')
        assert.match(String(first.aborts[0]), /Backend "east" sent no response headers within attemptTimeoutMs \(5000 ms\)/)
        it.inner.last.start().respond(200)
        it.system.advance(60_000)
        it.inner.last.end()
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'end'])
        assert.equal(it.backend('east').failures, 1)
        assert.equal(it.system.pending, 0)
      })

      test('is not given up any more once it is answered, wanted or not', () => {
        const it = scene({ attemptTimeoutMs: 500 })
        const recorder = it.send()
        const first = it.inner.last.start().respond(429)
        const second = it.inner.last.start().respond(200)
        it.system.advance(600)
        assert.deepEqual([first.aborts, second.aborts], [[], []])
        second.end()
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'end'])
      })

      test('has its time from the moment on at which it is on a connection, not while it waits for one', () => {
        const it = scene({ attemptTimeoutMs: 5_000 })
        it.send()
        const first = it.inner.last
        it.system.advance(60_000)
        assert.equal(it.inner.calls.length, 1)
        first.start()
        it.system.advance(4_999)
        assert.deepEqual(it.origins, ['east'])
        it.system.advance(1)
        assert.deepEqual(it.origins, ['east', 'west'])
        assert.equal(first.aborts.length, 1)
      })

      test('has its time once, however often the dispatcher starts it', () => {
        const it = scene({ attemptTimeoutMs: 5_000 })
        it.send()
        const first = it.inner.last.start()
        it.system.advance(3_000)
        first.start()
        it.system.advance(2_000)
        assert.deepEqual(it.origins, ['east', 'west'])
        assert.equal(it.system.pending, 0)
      })

      test('has its time whole after its credential was fetched', async () => {
        const token = gate<string>()
        const backends = [{ name: 'east', url: EAST, priority: 1, apiKey: () => token.promise }, { name: 'west', url: WEST, priority: 2 }]
        const it = scene({ attemptTimeoutMs: 5_000, backends })
        const recorder = it.send()
        it.system.advance(20_000)
        assert.deepEqual(it.origins, [])
        token.open('key')
        await turns(2)
        it.inner.last.start()
        it.system.advance(4_999)
        it.inner.last.respond(200).end()
        assert.deepEqual([it.origins, kinds(recorder)], [['east'], ['start', 'headers', 'end']])
      })

      test('may start again after it was over, as an older undici may do it, and is aborted then without a clock', () => {
        const it = scene({ attemptTimeoutMs: 5_000 })
        const recorder = it.send()
        const first = it.inner.last
        recorder.abort(new Error('enough'))
        first.start()
        assert.equal(first.aborts.length, 1)
        assert.equal(it.system.pending, 0)
      })

      test('ends with its own error when it was the last', () => {
        const it = scene({ attemptTimeoutMs: 5_000 })
        const recorder = it.send()
        for (let i = 0; i < 2; i++) {
          it.inner.last.start()
          it.system.advance(5_000)
        }
        assert.match(String(recorder.error), /Backend "west" sent no response headers/)
      })

      test('is not given up when it is our own process that stood still: it gets its time anew', async () => {
        const it = scene({ attemptTimeoutMs: 1_000 })
        const recorders = Array.from({ length: 10 }, () => it.send())
        const calls = it.inner.calls.map((call) => call.start())
        it.system.freeze(2_000)
        await turns(3)
        it.system.advance(999)
        assert.deepEqual(it.origins, Array(10).fill('east'))
        for (const call of calls) call.respond(200).end()
        assert.deepEqual(recorders.map(({ terminals }) => terminals), Array(10).fill(1))
        assert.deepEqual([it.backend('east').state, it.backend('east').failures], ['available', 0])
      })

      test('is given up after a standstill all the same when it is silent for its whole time again', async () => {
        const it = scene({ attemptTimeoutMs: 1_000 })
        it.send()
        const first = it.inner.last.start()
        it.system.freeze(2_000)
        await turns(3)
        it.system.advance(1_000)
        assert.equal(first.aborts.length, 1)
        assert.deepEqual(it.origins, ['east', 'west'])
      })
    })

    describe('a credential', () => {
      const backends = (apiKey: (hint?: { refused: boolean }) => string | Promise<string>): ConstructorParameters<typeof Scene>[2] =>
        ({ backends: [{ name: 'east', url: EAST, priority: 1, apiKey }, { name: 'west', url: WEST, priority: 2 }] })

      test('that is there at once is sent at once', () => {
        const it = scene(backends(() => 'key'))
        it.send()
        assert.deepEqual(it.inner.last.headers, ['api-key', 'key'])
      })

      test('that comes later is sent later', async () => {
        const it = scene(backends(() => Promise.resolve('key')))
        it.send()
        assert.equal(it.inner.calls.length, 0)
        await turns(1)
        assert.deepEqual(it.inner.last.headers, ['api-key', 'key'])
      })

      for (const [what, apiKey] of [['throws', () => { throw new Error('vault') }], ['rejects', () => Promise.reject(new Error('vault'))]] as const) {
        test(`whose function ${what} is a failure of its backend`, async () => {
          const it = scene(backends(apiKey))
          const recorder = it.send()
          await turns(1)
          assert.deepEqual(it.origins, ['west'])
          assert.equal(it.backend('east').failures, 1)
          it.inner.last.fail(withCode('ECONNREFUSED'))
          assert.equal((recorder.error as Error).message, 'ECONNREFUSED')
        })

        test(`whose function ${what} is told as what it is where no other backend is left`, async () => {
          const it = scene({ backends: [{ name: 'east', url: EAST, priority: 1, apiKey }] })
          const recorder = it.send()
          await turns(1)
          assert.match(String(recorder.error), /the apiKey function of "east" failed/)
        })
      }

      test('is fetched once for 300 requests that come at once', async () => {
        const vault = gate<string>()
        let calls = 0
        const it = scene(backends(() => { calls++; return vault.promise }))
        for (let i = 0; i < 300; i++) it.send()
        assert.equal(calls, 1)
        vault.open('key')
        await turns(2)
        assert.deepEqual([it.inner.calls.length, new Set(it.origins)], [300, new Set(['east'])])
        assert.deepEqual(it.inner.last.headers, ['api-key', 'key'])
        assert.equal(it.system.pending, 0)
      })

      test('is given up after 30 s of its own, and the request goes on to the next backend', async () => {
        const it = scene({ ...backends(() => new Promise<string>(() => {})), attemptTimeoutMs: 1_000 })
        const recorder = it.send()
        it.system.advance(10_000)
        it.send()
        it.system.advance(19_999)
        assert.deepEqual(it.origins, [])
        it.system.advance(1)
        assert.deepEqual(it.origins, ['west', 'west'], 'also the one that came later')
        for (const call of it.inner.calls) call.start().respond(200).end()
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'end'])
        await turns(1)
        assert.equal(it.system.pending, 0)
      })

      test('leaves no timer behind where the caller gives up while it is fetched, and says nothing of the backend', async () => {
        const vault = gate<string>()
        const it = scene(backends(() => vault.promise))
        for (let i = 0; i < 3; i++) {
          const recorder = it.send()
          it.system.advance(5_000)
          recorder.abort(new Error('enough'))
        }
        assert.equal(it.system.pending, 0)
        vault.open('key')
        await turns(2)
        assert.deepEqual([it.origins, it.backend('east').state, it.backend('east').failures], [[], 'available', 0])
      })

      for (const status of [401, 403]) {
        test(`that is refused with ${status} makes the function hear of it at its next call`, async () => {
          const hints: unknown[] = []
          const it = scene(backends((hint) => { hints.push(hint); return Promise.resolve(`key ${hints.length}`) }))
          it.send()
          await turns(1)
          it.inner.last.start().respond(status).end()
          assert.deepEqual(it.origins, ['east', 'west'])
          it.system.advance(1_500) // a second, and up to half of it by chance
          it.send()
          await turns(1)
          assert.deepEqual(hints, [undefined, { refused: true }])
          assert.deepEqual(it.inner.last.headers, ['api-key', 'key 2'])
        })
      }

      test('that is not to be had is told with the time that it took, and one that failed later without it', async () => {
        const took: unknown[] = []
        const write = (fields: object): void => { if ((fields as { event?: string }).event === 'ejected') took.push((fields as { tookMs?: number }).tookMs) }
        const vaults = [gate<string>(), gate<string>()]
        const it = scene({ ...backends(() => vaults[took.length]?.promise ?? 'key'), logger: { debug: write, info: write, warn: write, error: write } })
        it.send()
        it.system.advance(700)
        vaults[0]?.fail(new Error('vault'))
        await turns(1)
        it.system.advance(1_500)
        it.send()
        it.system.advance(700)
        vaults[1]?.open('key')
        await turns(1)
        it.system.advance(30)
        it.inner.last.fail(withCode('ECONNREFUSED'))
        assert.deepEqual(took, [700, 30])
      })

      test('takes no time of the answer: that is counted from when it was there', async () => {
        const vault = gate<string>()
        const it = scene(backends(() => vault.promise))
        it.send()
        it.system.advance(20_000)
        vault.open('key')
        await turns(1)
        it.system.advance(70)
        it.inner.last.start().respond(200).end()
        assert.equal(it.backend('east').lastLatencyMs, 70)
      })
    })

    describe('a request that cannot be sent as it is', () => {
      const isLeftToTheCaller = (it: Scene, recorder: Recorder, error: unknown): void => {
        assert.deepEqual(recorder.events, [['start'], ['error', error]])
        assert.deepEqual(it.origins, ['east'])
        assert.deepEqual(it.engine.status().backends.map(({ state, failures }) => [state, failures]), [['available', 0], ['available', 0]])
        assert.equal(it.inFlight, 0)
      }

      test('because the dispatcher throws', () => {
        const it = scene()
        const thrown = new Error('no')
        it.inner.onDispatch = () => { throw thrown }
        isLeftToTheCaller(it, it.send(), thrown)
      })

      test('because the dispatcher says so', () => {
        for (const error of [withCode('UND_ERR_INVALID_ARG'), withCode('UND_ERR_CLOSED'), new TypeError('header name')]) {
          const it = scene()
          it.inner.onDispatch = (call) => call.fail(error)
          isLeftToTheCaller(it, it.send(), error)
        }
      })

      test('but a dispatcher that fails at once like a network makes the next attempt, without a stack of promises', () => {
        const it = scene()
        it.inner.onDispatch = (call) => call.fail(withCode('ECONNREFUSED'))
        const recorder = it.send()
        assert.deepEqual(it.origins, ['east', 'west'])
        assert.deepEqual(kinds(recorder), ['start', 'error'])
      })

      test('because its body fails, while it is collected', async () => {
        const it = scene()
        const failure = new Error('disk on fire')
        const generate = async function * (): AsyncGenerator<string> { yield await Promise.resolve('a'); throw failure }
        const recorder = it.send({ body: generate(), headers: { 'content-length': '5' } })
        await turns(1)
        assert.deepEqual(recorder.events, [['start'], ['error', failure]])
        assert.equal(it.inner.calls.length, 0)
        assert.equal(it.underWay, 0)
      })

      test('because its body fails, on the way', async () => {
        const it = scene()
        const failure = new Error('disk on fire')
        const generate = async function * (): AsyncGenerator<string> { yield await Promise.resolve('a'); throw failure }
        const recorder = it.send({ body: generate() })
        const call = it.inner.last.start()
        const sent = call.opts.body as AsyncGenerator<string>
        await sent.next()
        await assert.rejects(sent.next(), failure)
        call.abort(failure)
        isLeftToTheCaller(it, recorder, failure)
      })

      test('because its headers cannot be read', () => {
        const it = scene()
        const thrown = new Error('headers')
        const recorder = it.send({ headers: (function * () { throw thrown })() })
        assert.deepEqual(recorder.events, [['error', thrown]])
        assert.equal(it.underWay, 0)
      })
    })

    describe('no backend is left but throttled ones', () => {
      test('the caller is told when to come back, and not before dispatch has returned', async () => {
        const it = scene()
        it.inner.onDispatch = (call) => call.start().respond(429, { 'retry-after': '5' }).end()
        const recorder = it.send()
        assert.deepEqual(kinds(recorder), ['start'])
        await turns(1)
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'data', 'end'])
        assert.equal(recorder.events[1]?.[1], 429)
        assert.equal(it.underWay, 0)
        const again = it.send({ method: 'HEAD' })
        await turns(1)
        assert.deepEqual(kinds(again), ['start', 'headers', 'end'])
        assert.equal(it.inner.calls.length, 2, 'known beforehand: the network is left alone')
      })

      test('and what the caller throws then, it is told', async () => {
        const it = scene()
        it.inner.onDispatch = (call) => call.start().respond(429).end()
        const thrown = new Error('thrown at the end')
        const recorder = it.send({}, { hooks: { end: () => { throw thrown } } })
        await turns(1)
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'data', 'error'])
        assert.equal(recorder.error, thrown)
        assert.equal(it.underWay, 0)
      })

      test('an abort at the end of it comes too late', async () => {
        const it = scene()
        it.inner.onDispatch = (call) => call.start().respond(429).end()
        const recorder = it.send({}, { hooks: { end: (self) => { self.abort(new Error('late')) } } })
        await turns(1)
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'data', 'end'])
      })

      test('the source of a body that will not be read is told', async () => {
        const it = scene()
        for (let i = 0; i < 2; i++) {
          it.send()
          it.inner.last.start().respond(429).end()
          it.inner.last.start().respond(429).end()
        }
        const stream = new PassThrough()
        it.send({ body: stream })
        await turns(1)
        assert.equal(stream.destroyed, true)
        assert.equal(stream.errored, null)
      })

      test('with patience the request waits, and is sent when its time has come', () => {
        const it = scene({ maxWaitMs: 10_000 })
        const recorder = it.send()
        for (let i = 0; i < 2; i++) it.inner.last.start().respond(429, { 'retry-after': '5' }).end()
        it.system.advance(6_000)
        assert.equal(it.inner.calls.length, 3)
        it.inner.last.start().respond(200).end()
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'end'])
        assert.equal(it.system.pending, 0)
      })
    })

    describe('the balancer ends', () => {
      test('what waits is told so, and what comes later', async () => {
        const it = scene({ maxWaitMs: 10_000 })
        const waiting = it.send()
        it.inner.last.fail(withCode('ECONNREFUSED'))
        it.inner.last.start().respond(429, { 'retry-after': '5' }).end()
        assert.equal(it.engine.status().waiting, 1)
        await it.engine.close()
        const later = it.send()
        for (const recorder of [waiting, later]) {
          assert.equal((recorder.error as { code: string }).code, 'ERR_OPLB_CLOSED')
          assert.equal(recorder.terminals, 1)
        }
        assert.equal(it.system.pending, 0)
      })

      test('what waits may end what else waits, when it is told', async () => {
        const it = scene({ maxWaitMs: 10_000 })
        const reason = new Error('by the first')
        const other: { recorder?: Recorder } = {}
        const first = it.send({}, { hooks: { error: () => { other.recorder?.abort(reason) } } })
        const second = other.recorder = it.send()
        for (let i = 0; i < 4; i++) it.inner.calls[i]?.start().respond(429, { 'retry-after': '5' }).end()
        await it.engine.close()
        assert.equal((first.error as { code: string }).code, 'ERR_OPLB_CLOSED')
        assert.deepEqual(second.events, [['start'], ['error', reason]])
      })

      test('what is under way may end, with the answer or the error that there is', async () => {
        const it = scene()
        const [good, bad, failing] = [it.send(), it.send(), it.send()]
        let closed = false
        const closing = it.engine.close().then(() => { closed = true })
        it.inner.calls[0]?.start().respond(200).end()
        it.inner.calls[1]?.start().respond(429).end()
        await turns(1)
        assert.equal(closed, false)
        const refused = withCode('ECONNREFUSED')
        it.inner.calls[2]?.fail(refused)
        await closing
        assert.equal(it.inner.calls.length, 3)
        assert.deepEqual([good.events[1]?.[1], bad.events[1]?.[1], failing.error], [200, 429, refused])
      })

      test('by force: what is under way gets the reason, what is over gets nothing', async () => {
        const it = scene()
        const reason = new Error('by force')
        const [over, live, waiting] = [it.send(), it.send(), it.send()]
        it.inner.calls[0]?.start().respond(200).end()
        it.inner.calls[1]?.start().respond(200).data('x')
        it.inner.calls[2]?.start()
        await it.engine.destroy(reason)
        assert.equal(over.error, undefined)
        for (const recorder of [live, waiting]) {
          assert.equal(recorder.error, reason)
          assert.equal(recorder.terminals, 1)
        }
        assert.deepEqual(it.inner.calls.map(({ aborts }) => aborts), [[], [reason], [reason]])
        assert.deepEqual(it.engine.status().backends.map(({ state, failures }) => [state, failures]), [['available', 0], ['available', 0]])
      })
    })

    describe('a listener to the events ends the request in the middle of them', () => {
      const reason = new Error('from a listener')
      /** A logger is told of an event while the pool decides. */
      const abortingAt = (event: string, abort: () => void): NonNullable<ConstructorParameters<typeof Scene>[2]> => {
        const write = (fields: object): void => { if ((fields as { event?: string }).event === event) abort() }
        return { logger: { debug: write, info: write, warn: write, error: write } }
      }

      for (const event of ['cooldown', 'failover', 'picked', 'answered'] as const) {
        test(`at ${event}, on a response`, async () => {
          const sent: { recorder?: Recorder } = {}
          const it = scene(abortingAt(event, () => { sent.recorder?.abort(reason) }))
          const recorder = sent.recorder = it.send()
          const call = it.inner.last.start()
          call.respond(event === 'answered' ? 200 : 429)
          await turns(1)
          assert.deepEqual(kinds(recorder), ['start', 'error'])
          assert.equal(recorder.error, reason)
          assert.deepEqual(call.aborts, [reason])
          assert.deepEqual(it.origins, ['east'])
          assert.equal(it.inFlight, 0)
          assert.equal(it.underWay, 0)
          assert.equal(it.system.pending, 0)
        })
      }

      for (const event of ['ejected', 'failover', 'picked'] as const) {
        test(`at ${event}, on a failure`, () => {
          const sent: { recorder?: Recorder } = {}
          const it = scene(abortingAt(event, () => { sent.recorder?.abort(reason) }))
          const recorder = sent.recorder = it.send()
          it.inner.last.fail(withCode('ECONNREFUSED'))
          assert.deepEqual(kinds(recorder), ['start', 'error'])
          assert.deepEqual(it.origins, ['east'])
          assert.equal(it.inFlight, 0)
        })
      }

      test('at waiting', () => {
        const sent: { recorder?: Recorder } = {}
        const it = scene({ maxWaitMs: 10_000, ...abortingAt('waiting', () => { sent.recorder?.abort(reason) }) })
        const recorder = sent.recorder = it.send()
        for (let i = 0; i < 2; i++) it.inner.last.start().respond(429, { 'retry-after': '5' }).end()
        assert.deepEqual(kinds(recorder), ['start', 'error'])
        assert.equal(it.engine.status().waiting, 0)
      })
    })
  })
}

describe('a dispatcher of unknown age, from another copy of undici', () => {
  function old(options?: ConstructorParameters<typeof Scene>[2]): Scene {
    const it = new Scene('new', 'old', options)
    it.inner.takesLegacy = false
    return it
  }

  test('that turns out to be of the old style is served in it', () => {
    const it = old()
    const recorder = it.send({}, { hooks: { headers: (self) => { self.pause() } } })
    const call = it.inner.last.start().respond(200, { a: '1' })
    assert.equal(call.paused, true)
    recorder.resume()
    assert.deepEqual([call.paused, call.resumes], [false, 1])
    call.data('x').handler.onComplete?.(null)
    assert.deepEqual(recorder.events, [['start'], ['headers', 200, ['a', '1'], ''], ['data', 'x'], ['end', []]])
    assert.equal(recorder.controller?.rawTrailers, null)
  })

  test('and so is aborted', () => {
    const it = old()
    const recorder = it.send()
    const call = it.inner.last.start()
    const reason = new Error('enough')
    recorder.abort(reason)
    assert.deepEqual(call.aborts, [reason])
    assert.equal(recorder.terminals, 1)
  })

  test('that is of the new style may leave raw headers out, as mocks do, and the start', () => {
    const it = new Scene('new', 'new')
    const recorder = it.send()
    const controller = { aborted: false, paused: false, reason: null, abort() {}, pause() {}, resume() {} }
    const { handler } = it.inner.last
    handler.onResponseStart?.(controller, 200, { a: '1' })
    handler.onResponseEnd?.(controller, { b: '2' })
    assert.deepEqual(recorder.events, [['start'], ['headers', 200, ['a', '1']], ['end', ['b', '2']]])
    const upgraded = it.send({ upgrade: 'websocket' })
    it.inner.last.handler.onRequestUpgrade?.(controller, 101, { c: '3' }, new PassThrough())
    assert.deepEqual(upgraded.events, [['start'], ['upgrade', 101, ['c', '3']]])
  })
})

describe('what is no request', () => {
  test('without a handler is refused as undici refuses it', () => {
    const it = new Scene('old', 'old')
    const opts = { origin: 'https://east.example', path: '/openai/x', method: 'POST' } as const
    for (const handler of [null, undefined, 'handler']) {
      assert.throws(() => it.engine.dispatch(it.inner, opts, handler as never), { code: 'UND_ERR_INVALID_ARG', message: 'handler must be an object' })
    }
    assert.equal(it.underWay, 0)
  })

  test('without options goes on as it came', () => {
    const it = new Scene('old', 'old')
    const { handler } = recordingHandler('old')
    it.engine.dispatch(it.inner, null as never, handler)
    assert.equal(it.inner.last.handler, handler)
    assert.equal(it.inner.last.opts, null)
  })

  test('that is none of ours goes on with the very same options and handler', () => {
    const it = new Scene('new', 'new')
    const { handler } = recordingHandler('new')
    const opts = { origin: 'https://elsewhere.example', path: '/', method: 'GET' } as const
    it.engine.dispatch(it.inner, opts, handler)
    assert.equal(it.inner.last.handler, handler)
    assert.equal(it.inner.last.opts, opts)
  })

  test('is refused, and not sent, where its handler lacks what it will be told: as undici refuses it, in its words', () => {
    const opts = { origin: 'https://east.example', path: '/openai/x', method: 'POST' } as const
    const upgrade = { ...opts, upgrade: 'websocket' }
    const lacking = (method: string, handler: AnyHandler) => wholeHandler({ ...handler, [method]: undefined })
    const legacy: AnyHandler = { onConnect () {} }
    for (const [given, method] of [[opts, 'onConnect'], [opts, 'onHeaders'], [opts, 'onData'], [opts, 'onComplete'], [upgrade, 'onUpgrade']] as const) {
      const it = new Scene('old', 'old')
      const errors: Error[] = []
      assert.equal(it.engine.dispatch(it.inner, given, { ...lacking(method, legacy), onError: (error: Error) => { errors.push(error) } }), false)
      assert.deepEqual(errors.map(({ message }) => message), [`invalid ${method} method`])
      assert.equal(it.inner.calls.length, 0)
    }
    const it = new Scene('old', 'old')
    assert.throws(() => it.engine.dispatch(it.inner, opts, lacking('onError', legacy)), { message: 'invalid onError method' })
    assert.throws(() => it.engine.dispatch(it.inner, opts, null as never), { message: 'handler must be an object' })
    // What is not asked for need not be there.
    it.engine.dispatch(it.inner, opts, lacking('onUpgrade', legacy))
    it.engine.dispatch(it.inner, upgrade, lacking('onHeaders', legacy))
    assert.equal(it.inner.calls.length, 2)
  })
})
