import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { plotWaste } from './plot.js'
import { pickOverview, summarize, toMarkdown, toOverview, type Row } from './report.js'
import { runJob, type Job } from './suites.js'

const job: Job = { topology: 'STD', fault: 'none', arrivals: 'poisson', load: 1, clients: 4, shared: false, policy: 'balancer', seed: 1 }

function row(more: Partial<Row['job']>, waste = 0): Row {
  const { seed: _, ...rest } = { ...job, ...more }
  return {
    job: rest, seeds: 1, served: 0.99, goodput: 1, capacity: 0.9876, ptuShare: 1, waste, otherWaste: 0, addedP50: 0, addedP99: 0, totalP99: 0, failed: 0.01234, maxAttempts: 1,
  }
}

describe('the report of a benchmark', () => {
  test('takes medians over seeds, as ratios to the oracle of the same seed', () => {
    const jobs = [1, 2, 3].flatMap((seed) => [{ ...job, policy: 'ORACLE(60s)', clients: 1, seed }, { ...job, policy: 'seed(py)', seed }])
    const runs = jobs.map(runJob)
    const [oracle, python] = summarize(runs)
    const ratios = [1, 3, 5].map((at) => (runs[at]?.metrics.goodTps ?? NaN) / (runs[at - 1]?.metrics.goodTps ?? NaN)).sort()
    assert.deepEqual([oracle?.goodput, python?.goodput], [1, ratios[1]])
    assert.match(toMarkdown('matrix', summarize(runs)), /## matrix \(median of 3 seeds\)[^]*\| Python package \| \d\d\.\d\d % \| 0\.\d{3} /)
  })

  test('gives an overview of policies by load; who balances nothing is shown with its one process', () => {
    const rows = [
      row({ policy: 'single+sdk', clients: 1 }, 4.3), row({ policy: 'balancer', clients: 1 }), row({}, 0.004), row({ shared: true }),
      row({ arrivals: 'mmpp' }), row({ topology: 'PTUS' }), row({ load: 2 }),
    ]
    const picked = pickOverview(rows, [0.8, 1], 4)
    assert.deepEqual(picked, [rows[0], rows[2]])
    assert.equal(toOverview(picked), [
      '| policy | 1x |', '|---|---|', '| one backend, the SDK\'s retries | 4.300 · 1.2 % · 0.988 |', '| balancer | 0.004 · 1.2 % · 0.988 |',
    ].join('\n'))
  })

  test('draws what is ten times as much ten columns further right, and nothing outside of its scale', () => {
    const dots = plotWaste([0, 0.0005, 0.01, 0.1, 99].map((waste) => row({}, waste))).split('\n').slice(2).map((line) => line.indexOf('●'))
    const [first = NaN] = dots
    assert.deepEqual(dots.map((at) => at - first), [0, 0, 10, 20, 40])
    const [scale = '', load] = plotWaste([row({}, 0.01)]).split('\n')
    assert.deepEqual([scale.indexOf('0.01'), load], [dots[2], 'offered load 1x'])
  })
})
