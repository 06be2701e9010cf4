import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import type { AnyHandler } from '../../src/request/undici.js'
import { adaptHandler } from '../../src/request/pass-through.js'
import { FakeCall } from '../support/fake-inner.js'
import { recordingHandler, type RecorderOptions } from '../support/recording-handler.js'

function forward(options?: RecorderOptions): { recorder: ReturnType<typeof recordingHandler>, call: FakeCall } {
  const recorder = recordingHandler('old', options)
  return { recorder, call: new FakeCall({ origin: 'https://elsewhere.example', path: '/', method: 'GET' }, adaptHandler(recorder.handler), 'new') }
}

test('a handler of the new style is passed on as it is, and what is no handler too', () => {
  const { handler } = recordingHandler('new')
  assert.equal(adaptHandler(handler), handler)
  for (const none of [null, undefined, 'handler']) assert.equal(adaptHandler(none as unknown as AnyHandler), none)
})

test('a handler of the old style hears all of it in its own style', () => {
  const { recorder, call } = forward({ optional: ['onBodySent', 'onRequestSent', 'onResponseStarted'] })
  call.start()
  call.handler.onBodySent?.(Buffer.from('ping'))
  call.handler.onRequestSent?.()
  call.handler.onResponseStarted?.()
  call.respond(200, { 'set-cookie': ['a', 'b'] }, 'OK').data('pong').end({ 'x-sum': '7' })
  assert.deepEqual(recorder.events, [
    ['start'], ['body sent', 'ping'], ['request sent'], ['response started'], ['headers', 200, ['set-cookie', 'a', 'set-cookie', 'b'], 'OK'], ['data', 'pong'], ['end', ['x-sum', '7']],
  ])
})

test('raw headers come as they are where undici has them, else made from the parsed ones', () => {
  const { recorder, call } = forward()
  call.start().respond(200, [Buffer.from('X-Latin'), Buffer.from('caf\xe9', 'latin1')]).end([Buffer.from('x-sum'), Buffer.from('7')])
  assert.deepEqual(recorder.events.slice(1), [['headers', 200, ['x-latin', 'caf\xe9'], ''], ['end', ['x-sum', '7']]])
  const bare = recordingHandler('old')
  const handler = adaptHandler(bare.handler) as typeof bare.handler
  const controller = { aborted: false, paused: false, reason: null, abort() {}, pause() {}, resume() {} }
  handler.onResponseStart?.(controller, 200, { a: '1' })
  handler.onResponseEnd?.(controller, { b: '2' })
  handler.onRequestUpgrade?.(controller, 101, { c: '3' }, new PassThrough())
  assert.deepEqual(bare.events, [['headers', 200, ['a', '1']], ['end', ['b', '2']], ['upgrade', 101, ['c', '3']]])
})

test('it has only those of the optional callbacks that the caller has', () => {
  const { call } = forward({ optional: [] })
  assert.equal(call.handler.onBodySent, undefined)
  assert.equal(call.handler.onRequestSent, undefined)
  call.handler.onResponseStarted?.()
})

test('its pauses, its resume and its abort reach undici', () => {
  const { recorder, call } = forward({ hooks: { headers: (it) => { it.pause() } } })
  call.start().respond(200)
  assert.equal(call.paused, true)
  recorder.resume()
  assert.equal(call.paused, false)
  recorder.pause()
  call.data('x')
  assert.equal(call.paused, true)
  const reason = new Error('enough')
  recorder.abort(reason)
  assert.deepEqual(call.aborts, [reason])
  assert.equal(recorder.error, reason)
})

test('it pauses nothing where it does not ask for that, nor by what it says to an informational answer', () => {
  const { call } = forward()
  call.start().respond(200)
  assert.equal(call.paused, false)
  const early = new FakeCall({ origin: 'https://elsewhere.example', path: '/', method: 'GET' }, adaptHandler({ onHeaders: (status) => status >= 200 }), 'new')
  early.start().respond(103)
  assert.equal(early.paused, false)
})

test('an upgrade is handed over', () => {
  const { recorder, call } = forward()
  call.start().upgrade(101, { upgrade: 'websocket' }, new PassThrough())
  assert.deepEqual(recorder.events, [['start'], ['upgrade', 101, ['upgrade', 'websocket']]])
})

test('raw headers and trailers are the very ones that came', () => {
  const [headers, trailers] = [[Buffer.from('X-Case'), Buffer.from('1')], [Buffer.from('X-Sum'), Buffer.from('7')]]
  const seen: unknown[] = []
  const handler = adaptHandler({
    onHeaders (_status, given) { seen.push(given); return true },
    onComplete (given) { seen.push(given) },
    onUpgrade (_status, given) { seen.push(given) },
  })
  const call = new FakeCall({ origin: 'https://elsewhere.example', path: '/', method: 'GET' }, handler, 'new')
  call.start().respond(200, headers).end(trailers)
  call.upgrade(101, headers, new PassThrough())
  assert.deepEqual([seen.length, seen[0] === headers, seen[1] === trailers, seen[2] === headers], [3, true, true, true])
})

test('an error that it has no ears for is thrown', () => {
  const error = new Error('x')
  const handler = adaptHandler({ onConnect() {} })
  const call = new FakeCall({ origin: 'https://elsewhere.example', path: '/', method: 'GET' }, handler, 'new')
  call.start().respond(200).data('x').end()
  call.upgrade(101, {}, new PassThrough())
  assert.throws(() => call.fail(error), error)
})
