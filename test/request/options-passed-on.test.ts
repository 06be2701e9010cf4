// What goes on to the dispatcher with options that are not quite the caller's: where undici would refuse or misread them as they are.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { AnyHandler, ModernHandler, DispatchOptions, LegacyHandler } from '../../src/request/undici.js'
import { Scene } from '../support/scene.js'

const legacy: LegacyHandler = { onConnect () {} }
const modern: ModernHandler = { onRequestStart () {} }
/** Is none of the balancer's own: it passes through. */
const base: DispatchOptions = { origin: 'https://elsewhere.example', path: '/', method: 'GET' }
const websocket: DispatchOptions = { ...base, upgrade: 'websocket' }

/** The options that a dispatcher gets, which is known to take handlers of the old style or is not. */
function pass(opts: DispatchOptions, handler: AnyHandler, takesLegacy: boolean): DispatchOptions {
  const it = new Scene('old', takesLegacy ? 'old' : 'new')
  assert.equal(it.inner.takesLegacy, takesLegacy)
  it.engine.dispatch(it.inner, opts, handler)
  return it.inner.last.opts
}

describe('an upgrade', () => {
  test('of an old handler through a newer undici is asked for over HTTP/1.1', () => {
    assert.deepEqual(pass(websocket, legacy, false), { ...websocket, allowH2: false })
  })

  test('stays as it is where the handler and the dispatcher are of one time, or the caller has decided', () => {
    assert.equal(pass(websocket, legacy, true), websocket)
    assert.equal(pass(websocket, modern, false), websocket)
    const decided: DispatchOptions = { ...websocket, allowH2: true }
    assert.equal(pass(decided, legacy, false), decided)
  })
})

describe('a repeated content-length', () => {
  const withLength = (length: unknown): DispatchOptions => Object.freeze({ ...base, headers: Object.freeze({ a: '1', 'content-length': length }) })

  test('that says the same is written once, in a copy', () => {
    const opts = withLength('3, 3')
    assert.deepEqual(pass(opts, legacy, true), { ...base, headers: { a: '1', 'content-length': '3' } })
    assert.deepEqual(opts.headers, { a: '1', 'content-length': '3, 3' })
  })

  for (const length of ['3', ' 3 ', '3, 4', 3, undefined]) {
    test(`${JSON.stringify(length)} is left to undici`, () => {
      const opts = withLength(length)
      assert.equal(pass(opts, legacy, true), opts)
    })
  }
})

test('a dispatcher among the options, which undici 8 refuses, is left out for an inner one that may be of undici 8', () => {
  const opts: DispatchOptions = Object.freeze({ ...base, dispatcher: {} })
  assert.deepEqual(pass(opts, legacy, false), base)
  assert.equal(pass(opts, legacy, true), opts)
})

test('everything else is the very same object', () => {
  for (const opts of [base, { ...base, headers: null }, { ...base, headers: ['content-length', '3'] }, { ...base, upgrade: null }]) {
    for (const handler of [legacy, modern]) assert.equal(pass(opts, handler, false), opts)
  }
  assert.equal(pass(websocket, undefined as unknown as LegacyHandler, false), websocket)
})
