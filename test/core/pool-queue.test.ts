// The queue of a scope: which request may pass another, which is woken when, and what a caller is told whose request may not wait.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { SEED } from '../support/seed.js'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

const WAIT_MS = 10_000
const TWO = [backend('a', 1), backend('b', 2)]

/** So many at the front of the queue are looked at: of those, a request that fits may pass others that do not. */
const WINDOW = 16

const woken = (requests: readonly TestRequest[]): number[] => requests.flatMap((request, at) => (request.wakes > 0 ? [at] : []))

/** Waits in the queue although a backend is free: those before it come first. */
function stand(kit: PoolKit): TestRequest {
  const request = new TestRequest()
  assert.equal(kit.acquire(request).kind, 'wait')
  return request
}

const standInLine = (kit: PoolKit, count: number): TestRequest[] => Array.from({ length: count }, () => stand(kit))

/** Requests that wait five seconds for `b`, since `a`, which is free for all others, has just failed them. */
function stuck(kit: PoolKit, count: number): TestRequest[] {
  kit.setChance(0)
  const requests = Array.from({ length: count }, () => new TestRequest())
  for (const attempt of requests.map((request) => kit.send(request))) {
    kit.answer(attempt, 500)
    // One failure in a row is the request's own.
    kit.answer(kit.send(), 200)
  }
  requests.forEach((request, at) => {
    if (at === 0) kit.answer(kit.send(request), 429, { 'retry-after-ms': '5000' })
    assert.equal(kit.acquire(request).kind, 'wait')
  })
  return requests
}

/** Asks again whenever it is woken, and is served where it is sent. */
function serveOnWake(kit: PoolKit, requests: readonly TestRequest[], served: TestRequest[] = []): TestRequest[] {
  for (const request of requests) {
    request.onWake = () => {
      const acquired = kit.acquire(request)
      if (acquired.kind !== 'send') return
      served.push(request)
      kit.answer(acquired, 200)
    }
  }
  return served
}

