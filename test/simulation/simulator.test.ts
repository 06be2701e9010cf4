/** Checks of the simulator itself: a yardstick that is wrong proves nothing. */
import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { BASELINES } from './baselines.js'
import { Engine } from './engine.js'
import { formatGoDuration } from '../../examples/demo/simulator/deployment.js'
import { FixedWindow, SlidingWindow, TokenBucket, Utilization } from '../../examples/demo/simulator/limits.js'
import { readDurationMs, readRetryAfterMs } from './header-values.js'
import { oracle, patientOracle } from './oracle.js'
import { drawOf, stream } from './random.js'
import { FAULTS, STD } from './scenarios.js'
import { capacityOf, runScenario } from './world.js'
import { meanShape, trace } from './workload.js'

const policies = [...BASELINES, oracle, patientOracle]
const named = (name: string) => policies.find((p) => p.name === name) ?? oracle
const scenario = { backends: STD, load: 1, clients: 4, durationMs: 400_000 }

describe('randomness and clock', () => {
  test('named streams are deterministic, uniform and differ by name', () => {
    const a = stream('x')
    const b = stream('x')
    const c = stream('y')
    let sum = 0
    let different = 0
    for (let i = 0; i < 1e5; i++) {
      const v = a()
      assert.equal(v, b())
      if (v !== c()) different++
      sum += v
    }
    assert.ok(Math.abs(sum / 1e5 - 0.5) < 0.005)
    assert.ok(different > 99_000)
  })

  test('stateless draws are uniform', () => {
    let sum = 0
    for (let i = 0; i < 1e5; i++) sum += drawOf(7, i, 3)
    assert.ok(Math.abs(sum / 1e5 - 0.5) < 0.005)
  })

  test('events run in the order of time, first in first out among equals, and can be called off', () => {
    const engine = new Engine()
    const out: string[] = []
    engine.after(5, () => out.push('b'))
    engine.after(1, () => out.push('a'))
    engine.after(5, () => out.push('c'))
    engine.after(2, () => out.push('x')).cancel()
    engine.run()
    assert.deepEqual(out, ['a', 'b', 'c'])
    assert.equal(engine.now, 5)
  })
})

describe('server limiters', () => {
  test('a fixed window admits below its limit and starts anew at its boundary', () => {
    const w = new FixedWindow({ limit: 10, windowMs: 1000 })
    for (let i = 0; i < 10; i++) {
      assert.equal(w.waitFor(100), 0)
      w.take(100, 1)
    }
    assert.equal(w.waitFor(400), 600)
    assert.equal(w.waitFor(1000), 0)
    assert.equal(w.remaining(1000), 10)
  })

  test('a sliding window knows to the millisecond when a request fits', () => {
    const w = new SlidingWindow({ limit: 100, windowMs: 60_000 })
    w.take(0, 60)
    w.take(10_000, 40)
    const wait = w.waitFor(20_000, 50)
    assert.ok(Math.abs(wait - 40_000) < 1)
    assert.ok(w.waitFor(20_000 + wait - 1, 50) > 0)
    assert.equal(w.waitFor(20_000 + wait, 50), 0)
  })

  test('a token bucket knows when a request fits and when it is full', () => {
    const w = new TokenBucket({ ratePerMs: 1, burst: 1000 })
    w.take(0, 1000)
    assert.equal(w.waitFor(0, 300), 300)
    assert.equal(w.waitFor(300, 300), 0)
    assert.equal(w.resetMs(300), 700)
  })

  test('utilization admits below 100 %, is corrected, drains, and counts what no request used', () => {
    const w = new Utilization({ ratePerMs: 1, depthMs: 1000 })
    w.take(0, 1500)
    assert.ok(Math.abs(w.waitFor(0) - 500) < 0.01)
    w.correct(0, -1000)
    assert.equal(w.waitFor(0), 0)
    assert.equal(w.percent(0), 50)
    w.roll(1500)
    assert.equal(w.lost, 1000)
  })
})

