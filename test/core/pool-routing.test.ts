import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

const names = (kit: PoolKit, count: number, scope = ''): string[] =>
  Array.from({ length: count }, () => kit.send(new TestRequest({ scope })).backend.name)

describe('where a request goes first', () => {
  test('backends are listed by priority, equals in the order of the configuration, which stays as it was', () => {
    const configured = [backend('d', 2), backend('a', 1), backend('c', 2), backend('b', 1)]
    const kit = new PoolKit(configured)
    assert.deepEqual(kit.pool.status(kit.now).backends.map(({ name }) => name), ['a', 'b', 'd', 'c'])
    assert.deepEqual(configured.map(({ name }) => name), ['d', 'a', 'c', 'b'])
  })

  test('the lowest priority number that is available wins, whatever the order in the configuration', () => {
    const kit = new PoolKit([backend('third', 7), backend('first', 1), backend('second', 2)])
    assert.deepEqual(names(kit, 5), ['first', 'first', 'first', 'first', 'first'])
    kit.throttle('', 30_000)
    assert.deepEqual(names(kit, 2), ['second', 'second'])
    kit.throttle('', 30_000)
    assert.deepEqual(names(kit, 2), ['third', 'third'])
  })

  test('it returns to a higher priority as soon as its cooldown is over, and not before', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], {}, 3)
    kit.throttle('', 1_000)
    const { cooldownMs } = kit.statusOf('a')
    assert.ok(cooldownMs >= 1_000 && cooldownMs <= 1_100)
    kit.system.advance(cooldownMs - 0.5)
    assert.deepEqual(names(kit, 1), ['b'])
    kit.system.advance(0.6)
    assert.deepEqual(names(kit, 1), ['a'])
  })

  test('the same seed makes the same choices', () => {
    const run = (seed: number): string[] => names(new PoolKit([backend('a'), backend('b'), backend('c')], {}, seed), 50)
    assert.deepEqual(run(4), run(4))
    assert.notDeepEqual(run(4), run(5))
  })

  test('a first attempt on a healthy pool reads no clock', () => {
    const kit = new PoolKit([backend('a'), backend('b')])
    const { now } = kit
    const { reads } = kit.system
    const attempt = kit.pool.acquire(new TestRequest(), now)
    if (attempt.kind !== 'send') assert.fail()
    kit.pool.headers(attempt, 200, {}, now)
    kit.pool.settle(attempt, 'completed', now)
    assert.equal(kit.system.reads, reads)
  })
})

