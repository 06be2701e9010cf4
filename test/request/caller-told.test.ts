// What the caller's handler is told while attempts come and go behind it, and what it can do through its one controller.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Controller, LegacyHandler } from '../../src/request/undici.js'
import type { FakeCall } from '../support/fake-inner.js'
import { recordingHandler, wholeHandler, type Recorder } from '../support/recording-handler.js'
import { EAST, PAIRS, Scene, WEST } from '../support/scene.js'
import { turns } from '../support/until.js'

const refused = (): Error => Object.assign(new Error('ECONNREFUSED'), { code: 'ECONNREFUSED' })
const latin1 = (...texts: string[]): Buffer[] => texts.map((text) => Buffer.from(text, 'latin1'))
const kinds = (recorder: Recorder): string[] => recorder.events.map(([kind]) => kind)

const three = [
  { name: 'east', url: EAST, priority: 1 }, { name: 'west', url: WEST, priority: 2 }, { name: 'north', url: 'https://north.example/openai', priority: 3 },
]

for (const [caller, inner] of PAIRS) {
  describe(`a caller of the ${caller} style, a dispatcher of the ${inner} style`, () => {
    describe('of the sending the caller is told', () => {
      /** Sends over three backends in turn; each is what it says was sent. */
      function play(...attempts: readonly (readonly (string | Buffer)[])[]): { recorder: Recorder, chunks: unknown[] } {
        const it = new Scene(caller, inner, { backends: three })
        const chunks: unknown[] = []
        const recorder = it.send({}, { optional: ['onBodySent', 'onRequestSent'], hooks: { bodySent: (_self, chunk) => chunks.push(chunk) } })
        for (const [index, sent] of attempts.entries()) {
          const call = it.inner.last.start()
          for (const chunk of sent) call.handler.onBodySent?.(chunk)
          call.handler.onRequestSent?.()
          if (index < attempts.length - 1) call.fail(refused())
        }
        return { recorder, chunks }
      }

      test('each byte of the body once, however often it is really sent, and that all is sent, once', () => {
        const { chunks, recorder } = play([Buffer.from('abc')], [Buffer.from('ab'), Buffer.from('cde')], ['abcde', 'fg'])
        assert.deepEqual(chunks.map((chunk) => Buffer.from(chunk as string).toString()), ['abc', 'de', 'fg'])
        assert.deepEqual(kinds(recorder).filter((kind) => kind === 'request sent'), ['request sent'])
      })

      test('a string that is all new as it is, and of one that is partly new the bytes that are', () => {
        assert.deepEqual(play(['größe']).chunks, ['größe'])
        const { chunks } = play(['größe'], ['größen'])
        assert.deepEqual(chunks.map((chunk) => Buffer.from(chunk as string).toString()), ['größe', 'n'])
      })
    })

    describe('the response', () => {
      /** What a caller is told of headers and trailers as they come from the dispatcher. */
      function told(headers: Parameters<FakeCall['respond']>[1], trailers: Parameters<FakeCall['end']>[0]): Recorder {
        const it = new Scene(caller, inner)
        const recorder = it.send()
        it.inner.last.start().respond(200, headers).end(trailers)
        return recorder
      }

      test('has a pair for each repetition of a header, byte for byte, whatever shape it comes in', () => {
        const expected = [['start'], ['headers', 200, ['set-cookie', 'a=1', 'set-cookie', 'b=\xe9', 'x-latin', 'caf\xe9'], ''], ['end', ['x-sum', '\xe9']]]
        assert.deepEqual(told({ 'set-cookie': ['a=1', 'b=\xe9'], 'x-latin': 'caf\xe9' }, { 'x-sum': '\xe9' }).events, expected)
        assert.deepEqual(told(latin1('Set-Cookie', 'a=1', 'set-cookie', 'b=\xe9', 'X-Latin', 'caf\xe9'), latin1('X-Sum', '\xe9')).events, expected)
      })

      test('has no headers and trailers where there are none', () => {
        assert.deepEqual(told({}, {}).events, [['start'], ['headers', 200, [], ''], ['end', []]])
        assert.deepEqual(told([], []).events, [['start'], ['headers', 200, [], ''], ['end', []]])
      })

      test('that is not wanted is let go at once where it announces more than 64 KiB, once and in any shape', async () => {
        for (const [headers, aborts] of [
          [{ 'content-length': '65537' }, 1], [latin1('Content-Length', '65537'), 1], [{ 'content-length': '65536' }, 0], [{}, 0], [{ 'content-length': ['70000', '70000'] }, 1], [{ 'content-length': 'many' }, 0],
        ] as const) {
          const it = new Scene(caller, inner)
          it.send()
          const call = it.inner.last.start().respond(503, headers as Parameters<FakeCall['respond']>[1])
          await turns(1)
          assert.equal(call.aborts.length, aborts, JSON.stringify(headers))
        }
      })
    })

    describe('requests under way', () => {
      test('come and go in any order, and those that are left at the end are ended', async () => {
        const it = new Scene(caller, inner)
        const all = Array.from({ length: 4 }, () => it.send())
        for (const index of [1, 3]) it.inner.calls[index]?.start().respond(200).end()
        const late = it.send()
        const reason = new Error('over')
        await it.engine.destroy(reason)
        assert.deepEqual([...all, late].map(({ error, terminals }) => [error, terminals]), [[reason, 1], [undefined, 1], [reason, 1], [undefined, 1], [reason, 1]])
        assert.equal(it.underWay, 0)
      })

      test('are all ended, also where the handler of one throws: that is its own to deal with, as an uncaught exception', async (t) => {
        const it = new Scene(caller, inner)
        const deferred: (() => void)[] = []
        t.mock.method(globalThis, 'queueMicrotask', (callback: () => void) => { deferred.push(callback) })
        const thrown = new Error('by the first')
        it.send({}, { hooks: { error: () => { throw thrown } } })
        const others = [it.send(), it.send()]
        const reason = new Error('over')
        const over = it.engine.destroy(reason)
        assert.deepEqual(others.map(({ error }) => error), [reason, reason])
        assert.equal(it.underWay, 0)
        assert.equal(deferred.length, 1)
        assert.throws(() => { deferred[0]?.() }, thrown)
        await over
      })
    })
  })
}

