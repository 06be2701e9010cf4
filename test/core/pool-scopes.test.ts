// What a throttled deployment or model keeps away, what it does not, and for how long anything is remembered of it.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

const MINUTE = 60_000

const names = (kit: PoolKit, count: number, scope = ''): string[] =>
  Array.from({ length: count }, () => kit.send(new TestRequest({ scope })).backend.name)

/** One good request. */
const use = (kit: PoolKit, scope: string): void => { kit.answer(kit.send(new TestRequest({ scope })), 200) }

const known = (kit: PoolKit, name = 'a'): string[] => kit.statusOf(name).scopes.map(({ scope }) => scope)

const attemptsOf = (kit: PoolKit, scope: string): number | undefined =>
  kit.statusOf('a').scopes.find((one) => one.scope === scope)?.attempts

describe('scopes', () => {
  test('a throttled deployment does not keep its backend from serving another one', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    kit.throttle('gpt-4o', 30_000)
    assert.deepEqual(names(kit, 1, 'gpt-4o'), ['b'])
    assert.deepEqual(names(kit, 1, 'embeddings'), ['a'])
    assert.deepEqual(names(kit, 1), ['a'])
  })

  test('are told apart however often they alternate', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    kit.throttle('x', 30_000)
    for (let i = 0; i < 3; i++) assert.deepEqual([...names(kit, 1, 'x'), ...names(kit, 1, 'y'), ...names(kit, 1, '')], ['b', 'a', 'a'])
    assert.deepEqual(kit.statusOf('a').scopes.map(({ scope, attempts }) => [scope, attempts]), [['x', 1], ['y', 3], ['', 3]])
  })

  test('a backend that cannot be reached is out for every scope', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    kit.settle(kit.send(new TestRequest({ scope: 'x' })), 'connection')
    assert.deepEqual(names(kit, 1, 'y'), ['b'])
  })

  test('limits belong to the name on the backend\'s side: two names for one deployment share its cooldown, others do not', () => {
    const kit = new PoolKit([backend('a', 1, { models: { small: 'gpt', large: 'gpt' } }), backend('b', 2)])
    assert.deepEqual(names(kit, 1, 'large'), ['a'])
    kit.throttle('small', 30_000)
    assert.deepEqual(names(kit, 1, 'large'), ['b'])
    assert.deepEqual(names(kit, 1, 'gpt'), ['b'])
    assert.deepEqual(names(kit, 1, 'other'), ['a'])
    assert.deepEqual(kit.statusOf('a').scopes.map(({ scope, attempts }) => [scope, attempts]), [['gpt', 2], ['other', 1]])
  })

  test('a name that every object has is a name like any other', () => {
    const kit = new PoolKit([backend('a', 1, { models: { x: 'y' } })])
    assert.deepEqual(names(kit, 1, 'constructor'), ['a'])
    assert.deepEqual(known(kit), ['constructor'])
  })
})

describe('a scope that is not used', () => {
  test('is still known after ten minutes, and a moment later forgotten', () => {
    const kit = new PoolKit([backend('a')])
    kit.system.advance(MINUTE - 1)
    use(kit, 'gone')
    kit.system.advance(1)
    use(kit, 'kept')
    kit.system.advance(10 * MINUTE)
    use(kit, 'other')
    assert.deepEqual(known(kit), ['kept', 'other'])
    use(kit, 'kept')
    use(kit, 'gone')
    assert.deepEqual([attemptsOf(kit, 'kept'), attemptsOf(kit, 'gone')], [2, 1])
    assert.equal(kit.statusOf('a').attempts, 5)
  })

  test('is forgotten however many there are', () => {
    const kit = new PoolKit([backend('a')])
    for (let i = 0; i < 50; i++) use(kit, `old ${i}`)
    kit.system.advance(9 * MINUTE)
    use(kit, 'young')
    kit.system.advance(1.5 * MINUTE)
    use(kit, 'new')
    assert.deepEqual(known(kit), ['young', 'new'])
  })

  test('is forgotten on the one backend that does not see it any more', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    kit.throttle('x', 1_000, 0)
    kit.system.advance(2_000)
    for (let minute = 0; minute <= 12; minute++) {
      use(kit, 'x')
      kit.system.advance(MINUTE)
    }
    assert.deepEqual([known(kit, 'a'), known(kit, 'b')], [['x'], []])
    kit.throttle('x', 1_000)
    use(kit, 'x')
    assert.deepEqual(kit.statusOf('b').scopes.map(({ scope, attempts }) => [scope, attempts]), [['x', 1]])
  })

  test('is not forgotten while a response of it is still coming', () => {
    const kit = new PoolKit([backend('a')])
    const streaming = kit.send(new TestRequest({ scope: 'streaming' }))
    kit.headers(streaming, 200)
    kit.system.advance(30 * MINUTE)
    use(kit, 'other')
    assert.deepEqual(known(kit), ['streaming', 'other'])
    kit.settle(streaming, 'completed')
    assert.equal(kit.statusOf('a').inFlight, 0)
  })

  test('is not forgotten before its cooldown is over', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], { maxCooldownMs: 60 * MINUTE })
    kit.setChance(0)
    kit.throttle('cooling', 30 * MINUTE)
    kit.throttle('cooled', 29 * MINUTE)
    kit.system.advance(29 * MINUTE)
    assert.deepEqual(names(kit, 1, 'other'), ['a'])
    assert.deepEqual(known(kit), ['cooling', 'other'])
    assert.deepEqual(names(kit, 1, 'cooling'), ['b'])
  })

  test('is not forgotten while a request waits for it', () => {
    const kit = new PoolKit([backend('a', 1)], { maxCooldownMs: 60 * MINUTE, maxWaitMs: 60 * MINUTE })
    kit.throttle('x', 50 * MINUTE)
    const [first, second] = [new TestRequest({ scope: 'x' }), new TestRequest({ scope: 'x' })]
    kit.acquire(first)
    for (let i = 0; i < 2; i++) {
      kit.system.advance(20 * MINUTE)
      use(kit, 'y')
    }
    kit.acquire(second)
    assert.deepEqual(kit.pool.status(kit.now).queues, [{ scope: 'x', waiting: 2, firstWaitedMs: 40 * MINUTE }])
    kit.system.advance(11 * MINUTE)
    assert.deepEqual([first.wakes, second.wakes], [1, 1])
  })

  test('is not forgotten under the hands of who asks for it', () => {
    const kit = new PoolKit([backend('a')])
    use(kit, 'x')
    kit.system.advance(20 * MINUTE)
    use(kit, 'x')
    use(kit, 'y')
    use(kit, 'x')
    assert.deepEqual(known(kit), ['x', 'y'])
    assert.equal(attemptsOf(kit, 'x'), 2)
  })

  test('that is used again and again is never forgotten', () => {
    const kit = new PoolKit([backend('a')])
    for (let minute = 0; minute < 20; minute++) {
      names(kit, 1, 'x')
      kit.system.advance(MINUTE)
    }
    assert.equal(attemptsOf(kit, 'x'), 20)
  })
})
