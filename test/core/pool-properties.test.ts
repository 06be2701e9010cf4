import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { Attempt } from '../../src/core/request.js'
import type { AttemptEnd, BackendConfig, PoolConfig } from '../../src/core/types.js'
import { retryHeaders } from '../support/core-arbitraries.js'
import { SEED } from '../support/seed.js'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'

const STATUSES = [200, 200, 200, 201, 400, 401, 408, 429, 429, 500, 503]
const ENDS: AttemptEnd[] = ['completed', 'connection', 'timeout', 'credential', 'broken', 'aborted']

type Step =
  | { readonly do: 'start'; readonly scope: string; readonly pinned: boolean; readonly maxWaitMs: number | undefined }
  | { readonly do: 'answer'; readonly which: number; readonly status: number; readonly headers: Record<string, string> }
  | { readonly do: 'settle'; readonly which: number; readonly end: AttemptEnd }
  | { readonly do: 'again' | 'leave'; readonly which: number }
  | { readonly do: 'advance'; readonly ms: number }
  | { readonly do: 'update'; readonly count: number }

const which = fc.nat(50)
const start = fc.record({
  do: fc.constant('start' as const), scope: fc.constantFrom('', 'x', 'y'), pinned: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, fc.constant(true)),
  maxWaitMs: fc.constantFrom(undefined, undefined, undefined, 0, 500, 5_000),
})
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: start },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('answer' as const), which, status: fc.constantFrom(...STATUSES), headers: retryHeaders }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('settle' as const), which, end: fc.constantFrom(...ENDS) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('again' as const), which }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('leave' as const), which }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('advance' as const), ms: fc.nat(20_000) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('update' as const), count: fc.integer({ min: 1, max: 4 }) }) },
)

const backendsOf = (count: number): BackendConfig[] =>
  Array.from({ length: count }, (_, i) => backend('abcd'.charAt(i), 1 + (i >> 1), { ownsCredential: i === 1 }))

/** Plays the shell: does what it may do, in any order, and holds what must be true after each step. */
class World {
  readonly kit: PoolKit
  readonly more: Partial<PoolConfig>
  readonly live: { attempt: Attempt; request: TestRequest }[] = []
  readonly answered = new Set<Attempt>()
  readonly waiting = new Set<TestRequest>()
  /** Their attempt did not work, and they have not asked again yet. */
  readonly failed = new Set<TestRequest>()
  readonly visits = new Map<TestRequest, string[]>()

  constructor(more: Partial<PoolConfig>, seed: number) {
    this.more = more
    this.kit = new PoolKit(backendsOf(4), more, seed)
  }

  acquire(request: TestRequest): void {
    const attempts = request.attempts
    const acquired = this.kit.acquire(request)
    this.waiting.delete(request)
    this.failed.delete(request)
    switch (acquired.kind) {
      case 'send': {
        assert.equal(acquired.number, attempts + 1)
        const visits = this.visits.get(request) ?? []
        assert.ok(!visits.includes(acquired.backend.name), 'never twice to one backend before a wait')
        this.visits.set(request, [...visits, acquired.backend.name])
        this.live.push({ attempt: acquired, request })
        break
      }
      case 'wait':
        assert.ok((request.maxWaitMs ?? this.more.maxWaitMs ?? 0) > 0)
        this.waiting.add(request)
        break
      case 'reject':
        assert.ok(acquired.retryAfterMs >= 1 && acquired.retryAfterMs < 100_000, String(acquired.retryAfterMs))
        break
      case 'surface':
        assert.ok(attempts > 0, 'a first attempt is never surfaced')
        break
      case 'unserved':
      case 'closed':
        assert.fail('all serve every model, and nobody closed the pool')
    }
  }


  take(step: Step): void {
    const { kit } = this
    switch (step.do) {
      case 'start': {
        const request = new TestRequest({ scope: step.scope, pinned: step.pinned, maxWaitMs: step.maxWaitMs })
        request.onWake = () => {
          this.visits.delete(request)
          this.acquire(request)
        }
        this.acquire(request)
        break
      }
      case 'answer': {
        const one = this.live[step.which % this.live.length]
        if (one === undefined || this.answered.has(one.attempt)) break
        this.answered.add(one.attempt)
        const outcome = kit.headers(one.attempt, step.status, step.headers)
        if (outcome !== 'success' && outcome !== 'answered') this.failed.add(one.request)
        break
      }
      case 'settle': {
        const [one] = this.live.length === 0 ? [] : this.live.splice(step.which % this.live.length, 1)
        if (one === undefined) break
        kit.settle(one.attempt, step.end)
        if (this.answered.has(one.attempt)) break
        if (one.request.lastOutcome === 'failed') this.failed.add(one.request)
        break
      }
      case 'again': {
        const request = [...this.failed][step.which % this.failed.size]
        if (request !== undefined) this.acquire(request)
        break
      }
      case 'leave': {
        const request = [...this.waiting][step.which % this.waiting.size]
        if (request === undefined) break
        kit.pool.leave(request, kit.now)
        this.waiting.delete(request)
        break
      }
      case 'advance':
        kit.system.advance(step.ms)
        break
      case 'update':
        kit.update(backendsOf(step.count), this.more)
        this.#forget(backendsOf(step.count))
    }
  }

