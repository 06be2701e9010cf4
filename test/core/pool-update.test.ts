import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

describe('an update', () => {
  test('keeps the state of backends that stay, and starts new ones afresh', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    kit.throttle('m', 30_000)
    kit.update([backend('a', 1), backend('c', 2)])
    assert.equal(kit.statusOf('a').state, 'cooldown')
    assert.equal(kit.send(new TestRequest({ scope: 'm' })).backend.name, 'c')
    assert.deepEqual(kit.pool.status(kit.now).backends.map(({ name, attempts }) => [name, attempts]), [['a', 1], ['c', 1]])
  })

  test('takes another URL under a known name for another backend', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    kit.throttle('m', 30_000)
    kit.update([backend('a', 1, { url: 'https://elsewhere.example' }), backend('b', 2)])
    assert.equal(kit.statusOf('a').attempts, 0)
    assert.equal(kit.send(new TestRequest({ scope: 'm' })).backend.name, 'a')
  })

  test('takes over priorities, weights and names at once', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    assert.equal(kit.send(new TestRequest({ scope: 'm' })).backend.name, 'a')
    kit.throttle('m', 30_000)
    kit.update([backend('a', 2, { models: { m: 'other' } }), backend('b', 1)])
    assert.equal(kit.send(new TestRequest({ scope: 'm' })).backend.name, 'b')
    kit.update([backend('a', 1, { models: { m: 'other' } }), backend('b', 2)])
    // Under its new name the deployment was never throttled.
    assert.equal(kit.send(new TestRequest({ scope: 'm' })).backend.name, 'a')
    assert.deepEqual(kit.statusOf('a').scopes.map(({ scope, state }) => [scope, state]), [['m', 'cooldown'], ['other', 'available']])
  })

  test('lets attempts on a backend that goes come to their end', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    const [throttled, failed, streaming] = [new TestRequest(), new TestRequest(), new TestRequest()]
    const attempts = [kit.send(throttled), kit.send(failed), kit.send(streaming)] as const
    kit.update([backend('b', 1), backend('c', 2)])
    kit.answer(attempts[0], 429)
    kit.settle(attempts[1], 'connection')
    assert.equal(kit.headers(attempts[2], 200), 'success')
    kit.settle(attempts[2], 'broken')
    assert.equal(kit.send(throttled).backend.name, 'b')
    assert.equal(kit.send(failed).backend.name, 'b')
    assert.deepEqual(kit.pool.status(kit.now).backends.map(({ name, state }) => [name, state]), [['b', 'available'], ['c', 'available']])
  })

  test('keeps what attempts from before it have to say of a backend that stays', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    const attempts = [kit.send(), kit.send(), kit.send()]
    kit.update([backend('a', 1), backend('b', 2)])
    for (const attempt of attempts.slice(0, 2)) kit.answer(attempt, 500)
    assert.equal(kit.statusOf('a').scopes[0]?.state, 'ejected')
    for (const attempt of attempts.slice(2)) kit.answer(attempt, 200)
    assert.equal(kit.statusOf('a').scopes[0]?.state, 'available')
  })

  test('lets those who wait see the new backends', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: 10_000 })
    kit.throttle('', 5_000)
    const request = new TestRequest()
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.update([backend('a', 1), backend('b', 2)], { maxWaitMs: 10_000 })
    assert.equal(request.wakes, 0)
    kit.system.advance(0)
    assert.equal(request.wakes, 1)
    assert.equal(kit.send(request).backend.name, 'b')
  })

  test('that ends waiting lets no request join the queue, and those in it go on', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: 10_000 })
    kit.throttle('', 5_000)
    const waiting = new TestRequest()
    assert.equal(kit.acquire(waiting).kind, 'wait')
    kit.update([backend('a')])
    assert.equal(kit.acquire().kind, 'reject')
    kit.system.advance(6_000)
    assert.equal(kit.send(waiting).backend.name, 'a')
  })

  test('gives a backend with a wrong credential a new chance, one that does not answer not', () => {
    const backends = [backend('a', 1, { ownsCredential: true }), backend('b', 2), backend('c', 3)]
    const kit = new PoolKit(backends)
    kit.answer(kit.send(), 401)
    kit.settle(kit.send(), 'connection')
    kit.listener.take()
    kit.update(backends)
    assert.deepEqual(kit.listener.take(), ['readmitted a * ejected'])
    assert.deepEqual(['a', 'b'].map((name) => kit.statusOf(name).state), ['available', 'ejected'])
  })

  test('keeps a new credential in although the old one is still being refused', () => {
    const own = () => [backend('a', 1, { ownsCredential: true }), backend('b', 2)]
    const kit = new PoolKit(own())
    const late = new TestRequest()
    const attempt = kit.send(late)
    kit.update(own())
    assert.equal(kit.answer(attempt, 401), 'misconfigured')
    assert.equal(kit.send(late).backend.name, 'b')
    assert.equal(kit.send().backend.name, 'a')
  })

  test('changes the retry budget only when its options change', () => {
    const more = { retryBudget: { ratio: 0, minPerSecond: 0.1 } }
    const kit = new PoolKit([backend('a', 1), backend('b', 2), backend('c', 3)], more)
    // The first retry is free; the second is what is paid for. What two backends say alike is the request's own fault, and no one's failure.
    const retry = (): string => {
      const request = new TestRequest()
      kit.answer(kit.send(request), 500)
      kit.answer(kit.send(request), 500)
      return kit.acquire(request).kind
    }
    assert.deepEqual([retry(), retry()], ['send', 'surface'])
    kit.update(kit.config.backends, more)
    assert.equal(retry(), 'surface')
    kit.update(kit.config.backends, { retryBudget: { ratio: 0, minPerSecond: 0.2 } })
    assert.deepEqual([retry(), retry(), retry()], ['send', 'send', 'surface'])
    kit.update(kit.config.backends, { retryBudget: { ratio: 1, minPerSecond: 0.2 } })
    assert.equal(retry(), 'send')
  })

  test('bounds attempts by the new number of backends', () => {
    const kit = new PoolKit([backend('a', 1)])
    const request = new TestRequest()
    kit.answer(kit.send(request), 500)
    assert.equal(kit.acquire(request).kind, 'surface')
    kit.update([backend('a', 1), backend('b', 2)])
    assert.equal(kit.send(request).backend.name, 'b')
  })

  test('inside of a listener\'s call does not mix up who is who', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2), backend('c', 3)])
    const request = new TestRequest({ scope: 'm' })
    kit.answer(kit.send(request), 429)
    kit.listener.tell = (event) => { if (event === 'failover') kit.update([backend('c', 1), backend('d', 2)]) }
    const attempt = kit.send(request)
    assert.equal(attempt.backend.name, 'b')
    kit.answer(attempt, 200)
    // Once more, to a scope that the removed backend knows.
    assert.deepEqual(kit.pool.status(kit.now).backends.map(({ name, attempts }) => [name, attempts]), [['c', 0], ['d', 0]])
    assert.equal(kit.send(new TestRequest({ scope: 'm' })).backend.name, 'c')
  })

  test('switches pacing on and off, attempts in flight included', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    const pinned = (): TestRequest => new TestRequest({ pinned: true })
    const paceOf = () => kit.statusOf('a').scopes[0]?.pace.length
    const early = kit.send()
    kit.update(kit.config.backends, { pacing: true })
    kit.answer(early, 429, { 'retry-after-ms': '10' })
    // It was not counted when it went out, so its answer says nothing of what went out.
    assert.equal(paceOf(), 0)
    for (const [status, headers] of [[200, {}], [200, {}], [429, { 'retry-after-ms': '2000' }]] as const) {
      kit.answer(kit.send(pinned()), status, headers)
      kit.system.advance(100)
    }
    assert.notEqual(paceOf(), 0)
    kit.update(kit.config.backends, { pacing: true })
    assert.notEqual(paceOf(), 0)
    kit.update(kit.config.backends, { pacing: false })
    assert.equal(paceOf(), 0)
    kit.answer(kit.send(pinned()), 429)
    assert.equal(paceOf(), 0)
  })
})

