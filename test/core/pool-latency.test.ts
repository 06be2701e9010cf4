// Among equals the faster one gets more of the work, and one that has become slow next to nothing until it recovers.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { assertShares, backend, PoolKit, TestRequest } from '../support/pool-kit.js'

/** How long an answer takes, by the backend and the moment. */
type Times = (name: string, atMs: number) => number

/** Requests come one by one, every so often, and are answered in the time that their backend takes. */
class Traffic {
  readonly kit: PoolKit
  /** Of each request: where it went, and how long it took. */
  readonly log: { readonly name: string; readonly ms: number }[] = []
  readonly #times: Times
  readonly #begun: number

  constructor(times: Times, more: ConstructorParameters<typeof PoolKit>[1] = {}, seed = 1, names = ['a', 'b']) {
    this.kit = new PoolKit(names.map((name) => backend(name)), { latencyGuard: true, ...more }, seed)
    this.#times = times
    this.#begun = this.kit.now
  }

  run(count: number, everyMs = 100, bodyBytes = 0): this {
    for (let i = 0; i < count; i++) {
      const attempt = this.kit.send(new TestRequest({ bodyBytes }))
      const { name } = attempt.backend
      const ms = this.#times(name, this.kit.now - this.#begun)
      this.log.push({ name, ms })
      this.kit.system.setTimer(() => { this.kit.answer(attempt, 200) }, ms)
      this.kit.system.advance(everyMs)
    }
    return this
  }

  /** How many of the last so many went to each. */
  sharesOfLast(count: number): Record<string, number> {
    const counts: Record<string, number> = { a: 0, b: 0 }
    for (const { name } of this.log.slice(-count)) counts[name] = (counts[name] ?? 0) + 1
    return counts
  }
}

function percentile(values: readonly number[], part: number): number {
  return [...values].sort((a, b) => a - b)[Math.ceil(part * values.length) - 1] ?? NaN
}

describe('among equals', () => {
  test('one that turns from 200 to 700 ms is found out within 30 requests, and nine of ten go to the fast one', () => {
    const all: number[] = []
    for (let seed = 1; seed <= 40; seed++) {
      const traffic = new Traffic((name, at) => (name === 'b' && at > 20_000 ? 700 : 200), {}, seed).run(200 + 30).run(100)
      all.push(...traffic.log.slice(-100).map(({ ms }) => ms))
    }
    assert.ok(percentile(all, 0.9) <= 1.15 * 200, String(percentile(all, 0.9)))
  })

  test('and has its share again within a minute after it has recovered', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const traffic = new Traffic((name, at) => (name === 'b' && at > 20_000 && at < 60_000 ? 700 : 200), {}, seed).run(600 + 600).run(200)
      const { b = 0 } = traffic.sharesOfLast(200)
      assert.ok(b > 70 && b < 130, `seed ${seed}: ${b} of 200`)
    }
  })

  test('a backend within a quarter of the fastest keeps its full weight', () => {
    const traffic = new Traffic((name) => (name === 'b' ? 245 : 200)).run(5_000)
    assertShares(traffic.sharesOfLast(4_000), { a: 1, b: 1 })
  })

  test('a slower one has work in proportion to the square of its speed', () => {
    const traffic = new Traffic((name) => (name === 'b' ? 400 : 200)).run(12_000)
    assertShares(traffic.sharesOfLast(11_000), { a: 1, b: 0.25 })
  })

  test('and one that hangs three in a hundred, so that news of its recovery comes', () => {
    const traffic = new Traffic((name) => (name === 'b' ? 60_000 : 200)).run(8_000, 1_000)
    assertShares(traffic.sharesOfLast(7_000), { a: 1, b: 0.03 })
  })

  test('ten answers have to be there before anything is known', () => {
    const traffic = new Traffic((name) => (name === 'b' ? 5_000 : 200), {}, 5)
    while (traffic.log.filter(({ name }) => name === 'b').length < 9) traffic.run(1, 10)
    traffic.kit.system.advance(6_000)
    assertShares(traffic.kit.count(4_000), { a: 1, b: 1 })
  })

  test('no single answer makes a backend slow', () => {
    const traffic = new Traffic(() => 200).run(200)
    const attempt = traffic.kit.send()
    traffic.kit.system.advance(20_000)
    traffic.kit.answer(attempt, 200)
    const { [attempt.backend.name]: share = 0 } = traffic.run(300).sharesOfLast(300)
    assert.ok(share > 100, String(share))
  })

  test('no backend is slow within a tenth of a second', () => {
    const traffic = new Traffic((name) => (name === 'b' ? 100 : 2)).run(2_000)
    assertShares(traffic.sharesOfLast(1_800), { a: 1, b: 1 })
  })

  test('requests are compared with those of their size', () => {
    const traffic = new Traffic((name) => (name === 'b' ? 2_000 : 200)).run(400, 100, 100_000)
    assertShares(traffic.kit.count(4_000), { a: 1, b: 1 })
    const { b = 0 } = traffic.run(300, 100, 100_000).sharesOfLast(300)
    assert.ok(b < 40, `${b} of 300 long ones`)
  })

  test('refusals and failures are not taken for speed', () => {
    const kit = new PoolKit([backend('a'), backend('b')], { latencyGuard: true, retryBudget: { ratio: 1, minPerSecond: 1_000 } })
    for (let i = 0; i < 400; i++) {
      const attempt = kit.send()
      const isA = attempt.backend.name === 'a'
      kit.system.advance(isA ? 200 : i % 2 === 0 ? 220 : 0)
      // One of two answers of b is a refusal, which comes at once and asks for nothing.
      kit.answer(attempt, isA || i % 2 === 0 ? 200 : 429, { 'retry-after': '0' })
    }
    assertShares(kit.count(4_000), { a: 1, b: 1 })
  })

  test('with latencyGuard: false speed counts nowhere, also after an update', () => {
    const off = new Traffic((name) => (name === 'b' ? 2_000 : 200), { latencyGuard: false }).run(2_000)
    assertShares(off.sharesOfLast(1_800), { a: 1, b: 1 })
    const on = new Traffic((name) => (name === 'b' ? 2_000 : 200)).run(300)
    assert.ok((on.sharesOfLast(100)['b'] ?? 0) < 20)
    on.kit.update(on.kit.config.backends, { latencyGuard: false })
    on.run(300)
    assertShares(on.sharesOfLast(200), { a: 1, b: 1 })
  })

  test('it never outweighs priority', () => {
    const kit = new PoolKit([backend('slow', 1), backend('fast', 2)], { latencyGuard: true })
    for (let i = 0; i < 50; i++) {
      const attempt = kit.send()
      assert.equal(attempt.backend.name, 'slow')
      kit.system.advance(5_000)
      kit.answer(attempt, 200)
    }
  })

  test('sixteen processes do not turn to one backend all together', () => {
    const fleet = Array.from({ length: 16 }, (_, i) => new Traffic(() => 150 + 100 * Math.abs(Math.sin(i)), {}, i + 1).run(300))
    const shares = fleet.map((traffic) => (traffic.sharesOfLast(100)['a'] ?? 0) / 100)
    const mean = shares.reduce((sum, share) => sum + share, 0) / 16
    assert.ok(mean > 0.4 && mean < 0.6, String(mean))
  })
})
