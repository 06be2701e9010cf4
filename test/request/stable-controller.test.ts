import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StableController } from '../../src/request/stable-controller.js'

function setUp(): { controller: StableController, log: string[], attempt: (name: string) => { pause(): void, resume(): void } } {
  const log: string[] = []
  const controller = new StableController({
    abort: (reason) => log.push(`abort ${String(reason)}`),
  })
  return { controller, log, attempt: (name) => ({ pause: () => log.push(`${name} pauses`), resume: () => log.push(`${name} resumes`) }) }
}

test('an abort reaches the owner once, with its reason, and shows', () => {
  const { controller, log } = setUp()
  const reason = new Error('enough')
  assert.equal(controller.aborted, false)
  assert.equal(controller.reason, null)
  controller.abort(reason)
  controller.abort(new Error('again'))
  assert.equal(controller.aborted, true)
  assert.equal(controller.reason, reason)
  assert.deepEqual(log, ['abort Error: enough'])
})

test('an abort without a reason has none to show, as with undici, and reaches the owner as undici\'s', () => {
  const { controller } = setUp()
  controller.abort()
  assert.deepEqual([controller.aborted, controller.reason], [true, undefined])
})

test('a reason that is falsy, as AbortController allows, is a reason', () => {
  const { controller, log } = setUp()
  controller.abort('' as unknown as Error)
  controller.abort('again' as unknown as Error)
  assert.equal(controller.aborted, true)
  assert.deepEqual(log, ['abort '])
})

test('a pause and its end reach the attempt that is attached', () => {
  const { controller, log, attempt } = setUp()
  controller.attach(attempt('first'))
  controller.resume()
  controller.pause()
  controller.pause()
  assert.equal(controller.paused, true)
  controller.resume()
  controller.resume()
  assert.equal(controller.paused, false)
  assert.deepEqual(log, ['first pauses', 'first resumes'])
})

test('a pause that was asked for before there was anything to pause holds for what comes', () => {
  const { controller, log, attempt } = setUp()
  controller.pause()
  controller.resume()
  controller.pause()
  controller.attach(attempt('second'))
  assert.deepEqual(log, ['second pauses'])
})

test('raw headers and trailers are plain fields that interceptors may assign', () => {
  const { controller } = setUp()
  assert.deepEqual(Object.keys(controller), ['rawHeaders', 'rawTrailers'])
  controller.rawHeaders = []
  controller.rawTrailers = {}
  assert.deepEqual([controller.rawHeaders, controller.rawTrailers], [[], {}])
})

test('an abort with null for a reason is one as well, and the last', () => {
  const { controller, log } = setUp()
  controller.abort(null as unknown as Error)
  controller.abort(new Error('again'))
  assert.deepEqual([controller.aborted, controller.reason, log.length], [true, null, 1])
})
