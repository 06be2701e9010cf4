// One bound over the waits and attempts of a request: an option of ours, and what the caller's SDK says of its own timeout.
import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, test } from 'node:test'
import { gate } from '../support/gate.js'
import type { Recorder } from '../support/recording-handler.js'
import { EAST, PAIRS, Scene, WEST } from '../support/scene.js'
import { turns } from '../support/until.js'

const reset = (): Error => Object.assign(new Error('ECONNRESET'), { code: 'ECONNRESET' })
const kinds = (recorder: Recorder): string[] => recorder.events.map(([kind]) => kind)
const statusOf = (recorder: Recorder): unknown => recorder.events.find(([kind]) => kind === 'headers')?.[1]
const bodyOf = (recorder: Recorder): unknown => recorder.events.find(([kind]) => kind === 'data')?.[1]

for (const [caller, inner] of PAIRS) {
  describe(`a caller of the ${caller} style, a dispatcher of the ${inner} style`, () => {
    const scene = (options?: ConstructorParameters<typeof Scene>[2]): Scene => new Scene(caller, inner, options)

    describe('deadlineMs', () => {
      test('ends an attempt that is under way, with the error of a timeout, and makes no further one', async () => {
        const it = scene({ deadlineMs: 1_000 })
        const recorder = it.send()
        const call = it.inner.last.start()
        it.system.advance(999)
        assert.deepEqual(kinds(recorder), ['start'])
        it.system.advance(1)
        assert.equal(call.aborts.length, 1)
        await turns(1)
        assert.match(String(recorder.error), /No backend sent response headers within deadlineMs \(1000 ms\)/)
        assert.equal((recorder.error as { code?: string }).code, 'UND_ERR_HEADERS_TIMEOUT')
        assert.deepEqual([it.origins, it.inFlight, it.underWay, it.system.pending], [['east'], 0, 0, 0])
      })

      test('ends one that is not on a connection yet, or whose credential is fetched still', async () => {
        const vault = gate<string>()
        for (const apiKey of [undefined, () => vault.promise]) {
          const east = { name: 'east', url: EAST, priority: 1, ...(apiKey !== undefined && { apiKey }) }
          const it = scene({ deadlineMs: 1_000, backends: [east, { name: 'west', url: WEST, priority: 2 }] })
          const recorder = it.send()
          it.system.advance(1_000)
          assert.deepEqual(kinds(recorder), ['start', 'error'])
          assert.deepEqual([it.backend('east').state, it.inFlight, it.system.pending], ['available', 0, 0])
        }
        vault.open('key')
        await turns(1)
      })

      test('gives the caller the last real answer, whole, where there was one', async () => {
        const it = scene({ deadlineMs: 1_000 })
        const recorder = it.send()
        it.inner.last.start().respond(503, { 'content-type': 'text/plain', 'x-of': 'east' }, 'Busy').data('no ').data('room').end()
        assert.deepEqual(it.origins, ['east', 'west'])
        it.inner.last.start()
        it.system.advance(1_000)
        await turns(1)
        assert.deepEqual(recorder.events, [['start'], ['headers', 503, ['content-type', 'text/plain', 'x-of', 'east'], 'Busy'], ['data', 'no room'], ['end', []]])
        assert.equal(it.underWay, 0)
      })

      test('gives an earlier answer also after an error that came between', async () => {
        const it = scene({ deadlineMs: 1_000, probe: false, backends: [{ url: EAST, priority: 1 }, { url: WEST, priority: 2 }, { url: 'https://north.example/openai', priority: 3 }] })
        const recorder = it.send()
        it.inner.last.start().respond(503).data('busy').end()
        it.inner.last.fail(reset())
        it.inner.last.start()
        it.system.advance(1_000)
        await turns(1)
        assert.deepEqual([it.origins, statusOf(recorder), bodyOf(recorder)], [['east', 'west', 'north'], 503, 'busy'])
      })

      test('gives no answer of which a part is missing', async () => {
        const it = scene({ deadlineMs: 500 })
        const recorder = it.send()
        it.inner.last.start().respond(503).data('half')
        it.inner.last.start()
        it.system.advance(500)
        await turns(1)
        assert.deepEqual(kinds(recorder), ['start', 'error'])
        it.system.advance(1_000)
        assert.equal(it.inFlight, 0)
      })

      test('lets no attempt begin from then on, where the timer that ends the request is late by a little', async () => {
        const it = scene({ deadlineMs: 1_000 })
        const { setTimer } = it.system
        // The answer comes before the timer.
        it.system.setTimer = (callback, delayMs) => setTimer.call(it.system, callback, delayMs + 50)
        const recorder = it.send()
        const call = it.inner.last.start()
        it.system.advance(1_000)
        call.respond(503).data('busy').end()
        await turns(1)
        assert.deepEqual([it.origins, statusOf(recorder), bodyOf(recorder), it.system.pending], [['east'], 503, 'busy', 0])
      })

      test('gives a request that waits its 429 then', async () => {
        const it = scene({ deadlineMs: 1_000, maxWaitMs: 60_000, probe: false, backends: [{ name: 'east', url: EAST, priority: 1 }] })
        const probe = it.send()
        it.inner.last.fail(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }))
        assert.deepEqual([kinds(probe), it.engine.status().waiting], [['start'], 1])
        it.system.advance(400)
        assert.equal(it.inner.calls.length, 2, 'it is the probe')
        const waiting = it.send()
        it.system.advance(600)
        assert.equal(probe.terminals, 1)
        it.system.advance(399)
        assert.equal(waiting.terminals, 0)
        it.system.advance(1)
        await turns(1)
        assert.equal(statusOf(waiting), 429)
        assert.deepEqual([it.engine.status().waiting, it.underWay, it.system.pending], [0, 0, 0])
      })

      test('refuses a request at once that would have to wait for longer', async () => {
        const it = scene({ deadlineMs: 1_000, maxWaitMs: 60_000 })
        const recorder = it.send()
        for (let i = 0; i < 2; i++) it.inner.last.start().respond(429, { 'retry-after': '5' }).end()
        await turns(1)
        assert.deepEqual([statusOf(recorder), it.engine.status().waiting, it.system.pending], [429, 0, 0])
      })

      test('takes no backend out for attempts that had little time left', () => {
        const it = scene({ deadlineMs: 100 })
        for (let i = 0; i < 10; i++) {
          it.send()
          it.inner.last.start()
          it.system.advance(100)
        }
        assert.deepEqual([it.backend('east').state, it.backend('east').failures], ['available', 0])
      })

      test('does not bound the body, nor an upgrade', () => {
        const it = scene({ deadlineMs: 1_000 })
        const recorder = it.send()
        const call = it.inner.last.start().respond(200)
        const upgraded = it.send({ upgrade: 'websocket' })
        it.inner.last.start().upgrade(101, {}, new PassThrough())
        assert.equal(it.system.pending, 0)
        it.system.advance(60_000)
        call.data('late').end()
        assert.deepEqual([kinds(recorder), kinds(upgraded)], [['start', 'headers', 'data', 'end'], ['start', 'upgrade']])
      })

      test('counts the time in which the body is read, too', async () => {
        const it = scene({ deadlineMs: 1_000 })
        const recorder = it.send({ body: new PassThrough(), headers: { 'content-length': '3' } })
        it.system.advance(1_000)
        await turns(2)
        assert.match(String(recorder.error), /deadlineMs/)
        assert.equal(it.inner.calls.length, 0)
      })

      test('leaves no timer behind where the caller gives up, or handlers throw', () => {
        const it = scene({ deadlineMs: 1_000 })
        it.send().abort(new Error('enough'))
        it.send({}, { hooks: { start: () => { throw new Error('x') } } })
        assert.equal(it.system.pending, 0)
      })

      test('is given anew where our own process has slept through it', async () => {
        const it = scene({ deadlineMs: 1_000 })
        const recorder = it.send()
        const call = it.inner.last.start()
        it.system.freeze(3_000)
        await turns(3)
        assert.deepEqual(call.aborts, [])
        call.respond(200).end()
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'end'])
      })

      test('refuses no request that waits where our own process has slept through it: it is tried once more', async () => {
        const it = scene({ deadlineMs: 2_000, maxWaitMs: 60_000, pacing: false })
        const recorder = it.send()
        for (let i = 0; i < 2; i++) it.inner.last.start().respond(429, { 'retry-after-ms': '1500' }).end()
        assert.equal(it.engine.status().waiting, 1)
        it.system.freeze(8_000)
        await turns(3)
        it.inner.last.start().respond(200).end()
        assert.deepEqual([kinds(recorder), it.inner.calls.length], [['start', 'headers', 'end'], 3])
      })
    })

    describe('x-stainless-timeout', () => {
      const headersOf = { pairs: (value: string) => ['X-Stainless-Timeout', value], object: (value: string) => ({ 'x-stainless-timeout': value }) }
      const full = (it: Scene, retryAfterMs: number): void => {
        for (let i = 0; i < 2; i++) it.inner.last.start().respond(429, { 'retry-after-ms': String(retryAfterMs) }).end()
      }

      for (const [form, headers] of Object.entries(headersOf)) {
        test(`ends a wait one second before it (${form}), and is passed on`, async () => {
          for (const [seconds, retryAfterMs, waits] of [['10', 8_999, 1], ['10', 9_001, 0], ['5', 3_999, 1], ['5', 4_001, 0]] as const) {
            const it = scene({ maxWaitMs: 60_000 })
            const recorder = it.send({ headers: headers(seconds) })
            assert.ok(JSON.stringify(it.inner.last.opts.headers).toLowerCase().includes('x-stainless-timeout'))
            full(it, retryAfterMs)
            await turns(1)
            assert.deepEqual([it.engine.status().waiting, statusOf(recorder)], [waits, waits === 1 ? undefined : 429], `${seconds} s, ${retryAfterMs} ms`)
          }
        })
      }

      test('below 5, or of another form, says nothing', () => {
        for (const value of ['0', '1', '4', '-9', '5.5', '', 'ten', '9999999999']) {
          const it = scene({ maxWaitMs: 60_000 })
          it.send({ headers: headersOf.object(value) })
          full(it, 50_000)
          assert.equal(it.engine.status().waiting, 1, value)
        }
      })

      test('lets no further attempt begin in its last second, and ends none that is under way', async () => {
        const it = scene()
        const recorder = it.send({ headers: headersOf.object('10') })
        const call = it.inner.last.start()
        it.system.advance(9_000)
        assert.deepEqual(call.aborts, [])
        call.respond(503).data('busy').end()
        await turns(1)
        assert.deepEqual([it.origins, statusOf(recorder), bodyOf(recorder)], [['east'], 503, 'busy'])
        const other = it.send({ headers: headersOf.object('10') })
        it.inner.last.start()
        it.system.advance(60_000)
        it.inner.last.respond(200).end()
        assert.deepEqual(kinds(other), ['start', 'headers', 'end'])
      })

      test('leaves the next attempt alone before that', () => {
        const it = scene()
        it.send({ headers: headersOf.object('10') })
        const call = it.inner.last.start()
        it.system.advance(8_999)
        call.respond(503).end()
        assert.deepEqual(it.origins, ['east', 'west'])
      })

      test('counts beside deadlineMs: the sooner one holds', async () => {
        for (const [deadlineMs, seconds, waits] of [[5_000, '10', 0], [50_000, '10', 1], [50_000, '7', 0]] as const) {
          const it = scene({ deadlineMs, maxWaitMs: 60_000 })
          it.send({ headers: headersOf.object(seconds) })
          full(it, 7_000)
          await turns(1)
          assert.equal(it.engine.status().waiting, waits)
        }
      })
    })
  })
}
