import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ActiveRequests } from '../../src/request/active-requests.js'
import { checkPeer, readUndiciVersion } from '../../src/request/check-peer.js'
import { endOf, isCallersFault, toError } from '../../src/request/failure.js'
import { Progress } from '../../src/request/progress.js'
import { isRaw, readResponseLength, toParsed, toRaw } from '../../src/request/response-headers.js'

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

  test('timeouts, a credential that is missing, and all else', () => {
    for (const code of ['UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'ETIMEDOUT']) assert.equal(endOf(withCode(code)), 'timeout')
    assert.equal(endOf(withCode('ERR_OPLB_CREDENTIAL')), 'credential')
    assert.equal(endOf(withCode('ECONNREFUSED')), 'connection')
    assert.equal(endOf(new Error('no code')), 'connection')
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

describe('what the caller is told of the sending', () => {
  function setUp(): { progress: Progress, told: string[] } {
    const told: string[] = []
    const progress = new Progress({
      onBodySent: (chunk) => told.push(Buffer.from(chunk as string).toString()), onRequestSent: () => told.push('sent'),
    })
    return { progress, told }
  }

  test('each byte of the body once, however often it is really sent', () => {
    const { progress, told } = setUp()
    const [first, second, third] = [{ bytesSent: 0 }, { bytesSent: 0 }, { bytesSent: 0 }]
    progress.bodySent(first, Buffer.from('abc'))
    progress.bodySent(second, Buffer.from('ab'))
    progress.bodySent(second, Buffer.from('cde'))
    progress.bodySent(third, 'abcde')
    progress.bodySent(third, 'fg')
    progress.bodySent(first, 'defgh')
    assert.deepEqual(told, ['abc', 'de', 'fg', 'h'])
  })

  test('a string that is all new comes as it is', () => {
    const { progress, told } = setUp()
    progress.bodySent({ bytesSent: 0 }, 'größe')
    progress.bodySent({ bytesSent: 0 }, 'größen')
    assert.deepEqual(told, ['größe', 'n'])
    const chunks: unknown[] = []
    new Progress({ onBodySent: (chunk) => chunks.push(chunk) }).bodySent({ bytesSent: 0 }, 'größe')
    assert.deepEqual(chunks, ['größe'])
  })

  test('that the request is sent, once', () => {
    const { progress, told } = setUp()
    for (let i = 0; i < 3; i++) progress.requestSent()
    assert.deepEqual(told, ['sent'])
  })

  test('nothing, where it has no ears for it', () => {
    const progress = new Progress({})
    progress.bodySent({ bytesSent: 0 }, 'a')
    progress.requestSent()
  })
})

describe('requests under way', () => {
  function request(name: string, log: string[]): { slot: number, abort(reason: Error): void } {
    return { slot: -1, abort: (reason) => { log.push(`${name}: ${reason.message}`) } }
  }

  test('come and go in any order', () => {
    const log: string[] = []
    const active = new ActiveRequests()
    const all = ['a', 'b', 'c', 'd'].map((name) => request(name, log))
    for (const one of all) active.add(one)
    for (const index of [1, 3, 1]) {
      const one = all[index]
      assert.ok(one)
      active.remove(one)
      assert.equal(one.slot, -1)
    }
    assert.equal(active.size, 2)
    active.abortAll(new Error('over'))
    assert.deepEqual(log.sort(), ['a: over', 'c: over'])
  })

  test('that go while all are aborted disturb nobody, and neither does one that throws', (t) => {
    const log: string[] = []
    const active = new ActiveRequests()
    const deferred: (() => void)[] = []
    t.mock.method(globalThis, 'queueMicrotask', (callback: () => void) => { deferred.push(callback) })
    const all = ['a', 'b', 'c'].map((name) => {
      const one = request(name, log)
      const { abort } = one
      one.abort = (reason) => {
        active.remove(one)
        abort(reason)
        if (name === 'a') throw new Error('a throws')
      }
      return one
    })
    for (const one of all) active.add(one)
    active.abortAll(new Error('over'))
    assert.deepEqual(log, ['a: over', 'b: over', 'c: over'])
    assert.equal(active.size, 0)
    assert.equal(deferred.length, 1)
    // Its own to deal with, as an uncaught exception.
    assert.throws(() => { deferred[0]?.() }, { message: 'a throws' })
  })
})

describe('a Node and an undici that cannot work together say so', () => {
  const pairs: readonly [undici: string, node: string, message: RegExp | undefined][] = [
    ['7.27.2', '20.18.1', undefined],
    ['7.30.2', '26.10.0', undefined],
    ['8.12.4', '22.19.0', undefined],
    ['8.0.0-alpha.1', '24.0.0', undefined],
    ['7.30.2', '20.18.0', /needs Node\.js 20\.18\.1 or newer; this is 20\.18\.0/],
    ['7.30.2', '18.20.0', /needs Node\.js/],
    ['7.27.1', '24.0.0', /needs undici 7\.27\.2 or newer, or 8; found 7\.27\.1.*npm install undici@7/],
    ['6.24.1', '20.20.2', /found 6\.24\.1/],
    ['8.12.4', '20.20.2', /undici 8\.12\.4 needs Node\.js 22\.19 or newer; this is 20\.20\.2/],
    ['8.12.4', '22.18.0', /needs Node\.js 22\.19/],
    ['8', '22.19', undefined],
  ]
  test('but an undici whose version nobody can read may try', () => {
    const version = readUndiciVersion(() => { throw new Error('bundled') })
    assert.equal(version, undefined)
    checkPeer(version, '20.18.1')
    assert.throws(() => { checkPeer(version, '18.20.0') }, /needs Node\.js/)
    assert.equal(readUndiciVersion(() => ({ version: '7.30.2' })), '7.30.2')
  })

  for (const [undici, node, message] of pairs) {
    test(`undici ${undici} on Node ${node}`, () => {
      if (message === undefined) checkPeer(undici, node)
      else assert.throws(() => { checkPeer(undici, node) }, { message })
    })
  }
})

describe('response headers', () => {
  test('go from parsed to raw as one pair for each repetition, byte for byte', () => {
    const raw = toRaw({ 'set-cookie': ['a=1', 'b=\xe9'], 'x-latin': 'caf\xe9', gone: undefined })
    assert.deepEqual(raw, ['set-cookie', 'a=1', 'set-cookie', 'b=\xe9', 'x-latin', 'caf\xe9'].map((text) => Buffer.from(text, 'latin1')))
  })

  test('stay the very same where they have the shape already', () => {
    const raw = [Buffer.from('a'), Buffer.from('1')]
    const parsed = { a: '1' }
    assert.equal(toRaw(raw), raw)
    assert.equal(toParsed(parsed), parsed)
    assert.deepEqual([isRaw(raw), isRaw(parsed)], [true, false])
  })

  test('go from raw to parsed as undici parses them', () => {
    assert.deepEqual(toParsed(['Set-Cookie', 'a=1', 'set-cookie', 'b=2', 'X-Latin', 'caf\xe9'].map((text) => Buffer.from(text, 'latin1'))), { 'set-cookie': ['a=1', 'b=2'], 'x-latin': 'caf\xe9' })
  })

  test('are none where there are none', () => {
    for (const none of [null, undefined]) {
      assert.deepEqual(toRaw(none), [])
      assert.deepEqual(toParsed(none), {})
    }
  })

  test('announce a length, or 0', () => {
    assert.equal(readResponseLength({ 'content-length': '42' }), 42)
    assert.equal(readResponseLength([Buffer.from('Content-Length'), Buffer.from('42')]), 42)
    assert.equal(readResponseLength({}), 0)
    assert.equal(readResponseLength({ 'content-length': ['1', '2'] }), 0)
  })
})
