// Limits that the user declares: they hold, send to a lower tier, or refuse, like a backend's own word.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

const limited = (limits: { inFlight?: number, requestsPerMinute?: number, tokensPerMinute?: number }, more = {}): PoolKit =>
  new PoolKit([backend('a', 1, { limits }), backend('b', 2)], more)

describe('a limit of requests in flight', () => {
  test('sends what is beyond it to the next priority, until the body of one has ended', () => {
    const kit = limited({ inFlight: 2 })
    const first = kit.send()
    const second = kit.send(new TestRequest({ scope: 'other' }))
    assert.deepEqual([first, second].map((attempt) => attempt.backend.name), ['a', 'a'])
    kit.headers(first, 200)
    assert.equal(kit.send().backend.name, 'b')
    kit.settle(first, 'completed')
    assert.equal(kit.send().backend.name, 'a')
    assert.equal(kit.send(new TestRequest({ scope: 'third' })).backend.name, 'b')
  })

  test('holds those who can wait, and lets them go as soon as one has ended', () => {
    const kit = new PoolKit([backend('a', 1, { limits: { inFlight: 1 } })], { maxWaitMs: 10_000 })
    const first = kit.send()
    const request = new TestRequest()
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.system.advance(700)
    assert.equal(kit.statusOf('a').scopes[0]?.state, 'paced')
    kit.answer(first, 200)
    kit.system.advance(0)
    assert.equal(kit.send(request).backend.name, 'a')
  })

  test('refuses where there is no other way, and tells when one is expected to end', () => {
    const kit = new PoolKit([backend('a', 1, { limits: { inFlight: 2 } })])
    kit.setChance(0)
    // They take four seconds each.
    for (let i = 0; i < 60; i++) {
      const attempt = kit.send()
      kit.system.advance(4_000)
      kit.answer(attempt, 200)
    }
    kit.send()
    kit.send()
    const told = kit.acquire()
    assert.ok(told.kind === 'reject' && told.retryAfterMs > 1_900 && told.retryAfterMs < 2_010, JSON.stringify(told))
  })
})

describe('a limit of requests per minute', () => {
  test('lets as many go, and the next when the first of them is a minute old', () => {
    const kit = limited({ requestsPerMinute: 3 })
    for (let i = 0; i < 3; i++) {
      assert.equal(kit.send().backend.name, 'a')
      kit.system.advance(1_000)
    }
    assert.deepEqual(kit.count(5), { b: 5 })
    kit.system.advance(56_000)
    assert.deepEqual(kit.count(1), { b: 1 })
    kit.system.advance(2_000)
    assert.deepEqual(kit.count(2), { a: 1, b: 1 })
  })

  test('does not count what was refused or failed', () => {
    const kit = limited({ requestsPerMinute: 1 }, { retryBudget: { ratio: 1, minPerSecond: 100 } })
    kit.answer(kit.send(), 429, { 'retry-after': '0' })
    kit.answer(kit.send(), 500)
    kit.answer(kit.send(), 200)
    assert.equal(kit.send().backend.name, 'b')
  })

  test('counts for all models together, and for one that was never asked for', () => {
    const kit = limited({ requestsPerMinute: 2 })
    assert.equal(kit.send(new TestRequest({ scope: 'x' })).backend.name, 'a')
    assert.equal(kit.send(new TestRequest({ scope: 'y' })).backend.name, 'a')
    assert.equal(kit.send(new TestRequest({ scope: 'z' })).backend.name, 'b')
  })
})

test('a limit of tokens per minute counts prompts and as much again for the output, and takes a request of any size when nothing else is there', () => {
  const kit = limited({ tokensPerMinute: 1_000 })
  const ask = (bodyBytes: number): string => kit.send(new TestRequest({ bodyBytes })).backend.name
  assert.equal(ask(40_000), 'a')
  assert.equal(ask(4), 'b')
  kit.system.advance(61_000)
  assert.equal(ask(0), 'a')
})

test('what went out before a limit was declared is not taken back from it', () => {
  const kit = new PoolKit([backend('a', 1), backend('b', 2)], { retryBudget: { ratio: 1, minPerSecond: 100 } })
  const before = kit.send()
  kit.update([backend('a', 1, { limits: { requestsPerMinute: 2 } }), backend('b', 2)])
  kit.send()
  kit.answer(before, 500)
  assert.deepEqual(kit.count(3), { a: 1, b: 2 })
})

test('a request of unknown size costs what others usually do', () => {
  const kit = limited({ tokensPerMinute: 1_000 })
  for (const bodyBytes of [400, 400, 0, 0]) assert.equal(kit.send(new TestRequest({ bodyBytes })).backend.name, 'a')
  assert.equal(kit.send(new TestRequest({ bodyBytes: 1_600 })).backend.name, 'b')
  assert.equal(kit.send(new TestRequest({ bodyBytes: 0 })).backend.name, 'a')
})

test('without a limit in an update there is none any more', () => {
  const kit = limited({ requestsPerMinute: 1 })
  kit.send()
  assert.equal(kit.send().backend.name, 'b')
  kit.update([backend('a', 1), backend('b', 2)])
  assert.deepEqual(kit.count(3), { a: 3 })
})
