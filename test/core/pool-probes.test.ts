// No caller pays for a recovery: what cannot be reached is tried by the balancer itself, while requests go elsewhere.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { backend, PoolKit, ProbeDesk, TestRequest } from '../support/pool-kit.js'

const TWO = [backend('a', 1), backend('b', 2)]

/** `a` could not be reached just now, and chance adds nothing to its 250 ms. */
function unreachable(more: ConstructorParameters<typeof PoolKit>[1] = {}, tookMs = 0): { kit: PoolKit, desk: ProbeDesk } {
  const desk = new ProbeDesk()
  const kit = new PoolKit(TWO, more, 1, desk)
  kit.setChance(0)
  const attempt = kit.send()
  kit.system.advance(tookMs)
  kit.settle(attempt, 'connection')
  kit.listener.take()
  return { kit, desk }
}

describe('a backend that cannot be reached', () => {
  test('is tried by the balancer when its time is over, and by no request while another backend of any tier is available', () => {
    const { kit, desk } = unreachable()
    kit.system.advance(249)
    assert.deepEqual(desk.sent, [])
    kit.system.advance(1)
    assert.deepEqual(desk.sent, ['a'])
    assert.equal(kit.statusOf('a').state, 'probing')
    assert.deepEqual(kit.count(100), { b: 100 })
  })

  test('is tried by one probe at a time, each after twice the time of the one before, a minute at last', () => {
    const { kit, desk } = unreachable()
    for (const waitMs of [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
      // Someone must be there to be saved.
      kit.count(1)
      kit.system.advance(waitMs - 1)
      assert.equal(desk.open, 0)
      kit.system.advance(1)
      assert.equal(desk.open, 1)
      kit.system.advance(5_000)
      assert.equal(desk.open, 1, 'no second one')
      desk.answer('failed')
      kit.system.advance(0)
      // Three times what it took counts where that is more.
      const { cooldownMs } = kit.statusOf('a')
      assert.ok(cooldownMs >= Math.min(60_000, 2 * waitMs) || cooldownMs >= 15_000, String(cooldownMs))
      kit.system.advance(cooldownMs - Math.min(60_000, 2 * waitMs))
    }
  })

  test('is asked again after the success of an older request, whatever becomes of the probe that is under way', () => {
    const desk = new ProbeDesk()
    const kit = new PoolKit(TWO, {}, 1, desk)
    kit.setChance(0)
    const older = kit.send()
    kit.settle(kit.send(), 'connection')
    kit.system.advance(250)
    assert.deepEqual([desk.open, kit.statusOf('a').state], [1, 'probing'])
    kit.answer(older, 200)
    assert.equal(kit.statusOf('a').state, 'available')
    kit.listener.take()
    desk.answer('failed')
    assert.deepEqual([kit.listener.take(), kit.statusOf('a').state], [[], 'available'])
  })

  test('is asked by requests again after any answer to a probe, but its backoff goes on until one of them succeeds', () => {
    const { kit, desk } = unreachable()
    kit.system.advance(250)
    desk.answer('reached')
    assert.deepEqual(kit.listener.take(), ['readmitted a * ejected'])
    kit.settle(kit.send(), 'connection')
    assert.ok(kit.listener.take().includes('ejected a 500 unreachable'))
    kit.system.advance(500)
    desk.answer('reached')
    kit.answer(kit.send(), 200)
    kit.settle(kit.send(), 'connection')
    assert.ok(kit.listener.take().includes('ejected a 250 unreachable'))
  })

  test('is left alone for three times what the failure took, where that is more', () => {
    const { kit, desk } = unreachable({}, 10_000)
    assert.equal(kit.statusOf('a').cooldownMs, 30_000)
    kit.system.advance(29_999)
    assert.deepEqual(desk.sent, [])
    kit.system.advance(1)
    assert.deepEqual(desk.sent, ['a'])
  })

  test('is not tried while the pool was idle for a minute, and again at once with the next request', () => {
    const { kit, desk } = unreachable()
    for (let i = 0; i < 20; i++) {
      kit.system.advance(60_000)
      if (desk.open > 0) desk.answer('failed')
    }
    const tried = desk.sent.length
    assert.ok(tried <= 8, `${tried} in the first minute`)
    kit.system.advance(3_600_000)
    assert.equal(desk.sent.length, tried)
    assert.equal(kit.send().backend.name, 'b')
    kit.system.advance(0)
    assert.equal(desk.sent.length, tried + 1)
  })

  test('that an update has removed is tried no more, and what a late answer says of it is told no one', () => {
    const { kit, desk } = unreachable()
    kit.update([backend('b', 2)])
    kit.system.advance(10_000)
    assert.deepEqual(desk.sent, [])
    kit.update(TWO)
    kit.settle(kit.send(), 'connection')
    kit.system.advance(500)
    assert.equal(desk.open, 1)
    kit.update([backend('b', 2)])
    kit.listener.take()
    desk.answer('reached')
    assert.deepEqual(kit.listener.take(), [])
  })

  test('and stays over an update is tried as it was to be', () => {
    const { kit, desk } = unreachable()
    kit.update([backend('a', 1), backend('c', 2)])
    kit.system.advance(250)
    assert.deepEqual(desk.sent, ['a'])
  })

  test('is tried no more when the pool is closed, also where a probe or an attempt was under way', () => {
    const { kit, desk } = unreachable()
    kit.pool.close()
    kit.system.advance(100_000)
    assert.deepEqual(desk.sent, [])
    for (const end of ['failed', 'reached', 'refused'] as const) {
      const { kit, desk } = unreachable()
      const attempt = kit.send()
      kit.system.advance(250)
      kit.pool.close()
      desk.answer(end)
      kit.settle(attempt, 'connection')
      kit.system.advance(100_000)
      assert.deepEqual(desk.sent, ['a'])
      assert.equal(kit.system.pending, 0)
    }
  })

  test('is probed by requests with probe: false, one at a time', () => {
    const { kit, desk } = unreachable({ probe: false })
    kit.system.advance(10_000)
    assert.deepEqual(desk.sent, [])
    assert.deepEqual([kit.send(), kit.send(), kit.send()].map((attempt) => attempt.backend.name), ['a', 'b', 'b'])
  })

  test('is probed by requests from the moment on at which an update says probe: false, and by the balancer again when it says true', () => {
    const { kit, desk } = unreachable()
    kit.update(TWO, { probe: false })
    kit.system.advance(250)
    const probe = kit.send()
    assert.equal(probe.backend.name, 'a')
    kit.settle(probe, 'connection')
    kit.update(TWO, { probe: true })
    kit.system.advance(500)
    assert.deepEqual([desk.sent, kit.send().backend.name], [['a'], 'b'])
  })

  test('is probed by requests where the dispatcher does not take the probe', () => {
    const { kit, desk } = unreachable()
    kit.system.advance(250)
    desk.answer('refused')
    assert.equal(kit.statusOf('a').state, 'ejected')
    const probe = kit.send()
    assert.equal(probe.backend.name, 'a')
    assert.equal(kit.send().backend.name, 'b')
    kit.settle(probe, 'connection')
    kit.system.advance(60_000)
    assert.deepEqual(desk.sent, ['a'], 'not asked again')
    assert.equal(kit.send().backend.name, 'a')
  })

  test('is not out for ever where a probe comes to no end: it has failed after half a minute', () => {
    const { kit, desk } = unreachable()
    kit.system.advance(250)
    assert.equal(desk.open, 1)
    kit.system.advance(29_999)
    assert.equal(kit.statusOf('a').state, 'probing')
    kit.system.advance(1)
    assert.equal(kit.statusOf('a').state, 'ejected')
    // What it says when it does end is of no interest.
    desk.answer('reached')
    assert.equal(kit.statusOf('a').state, 'ejected')
  })

  test('is tried by a request that is bound to it', () => {
    const { kit } = unreachable()
    const bound = kit.send(new TestRequest({ pinned: true }))
    assert.equal(bound.backend.name, 'a')
    kit.answer(bound, 200)
    assert.equal(kit.statusOf('a').state, 'available')
  })

  test('is tried by a request where all the others are out as well, the least bad first', () => {
    const { kit } = unreachable()
    kit.system.advance(100)
    kit.settle(kit.send(), 'connection')
    const request = new TestRequest()
    const first = kit.send(request)
    assert.equal(first.backend.name, 'a')
    kit.settle(first, 'connection')
    assert.equal(kit.send(request).backend.name, 'b')
  })

  test('is not waited for where another has said that it is full: the caller is told the soonest of both', () => {
    const { kit } = unreachable()
    kit.answer(kit.send(), 429)
    const acquired = kit.acquire()
    assert.ok(acquired.kind === 'reject' && acquired.retryAfterMs === 250, JSON.stringify(acquired))
  })

  test('is looked after for those who wait: they go as soon as a probe has reached it', () => {
    const { kit, desk } = unreachable({ maxWaitMs: 10_000 })
    kit.settle(kit.send(), 'connection')
    const request = new TestRequest()
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.system.advance(250)
    assert.deepEqual(desk.sent, ['a', 'b'])
    desk.answer('failed')
    desk.answer('reached')
    kit.system.advance(0)
    assert.equal(request.wakes, 1)
    assert.equal(kit.send(request).backend.name, 'b')
  })
})

describe('a backend that becomes unreachable', () => {
  test('by requests that are given up before they are on a connection is tried by the balancer: an SDK\'s timeout is shorter than a connection\'s', () => {
    const desk = new ProbeDesk()
    const kit = new PoolKit(TWO, {}, 1, desk)
    kit.setChance(0)
    for (let i = 0; i < 2; i++) {
      const attempt = kit.send(new TestRequest({ scope: 'm' }))
      kit.system.advance(8_000)
      kit.settle(attempt, 'unsent')
    }
    assert.deepEqual([kit.statusOf('a').state, kit.statusOf('a').reason, kit.statusOf('a').cooldownMs], ['ejected', 'unreachable', 24_000])
    kit.system.advance(24_000)
    assert.deepEqual([desk.sent, kit.send().backend.name], [['a'], 'b'])
  })

  test('not by requests that people give up while they type', () => {
    const kit = new PoolKit(TWO)
    for (let i = 0; i < 20; i++) {
      const attempt = kit.send()
      kit.system.advance(150)
      kit.settle(attempt, 'unsent')
    }
    assert.equal(kit.statusOf('a').state, 'available')
  })

  test('since a request that it reset is answered by a third backend after all, is tried as any other', () => {
    const desk = new ProbeDesk()
    const kit = new PoolKit([...TWO, backend('c', 3)], {}, 1, desk)
    kit.setChance(0)
    const request = new TestRequest()
    for (let i = 0; i < 2; i++) kit.settle(kit.send(request), 'reset')
    kit.answer(kit.send(request), 200)
    assert.deepEqual(['a', 'b'].map((name) => kit.statusOf(name).state), ['ejected', 'ejected'])
    kit.system.advance(250)
    assert.deepEqual(desk.sent, ['a', 'b'])
  })
})

describe('a pool in which all can be reached', () => {
  test('sends no probe and holds no timer', () => {
    const desk = new ProbeDesk()
    const kit = new PoolKit(TWO, {}, 1, desk)
    for (const status of [503, 503, 503, 401, 429]) kit.answer(kit.send(), status)
    kit.system.advance(100_000)
    assert.deepEqual(desk.sent, [])
    assert.equal(kit.system.pending, 0)
  })
})

describe('our own resolver', () => {
  test('has no answer for six seconds: all are back within a second of the first that it has', () => {
    const desk = new ProbeDesk()
    const kit = new PoolKit(TWO, {}, 1, desk)
    const request = new TestRequest()
    for (let i = 0; i < 2; i++) kit.settle(kit.send(request), 'resolver')
    assert.deepEqual(['a', 'b'].map((name) => kit.statusOf(name).reason), ['local', 'local'])
    const until = kit.now + 6_000
    while (kit.now < until) {
      kit.system.advance(10)
      while (desk.open > 0) desk.answer('failed')
    }
    for (let ms = 0; desk.open === 0; ms += 10) {
      assert.ok(ms <= 1_000, 'within a second')
      kit.system.advance(10)
    }
    kit.listener.take()
    desk.answer('reached')
    assert.deepEqual(kit.listener.take().sort(), ['readmitted a * ejected', 'readmitted b * ejected'])
    assert.deepEqual(kit.count(10), { a: 10 })
  })

  test('has an answer again for a request: all are back with it', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2), backend('c', 3)])
    const [first, second] = [new TestRequest(), new TestRequest()]
    for (let i = 0; i < 3; i++) kit.settle(kit.send(first), 'resolver')
    kit.answer(kit.send(second), 200)
    assert.deepEqual(['a', 'b', 'c'].map((name) => kit.statusOf(name).state), ['available', 'available', 'available'])
  })

  test('does not know one name: an answer of another backend says nothing of that', () => {
    const kit = new PoolKit(TWO)
    const request = new TestRequest()
    kit.settle(kit.send(request), 'resolver')
    kit.answer(kit.send(request), 200)
    assert.deepEqual(['a', 'b'].map((name) => kit.statusOf(name).state), ['ejected', 'available'])
  })
})