  /** A backend that has gone and comes back is another one, of which no request knows anything. */
  #forget(kept: readonly BackendConfig[]): void {
    for (const [request, visits] of this.visits) this.visits.set(request, visits.filter((name) => kept.some((one) => one.name === name)))
  }

  check(): void {
    const { waiting, backends } = this.kit.pool.status(this.kit.now)
    assert.equal(waiting, this.waiting.size)
    assert.equal(this.kit.system.pending, waiting > 0 ? 1 : 0)
    for (const one of backends) {
      assert.ok(one.inFlight >= 0 && one.cooldownMs >= 0 && one.cooldownMs <= 61_000)
      assert.equal(one.scopes.reduce((sum, scope) => sum + scope.inFlight, 0), one.inFlight)
      assert.ok(one.successes + one.throttled <= one.attempts)
    }
  }
}

const world = fc.record({
  maxWaitMs: fc.constantFrom(0, 2_000, 30_000), maxAttempts: fc.constantFrom(undefined, 1, 5), pacing: fc.boolean(),
  retryBudget: fc.constantFrom({ ratio: 0.2, minPerSecond: 10 }, { ratio: 0, minPerSecond: 0 }),
})

describe('whatever happens, in whatever order', () => {
  test('the pool keeps its books straight, and in the end nothing is in flight and nothing waits', () => {
    fc.assert(fc.property(world, fc.array(step, { maxLength: 120 }), fc.nat(), (more, steps, seed) => {
      const played = new World(more, seed)
      for (const step of steps) {
        played.take(step)
        played.check()
      }
      for (const { attempt } of played.live) played.kit.settle(attempt, 'aborted')
      for (const request of played.waiting) played.kit.pool.leave(request, played.kit.now)
      const { waiting, backends } = played.kit.pool.status(played.kit.now)
      assert.equal(waiting, 0)
      assert.deepEqual(backends.map(({ inFlight }) => inFlight), backends.map(() => 0))
      assert.equal(played.kit.system.pending, 0)
    }), { seed: SEED, numRuns: 1_500 })
  })

  test('every request that waits is answered within the longest wait', () => {
    fc.assert(fc.property(fc.array(step, { maxLength: 80 }), fc.nat(), (steps, seed) => {
      const played = new World({ maxWaitMs: 5_000 }, seed)
      for (const step of steps) played.take(step)
      const held = [...played.waiting]
      played.kit.system.advance(5_001)
      for (const request of held) assert.ok(!played.waiting.has(request) || (request.waitingSince ?? -Infinity) > played.kit.now - 5_001)
    }), { seed: SEED, numRuns: 500 })
  })

  test('at most one probe is in flight while a backend is half-open', () => {
    const ends = fc.array(fc.tuple(fc.nat(9), fc.constantFrom<number | AttemptEnd>(200, 400, 429, 500, 'connection', 'aborted'), fc.nat(20_000)), { maxLength: 80 })
    fc.assert(fc.property(ends, fc.nat(), (ends, seed) => {
      // With b always there nobody panics: whoever is sent to a while a is out is its probe.
      const kit = new PoolKit([backend('a', 1), backend('b', 2)], {}, seed)
      let probe: Attempt | undefined
      const live: Attempt[] = []
      for (const [index, end, ms] of ends) {
        const before = kit.statusOf('a')
        const attempt = kit.send(new TestRequest({ scope: String(index % 3) }))
        if (attempt.backend.name === 'b') kit.answer(attempt, 200)
        else {
          live.push(attempt)
          assert.notEqual(before.state, 'probing')
          if (before.state === 'ejected') {
            assert.equal(kit.statusOf('a').state, 'probing')
            probe = attempt
          }
        }
        const [ended] = live.splice(index % Math.max(1, live.length), 1)
        if (ended !== undefined) {
          if (typeof end === 'number') kit.answer(ended, end)
          else kit.settle(ended, end)
          if (ended === probe) assert.notEqual(kit.statusOf('a').state, 'probing', 'the slot comes back')
        }
        kit.system.advance(ms)
      }
    }), { seed: SEED, numRuns: 500 })
  })
})
