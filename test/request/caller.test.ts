import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, test } from 'node:test'
import type { Controller, ModernHandler, LegacyHandler } from '../../src/request/undici.js'
import { wholeHandler } from '../support/recording-handler.js'
import { Scene } from '../support/scene.js'

const raw = (...texts: string[]): Buffer[] => texts.map((text) => Buffer.from(text, 'latin1'))

/** Dispatches for east with a handler as a caller would write it, and gives the attempt that was made. */
function send(it: Scene, handler: ModernHandler | LegacyHandler): ReturnType<Scene['inner']['last']['start']> {
  it.engine.dispatch(it.inner, { origin: 'https://east.example', path: '/openai/x', method: 'POST' }, wholeHandler(handler))
  return it.inner.last.start()
}

describe('a handler of the new style', () => {
  for (const inner of ['old', 'new'] as const) {
    test(`is given parsed headers and trailers, and finds the raw ones at its controller, with a dispatcher of the ${inner} style`, () => {
      const seen: unknown[] = []
      let controller: Controller | undefined
      const handler: ModernHandler = {
        onRequestStart (given) { controller = given },
        onResponseStart (given, status, headers, message) { seen.push(status, { ...headers }, message, given.rawHeaders) },
        onResponseEnd (given, trailers) { seen.push({ ...trailers }, given.rawTrailers) },
      }
      const headers = raw('Set-Cookie', 'a', 'set-cookie', 'b', 'X-Case', '1')
      const trailers = raw('X-Sum', '7')
      send(new Scene('new', inner), handler).respond(200, headers, 'OK').data('x').end(trailers)
      assert.deepEqual(seen, [200, { 'set-cookie': ['a', 'b'], 'x-case': '1' }, 'OK', headers, { 'x-sum': '7' }, trailers])
      assert.equal(seen[3], headers)
      assert.equal(controller?.rawTrailers, trailers)
    })

    test(`is given the parsed headers of an upgrade, with a dispatcher of the ${inner} style`, () => {
      const seen: unknown[] = []
      const handler: ModernHandler = {
        onRequestStart () {},
        onRequestUpgrade (given, status, headers) { seen.push(status, { ...headers }, given.rawHeaders) },
      }
      const headers = raw('Upgrade', 'websocket')
      send(new Scene('new', inner), handler).upgrade(101, headers, new PassThrough())
      assert.deepEqual(seen, [101, { upgrade: 'websocket' }, headers])
    })
  }

  test('can give up also where the dispatcher begins with the response', () => {
    const it = new Scene('new', 'new')
    let controller: Controller | undefined
    const aborts: unknown[] = []
    it.engine.dispatch(it.inner, { origin: 'https://east.example', path: '/openai/x', method: 'POST' }, wholeHandler({ onRequestStart (given: Controller) { controller = given } }))
    const theirs: Controller = { aborted: false, paused: false, reason: null, abort: (reason) => { aborts.push(reason) }, pause () {}, resume () {} }
    it.inner.last.handler.onResponseStart?.(theirs, 200, {})
    const reason = new Error('enough')
    controller?.abort(reason)
    assert.deepEqual(aborts, [reason])
  })
})

describe('a handler of the old style', () => {
  test('is given the very headers and trailers that came, also by a dispatcher of the new style', () => {
    const headers = raw('X-Case', 'caf\xe9')
    const trailers = raw('X-Sum', '7')
    const seen: unknown[] = []
    const handler: LegacyHandler = {
      onHeaders (_status, given) { seen.push(given); return true },
      onComplete (given) { seen.push(given) },
      onUpgrade (_status, given) { seen.push(given) },
    }
    const it = new Scene('old', 'new')
    send(it, handler).respond(200, headers).end(trailers)
    send(it, handler).upgrade(101, headers, new PassThrough())
    assert.equal(seen.length, 3)
    assert.deepEqual([seen[0] === headers, seen[1] === trailers, seen[2] === headers], [true, true, true])
  })

  test('pauses nothing by what it says to an informational answer', () => {
    for (const inner of ['old', 'new'] as const) {
      const call = send(new Scene('old', inner), { onHeaders: (status) => status >= 200 })
      call.respond(103)
      assert.equal(call.paused, false)
      call.respond(200)
      assert.equal(call.paused, false, inner)
    }
  })
})
