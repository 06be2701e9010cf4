/** Backends that have only some of the models: every way of choosing goes by it. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { BackendConfig } from '../../src/core/types.js'
import { assertShares, backend, PoolKit, TestRequest } from '../support/pool-kit.js'

const request = (scope: string, more: Partial<TestRequest> = {}): TestRequest => Object.assign(new TestRequest({ scope }), more)
const serving = (name: string, priority: number, serves: readonly string[], more: Partial<BackendConfig> = {}): BackendConfig => backend(name, priority, { serves, ...more })

/** Who is asked for it, and what the caller gets where none is. */
function whom(kit: PoolKit, scope: string): string {
  const asked = request(scope)
  const acquired = kit.acquire(asked)
  if (acquired.kind !== 'send') return acquired.kind
  kit.settle(acquired, 'aborted')
  return acquired.backend.name
}

describe('a backend gets requests only for what it serves', () => {
  test('by the whole name, or by how it begins', () => {
    const kit = new PoolKit([serving('a', 1, ['gpt-4o', 'text-embedding-3-*']), backend('b', 2)])
    for (const name of ['gpt-4o', 'text-embedding-3-small', 'text-embedding-3-']) assert.equal(whom(kit, name), 'a', name)
    for (const name of ['gpt-4o-mini', 'gpt-4', 'GPT-4o', 'text-embedding-3', 'a-text-embedding-3-small', 'toString', '*']) assert.equal(whom(kit, name), 'b', name)
  })

  test('a star alone is everything', () => {
    assert.equal(whom(new PoolKit([serving('a', 1, ['*']), backend('b', 2)]), 'anything'), 'a')
  })

  test('what names nothing goes anywhere', () => {
    assert.equal(whom(new PoolKit([serving('a', 1, ['gpt-4o']), backend('b', 2)]), ''), 'a')
  })

  test('a name is the caller\'s or, where it is renamed, the backend\'s own', () => {
    const models = { 'gpt-4o': 'my-gpt4o' }
    assert.equal(whom(new PoolKit([serving('a', 1, ['gpt-4o'], { models }), backend('b', 2)]), 'gpt-4o'), 'a')
    assert.equal(whom(new PoolKit([serving('a', 1, ['my-*'], { models }), backend('b', 2)]), 'gpt-4o'), 'a')
    assert.equal(whom(new PoolKit([serving('a', 1, ['other'], { models }), backend('b', 2)]), 'gpt-4o'), 'b')
  })

  test('names are compared as far as they are kept', () => {
    const long = `ft:gpt-4o-mini-2024-07-18:${'x'.repeat(80)}`
    for (const pattern of [long, `${long}*`]) assert.equal(whom(new PoolKit([serving('a', 1, [pattern]), backend('b', 2)]), long.slice(0, 64)), 'a')
  })

  test('a request to the home goes there whatever it serves', () => {
    const kit = new PoolKit([serving('a', 1, ['gpt-4o'])])
    assert.equal(kit.send(request('other', { pinned: true })).backend.name, 'a')
  })

  test('among equals the others share', () => {
    const kit = new PoolKit([serving('a', 1, ['gpt-4o']), backend('b', 1), backend('c', 1, { weight: 2 })])
    const counts = kit.count(3_000, 'other')
    assert.equal(counts['a'], undefined)
    assertShares(counts, { b: 1, c: 2 })
    assertShares(kit.count(3_000, 'gpt-4o'), { a: 1, b: 1, c: 2 })
  })
})

