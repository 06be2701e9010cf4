/** A dispatcher that another copy of undici has made is of any version. What passes through it is told in the caller's style, whatever style it speaks. */
import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, test, type TestContext } from 'node:test'
import type { Dispatcher } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import { FakeCall } from '../support/fake-inner.js'
import { recordingHandler, STYLES, type Recorder, type RecorderOptions, type Style } from '../support/recording-handler.js'

/** A request that passes through a balancer, to a dispatcher that speaks one style and is of no class that we know. */
function pass(t: TestContext, caller: Style, inner: Style, options?: RecorderOptions): { recorder: Recorder; call: FakeCall } {
  let call: FakeCall | undefined
  const dispatcher = {
    dispatch: (opts: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler) => {
      call = new FakeCall(opts as FakeCall['opts'], handler as never, inner)
      return true
    },
  }
  const balancer = new PriorityBalancer({ backends: [{ url: 'https://east.example', priority: 1 }], logger: false, dispatcher: dispatcher as unknown as Dispatcher })
  t.after(() => balancer.close())
  const recorder = recordingHandler(caller, options)
  balancer.dispatch({ origin: 'https://elsewhere.example', path: '/', method: 'GET' }, recorder.handler as unknown as Dispatcher.DispatchHandler)
  assert.ok(call !== undefined)
  return { recorder, call }
}

for (const caller of STYLES) {
  for (const inner of STYLES) {
    describe(`a caller of the ${caller} style, a dispatcher of the ${inner} one`, () => {
      test('hears all of it', (t) => {
        const { recorder, call } = pass(t, caller, inner, { optional: ['onBodySent', 'onRequestSent', 'onResponseStarted'] })
        call.start()
        call.handler.onBodySent?.(Buffer.from('ping'))
        call.handler.onRequestSent?.()
        call.handler.onResponseStarted?.()
        call.respond(200, { 'set-cookie': ['a', 'b'] }, 'OK').data('pong').end({ 'x-sum': '7' })
        assert.deepEqual(recorder.events, [
          ['start'], ['body sent', 'ping'], ['request sent'], ['response started'],
          ['headers', 200, ['set-cookie', 'a', 'set-cookie', 'b'], 'OK'], ['data', 'pong'], ['end', ['x-sum', '7']],
        ])
      })

      test('has only those of the optional callbacks that the caller has', (t) => {
        const { call } = pass(t, caller, inner, { optional: [] })
        assert.equal(call.handler.onBodySent, undefined)
        assert.equal(call.handler.onRequestSent, undefined)
        call.handler.onResponseStarted?.()
      })

      test('pauses at headers and at data, and resumes', (t) => {
        const { recorder, call } = pass(t, caller, inner, { hooks: { headers: (it) => { it.pause() }, data: (it) => { it.pause() } } })
        call.start().respond(200)
        assert.equal(call.paused, true)
        recorder.resume()
        assert.deepEqual([call.paused, call.resumes], [false, 1])
        call.data('x')
        assert.equal(call.paused, true)
        recorder.resume()
        assert.deepEqual([call.paused, call.resumes], [false, 2])
      })

      test('does not pause where it does not ask for it, and a resume too many is none', (t) => {
        const { recorder, call } = pass(t, caller, inner)
        call.start().respond(200).data('x')
        assert.equal(call.paused, false)
        if (caller === 'new') {
          recorder.resume()
          assert.equal(call.resumes, 0)
        }
      })

      test('aborts with its reason, and hears of it once', (t) => {
        const { recorder, call } = pass(t, caller, inner)
        call.start().respond(200)
        const reason = new Error('enough')
        recorder.abort(reason)
        recorder.abort(new Error('again'))
        assert.deepEqual(call.aborts, [reason])
        assert.equal(recorder.error, reason)
        assert.equal(recorder.terminals, 1)
        if (caller === 'new') assert.deepEqual([recorder.controller?.aborted, recorder.controller?.reason], [true, reason])
      })

      test('hears of a failure, also before the start', (t) => {
        for (const start of [true, false]) {
          const { recorder, call } = pass(t, caller, inner)
          const error = new Error('refused')
          if (start) call.start()
          call.fail(error)
          assert.deepEqual(recorder.events.at(-1), ['error', error])
        }
      })

      test('is handed an upgrade', (t) => {
        const { recorder, call } = pass(t, caller, inner)
        call.start().upgrade(101, { upgrade: 'websocket' }, new PassThrough())
        assert.deepEqual(recorder.events, [['start'], ['upgrade', 101, ['upgrade', 'websocket']]])
      })
    })
  }
}

test('a handler that cannot hear of errors throws them, as undici expects', (t) => {
  for (const inner of STYLES) {
    const { recorder, call } = pass(t, 'new', inner)
    const error = new Error('not heard')
    Reflect.deleteProperty(recorder.handler, 'onResponseError')
    assert.throws(() => { call.start().fail(error) }, error)
  }
})

test('what is no handler is the dispatcher\'s to refuse', () => {
  const seen: unknown[] = []
  const dispatcher = { dispatch: (_opts: unknown, handler: unknown) => { seen.push(handler); return false } } as unknown as Dispatcher
  const balancer = new PriorityBalancer({ backends: [{ url: 'https://east.example', priority: 1 }], logger: false, dispatcher })
  for (const none of [undefined, null, 'handler', 7]) balancer.dispatch({ origin: 'https://elsewhere.example', path: '/', method: 'GET' }, none as never)
  assert.deepEqual(seen, [undefined, null, 'handler', 7])
})
