// How long a scope is left alone after a refusal, and when that is told: at its beginning, and once at its end.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ResponseHeaders } from '../../src/core/types.js'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

const cool = (kit: PoolKit, headers: ResponseHeaders): void => {
  kit.answer(kit.send(new TestRequest({ pinned: true })), 429, headers)
}

const cooldownOf = (kit: PoolKit): number => kit.statusOf('a').scopes[0]?.cooldownMs ?? NaN

describe('a cooldown', () => {
  test('lasts exactly as long as the answer says, and a minute at most', () => {
    for (const [header, ms] of [['43', 43], ['1000', 1_000], ['30000', 30_000], ['86400000', 60_000]] as const) {
      const kit = new PoolKit([backend('a')])
      cool(kit, { 'retry-after-ms': header })
      assert.equal(cooldownOf(kit), ms)
    }
  })

  test('of nothing is none, but the request that got it goes elsewhere', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    const request = new TestRequest()
    kit.answer(kit.send(request), 429, { 'retry-after': '0' })
    assert.equal(kit.send(request).backend.name, 'b')
    assert.equal(kit.send().backend.name, 'a')
    assert.ok(!kit.listener.take().some((line) => line.startsWith('cooldown') || line.startsWith('readmitted')))
  })

  test('is never shortened by an answer that asks for less', () => {
    const kit = new PoolKit([backend('a')])
    cool(kit, { 'retry-after': '20' })
    const before = cooldownOf(kit)
    cool(kit, { 'retry-after': '1' })
    assert.equal(cooldownOf(kit), before)
    cool(kit, { 'retry-after': '40' })
    assert.ok(cooldownOf(kit) >= 40_000)
  })

  test('is told when it begins and when it becomes longer, not with every answer of a burst', () => {
    const kit = new PoolKit([backend('a')])
    for (let i = 0; i < 50; i++) {
      cool(kit, { 'retry-after': '10' })
      kit.system.advance(1)
    }
    cool(kit, { 'retry-after': '30' })
    const told = kit.listener.take().filter((line) => line.startsWith('cooldown'))
    assert.equal(told.length, 2)
    assert.match(told[0] ?? '', /^cooldown a - 1[01]\d{3} retry-after 429$/)
    assert.match(told[1] ?? '', /^cooldown a - 3[01]\d{3} retry-after 429$/)
  })

  test('is told to be longer when its end moves by more than a second', () => {
    const kit = new PoolKit([backend('a')])
    const begun = kit.now
    const told = (at: number, ms: number): boolean => {
      kit.system.advance(begun + at - kit.now)
      kit.listener.take()
      kit.coolHome(ms)
      return kit.listener.take().some((line) => line.startsWith('cooldown'))
    }
    assert.equal(told(0, 1_000), true)
    assert.equal(told(0, 1_000), false)
    assert.equal(told(10, 1_000), false)
    assert.equal(cooldownOf(kit), 1_000)
    // 2,000 is a second after the end that was told, 2,001 is more.
    assert.equal(told(50, 1_950), false)
    assert.equal(told(51, 1_950), true)
    assert.equal(cooldownOf(kit), 1_950)
    assert.equal(told(2_001, 100), true, 'the first is over at that very moment, so this is a new one')
  })

  test('is told to be over once, at its very end, when that is first looked at', () => {
    const kit = new PoolKit([backend('a')])
    kit.setChance(0)
    kit.coolHome(1_000)
    const seen = (): string[] => {
      kit.listener.take()
      kit.pool.status(kit.now)
      return kit.listener.take()
    }
    kit.system.advance(999.9)
    assert.deepEqual(seen(), [])
    kit.system.advance(0.1)
    assert.deepEqual(seen(), ['readmitted a  cooldown'])
    assert.deepEqual(seen(), [])
    kit.send()
    assert.deepEqual(kit.listener.take(), ['picked a 1'])
    kit.coolHome(1_000)
    kit.system.advance(2_000)
    kit.listener.take()
    kit.send()
    assert.deepEqual(kit.listener.take(), ['readmitted a  cooldown', 'picked a 1'])
  })

  test('may end at a date', () => {
    const kit = new PoolKit([backend('a')])
    cool(kit, { 'retry-after': new Date(kit.system.wallNow() + 7_000).toUTCString() })
    assert.ok(cooldownOf(kit) >= 7_000 && cooldownOf(kit) <= 7_700)
  })

  test('does not mind the wall clock being set', () => {
    const kit = new PoolKit([backend('a')])
    cool(kit, { 'retry-after': '7' })
    const before = cooldownOf(kit)
    kit.system.setWall(0)
    assert.equal(cooldownOf(kit), before)
  })
})
