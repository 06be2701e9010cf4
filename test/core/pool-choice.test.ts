// Which of several backends takes a request: priority first, then chance by weight and by the room that each has left.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ResponseHeaders } from '../../src/core/types.js'
import { assertShares, backend, PoolKit, TestRequest } from '../support/pool-kit.js'

/** A limit of requests a minute as OpenAI writes it, so much of it left. */
const told = (limit: number, left: number): ResponseHeaders => ({
  'x-ratelimit-limit-requests': String(limit), 'x-ratelimit-remaining-requests': String(left),
  'x-ratelimit-reset-requests': `${(60 * (limit - left)) / limit}s`,
})

/** The backend answers once, and its answer tells of a limit. */
function tell(kit: PoolKit, name: string, headers: ResponseHeaders): void {
  const home = kit.config.backends.find((one) => one.name === name) ?? assert.fail(`no backend ${name}`)
  kit.update(kit.config.backends, { home, pacing: true })
  kit.answer(kit.send(new TestRequest({ pinned: true })), 200, headers)
}

const weighted = (weights: Readonly<Record<string, number>>, more = {}): PoolKit =>
  new PoolKit(Object.entries(weights).map(([name, weight]) => backend(name, 1, { weight })), more, 9)

describe('among equals', () => {
  test('a hundred thousand picks match the weights', () => {
    const weights = { a: 1, b: 2, c: 3, d: 10, e: 0.5 }
    assertShares(weighted(weights).count(100_000), weights)
  })

  test('each has its share of chance, from the first point to the last', () => {
    const kit = weighted({ a: 1, b: 2, c: 3, d: 4 })
    const drawn = [0, 0.099, 0.1, 0.299, 0.3, 0.599, 0.6, 0.999, 1 - 2 ** -53].map((point) => {
      kit.setChance(point)
      return kit.send().backend.name
    })
    assert.equal(drawn.join(''), 'aabbccddd')
  })

  test('chance is asked once, and not at all where one is alone in its priority', () => {
    for (const [priority, draws] of [[1, 100], [2, 0]] as const) {
      const kit = new PoolKit([backend('a', 1), backend('b', priority)])
      const before = kit.system.draws
      kit.count(100)
      assert.equal(kit.system.draws - before, draws)
    }
  })

  test('those that are left when one is throttled keep their proportion', () => {
    const kit = weighted({ a: 1, b: 2, c: 1 })
    kit.coolHome(30_000)
    assertShares(kit.count(20_000), { a: 0, b: 2, c: 1 })
  })
})

describe('with pacing', () => {
  test('weights hold while no backend is short', () => {
    const weights = { a: 3, b: 1 }
    assertShares(weighted(weights, { pacing: true }).count(20_000), weights)
  })

  test('shares follow weight and headroom: half a bucket of room is as good as a whole one', () => {
    const kit = weighted({ a: 3, b: 1, c: 1 }, { pacing: true })
    tell(kit, 'a', told(1_000, 100))
    tell(kit, 'b', told(1_000, 250))
    tell(kit, 'c', told(1_000, 500))
    assertShares(kit.count(50_000), { a: 3 * 0.2, b: 0.5, c: 1 })
  })

  test('weights decide again where all are at the edge of their limits', () => {
    const kit = weighted({ a: 3, b: 1 }, { pacing: true })
    for (const name of ['a', 'b']) tell(kit, name, told(10_000, 2))
    assertShares(kit.count(20_000), { a: 3, b: 1 })
  })

  test('a backend that is expected to refuse is not asked, and the others keep their shares', () => {
    const kit = weighted({ a: 1, b: 2, c: 1 }, { pacing: true })
    tell(kit, 'a', told(1_000, 0))
    assertShares(kit.count(20_000), { a: 0, b: 2, c: 1 })
  })

  test('the next priority gets what the higher one has no room for, and not before', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 1), backend('c', 2)], { pacing: true })
    tell(kit, 'a', told(1_000, 0))
    tell(kit, 'b', told(1_000, 2))
    assert.deepEqual(kit.count(1_000), { b: 1_000 })
    tell(kit, 'b', told(1_000, 0))
    assert.deepEqual(kit.count(1_000), { c: 1_000 })
    // The refill of one request takes 60 ms.
    kit.system.advance(61)
    assertShares(kit.count(1_000), { a: 1, b: 1 })
  })

  test('of a hundred equals the one that has room is found', () => {
    const kit = new PoolKit(Array.from({ length: 100 }, (_, i) => backend(`b${i}`)), { pacing: true })
    const full = new Set<string>()
    while (full.size < 99) {
      const attempt = kit.send()
      assert.ok(!full.has(attempt.backend.name))
      full.add(attempt.backend.name)
      kit.answer(attempt, 200, told(1_000, 0))
    }
    const [name, ...others] = Object.keys(kit.count(100))
    assert.ok(name !== undefined && !full.has(name))
    assert.deepEqual(others, [])
  })

  test('where all are short a caller is told the soonest of all', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 1), backend('c', 2)], { pacing: true })
    for (const [name, limit] of [['a', 20], ['b', 100], ['c', 50]] as const) tell(kit, name, told(limit, 0))
    assert.deepEqual(kit.acquire(), { kind: 'reject', retryAfterMs: 600 })
  })
})

describe('who is available is known anew', () => {
  test('the very moment at which a cooldown begins, and at which it is over', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    assert.deepEqual(kit.count(3), { a: 3 })
    kit.setChance(0)
    kit.throttle('', 100)
    assert.deepEqual(kit.count(3), { b: 3 })
    kit.system.advance(99.9)
    assert.deepEqual(kit.count(3), { b: 3 })
    kit.system.advance(0.1)
    assert.deepEqual(kit.count(3), { a: 3 })
  })

  test('the very moment at which a backend is out, and at which it may be probed', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    assert.deepEqual(kit.count(3), { a: 3 })
    kit.setChance(0.5)
    kit.settle(kit.send(), 'connection')
    assert.deepEqual(kit.count(3), { b: 3 })
    kit.system.advance(249)
    assert.deepEqual(kit.count(3), { b: 3 })
    kit.system.advance(1)
    assert.equal(kit.send().backend.name, 'a')
  })
})

describe('where no backend is in order', () => {
  test('one that is being probed says nothing of when that will be over', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2), backend('c', 3)])
    kit.setChance(0)
    kit.settle(kit.send(), 'connection')
    kit.system.advance(0)
    assert.equal(kit.send(new TestRequest({ scope: 'other' })).backend.name, 'a')
    assert.equal(kit.statusOf('a').state, 'probing')
    kit.throttle('', 40, 60)
    assert.deepEqual(kit.acquire(), { kind: 'reject', retryAfterMs: 40 })
  })

  test('a backend that has just failed the request is not its choice, one that refused it without a wait is open in the shortest there is', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], { maxAttempts: 3 })
    const request = new TestRequest()
    kit.answer(kit.send(request), 500)
    const second = kit.send(request)
    assert.equal(second.backend.name, 'b')
    kit.answer(second, 429, { 'retry-after-ms': '0' })
    assert.deepEqual(kit.acquire(request), { kind: 'reject', retryAfterMs: 1 })
  })
})
