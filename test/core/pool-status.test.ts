// What a pool tells of itself to people and dashboards.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

describe('the status', () => {
  test('says of each queue how many wait in it and for how long, and what waiting came to', () => {
    const kit = new PoolKit([backend('a', 1)], { maxWaitMs: 5_000 })
    const look = () => {
      const { waiting, queues, waits } = kit.pool.status(kit.now)
      return { waiting, queues, waits }
    }
    assert.deepEqual(look(), { waiting: 0, queues: [], waits: { served: 0, unserved: 0, totalMs: 0, longestMs: 0 } })
    kit.throttle('x', 1_000)
    kit.throttle('y', 1_000)
    const [first, second, aborted] = [new TestRequest({ scope: 'x' }), new TestRequest({ scope: 'x' }), new TestRequest({ scope: 'y' })]
    kit.acquire(first)
    kit.system.advance(200)
    kit.acquire(second)
    kit.acquire(aborted)
    kit.system.advance(100)
    assert.deepEqual(look(), {
      waiting: 3,
      queues: [{ scope: 'x', waiting: 2, firstWaitedMs: 300 }, { scope: 'y', waiting: 1, firstWaitedMs: 100 }],
      waits: { served: 0, unserved: 0, totalMs: 0, longestMs: 0 },
    })
    kit.pool.leave(aborted, kit.now)
    assert.deepEqual(look().queues, [{ scope: 'x', waiting: 2, firstWaitedMs: 300 }])
    kit.system.advance(1_200)
    kit.answer(kit.send(first), 200)
    kit.acquire(second)
    assert.deepEqual(look(), { waiting: 0, queues: [], waits: { served: 2, unserved: 1, totalMs: 1_500 + 1_300, longestMs: 1_500 } })
  })

  test('a request that comes back refused has waited since it began to', () => {
    const kit = new PoolKit([backend('a', 1)], { maxWaitMs: 10_000 })
    kit.throttle('', 1_000)
    const request = new TestRequest()
    kit.acquire(request)
    kit.system.advance(2_000)
    kit.answer(kit.send(request), 429, { 'retry-after-ms': '3000' })
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.system.advance(500)
    assert.deepEqual(kit.pool.status(kit.now).queues, [{ scope: '', waiting: 1, firstWaitedMs: 2_500 }])
  })

  test('says of each backend and scope what was sent and what came of it', () => {
    const kit = new PoolKit([backend('a', 1, { weight: 3 }), backend('b', 2)])
    const streaming = kit.send(new TestRequest({ scope: 'x' }))
    const attempt = kit.send(new TestRequest({ scope: 'y' }))
    kit.system.advance(12.5)
    kit.answer(attempt, 200)
    kit.headers(streaming, 200)
    kit.system.advance(1)
    kit.answer(kit.send(new TestRequest({ scope: 'y' })), 400)
    kit.answer(kit.send(new TestRequest({ scope: 'y' })), 500)
    assert.deepEqual(kit.statusOf('a'), {
      name: 'a', url: 'https://a.example', priority: 1, weight: 3, state: 'available', cooldownMs: 0, reason: undefined, callersOut: 0,
      inFlight: 1, attempts: 4, successes: 2, throttled: 0, spillovers: 0, failures: 1, lastLatencyMs: 12.5,
      scopes: [
        { scope: 'x', state: 'available', cooldownMs: 0, reason: undefined, attempts: 1, successes: 1, throttled: 0, spillovers: 0, failures: 0, inFlight: 1, pace: [] },
        { scope: 'y', state: 'available', cooldownMs: 0, reason: undefined, attempts: 3, successes: 1, throttled: 0, spillovers: 0, failures: 1, inFlight: 0, pace: [] },
      ],
    })
    const { state, cooldownMs, lastLatencyMs, scopes } = kit.statusOf('b')
    assert.deepEqual({ state, cooldownMs, lastLatencyMs, scopes }, { state: 'available', cooldownMs: 0, lastLatencyMs: undefined, scopes: [] })
  })

  test('calls a backend cooling down when every scope that it knows is, until the first is back', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    kit.throttle('x', 20_000)
    kit.throttle('y', 5_000)
    const { state, cooldownMs, scopes } = kit.statusOf('a')
    assert.equal(state, 'cooldown')
    assert.equal(cooldownMs, scopes.find(({ scope }) => scope === 'y')?.cooldownMs)
    kit.system.advance(6_000)
    assert.deepEqual([kit.statusOf('a').state, kit.statusOf('a').cooldownMs], ['available', 0])
    assert.deepEqual(kit.statusOf('a').scopes.map((scope) => scope.state), ['cooldown', 'available'])
    assert.equal(kit.statusOf('a').scopes[1]?.cooldownMs, 0)
  })

  test('says of a backend that is out until when, and then that it is being probed', () => {
    const kit = new PoolKit([backend('a', 1, { ownsCredential: true }), backend('b', 2)])
    kit.answer(kit.send(), 401)
    assert.deepEqual([kit.statusOf('a').state, kit.statusOf('a').cooldownMs], ['ejected', 60_000])
    kit.system.advance(70_000)
    assert.deepEqual([kit.statusOf('a').state, kit.statusOf('a').cooldownMs], ['ejected', 0])
    kit.send()
    assert.deepEqual([kit.statusOf('a').state, kit.statusOf('a').cooldownMs], ['probing', 0])
  })

  test('is a copy: what it said stays as it was', () => {
    const kit = new PoolKit([backend('a')])
    const before = kit.pool.status(kit.now)
    kit.answer(kit.send(), 200)
    assert.equal(before.backends[0]?.attempts, 0)
  })
})

describe('the status of pacing', () => {
  /** A minute's limit of which so much is left, once a second: two answers tell how fast we are. */
  function tell(kit: PoolKit, scope: string, left: readonly number[]): void {
    for (const remaining of left) {
      kit.system.advance(1_000)
      kit.answer(kit.send(new TestRequest({ scope })), 200, {
        'x-ratelimit-limit-requests': '100', 'x-ratelimit-remaining-requests': String(remaining),
        'x-ratelimit-reset-requests': `${(60 * (100 - remaining)) / 100}s`,
      })
    }
  }

  test('calls a scope paced while the next request would have to wait for its limit', () => {
    const kit = new PoolKit([backend('a')], { pacing: true })
    tell(kit, 'free', [99, 89, 79])
    tell(kit, 'short', [99, 50, 0])
    const { state, scopes } = kit.statusOf('a')
    assert.equal(state, 'available')
    for (const { pace } of scopes) assert.deepEqual(pace.map(({ dimension, perSecond }) => [dimension, perSecond > 0]), [['requests', true]])
    assert.deepEqual(scopes.map(({ pace }) => (pace[0]?.waitMs ?? NaN) > 0), [false, true])
    assert.deepEqual(scopes.map((scope) => [scope.scope, scope.state]), [['free', 'available'], ['short', 'paced']])
  })
})