describe('where others are out, one that does not serve it is asked in no case', () => {
  const kitOf = (more = {}): PoolKit => new PoolKit([serving('a', 1, ['gpt-4o']), serving('b', 2, ['gpt-4o', 'other'])], more)

  test('after a 429: the answer is a 429 that tells of those that serve it', () => {
    const kit = kitOf()
    kit.setChance(0)
    kit.throttle('other', 2_000)
    const acquired = kit.acquire(request('other'))
    assert.ok(acquired.kind === 'reject' && acquired.retryAfterMs >= 2_000, JSON.stringify(acquired))
    assert.equal(whom(kit, 'gpt-4o'), 'a')
  })

  test('where all that serve it have failed: the least bad of them', () => {
    const kit = kitOf()
    const first = request('other')
    kit.settle(kit.send(first), 'connection')
    assert.equal(kit.acquire(first).kind, 'surface')
    assert.equal(kit.send(request('other')).backend.name, 'b')
  })

  test('in the place of a 429: one that failed and serves it', () => {
    const kit = new PoolKit([serving('a', 1, ['gpt-4o']), serving('b', 2, ['gpt-4o', 'other']), serving('c', 3, ['other'])])
    kit.throttle('other', 30_000)
    const failing = request('gpt-4o')
    kit.system.advance(1)
    const attempt = kit.send(failing)
    assert.equal(attempt.backend.name, 'a')
    kit.system.advance(2_000)
    kit.settle(attempt, 'connection')
    kit.throttle('other', 30_000)
    assert.equal(kit.acquire(request('other')).kind, 'reject', 'a is out for long, but does not serve it')
  })

  test('where all that serve it have said that they do not have it: one of them once more, not the home', () => {
    const kit = kitOf()
    const first = kit.send(request('other'))
    kit.pool.headers(first, 404, {}, kit.now)
    kit.pool.conclude(first, 'missing', kit.now)
    kit.settle(first, 'completed')
    assert.equal(kit.send(request('other')).backend.name, 'b')
    assert.equal(kit.send(request('gpt-4o')).backend.name, 'a')
  })

  test('a request waits for those that serve it', () => {
    const kit = kitOf({ maxWaitMs: 10_000 })
    kit.throttle('other', 1_000)
    const waiting = request('other')
    let sent: string | undefined
    waiting.onWake = () => {
      const acquired = kit.acquire(waiting)
      sent = acquired.kind === 'send' ? acquired.backend.name : acquired.kind
    }
    assert.equal(kit.acquire(waiting).kind, 'wait')
    kit.system.advance(1_100)
    assert.equal(sent, 'b')
  })
})

describe('what no backend serves', () => {
  const kitOf = (): PoolKit => new PoolKit([serving('a', 1, ['gpt-4o', 'o3']), serving('b', 2, ['o3', 'text-*']), serving('c', 3, ['other'], { enabled: false })])

  test('is refused, with all that is served by those that are enabled, and told', () => {
    const kit = kitOf()
    assert.deepEqual(kit.acquire(request('other')), { kind: 'unserved', served: ['gpt-4o', 'o3', 'text-*'] })
    assert.deepEqual(kit.listener.take(), ['exhausted - not-served'])
  })

  test('is kept nowhere', () => {
    const kit = kitOf()
    for (let i = 0; i < 100; i++) kit.acquire(request(`made-up-${i}`))
    assert.deepEqual(kit.pool.status(kit.now).backends.map(({ scopes, attempts }) => [scopes.length, attempts]), [[0, 0], [0, 0], [0, 0]])
  })

  test('is served as soon as an update says so, and no longer when it does not', () => {
    const kit = kitOf()
    assert.equal(whom(kit, 'new'), 'unserved')
    kit.update([serving('a', 1, ['new'])])
    assert.equal(whom(kit, 'new'), 'a')
    kit.update([serving('a', 1, ['gpt-4o'])])
    assert.equal(whom(kit, 'new'), 'unserved')
    kit.update([backend('a', 1)])
    assert.equal(whom(kit, 'new'), 'a')
  })

  test('a request that waits is told so, and one that was answered gets that answer', () => {
    const kit = new PoolKit([serving('a', 1, ['gpt-4o'])], { maxWaitMs: 60_000 })
    kit.throttle('gpt-4o', 30_000)
    const [waiting, tried] = [request('gpt-4o'), request('gpt-4o')]
    assert.equal(kit.acquire(waiting).kind, 'wait')
    let told: string | undefined
    waiting.onWake = () => { told = kit.acquire(waiting).kind }
    tried.attempts = 1
    kit.update([serving('a', 1, ['o3'])])
    kit.system.advance(1)
    assert.equal(told, 'unserved')
    assert.equal(kit.pool.status(kit.now).waiting, 0)
    assert.deepEqual(kit.acquire(tried), { kind: 'surface', reason: 'no-backend' })
  })
})