describe('in the queue', () => {
  test('a request that fits passes fifteen that do not, and no more', () => {
    for (const before of [WINDOW - 1, WINDOW]) {
      const kit = new PoolKit(TWO, { maxWaitMs: WAIT_MS })
      const crowd = [...stuck(kit, before), ...standInLine(kit, 1)]
      kit.system.advance(0)
      assert.deepEqual(woken(crowd), before < WINDOW ? [before] : [])
    }
  })

  test('requests that move up among the first sixteen are looked at at once', () => {
    const kit = new PoolKit(TWO, { maxWaitMs: WAIT_MS })
    const crowd = stuck(kit, WINDOW)
    const behind = standInLine(kit, 2)
    kit.system.advance(0)
    assert.deepEqual(woken(behind), [])
    for (const [at, expected] of [[3, [0]], [0, [0, 1]]] as const) {
      kit.pool.leave(crowd[at] ?? assert.fail(), kit.now)
      kit.system.advance(0)
      assert.deepEqual(woken(behind), expected)
    }
  })

  test('a request that was woken and has not asked yet keeps its place among the sixteen', () => {
    const kit = new PoolKit(TWO, { maxWaitMs: WAIT_MS })
    stuck(kit, WINDOW - 1)
    const [first, second] = [stand(kit), stand(kit)]
    kit.system.advance(0)
    assert.deepEqual([first.wakes, second.wakes], [1, 0])
    kit.system.advance(100)
    assert.equal(second.wakes, 0)
    kit.send(first)
    kit.system.advance(0)
    assert.deepEqual([first.wakes, second.wakes], [1, 1])
  })

  test('all who can go are served in one go, far behind the first sixteen too: each that goes makes room', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: WAIT_MS })
    kit.throttle('', 100)
    const crowd = standInLine(kit, 40)
    const served = serveOnWake(kit, crowd)
    kit.system.advance(111)
    assert.deepEqual(served, crowd)
    assert.equal(kit.pool.status(kit.now).waiting, 0)
    assert.equal(kit.system.pending, 0)
  })

  test('a request that has waited long enough is woken at that very moment, wherever it stands', () => {
    const kit = new PoolKit(TWO, { maxWaitMs: WAIT_MS })
    stuck(kit, 20)
    kit.update(TWO, { maxWaitMs: 700 })
    const hasty = stand(kit)
    kit.update(TWO, { maxWaitMs: WAIT_MS })
    const patient = stand(kit)
    kit.system.advance(699.9)
    assert.equal(hasty.wakes, 0)
    kit.system.advance(0.2)
    assert.deepEqual([hasty.wakes, patient.wakes], [1, 0])
  })

  test('a request that takes others along when it goes leaves the rest in order', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: WAIT_MS })
    kit.throttle('', 100)
    const crowd = standInLine(kit, 4)
    const [first, second, third] = crowd
    if (first === undefined || second === undefined || third === undefined) assert.fail()
    const served = serveOnWake(kit, crowd)
    const serve = first.onWake
    first.onWake = () => {
      serve?.()
      kit.pool.leave(second, kit.now)
      kit.pool.leave(third, kit.now)
    }
    kit.system.advance(111)
    assert.deepEqual(served.map((request) => crowd.indexOf(request)), [0, 3])
    assert.equal(kit.pool.status(kit.now).waiting, 0)
  })

  test('a request that comes while another is woken is woken after it, once', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: WAIT_MS })
    kit.throttle('', 100)
    const first = stand(kit)
    const late = new TestRequest()
    first.onWake = () => {
      assert.equal(kit.acquire(late).kind, 'wait')
      assert.equal(late.wakes, 0)
    }
    kit.system.advance(1_000)
    assert.deepEqual([first.wakes, late.wakes], [1, 1])
  })

  test('a request whose turn would come after its wait is over is let go at once, one that makes it just in time is not', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: WAIT_MS })
    kit.setChance(0)
    kit.throttle('', 2_000)
    const late = stand(kit)
    kit.system.advance(1)
    const just = stand(kit)
    kit.coolHome(WAIT_MS)
    kit.system.advance(0)
    assert.deepEqual([late.wakes, just.wakes], [1, 0])
    assert.equal(kit.acquire(late).kind, 'reject')
  })

  test('each scope is looked after in its own time, the sooner one first, though it came later', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: WAIT_MS })
    kit.setChance(0)
    kit.throttle('x', 3_000)
    kit.throttle('y', 1_000)
    const [x, y] = [new TestRequest({ scope: 'x' }), new TestRequest({ scope: 'y' })]
    for (const request of [x, y]) assert.equal(kit.acquire(request).kind, 'wait')
    for (const [ms, wakes] of [[999.9, [0, 0]], [0.1, [0, 1]], [1_999.8, [0, 1]], [0.2, [1, 1]]] as const) {
      kit.system.advance(ms)
      assert.deepEqual([x.wakes, y.wakes], wakes)
    }
  })

  test('two turns within a millisecond are worth no timer of their own', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: WAIT_MS })
    kit.setChance(0)
    kit.throttle('x', 10)
    kit.throttle('y', 10.4)
    const [x, y] = [new TestRequest({ scope: 'x' }), new TestRequest({ scope: 'y' })]
    for (const request of [x, y]) kit.acquire(request)
    kit.system.advance(10.9)
    assert.deepEqual([x.wakes, y.wakes], [1, 0])
    kit.system.advance(0.1)
    assert.equal(y.wakes, 1)
  })

  test('a request that comes back refused has its old place, before those that began to wait after it', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: WAIT_MS })
    kit.setChance(0)
    kit.throttle('', 1_000)
    const crowd = [1, 2, 3, 4].map(() => {
      const request = stand(kit)
      kit.system.advance(100)
      return request
    })
    kit.system.advance(600)
    // All have been woken; the first two are refused, in the other order.
    const [one = assert.fail(), two = assert.fail()] = crowd
    const first = kit.send(one)
    kit.system.advance(150)
    const refused = [{ request: two, attempt: kit.send(two) }, { request: one, attempt: first }]
    for (const { request, attempt } of refused) {
      kit.answer(attempt, 429, { 'retry-after-ms': '500' })
      assert.equal(kit.acquire(request).kind, 'wait')
    }
    for (const request of crowd.slice(2)) assert.equal(kit.acquire(request).kind, 'wait')
    const served = serveOnWake(kit, crowd)
    kit.system.advance(600)
    assert.deepEqual(served, crowd)
  })

  test('any request may leave, from any place, and the others keep their order', () => {
    fc.assert(fc.property(fc.array(fc.oneof(fc.constant('stand' as const), fc.nat(20)), { maxLength: 60 }), (steps) => {
      const kit = new PoolKit([backend('a')], { maxWaitMs: WAIT_MS })
      kit.throttle('', 1_000)
      const expected: TestRequest[] = []
      for (const step of steps) {
        if (step === 'stand') expected.push(stand(kit))
        else {
          const [left] = expected.splice(step, 1)
          for (let twice = 0; left !== undefined && twice < 2; twice++) kit.pool.leave(left, kit.now)
        }
        assert.equal(kit.pool.status(kit.now).waiting, expected.length)
      }
      const served = serveOnWake(kit, expected)
      kit.system.advance(1_200)
      assert.deepEqual(served, expected)
      assert.equal(kit.system.pending, 0)
    }), { seed: SEED })
  })

  test('newcomers may wait half as long once it has not been empty for three full waits', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: 1_000 })
    kit.setChance(0)
    /** What a newcomer is told when the backend is back in so long. */
    const askAt = (coolMs: number): string => {
      kit.coolHome(coolMs)
      const newcomer = new TestRequest()
      const { kind } = kit.acquire(newcomer)
      kit.pool.leave(newcomer, kit.now)
      return kind
    }
    let last: TestRequest | undefined
    const begun = kit.now
    const standAt = (ms: number): void => {
      kit.system.advance(begun + ms - kit.now)
      kit.coolHome(400)
      const next = stand(kit)
      if (last !== undefined) kit.pool.leave(last, kit.now)
      last = next
    }
    for (let ms = 0; ms <= 2_800; ms += 400) standAt(ms)
    kit.system.advance(199)
    assert.equal(askAt(900), 'wait', 'after 2,999 ms')
    kit.system.advance(1)
    assert.equal(kit.acquire().kind, 'reject', 'after 3,000 ms, and the backend is back in 899')
    kit.system.advance(399)
    const within = new TestRequest()
    assert.equal(kit.acquire(within).kind, 'wait', 'the backend is back in 500 ms')
    kit.pool.leave(within, kit.now)
    if (last !== undefined) kit.pool.leave(last, kit.now)
    assert.equal(askAt(900), 'wait', 'it was empty')
    assert.equal(askAt(900), 'wait')
  })
})

