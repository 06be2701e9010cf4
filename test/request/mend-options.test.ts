import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { CurrentHandler, DispatchOptions, LegacyHandler } from '../../src/request/undici.js'
import { mendOptions } from '../../src/request/mend-options.js'

const legacy: LegacyHandler = { onConnect () {} }
const current: CurrentHandler = { onRequestStart () {} }
const base: DispatchOptions = { origin: 'https://east.example', path: '/', method: 'GET' }
const websocket: DispatchOptions = { ...base, upgrade: 'websocket' }

describe('an upgrade', () => {
  test('of an old handler through a newer undici is asked for over HTTP/1.1', () => {
    assert.deepEqual(mendOptions(websocket, legacy, false), { ...websocket, allowH2: false })
  })

  test('stays as it is where the handler and the dispatcher are of one time, or the caller has decided', () => {
    assert.equal(mendOptions(websocket, legacy, true), websocket)
    assert.equal(mendOptions(websocket, current, false), websocket)
    const decided: DispatchOptions = { ...websocket, allowH2: true }
    assert.equal(mendOptions(decided, legacy, false), decided)
  })
})

describe('a repeated content-length', () => {
  const withLength = (length: unknown): DispatchOptions => Object.freeze({ ...base, headers: Object.freeze({ a: '1', 'content-length': length }) })

  test('that says the same is written once, in a copy', () => {
    const opts = withLength('3, 3')
    assert.deepEqual(mendOptions(opts, legacy, true), { ...base, headers: { a: '1', 'content-length': '3' } })
    assert.deepEqual(opts.headers, { a: '1', 'content-length': '3, 3' })
  })

  for (const length of ['3', ' 3 ', '3, 4', 3, undefined]) {
    test(`${JSON.stringify(length)} is left to undici`, () => {
      const opts = withLength(length)
      assert.equal(mendOptions(opts, legacy, true), opts)
    })
  }
})

test('a dispatcher among the options, which undici 8 refuses, is left out for an inner one that may be of undici 8', () => {
  const opts: DispatchOptions = Object.freeze({ ...base, dispatcher: {} })
  assert.deepEqual(mendOptions(opts, legacy, false), base)
  assert.equal(mendOptions(opts, legacy, true), opts)
})

test('everything else is the very same object', () => {
  for (const opts of [base, { ...base, headers: null }, { ...base, headers: ['content-length', '3'] }, { ...base, upgrade: null }]) {
    for (const handler of [legacy, current]) assert.equal(mendOptions(opts, handler, false), opts)
  }
  assert.equal(mendOptions(websocket, undefined as unknown as LegacyHandler, false), websocket)
})
