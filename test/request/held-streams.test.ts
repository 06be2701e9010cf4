/** What a caller's handler and a dispatcher see of an event stream that is held back until it has output, in both of undici's styles. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { BalancerOptions } from '../../src/options/index.js'
import { AZURE_FIRST_CHUNK, chatChunk, event, ROLE_CHUNK } from '../support/event-stream.js'
import type { FakeCall } from '../support/fake-inner.js'
import type { Hooks, Recorder } from '../support/recording-handler.js'
import { PAIRS, Scene } from '../support/scene.js'
import { turns } from '../support/until.js'

const STREAM = { 'content-type': 'text/event-stream' }
const CHAT = { path: '/openai/deployments/gpt-4o/chat/completions', body: '{"stream":true}' }
const OUTPUT = chatChunk({ content: 'Hello' })
const OVERLOADED = event(undefined, { error: { message: 'Try again.', type: 'server_error', param: null, code: 'server_is_overloaded' } })

for (const [caller, inner] of PAIRS) {
  describe(`a caller of the ${caller} style, a dispatcher of the ${inner} style: of a stream that is held`, () => {
    /** A request for a stream, its first attempt, and the buffers that the caller got. */
    function ask (options: Partial<BalancerOptions> = {}, hooks: Hooks = {}): { it: Scene, recorder: Recorder, call: FakeCall, got: unknown[] } {
      const it = new Scene(caller, inner, options)
      const got: unknown[] = []
      const recorder = it.send(CHAT, { hooks: { ...hooks, data: (me, chunk) => { got.push(chunk); hooks.data?.(me, chunk) } } })
      return { it, recorder, call: it.inner.last.start(), got }
    }
    const kinds = (recorder: Recorder): string[] => recorder.events.map(([kind]) => kind)

    test('the buffers are the very same, in their order, and once', () => {
      const { recorder, call, got } = ask()
      call.respond(200, STREAM)
      const buffers = [AZURE_FIRST_CHUNK.slice(0, 7), AZURE_FIRST_CHUNK.slice(7), ROLE_CHUNK, OUTPUT, 'data: [DONE]\n\n'].map((text) => Buffer.from(text))
      for (const buffer of buffers.slice(0, 3)) call.data(buffer)
      assert.deepEqual(kinds(recorder), ['start'])
      for (const buffer of buffers.slice(3)) call.data(buffer)
      call.end()
      assert.equal(got.length, buffers.length)
      for (const [i, buffer] of buffers.entries()) assert.equal(got[i], buffer)
      assert.deepEqual(kinds(recorder), ['start', 'headers', 'data', 'end'])
      assert.equal(recorder.terminals, 1)
    })

    test('nothing is left behind: no timer, no request under way', () => {
      const { it, call } = ask({ attemptTimeoutMs: 1_500, deadlineMs: 3_000 })
      call.respond(200, STREAM).data(ROLE_CHUNK).data(OUTPUT).end()
      assert.deepEqual([it.system.pending, it.underWay, it.inFlight], [0, 0, 0])
    })

    test('a caller that pauses at the headers gets the rest when it goes on, and undici does not read meanwhile', () => {
      const { recorder, call, got } = ask({}, { headers: (me) => { me.pause() } })
      call.respond(200, STREAM).data(AZURE_FIRST_CHUNK).data(ROLE_CHUNK)
      assert.equal(call.paused, false)
      call.data(OUTPUT)
      assert.deepEqual(kinds(recorder), ['start', 'headers'])
      assert.equal(call.paused, true)
      recorder.resume()
      assert.equal(got.length, 3)
      assert.equal(call.paused, false)
      call.data('data: [DONE]\n\n').end()
      assert.deepEqual(kinds(recorder), ['start', 'headers', 'data', 'end'])
    })

    test('a caller that pauses at every buffer gets one at a time, and the end last', () => {
      const { recorder, call, got } = ask({}, { headers: (me) => { me.pause() }, data: (me) => { me.pause() } })
      call.respond(200, STREAM).data(AZURE_FIRST_CHUNK).data(ROLE_CHUNK).data(OUTPUT)
      for (let i = 1; i <= 3; i++) {
        recorder.resume()
        assert.equal(got.length, i)
      }
      assert.equal(call.paused, true, 'the caller has not asked for more than what was held')
      recorder.resume()
      assert.equal(call.paused, false)
      call.data('data: [DONE]\n\n')
      assert.equal(call.paused, true)
      recorder.resume()
      call.end()
      assert.equal(recorder.terminals, 1)
      assert.equal(got.length, 4)
    })

    for (const at of ['headers', 'data'] as const) {
      test(`a caller that pauses and goes on within its callback (${at}) is not forgotten`, () => {
        const { recorder, call, got } = ask({}, { [at]: (me: Recorder) => { me.pause(); me.resume() } })
        call.respond(200, STREAM).data(ROLE_CHUNK).data(OUTPUT)
        assert.equal(got.length, 2)
        assert.equal(call.paused, false)
        call.data('data: [DONE]\n\n').end()
        assert.equal(recorder.terminals, 1)
      })
    }

    test('what comes after the last held buffer waits with it, where the caller has paused there and undici reads on', () => {
      const { it, recorder, call, got } = ask({}, { data: (me) => { me.pause() } })
      call.respond(200, STREAM).data(ROLE_CHUNK)
      // Shown by the clock: undici is not below us, and cannot be told to wait in what a callback returns.
      it.system.advance(50)
      assert.equal(got.length, 1)
      call.data(OUTPUT)
      assert.equal(got.length, 1)
      assert.equal(call.paused, true)
      recorder.resume()
      assert.equal(got.length, 2)
      recorder.resume()
      assert.equal(call.paused, false)
      call.end()
      assert.equal(recorder.terminals, 1)
    })

    test('the end waits while the caller has paused at the last held buffer', () => {
      const { recorder, call, got } = ask({}, { data: (me) => { if (got.length === 1) me.pause() } })
      call.respond(200, STREAM).data(OUTPUT).end()
      // One buffer was given before it could be said.
      assert.equal(got.length, 1)
      recorder.resume()
      assert.deepEqual(kinds(recorder), ['start', 'headers', 'data', 'end'])
    })

    test('that ended without output and after a pause at the start, all comes when the caller goes on', () => {
      const { recorder, call, got } = ask({}, { start: (me) => { me.pause() } })
      call.respond(200, STREAM).data(ROLE_CHUNK).data(OUTPUT)
      if (caller === 'new') {
        assert.deepEqual(kinds(recorder), ['start', 'headers'])
        recorder.resume()
      } else recorder.resume()
      call.end()
      assert.equal(got.length, 2)
      assert.equal(recorder.terminals, 1)
    })

    test('whose end came while the caller had paused, it comes after the buffers', () => {
      const { it, recorder, call, got } = ask({}, { headers: (me) => { me.pause() } })
      call.respond(200, STREAM).data(ROLE_CHUNK)
      it.system.advance(50)
      assert.deepEqual(kinds(recorder), ['start', 'headers'])
      call.data(OUTPUT).end({ 'x-sum': '7' })
      assert.equal(got.length, 0)
      assert.equal(it.inFlight, 1)
      recorder.resume()
      assert.equal(got.length, 2)
      assert.deepEqual(recorder.events.at(-1), ['end', ['x-sum', '7']])
      assert.deepEqual([it.inFlight, it.underWay, it.system.pending], [0, 0, 0])
    })

    test('that breaks while the caller has paused, the caller hears once, and nothing more after it', () => {
      const { it, recorder, call, got } = ask({}, { headers: (me) => { me.pause() } })
      const error = Object.assign(new Error('other side closed'), { code: 'UND_ERR_SOCKET' })
      call.respond(200, STREAM).data(ROLE_CHUNK).data(OUTPUT).fail(error)
      assert.equal(recorder.error, error)
      recorder.resume()
      assert.equal(got.length, 0)
      assert.equal(recorder.terminals, 1)
      assert.deepEqual(it.origins, ['east'])
      assert.equal(it.backend('east').failures, 1)
    })

    test('a caller that gives up while it is held ends it on the wire, and nothing is held against the backend', () => {
      const { it, recorder, call } = ask({ attemptTimeoutMs: 1_500 })
      call.respond(200, STREAM).data(ROLE_CHUNK)
      const reason = new Error('enough')
      recorder.abort(reason)
      assert.deepEqual(call.aborts, [reason])
      assert.deepEqual(kinds(recorder), ['start', 'error'])
      assert.equal(recorder.terminals, 1)
      assert.deepEqual([it.backend('east').failures, it.inFlight, it.underWay, it.system.pending], [0, 0, 0, 0])
      assert.deepEqual(it.origins, ['east'])
    })

    test('a caller that gives up at the headers, or in the middle of what was held, gets no more', () => {
      for (const at of ['headers', 'data'] as const) {
        const { it, recorder, call, got } = ask({}, { [at]: (me: Recorder) => { me.abort(new Error('enough')) } })
        call.respond(200, STREAM).data(AZURE_FIRST_CHUNK).data(ROLE_CHUNK).callback(() => call.data(OUTPUT))
        assert.equal(got.length, at === 'headers' ? 0 : 1)
        assert.equal(recorder.terminals, 1)
        assert.deepEqual([it.inFlight, it.underWay, it.system.pending], [0, 0, 0])
      }
    })

    test('a caller whose callback throws is told of that, and no backend is blamed', () => {
      for (const at of ['headers', 'data'] as const) {
        for (const isByClock of [false, true]) {
          const mistake = new Error('a mistake')
          const { it, recorder, call } = ask({}, { [at]: () => { throw mistake } })
          call.respond(200, STREAM).data(ROLE_CHUNK)
          if (isByClock) it.system.advance(50)
          else call.callback(() => call.data(OUTPUT))
          assert.equal(recorder.error, mistake)
          assert.equal(recorder.terminals, 1)
          assert.deepEqual([it.origins, it.backend('east').failures, it.inFlight, it.underWay], [['east'], 0, 0, 0])
        }
      }
    })

    test('deadlineMs ends it, with its own error', () => {
      const { it, recorder, call } = ask({ deadlineMs: 800 })
      call.respond(200, STREAM).data(AZURE_FIRST_CHUNK)
      it.system.advance(800)
      assert.match(String(recorder.error), /deadlineMs \(800 ms\)/)
      assert.equal(call.aborts.length, 1)
      assert.deepEqual([it.origins, it.inFlight, it.underWay, it.system.pending], [['east'], 0, 0, 0])
    })

    test('attemptTimeoutMs ends it too, and the next backend is asked', () => {
      const { it, recorder, call } = ask({ attemptTimeoutMs: 1_500 })
      call.respond(200, STREAM).data(': waiting\n\n')
      it.system.advance(1_499)
      assert.deepEqual(it.origins, ['east'])
      it.system.advance(1)
      assert.deepEqual(it.origins, ['east', 'west'])
      assert.equal(call.aborts.length, 1)
      it.inner.last.start().respond(200, STREAM).data(OUTPUT).end()
      assert.deepEqual(kinds(recorder), ['start', 'headers', 'data', 'end'])
    })

    test('after an informational answer nothing is different', () => {
      const { recorder, call } = ask()
      call.respond(103, { link: '</a>' })
      call.respond(200, STREAM).data(ROLE_CHUNK).data(OUTPUT).end()
      assert.deepEqual(recorder.events.flatMap((one) => one[0] === 'headers' ? [one[1]] : []), [103, 200])
    })

    test('that fails, nothing reaches the caller, and nothing of it is mixed with the next', () => {
      const { it, recorder, call, got } = ask()
      call.respond(200, { ...STREAM, 'x-of': 'east' }).data(ROLE_CHUNK).data(OVERLOADED)
      assert.deepEqual(it.origins, ['east', 'west'])
      const next = it.inner.last.start().respond(200, { ...STREAM, 'x-of': 'west' })
      // The first one is still being read, for its connection's sake.
      call.data('data: [DONE]\n\n').end()
      const [first, second] = [Buffer.from(ROLE_CHUNK), Buffer.from(OUTPUT)]
      next.data(first).data(second).end()
      assert.deepEqual(got, [first, second])
      assert.ok(recorder.events.some((one) => one[0] === 'headers' && one[2].includes('west')))
      assert.equal(it.inFlight, 0)
    })

    test('that fails and goes on without an end, the rest is not read for more than a second', () => {
      const { it, call } = ask()
      call.respond(200, STREAM).data(OVERLOADED)
      it.system.advance(1_000)
      return turns(1).then(() => { assert.equal(call.aborts.length, 1) })
    })

    test('that ends, and an error of 404 whose body is late, are told apart from silence', async () => {
      const { it, recorder, call } = ask({ attemptTimeoutMs: 1_500 })
      it.system.advance(1_400)
      call.respond(404, { 'content-type': 'application/json' })
      await turns(1)
      it.system.advance(999)
      assert.deepEqual(kinds(recorder), ['start'])
      it.system.advance(1)
      assert.equal(recorder.events[1]?.[1], 404)
      call.data('{}').end()
      assert.equal(recorder.terminals, 1)
    })

    test('a caller that pauses hears our own answer in the place of a poisoned one step by step', async () => {
      const { it, recorder, call, got } = ask({ backends: [{ url: 'https://east.example/openai', priority: 1, name: 'east' }] }, { headers: (me) => { me.pause() } })
      call.respond(200, STREAM).data(OVERLOADED).end()
      await turns(1)
      assert.equal(recorder.events[1]?.[1], 503)
      assert.equal(got.length, 0)
      recorder.resume()
      assert.deepEqual(JSON.parse(String(got[0])), { error: { message: 'Try again.', type: 'server_error', param: null, code: 'server_is_overloaded' } })
      assert.equal(recorder.terminals, 1)
      assert.deepEqual([it.inFlight, it.underWay], [0, 0])
    })
  })
}
