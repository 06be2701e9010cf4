// Which of several backends takes a request: priority first, then chance by weight and by the room that each has left.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Attempt } from '../../src/core/request.js'
import type { ResponseHeaders } from '../../src/core/types.js'
import { assertShares, backend, PoolKit, TestRequest } from '../support/pool-kit.js'

/** A limit of requests a minute as OpenAI writes it, so much of it left. */
const told = (limit: number, left: number): ResponseHeaders => ({
  'x-ratelimit-limit-requests': String(limit), 'x-ratelimit-remaining-requests': String(left),
  'x-ratelimit-reset-requests': `${(60 * (limit - left)) / limit}s`,
})

/**
 * The backend's answers tell of a limit that this process uses up: what was sent between two of them, over the time by which
 * the level moved, is its share of the rate.
 */
function tell(kit: PoolKit, name: string, limit: number, left: number): void {
  const home = kit.config.backends.find((one) => one.name === name) ?? assert.fail(`no backend ${name}`)
  kit.update(kit.config.backends, { home, pacing: true })
  const ask = (): Attempt => kit.send(new TestRequest({ pinned: true }))
  // Down to what is left, from so much more of it that two reports are far enough apart to tell a rate.
  const more = Math.ceil(limit / 30)
  kit.answer(ask(), 200, told(limit, left + more))
  const attempts = Array.from({ length: more }, ask)
  attempts.forEach((attempt, i) => { kit.answer(attempt, 200, told(limit, left + more - i - 1)) })
}

/** Where so many requests go whose answers leave each backend's level as it is: limit, and what is left of it. */
function countAt(kit: PoolKit, levels: Readonly<Record<string, readonly [limit: number, left: number]>>, times: number): Record<string, number> {
  for (const [name, [limit, left]] of Object.entries(levels)) tell(kit, name, limit, left)
  const counts: Record<string, number> = {}
  for (let i = 0; i < times; i++) {
    const attempt = kit.send()
    const { name } = attempt.backend
    counts[name] = (counts[name] ?? 0) + 1
    kit.answer(attempt, 200, levels[name] === undefined ? {} : told(...levels[name]))
  }
  return counts
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

  test('shares follow weight and room', () => {
    const kit = weighted({ a: 3, b: 1, c: 1 }, { pacing: true })
    assertShares(countAt(kit, { a: [1_000, 100], b: [1_000, 250], c: [1_000, 500] }, 50_000), { a: 3 * 0.1, b: 0.25, c: 0.5 })
  })

  test('weights decide again where all are at the edge of their limits', () => {
    const kit = weighted({ a: 3, b: 1 }, { pacing: true })
    assertShares(countAt(kit, { a: [10_000, 20], b: [10_000, 20] }, 20_000), { a: 3, b: 1 })
  })

  test('a backend that says that it is full is not asked, and the others keep their shares', () => {
    const kit = weighted({ a: 1, b: 2, c: 1 }, { pacing: true })
    assertShares(countAt(kit, { a: [1_000, 0] }, 20_000), { a: 0, b: 2, c: 1 })
  })

  test('the next priority gets what the higher one has no room for, and not before', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 1), backend('c', 2)], { pacing: true })
    assert.deepEqual(countAt(kit, { a: [1_000, 0], b: [1_000, 4] }, 100), { b: 100 })
    assert.deepEqual(countAt(kit, { a: [1_000, 0], b: [1_000, 0] }, 100), { c: 100 })
    // The refill of one request takes 60 ms, and 40 are kept as a margin.
    kit.system.advance(110)
    assert.notEqual(kit.send().backend.name, 'c')
  })

  test('of a hundred equals the one that has room is found', () => {
    const kit = new PoolKit(Array.from({ length: 100 }, (_, i) => backend(`b${i}`)), { pacing: true })
    for (let i = 0; i < 99; i++) tell(kit, `b${i}`, 1_000, 0)
    assert.deepEqual(kit.count(100), { b99: 100 })
  })

  test('where all say that they are full a caller is told the soonest of all', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 1), backend('c', 2)], { pacing: true })
    kit.setChance(0)
    for (const [name, limit] of [['a', 60], ['b', 120], ['c', 90]] as const) tell(kit, name, limit, 0)
    const rejected = kit.acquire()
    // One request takes 500 ms of b's refill, and 40 ms are kept as a margin.
    assert.ok(rejected.kind === 'reject' && rejected.retryAfterMs >= 535 && rejected.retryAfterMs < 550, JSON.stringify(rejected))
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
    kit.setChance(0)
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
    kit.system.advance(250)
    assert.equal(kit.send(new TestRequest({ scope: 'other' })).backend.name, 'a')
    assert.equal(kit.statusOf('a').state, 'probing')
    kit.throttle('', 40, 60)
    const rejected = kit.acquire()
    assert.ok(rejected.kind === 'reject' && rejected.retryAfterMs >= 40 && rejected.retryAfterMs < 46, JSON.stringify(rejected))
  })

  test('a backend that has just failed the request is not its choice, one that refused it without a wait is open in the shortest there is', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], { maxAttempts: 3 })
    kit.setChance(0)
    const request = new TestRequest()
    kit.answer(kit.send(request), 500)
    const second = kit.send(request)
    assert.equal(second.backend.name, 'b')
    kit.answer(second, 429, { 'retry-after-ms': '0' })
    assert.deepEqual(kit.acquire(request), { kind: 'reject', retryAfterMs: 1 })
  })
})
