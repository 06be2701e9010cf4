/** A 429 sends the request on by its headers; its body, read meanwhile, may say that it meant something else. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { BackendConfig, PoolConfig, ResponseHeaders } from '../../src/core/types.js'
import { backend, PoolKit, TestRequest, type Said } from '../support/pool-kit.js'
import { SEED } from '../support/seed.js'

const ours = { ownsCredential: true } as const
const two = (ofA: Partial<BackendConfig> = {}, ofB: Partial<BackendConfig> = {}, more: Partial<PoolConfig> = {}): PoolKit =>
  new PoolKit([backend('a', 1, ofA), backend('b', 2, ofB)], more)
const m = (): TestRequest => new TestRequest({ scope: 'm' })
const outs = (kit: PoolKit): string[] => kit.listener.take().filter((line) => /^(ejected|cooldown|caller-out) /.test(line))
const cooldownOf = (kit: PoolKit, name: string): number => kit.statusOf(name).scopes.find(({ scope }) => scope === 'm')?.cooldownMs ?? 0

describe('the body of a 429', () => {
  test('insufficient_quota: the cooldown is taken back, and the backend is out as exhausted', () => {
    const kit = two(ours)
    const attempt = kit.send(m())
    kit.headers(attempt, 429, { 'retry-after': '7' })
    assert.deepEqual(outs(kit), ['cooldown a m 7000 retry-after 429'])
    assert.equal(kit.correct(attempt, { code: 'insufficient_quota' }, { 'retry-after': '7' }), 'exhausted')
    kit.settle(attempt, 'completed')
    assert.deepEqual(outs(kit), ['ejected a 60000 exhausted'])
    const { state, throttled, out, scopes: [scope] } = kit.statusOf('a')
    assert.deepEqual([state, throttled, out?.reason, out?.errorCode, scope?.state, scope?.throttled, scope?.out], ['ejected', 0, 'exhausted', 'insufficient_quota', 'available', 0, undefined])
    assert.equal(out?.until, kit.system.wallNow() + 60_000)
  })

  test('a caller\'s insufficient_quota: no one else notices', () => {
    const kit = two()
    const attempt = kit.send(m())
    kit.headers(attempt, 429)
    kit.correct(attempt, { code: 'insufficient_quota' })
    kit.settle(attempt, 'completed')
    assert.deepEqual(outs(kit).slice(1), ['caller-out a 60000 exhausted'])
    assert.equal(cooldownOf(kit, 'a'), 0)
  })

  for (const said of [{ isTooLarge: true }, { code: 'request_too_large' }] satisfies Said[]) {
    test(`${JSON.stringify(said)}: the cooldown is taken back, and nothing is out`, () => {
      const kit = two()
      const attempt = kit.send(m())
      kit.headers(attempt, 429)
      assert.equal(cooldownOf(kit, 'a'), 10_000)
      assert.equal(kit.correct(attempt, said), 'oversized')
      kit.settle(attempt, 'completed')
      assert.equal(cooldownOf(kit, 'a'), 0)
      assert.equal(kit.send(m()).backend.name, 'a')
    })
  }

  test('decides a probe: the slot is held until it is read, and the time out goes on to grow', () => {
    const kit = two(ours)
    kit.answer(kit.send(m()), 402)
    for (const minutes of [2, 4, 8, 15, 15]) {
      kit.system.advance(minutes * 30_000 < 450_000 ? minutes * 30_000 : 900_000)
      const probe = kit.send(m())
      assert.equal(probe.backend.name, 'a')
      kit.headers(probe, 429)
      assert.equal(kit.statusOf('a').state, 'probing')
      kit.correct(probe, { code: 'insufficient_quota' })
      kit.settle(probe, 'completed')
      assert.equal(kit.statusOf('a').cooldownMs, minutes * 60_000)
    }
    kit.system.advance(900_000)
    kit.answer(kit.send(m()), 429)
    const { state, out } = kit.statusOf('a')
    assert.deepEqual([state, out?.until], ['ejected', kit.system.wallNow()], 'throttled, it says nothing of the account: the slot is free')
  })

  test('says what its status says: nothing changes', () => {
    const kit = two()
    const attempt = kit.send(m())
    kit.headers(attempt, 429)
    for (const said of [{}, { code: 'rate_limit_exceeded' }, { code: '429' }, { code: 'model_not_found' }] satisfies Said[]) assert.equal(kit.correct(attempt, said), 'throttled')
    assert.equal(cooldownOf(kit, 'a'), 10_000)
  })

  test('comes too late when the attempt is over, or has been corrected', () => {
    const kit = two(ours)
    const attempt = kit.send(m())
    kit.headers(attempt, 429)
    kit.correct(attempt, { isTooLarge: true })
    assert.equal(kit.correct(attempt, { code: 'insufficient_quota' }), 'oversized')
    kit.settle(attempt, 'completed')
    assert.equal(kit.correct(attempt, { code: 'insufficient_quota' }), 'oversized')
    assert.equal(kit.statusOf('a').state, 'available')
    assert.equal(kit.pool.reconsider(attempt, undefined, false, {}, kit.now), 'oversized')
  })

  test('insufficient_quota goes before the room that its headers speak of: the backend is out as exhausted', () => {
    for (const ofA of [ours, {}]) {
      const kit = two(ofA)
      const request = m()
      const attempt = kit.send(request)
      assert.equal(kit.headers(attempt, 429, { 'x-ratelimit-remaining-requests': '499' }), 'oversized')
      assert.equal(kit.correct(attempt, { code: 'insufficient_quota' }, { 'x-ratelimit-remaining-requests': '499' }), 'exhausted')
      assert.equal(request.steps, 1, 'counted once')
      kit.settle(attempt, 'completed')
      const { state, throttled, callersOut } = kit.statusOf('a')
      assert.deepEqual([state, throttled, callersOut], ofA === ours ? ['ejected', 0, 0] : ['available', 0, 1])
      assert.deepEqual(outs(kit), [ofA === ours ? 'ejected a 60000 exhausted' : 'caller-out a 60000 exhausted'])
    }
  })

  test('too large by its headers, the second step is paid for like any other: what cannot be is no next attempt', () => {
    for (const [headers, next] of [[{ 'x-ratelimit-remaining-requests': '499' }, undefined], [{ 'retry-after': '1' }, 'c']] as const) {
      const kit = new PoolKit([backend('a', 1), backend('b', 2), backend('c', 3)], { retryBudget: { ratio: 0, minPerSecond: 0 } })
      const request = m()
      kit.answer(kit.send(request), 500)
      const attempt = kit.send(request)
      kit.headers(attempt, 429, headers)
      assert.equal(kit.pool.next(request, kit.now)?.backend.name, next, attempt.outcome)
      if (next === undefined) assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'budget' })
    }
  })

  test('with room left by its headers, and no word on when to come back, it never cooled down', () => {
    const kit = two()
    const request = m()
    const attempt = kit.send(request)
    const headers = { 'x-ratelimit-remaining-requests': '499', 'x-ratelimit-remaining-tokens': '29000' }
    assert.equal(kit.answer(attempt, 429, headers), 'oversized')
    assert.equal(kit.send(request).backend.name, 'b')
    assert.deepEqual(outs(kit), [])
    for (const more of [{ 'retry-after': '2' }, { 'x-ratelimit-remaining-tokens': '0' }, { 'x-ratelimit-remaining-requests': '-1' }] satisfies ResponseHeaders[]) {
      const other = two()
      assert.equal(other.answer(other.send(m()), 429, { ...headers, ...more }), 'throttled', JSON.stringify(more))
    }
  })

  test('wakes a request that waits for what was no cooldown', () => {
    const kit = two({}, {}, { maxWaitMs: 20_000 })
    const large = kit.send(m())
    kit.headers(large, 429)
    kit.answer(kit.send(m()), 429)
    const waiting = m()
    waiting.onWake = () => { kit.send(waiting) }
    assert.equal(kit.acquire(waiting).kind, 'wait')
    kit.correct(large, { isTooLarge: true })
    kit.system.advance(1)
    assert.equal(waiting.attempts, 1)
  })

  test('several together that were no refusals leave no cooldown behind, and none of the others is lost, in any order', () => {
    fc.assert(fc.property(
      fc.array(fc.record({ isTooLarge: fc.boolean(), waitMs: fc.integer({ min: 1_000, max: 9_000 }), pauseMs: fc.integer({ min: 0, max: 20 }) }), { minLength: 1, maxLength: 70 }), fc.integer(),
      (answers, seed) => {
        const kit = two()
        const sent = answers.map((answer) => ({ ...answer, attempt: kit.send(m()), until: 0 }))
        for (const one of sent) {
          kit.system.advance(one.pauseMs)
          kit.headers(one.attempt, 429, { 'retry-after-ms': String(one.waitMs) })
          one.until = kit.now + one.waitMs
        }
        const shuffled = sent.map((one, i) => ({ one, at: Math.sin(seed + i) })).sort((x, y) => x.at - y.at)
        for (const { one } of shuffled) if (one.isTooLarge) kit.correct(one.attempt, { isTooLarge: true }, { 'retry-after-ms': String(one.waitMs) })
        const real = sent.filter(({ isTooLarge }) => !isTooLarge).map(({ until }) => until)
        const latest = Math.max(kit.now, ...real)
        assert.ok(Math.abs(cooldownOf(kit, 'a') - (latest - kit.now)) < 1e-6)
      },
    ), { seed: SEED })
  })

  test('of more than 64 at once the shortest is remembered no more', () => {
    const kit = two()
    const attempts = Array.from({ length: 66 }, () => kit.send(m()))
    attempts.forEach((attempt, i) => { kit.headers(attempt, 429, { 'retry-after-ms': String(1_000 + i) }) })
    for (const attempt of attempts) kit.correct(attempt, { isTooLarge: true })
    assert.equal(cooldownOf(kit, 'a'), 0)
  })
})

describe('a request that is too large', () => {
  test('is told why where none is left, also when it could wait: no wait makes it smaller', () => {
    for (const maxWaitMs of [0, 5_000]) {
      const kit = new PoolKit([backend('a', 1)], { maxWaitMs })
      const request = m()
      const attempt = kit.send(request)
      kit.headers(attempt, 429)
      kit.correct(attempt, { isTooLarge: true })
      assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: maxWaitMs === 0 ? 'attempts' : 'no-backend' })
    }
  })
})

describe('a request that is too long', () => {
  const three = (): PoolKit => new PoolKit([backend('a', 1), backend('b', 2), backend('c', 3, { largerContext: true })])
  const tooLong = { code: 'context_length_exceeded' }

  test('goes to those that take more, and to no others', () => {
    const kit = three()
    const request = m()
    assert.equal(kit.answer(kit.send(request), 400, {}, tooLong), 'overlong')
    const next = kit.send(request)
    assert.equal(next.backend.name, 'c')
    assert.equal(kit.answer(next, 400, {}, tooLong), 'answered', 'that was the largest')
    assert.deepEqual(outs(kit), [])
    assert.equal(kit.send(m()).backend.name, 'a')
  })

  test('is told so where none takes more', () => {
    const kit = two()
    assert.equal(kit.answer(kit.send(m()), 400, {}, tooLong), 'answered')
  })

  test('is told so, and does not wait, where the one that takes more was asked', () => {
    const kit = new PoolKit([backend('a', 1), backend('c', 2, { largerContext: true })], { maxWaitMs: 5_000 })
    const request = m()
    kit.answer(kit.send(request), 400, {}, tooLong)
    kit.answer(kit.send(request), 403, {}, {})
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'no-backend' })
  })
})

describe('"come back at once"', () => {
  const now = { 'retry-after': '0' }

  test('is taken for a word once; from the second in a row there is a floor, doubled each time, up to the longest cooldown', () => {
    const kit = new PoolKit([backend('a', 1)])
    for (const ms of [0, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
      kit.answer(kit.send(m()), 429, now)
      assert.equal(cooldownOf(kit, 'a'), ms)
      kit.system.advance(Math.max(1, ms))
    }
    kit.answer(kit.send(m()), 200)
    kit.answer(kit.send(m()), 429, now)
    assert.equal(cooldownOf(kit, 'a'), 0)
  })

  test('by many that were under way together counts once', () => {
    const kit = new PoolKit([backend('a', 1)])
    const attempts = [1, 2, 3, 4, 5].map(() => kit.send(m()))
    for (const attempt of attempts) {
      kit.system.advance(1)
      kit.answer(attempt, 429, now)
    }
    assert.equal(cooldownOf(kit, 'a'), 0)
  })

  test('a longer wait in between begins anew', () => {
    const kit = new PoolKit([backend('a', 1)])
    for (const headers of [now, { 'retry-after-ms': '10' }, now]) {
      kit.answer(kit.send(m()), 429, headers)
      kit.system.advance(10)
    }
    assert.equal(cooldownOf(kit, 'a'), 0)
  })

  test('both full for 1.5 s: a request that can wait for 3 s is served', () => {
    const kit = two({}, {}, { maxWaitMs: 3_000 })
    const began = kit.now
    const request = m()
    let served = NaN
    const go = (): void => {
      for (let next = kit.acquire(request); next.kind !== 'wait'; next = kit.acquire(request)) {
        assert.equal(next.kind, 'send')
        if (next.kind !== 'send') return
        if (kit.now - began >= 1_500) {
          kit.answer(next, 200)
          served = kit.now - began
          return
        }
        kit.answer(next, 429, now)
      }
    }
    request.onWake = go
    go()
    kit.system.advance(3_000)
    assert.ok(served >= 1_500 && served <= 3_000, `${served} ms, ${request.attempts} attempts`)
  })
})

describe('an error in the place of an answer', () => {
  const inStream = (kit: PoolKit, code: string, headers: ResponseHeaders = {}): string => {
    const attempt = kit.send(m())
    kit.pool.headers(attempt, 200, headers, kit.now)
    const outcome = kit.pool.reconsider(attempt, { code, type: undefined, param: undefined }, false, headers, kit.now)
    kit.pool.conclude(attempt, outcome, kit.now)
    kit.settle(attempt, 'completed')
    return outcome
  }

  test('a rate limit: the scope cools down, as the headers of that 200 ask, and says why', () => {
    for (const [headers, ms, source] of [[{}, 10_000, 'default'], [{ 'retry-after': '3' }, 3_000, 'retry-after']] as const) {
      const kit = two({}, {}, { pacing: true })
      assert.equal(inStream(kit, 'rate_limit_exceeded', headers), 'throttled')
      assert.deepEqual(outs(kit), [`cooldown a m ${ms} ${source} 200`])
      assert.equal(kit.send(m()).backend.name, 'b')
    }
  })

  test('one that cannot be told is a failure of the deployment', () => {
    const kit = two()
    for (let i = 0; i < 2; i++) {
      const attempt = kit.send(m())
      kit.pool.headers(attempt, 200, {}, kit.now)
      const outcome = kit.pool.reconsider(attempt, undefined, false, {}, kit.now)
      assert.equal(outcome, 'failed')
      kit.pool.conclude(attempt, outcome, kit.now)
      kit.settle(attempt, 'completed')
    }
    assert.equal(kit.statusOf('a').scopes[0]?.state, 'ejected')
  })

  test('a bill: the backend is out', () => {
    const kit = two(ours)
    assert.equal(inStream(kit, 'insufficient_quota'), 'exhausted')
    assert.deepEqual(outs(kit), ['ejected a 60000 exhausted'])
  })
})

describe('waiting', () => {
  const wrongs: [string, Partial<BackendConfig>, number, Said][] = [
    ['a key of ours that is refused', ours, 401, {}], ['an account without money', ours, 402, {}], ['a caller\'s account without money', {}, 402, {}],
    ['a caller\'s credential that is refused', {}, 403, {}], ['a deployment that is not there', {}, 404, { code: 'DeploymentNotFound' }],
  ]
  for (const [wrong, of, status, said] of wrongs) {
    test(`does not help against ${wrong}: the answer comes at once, and the next request goes out at once`, () => {
      const kit = two(of, of, { maxWaitMs: 30_000 })
      for (let i = 0; i < 3; i++) {
        const request = m()
        for (let next = kit.acquire(request); ; next = kit.acquire(request)) {
          if (next.kind !== 'send') {
            assert.equal(next.kind, 'surface')
            break
          }
          kit.answer(next, status, {}, said)
        }
        assert.ok(request.attempts > 0)
      }
    })
  }

  test('does not help where one has no money and the other not the model, in whichever order', () => {
    const answers = [[402, {}], [404, { code: 'model_not_found' }]] as const
    for (const order of [answers, [...answers].reverse()]) {
      const kit = two(ours, ours, { maxWaitMs: 30_000 })
      const request = m()
      for (const [status, said] of order) kit.answer(kit.send(request), status, {}, said)
      assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'no-backend' })
      assert.equal(kit.acquire(m()).kind, 'send')
    }
  })

  test('ends when the probe that it waited for has failed in the same way', () => {
    const kit = new PoolKit([backend('a', 1, ours)], { maxWaitMs: 30_000 })
    kit.answer(kit.send(m()), 402)
    kit.system.advance(60_000)
    const probe = kit.send(m())
    const waiting = m()
    waiting.onWake = () => { kit.answer(kit.send(waiting), 402) }
    assert.equal(kit.acquire(waiting).kind, 'wait')
    kit.answer(probe, 402)
    kit.system.advance(1)
    assert.equal(waiting.attempts, 1)
  })

  test('helps where a function may give another key by then', () => {
    const credential = { header: 'api-key', isFetched: true, resolve: () => 'key', leftMs: () => 0, expire: () => new Error('late'), refuse: () => {} }
    const kit = new PoolKit([backend('a', 1, { ...ours, credential })], { maxWaitMs: 5_000 })
    const request = m()
    kit.answer(kit.send(request), 401)
    request.onWake = () => { kit.answer(kit.send(request), 200) }
    assert.equal(kit.acquire(request).kind, 'wait')
    kit.system.advance(1_500)
    assert.equal(request.lastOutcome, 'success')
  })
})

describe('an answer is looked into where another attempt could follow', () => {
  const canMove = (kit: PoolKit, request: TestRequest): boolean => kit.pool.canMove(request)

  test('not of a backend that is alone, nor of the last one, nor bound to one', () => {
    for (const [kit, request] of [[new PoolKit([backend('a', 1)], { maxAttempts: 5 }), m()], [two(), new TestRequest({ pinned: true })]] as const) {
      kit.send(request)
      assert.equal(canMove(kit, request), false)
    }
    const kit = two({}, {}, { maxAttempts: 5 })
    const request = m()
    const first = kit.send(request)
    assert.equal(canMove(kit, request), true)
    kit.answer(first, 500)
    kit.send(request)
    assert.equal(canMove(kit, request), false)
  })

  test('not where no other backend has the model, takes as much, or gets the same credential', () => {
    const unserved = two({}, { serves: ['n'] })
    const request = m()
    unserved.send(request)
    assert.equal(canMove(unserved, request), false)
    const long = new PoolKit([backend('a', 1), backend('b', 2, { largerContext: true }), backend('c', 3)])
    const overlong = m()
    long.answer(long.send(overlong), 400, {}, { code: 'context_length_exceeded' })
    long.send(overlong)
    assert.equal(canMove(long, overlong), false)
    const refused = new PoolKit([backend('a', 1), backend('b', 2, ours), backend('c', 3)])
    const other = m()
    refused.answer(refused.send(other), 403)
    refused.send(other)
    assert.equal(canMove(refused, other), false)
  })

  test('also after all were tried, where the request can wait for one of them', () => {
    const kit = two({}, {}, { maxWaitMs: 5_000 })
    const request = m()
    kit.answer(kit.send(request), 500)
    kit.send(request)
    assert.equal(canMove(kit, request), true)
  })
})

describe('a name that meant nothing to a backend', () => {
  test('is forgotten there, and the request does not go there again', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2), backend('c', 3)])
    const request = m()
    kit.answer(kit.send(request), 429, { 'x-ratelimit-remaining-requests': '5', 'x-ratelimit-remaining-tokens': '5' })
    assert.deepEqual(kit.statusOf('a').scopes.map(({ scope }) => scope), [''])
    kit.answer(kit.send(request), 500)
    assert.equal(kit.send(request).backend.name, 'c')
  })
})
