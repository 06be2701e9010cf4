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
    kit.pool.conclude(attempt, kit.pool.headers(attempt, 200, {}, now), now)
    kit.pool.settle(attempt, 'completed', now)
    assert.equal(kit.system.reads, reads)
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
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'bound' })
    assert.deepEqual(kit.listener.take(), ['answered a 429 0', 'exhausted - bound'])
    assert.equal(kit.statusOf('a').state, 'cooldown')
  })

  test('get the error itself when there was no answer', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    const request = pinned()
    kit.settle(kit.send(request), 'timeout')
    kit.listener.take()
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'bound' })
    assert.deepEqual(kit.listener.take(), ['exhausted - bound'])
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