describe('a caller that is turned away is told a place of its own', () => {
  /** What so many callers are told who come one after the other, to 5 ms. */
  function turnAway(kit: PoolKit, count: number): number[] {
    return Array.from({ length: count }, () => {
      const acquired = kit.acquire()
      return acquired.kind === 'reject' ? Math.floor(acquired.retryAfterMs / 5) * 5 : assert.fail(acquired.kind)
    })
  }

  test('where only a cooldown is known: its end, and one place every 100 ms after it', () => {
    const kit = new PoolKit([backend('a')])
    kit.setChance(0)
    kit.coolHome(2_000)
    assert.deepEqual(turnAway(kit, 4), [2_000, 2_100, 2_200, 2_300])
  })

  test('places of all backends together, in the order in which they come free', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    kit.setChance(0)
    kit.throttle('', 2_000, 2_050)
    assert.deepEqual(turnAway(kit, 4), [2_000, 2_050, 2_100, 2_150])
  })

  test('where a window is felt: when what is in it leaves', () => {
    const kit = new PoolKit([backend('a')], { pacing: true })
    kit.setChance(0)
    for (const ms of [0, 1_000, 3_000]) {
      kit.system.advance(ms)
      kit.answer(kit.send(), 200)
    }
    // Three in ten seconds are the limit: one left 4 s ago, one 3 s, one just now.
    kit.answer(kit.send(), 429, { 'retry-after': '6', 'x-ratelimit-reset-requests': '6' })
    assert.deepEqual(turnAway(kit, 3), [6_020, 7_020, 10_020])
    // Those who come after all that is known are told as far apart as places are.
    assert.deepEqual(turnAway(kit, 2), [11_350, 12_680])
  })

  test('where a level is told: when it has room for one more', () => {
    const kit = new PoolKit([backend('a')], { pacing: true })
    kit.setChance(0)
    const told = (left: number) => ({ 'x-ratelimit-limit-requests': '60', 'x-ratelimit-remaining-requests': String(left), 'x-ratelimit-reset-requests': `${60 - left}s` })
    // A request a second, all of it our own.
    kit.answer(kit.send(), 200, told(2))
    kit.answer(kit.send(), 200, told(1))
    kit.answer(kit.send(), 200, told(0))
    assert.deepEqual(turnAway(kit, 3), [1_040, 2_040, 3_040])
  })

  test('after those that wait', () => {
    const kit = new PoolKit([backend('a')], { maxWaitMs: WAIT_MS })
    kit.setChance(0)
    kit.throttle('', 2_000)
    standInLine(kit, 5)
    kit.update([backend('a')])
    assert.deepEqual(turnAway(kit, 2), [2_500, 2_600])
  })

  test('a place that was promised is free again when the promise is due', () => {
    const kit = new PoolKit([backend('a')])
    kit.setChance(0)
    kit.coolHome(1_000)
    turnAway(kit, 20)
    kit.system.advance(40_000)
    kit.coolHome(1_000)
    assert.deepEqual(turnAway(kit, 2), [1_000, 1_100])
  })

  test('15 s ahead at most, and never sooner than the soonest backend', () => {
    const kit = new PoolKit([backend('a')])
    kit.setChance(0)
    kit.coolHome(2_000)
    assert.equal(Math.max(...turnAway(kit, 500)), 15_000)
    kit.coolHome(40_000)
    assert.deepEqual(turnAway(kit, 1), [40_000])
  })

  test('up to 20 ms later, so that callers that were told the same do not come at one instant', () => {
    const kit = new PoolKit([backend('a')])
    kit.coolHome(2_000)
    kit.setChance(1 - 2 ** -53)
    const rejected = kit.acquire()
    assert.ok(rejected.kind === 'reject' && rejected.retryAfterMs >= 2_020 && rejected.retryAfterMs < 2_025)
  })

  test('the end of an ejection, too, is a place', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)])
    kit.setChance(0.5)
    kit.settle(kit.send(), 'connection')
    kit.coolHome(2_000)
    kit.throttle('', 3_000)
    assert.deepEqual(turnAway(kit, 1), [2_010])
  })
})