for (const inner of ['old', 'new'] as const) {
  describe(`the controller of a caller of the new style, with a dispatcher of the ${inner} style`, () => {
    function scene(): { it: Scene, recorder: Recorder, controller: Controller } {
      const it = new Scene('new', inner)
      const recorder = it.send()
      return { it, recorder, controller: recorder.controller ?? assert.fail('has not started') }
    }

    test('shows an abort with its reason; a second one changes nothing', () => {
      const { it, recorder, controller } = scene()
      const reason = new Error('enough')
      it.inner.last.start()
      assert.deepEqual([controller.aborted, controller.reason], [false, null])
      controller.abort(reason)
      controller.abort(new Error('again'))
      assert.deepEqual([controller.aborted, controller.reason], [true, reason])
      assert.deepEqual([recorder.error, recorder.terminals], [reason, 1])
      assert.deepEqual(it.inner.last.aborts, [reason])
    })

    test('has no reason to show for an abort without one, as with undici, and the caller is told undici\'s', () => {
      const { recorder, controller } = scene()
      controller.abort(undefined as unknown as Error)
      assert.deepEqual([controller.aborted, controller.reason], [true, undefined])
      assert.equal((recorder.error as { code?: string }).code, 'UND_ERR_ABORTED')
    })

    test('takes a reason that is falsy, as AbortController allows, for a reason', () => {
      const { recorder, controller } = scene()
      controller.abort('' as unknown as Error)
      controller.abort('again' as unknown as Error)
      assert.deepEqual([controller.aborted, recorder.error, recorder.terminals], [true, '', 1])
    })

    test('is the same in all attempts, and steers the one whose response the caller gets', () => {
      const { it, controller } = scene()
      controller.resume()
      controller.pause()
      controller.resume()
      controller.pause()
      assert.equal(controller.paused, true)
      const first = it.inner.last.start().respond(429).end()
      const second = it.inner.last.start().respond(200)
      assert.deepEqual([first.paused, second.paused], [false, true], 'asked for before there was anything to pause')
      controller.pause()
      controller.resume()
      controller.resume()
      assert.deepEqual([controller.paused, second.paused, second.resumes], [false, false, 1])
    })

    test('has raw headers and trailers as plain fields that interceptors may assign', () => {
      const { it, controller } = scene()
      it.inner.last.start().respond(200, latin1('a', '1'))
      assert.ok(['rawHeaders', 'rawTrailers'].every((name) => Object.keys(controller).includes(name)))
      controller.rawHeaders = []
      controller.rawTrailers = {}
      assert.deepEqual([controller.rawHeaders, controller.rawTrailers], [[], {}])
    })
  })
}

test('a header without a value, as undici\'s mocks leave them, is none to a caller of the old style', () => {
  const it = new Scene('old', 'new')
  const recorder = it.send()
  it.inner.last.start().respond(200, { gone: undefined, a: '1' })
  assert.deepEqual(recorder.events.at(-1), ['headers', 200, ['a', '1'], ''])
})

test('headers of the old style that come in that shape already are the very same, and so are parsed ones', () => {
  const raw = latin1('a', '1')
  const seen: unknown[] = []
  const handler: LegacyHandler = { onHeaders (_status, headers) { seen.push(headers); return true } }
  const legacy = new Scene('old', 'old')
  legacy.engine.dispatch(legacy.inner, { origin: 'https://east.example', path: '/openai/x', method: 'POST' }, wholeHandler(handler))
  legacy.inner.last.start().respond(200, raw)
  assert.equal(seen[0], raw)
  const parsed = { a: '1' }
  const { handler: modern } = recordingHandler('new')
  modern.onResponseStart = (_controller, _status, headers) => { seen.push(headers) }
  const it = new Scene('new', 'new')
  it.engine.dispatch(it.inner, { origin: 'https://east.example', path: '/openai/x', method: 'POST' }, modern)
  it.inner.last.start().respond(200, parsed)
  assert.equal(seen[1], parsed)
})
