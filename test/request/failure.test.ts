// Whose fault a failure is, and what kind of end it is to an attempt.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { endOf, isCallersFault, toError } from '../../src/request/failure.js'

const withCode = (code: string): Error => Object.assign(new Error(code), { code })

describe('whose fault a failure is', () => {
  const callers = [
    'UND_ERR_INVALID_ARG', 'UND_ERR_NOT_SUPPORTED', 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH', 'UND_ERR_INVALID_RETURN_VALUE', 'UND_ERR_CLOSED', 'UND_ERR_DESTROYED',
    'UND_MOCK_ERR_MOCK_NOT_MATCHED', 'ERR_INVALID_ARG_TYPE',
  ]
  for (const code of callers) test(`${code}: the caller's`, () => { assert.equal(isCallersFault(withCode(code)), true) })

  const backends = ['ECONNREFUSED', 'ECONNRESET', 'ENOTFOUND', 'UND_ERR_SOCKET', 'UND_ERR_ABORTED', 'UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_OVERFLOW', 'HPE_INVALID_CONSTANT', 'CERT_HAS_EXPIRED']
  for (const code of backends) test(`${code}: the backend's`, () => { assert.equal(isCallersFault(withCode(code)), false) })

  test('a TypeError is a mistake of the program, whichever realm it is from', () => {
    assert.equal(isCallersFault(new TypeError('x')), true)
    assert.equal(isCallersFault(Object.assign(new Error('x'), { name: 'TypeError' })), true)
    assert.equal(isCallersFault(new Error('x')), false)
  })

  test('a connection that was never made, one that broke off, a timeout, our own machine, and a credential that is missing', () => {
    for (const wasConnected of [true, false]) {
      assert.equal(endOf(withCode('ERR_OPLB_CREDENTIAL'), wasConnected), 'credential')
      assert.equal(endOf(withCode('EAI_AGAIN'), wasConnected), 'resolver')
      assert.equal(endOf(withCode('UND_ERR_HEADERS_TIMEOUT'), wasConnected), 'timeout')
      for (const code of ['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL']) assert.equal(endOf(withCode(code), wasConnected), 'local')
    }
    for (const code of ['ECONNREFUSED', 'ENOTFOUND', 'UND_ERR_CONNECT_TIMEOUT', 'ETIMEDOUT', 'CERT_HAS_EXPIRED']) assert.equal(endOf(withCode(code), false), 'connection')
    for (const code of ['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET', 'HPE_INVALID_CONSTANT']) assert.equal(endOf(withCode(code), true), 'reset')
    assert.equal(endOf(new Error('no code'), true), 'reset')
    assert.equal(endOf(new Error('no code'), false), 'connection')
  })

  test('what is thrown and is no Error becomes one that keeps it, and does not repeat it', () => {
    const error = new Error('x')
    assert.equal(toError(error), error)
    const made = toError('a secret')
    assert.equal(made.cause, 'a secret')
    assert.match(made.message, /no Error was thrown: string/)
    assert.doesNotMatch(made.message, /secret/)
  })
})
