import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

const SPILLED: Record<string, string>[] = [{ 'x-ms-spillover-from-deployment': 'ptu' }, { 'x-ms-is-spilled-over': 'true' }, { 'x-ms-spillover-error': '429' }]

describe('an answer that another deployment of the resource has given', () => {
  for (const headers of SPILLED) {
    test(`says that this one is full now: its equals are asked first for a moment (${Object.keys(headers)[0]})`, () => {
      const kit = new PoolKit([backend('a', 1), backend('b', 1)], { pacing: true })
      kit.setChance(0)
      const first = kit.send()
      kit.answer(first, 200, headers)
      assert.equal(first.backend.name, 'a')
      assert.deepEqual(kit.count(10), { b: 10 })
      kit.system.advance(250)
      assert.ok((kit.count(10)['a'] ?? 0) > 0)
    })
  }

  test('sends what can wait to the next priority, and refuses nothing where there is none', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], { pacing: true })
    kit.answer(kit.send(), 200, SPILLED[0])
    assert.deepEqual(kit.count(3), { b: 3 })
    const alone = new PoolKit([backend('a', 1)], { pacing: true })
    alone.answer(alone.send(), 200, SPILLED[0])
    assert.deepEqual(alone.count(3), { a: 3 })
  })

  test('is a success, counted, without a cooldown, and what it says of limits is of the other deployment', () => {
    const kit = new PoolKit([backend('a', 1)], { pacing: true })
    kit.answer(kit.send(new TestRequest({ scope: 'gpt-4o' })), 200, {
      ...SPILLED[0], 'x-ratelimit-limit-requests': '10', 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '60s',
    })
    const { successes, spillovers, scopes: [scope] } = kit.statusOf('a')
    assert.deepEqual({ successes, spillovers, ofScope: scope?.spillovers, state: scope?.state, pace: scope?.pace }, { successes: 1, spillovers: 1, ofScope: 1, state: 'available', pace: [] })
    assert.deepEqual(kit.listener.take().map((line) => line.split(' ')[0]), ['picked', 'answered'])
  })

  test('is one like any other where the header says no, and nothing is left of it for the next answer', () => {
    const kit = new PoolKit([backend('a', 1)], { pacing: true })
    kit.answer(kit.send(), 200, { 'x-ms-is-spilled-over': 'false' })
    kit.answer(kit.send(), 200, SPILLED[0])
    kit.answer(kit.send(), 200)
    assert.equal(kit.statusOf('a').spillovers, 1)
  })
})

describe('a client that says that it tries again', () => {
  class Repeated extends TestRequest {
    override get isRepeat(): boolean {
      return true
    }
  }

  const abandon = (kit: PoolKit): void => {
    const attempt = kit.send()
    kit.system.advance(1_000)
    kit.settle(attempt, 'aborted')
  }

  test('is sent past a backend that let some caller wait until it gave up, until that answers again', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    abandon(kit)
    const repeated = kit.send(new Repeated())
    assert.equal(repeated.backend.name, 'b')
    kit.answer(repeated, 200)
    const fresh = kit.send()
    assert.equal(fresh.backend.name, 'a', 'one caller who gave up proves nothing to the others')
    kit.answer(fresh, 200)
    assert.equal(kit.send(new Repeated()).backend.name, 'a')
  })

  test('goes there all the same where nothing else is left', () => {
    const kit = new PoolKit([backend('a', 1)])
    abandon(kit)
    assert.equal(kit.send(new Repeated()).backend.name, 'a')
    const two = new PoolKit([backend('a', 1), backend('b', 2)])
    two.throttle('', 0, 5_000)
    abandon(two)
    assert.equal(two.send(new Repeated()).backend.name, 'a')
  })
})