describe('headers and workload', () => {
  test('durations survive the round trip, and readers take what they get', () => {
    for (const ms of [3, 999, 1500, 59_999, 60_000, 361_234]) {
      assert.ok(Math.abs(readDurationMs(formatGoDuration(ms)) - ms) <= 1, String(ms))
    }
    assert.equal(readRetryAfterMs({ 'retry-after': '2' }), 2000)
    assert.equal(readRetryAfterMs({ 'retry-after': '2', 'retry-after-ms': '70' }), 70)
    assert.ok(Number.isNaN(readRetryAfterMs({ 'retry-after': 'soon' })))
  })

  test('the long-run rate is the same for both kinds of arrivals', () => {
    for (const arrivals of ['poisson', 'mmpp'] as const) {
      let sum = 0
      for (let seed = 0; seed < 10; seed++) sum += trace({ seed, ratePerSec: 20, durationMs: 2e6, arrivals }).length
      assert.ok(Math.abs(sum / 10 / 40_000 - 1) < 0.05, `${arrivals} ${sum}`)
    }
    const mean = meanShape()
    assert.ok(mean.estTokens > mean.tokens)
    assert.equal(capacityOf(STD), 22)
  })
})

describe('runs', () => {
  test('the same seed gives the same metrics, another seed others', () => {
    for (const name of ['seed(py)', 'p2c+cooldown']) {
      const run = (seed: number) => runScenario(scenario, named(name), seed)
      assert.deepEqual(run(3), run(3))
      assert.notDeepEqual(run(3), run(4))
    }
  })

  test('the numbers stay what they were when the comparisons were published', () => {
    const numbers = PINNED.map(([name]) => {
      const m = runScenario({ ...scenario, load: 1.2, faults: FAULTS['peak-429'] ?? [] }, named(name), 3)
      return [name, m.arrivals, Number(m.goodTps.toFixed(3)), Number(m.waste.toFixed(6)), Number(m.addedP99.toFixed(3)), m.maxAttempts]
    })
    assert.deepEqual(numbers, PINNED)
  })

  test('the oracle wastes no attempt, and no policy beats it', () => {
    for (const [load, arrivals] of [[0.5, 'mmpp'], [1, 'poisson'], [2, 'mmpp']] as const) {
      const s = { ...scenario, load, arrivals, durationMs: 600_000 }
      const best = runScenario(s, oracle, 1)
      assert.equal(best.waste, 0)
      for (const policy of BASELINES) {
        const m = runScenario(s, policy, 1)
        // 3 %: the measuring window cuts the windows of a minute.
        assert.ok(load <= 1 ? m.goodTps <= best.goodTps * 1.001 : m.capUsed <= best.capUsed * 1.03, `${policy.name} ${load} ${arrivals}`)
      }
    }
  })

  test('every call ends exactly once', () => {
    for (const policy of policies) {
      const m = runScenario({ ...scenario, faults: FAULTS['5xx-burst'] ?? [] }, policy, 2)
      const total = (m.goodRps * 190) / m.arrivals + m.late + m.failed // the window is 190 s long
      assert.ok(Math.abs(total - 1) < 1e-9, `${policy.name} ${total}`)
    }
  })
})

/** Policy, arrivals, tokens per second, 429s per success, added p99, most attempts. */
const PINNED: [string, number, number, number, number, number][] = [
  ['single+sdk', 4900, 9239.063, 7.558565, 495.032, 3],
  ['seed(py)', 4900, 23858.316, 0.633609, 2160.856, 7],
  ['litellm-shuffle', 4900, 22369.711, 1.814785, 10031.912, 9],
  ['litellm-usage', 4900, 21621.305, 1.487708, 120000, 8],
  ['p2c+cooldown', 4900, 23544.974, 1.458406, 358.607, 9],
  ['ORACLE(60s)', 4900, 29712.7, 0.034438, 50233.937, 3],
  ['oracle(10s)', 4900, 27254.584, 0.0727, 36135.717, 3],
]