describe('a backend that is not enabled', () => {
  const off = { enabled: false }

  test('gets no attempt, not even as the least bad one when all others are out', () => {
    const kit = new PoolKit([backend('a', 1, off), backend('b', 2)])
    const request = new TestRequest()
    kit.settle(kit.send(request), 'connection')
    assert.equal(kit.statusOf('b').state, 'ejected')
    assert.equal(kit.acquire(request).kind, 'surface')
    assert.equal(kit.send().backend.name, 'b')
    assert.deepEqual([kit.statusOf('a').state, kit.statusOf('a').attempts], ['disabled', 0])
  })

  test('ends what it has begun, and is asked for no more', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    const streaming = kit.send()
    const refused = new TestRequest()
    const attempt = kit.send(refused)
    kit.update([backend('a', 1, off), backend('b', 2)])
    assert.equal(kit.statusOf('a').inFlight, 2)
    assert.deepEqual(kit.count(50), { b: 50 })
    kit.answer(attempt, 429)
    assert.equal(kit.send(refused).backend.name, 'b')
    kit.answer(streaming, 200)
    assert.deepEqual([kit.statusOf('a').state, kit.statusOf('a').inFlight, kit.statusOf('a').successes], ['disabled', 0, 1])
  })

  test('is not asked again for what met a connection there that was closed', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    const attempt = kit.send()
    kit.update([backend('a', 1, off), backend('b', 2)])
    const again = kit.pool.repeat(attempt, kit.now)
    assert.equal(again.kind === 'send' ? again.backend.name : again.kind, 'b')
  })

  test('comes back with all that was learned of it, over several updates', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    kit.throttle('m', 30_000)
    for (const more of [off, off, {}]) kit.update([backend('a', 1, more), backend('b', 2)])
    assert.deepEqual([kit.statusOf('a').state, kit.statusOf('a').throttled], ['cooldown', 1])
    assert.equal(kit.send(new TestRequest({ scope: 'm' })).backend.name, 'b')
    assert.equal(kit.send(new TestRequest({ scope: 'other' })).backend.name, 'a')
  })

  test('forgets its pace where pacing was switched off meanwhile', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], { pacing: true })
    const quota = { 'x-ratelimit-limit-requests': '10', 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '60s' }
    kit.answer(kit.send(new TestRequest({ scope: 'm' })), 429, { ...quota, 'retry-after-ms': '10' })
    kit.update([backend('a', 1, off), backend('b', 2)], { pacing: true })
    kit.update([backend('a', 1, off), backend('b', 2)], { pacing: false })
    kit.update([backend('a', 1), backend('b', 2)], { pacing: false })
    assert.deepEqual(kit.statusOf('a').scopes.map(({ pace }) => pace), [[]])
  })

  test('leaves what waits for it to the others, and a pinned request to another home', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], { maxWaitMs: 10_000 })
    kit.update([backend('a', 1, off), backend('b', 2)])
    assert.equal(kit.send(new TestRequest({ pinned: true })).backend.name, 'b')
  })

  test('cannot be the home', () => {
    const a = backend('a', 1, off)
    assert.throws(() => new PoolKit([a, backend('b', 2)], { home: a }), /home: must be one of the backends, got "a"/)
  })
})