describe('scopes', () => {
  test('a throttled deployment does not keep its backend from serving another one', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    kit.throttle('gpt-4o', 30_000)
    assert.deepEqual(names(kit, 1, 'gpt-4o'), ['b'])
    assert.deepEqual(names(kit, 1, 'embeddings'), ['a'])
    assert.deepEqual(names(kit, 1), ['a'])
  })

  test('a backend that cannot be reached is out for every scope', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    kit.settle(kit.send(new TestRequest({ scope: 'x' })), 'connection')
    assert.deepEqual(names(kit, 1, 'y'), ['b'])
  })

  test('limits belong to the name on the backend\'s side: two names for one deployment share its cooldown', () => {
    const kit = new PoolKit([backend('a', 1, { models: { small: 'gpt', large: 'gpt' } }), backend('b', 2)])
    assert.deepEqual(names(kit, 1, 'large'), ['a'])
    kit.throttle('small', 30_000)
    assert.deepEqual(names(kit, 1, 'large'), ['b'])
    assert.deepEqual(names(kit, 1, 'gpt'), ['b'])
    assert.deepEqual(kit.statusOf('a').scopes.map(({ scope, attempts }) => [scope, attempts]), [['gpt', 2]])
  })

  test('a name that every object has is a name like any other', () => {
    const kit = new PoolKit([backend('a', 1, { models: { x: 'y' } })])
    assert.deepEqual(names(kit, 1, 'constructor'), ['a'])
    assert.deepEqual(kit.statusOf('a').scopes.map(({ scope }) => scope), ['constructor'])
  })

  test('scopes that were not used for ten minutes are forgotten, those in use are not', () => {
    const kit = new PoolKit([backend('a')])
    for (let i = 0; i < 50; i++) kit.answer(kit.send(new TestRequest({ scope: `old ${i}` })), 200)
    const streaming = kit.send(new TestRequest({ scope: 'streaming' }))
    kit.system.advance(9 * 60_000)
    kit.answer(kit.send(new TestRequest({ scope: 'young' })), 200)
    kit.system.advance(90_000)
    kit.answer(kit.send(new TestRequest({ scope: 'new' })), 200)
    assert.deepEqual(kit.statusOf('a').scopes.map(({ scope }) => scope), ['streaming', 'young', 'new'])
    kit.answer(streaming, 200)
    assert.equal(kit.statusOf('a').inFlight, 0)
    // One that was forgotten starts anew.
    kit.answer(kit.send(new TestRequest({ scope: 'old 1' })), 200)
    assert.equal(kit.statusOf('a').scopes.find(({ scope }) => scope === 'old 1')?.attempts, 1)
    assert.equal(kit.statusOf('a').attempts, 54)
  })

  test('a cooldown longer than that is not forgotten', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], { maxCooldownMs: 3_600_000 })
    kit.throttle('x', 3_600_000)
    kit.system.advance(20 * 60_000)
    assert.deepEqual(names(kit, 1, 'other'), ['a'])
    assert.deepEqual(names(kit, 1, 'x'), ['b'])
  })

  test('nothing is swept where nothing is old', () => {
    const kit = new PoolKit([backend('a')])
    for (let minute = 0; minute < 20; minute++) {
      names(kit, 1, 'x')
      kit.system.advance(60_000)
    }
    assert.deepEqual(kit.statusOf('a').scopes.map(({ attempts }) => attempts), [20])
  })
})

describe('stateful paths', () => {
  const pinned = (scope = ''): TestRequest => new TestRequest({ scope, pinned: true })

  test('all go to the home backend, whatever its state', () => {
    const [a, b] = [backend('a', 1), backend('b', 2)]
    const kit = new PoolKit([a, b], { home: b })
    for (let i = 0; i < 3; i++) assert.equal(kit.send(pinned()).backend.name, 'b')
    const first = kit.send(pinned())
    kit.settle(first, 'connection')
    assert.equal(kit.statusOf('b').state, 'ejected')
    assert.equal(kit.send(pinned()).backend.name, 'b')
  })

  test('need a home that is one of the backends', () => {
    assert.throws(() => new PoolKit([backend('a')], { home: backend('x') }), /home: must be one of the backends, got "x"/)
  })

  test('get one attempt: its answer is delivered whatever it is, and the state still learns', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], { maxWaitMs: 10_000 })
    const request = pinned('gpt-4o')
    assert.equal(kit.answer(kit.send(request), 429, { 'retry-after': '5' }), 'throttled')
    kit.listener.take()
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'pinned' })
    assert.deepEqual(kit.listener.take(), ['answered a 429 0', 'exhausted - pinned'])
    assert.equal(kit.statusOf('a').state, 'cooldown')
  })

  test('get the error itself when there was no answer', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    const request = pinned()
    kit.settle(kit.send(request), 'timeout')
    kit.listener.take()
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'pinned' })
    assert.deepEqual(kit.listener.take(), ['exhausted - pinned'])
  })

  test('are the probe of a home that was out, once its time is over', () => {
    const kit = new PoolKit([backend('a')])
    kit.settle(kit.send(pinned()), 'connection')
    kit.system.advance(15_000)
    const probe = kit.send(pinned())
    assert.equal(kit.statusOf('a').state, 'probing')
    kit.answer(probe, 200)
    assert.equal(kit.statusOf('a').state, 'available')
  })
})
