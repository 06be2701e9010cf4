import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { formatShare, percentile, Progress, renderFailures, renderTable, summarize } from '../../examples/demo/report.js'
import { RunLog } from '../../examples/demo/application.js'
import type { Run } from '../../examples/demo/run.js'

const CREDENTIAL = { scheme: 'api-key', value: 'secret-key' } as const

/** A run of 10 s: two calls that were answered, one that failed, one that is open. */
function buildRun(name: Run['plan']['name'], backendNames: readonly string[]): Run {
  const log = new RunLog()
  log.calls.push(
    { startedAtMs: 0, endedAtMs: 300, failure: undefined },
    { startedAtMs: 100, endedAtMs: 1100, failure: undefined },
    { startedAtMs: 200, endedAtMs: 2200, failure: '429 RateLimitError' },
    { startedAtMs: 9000, endedAtMs: undefined, failure: undefined },
  )
  const [first = '', second = first] = backendNames
  log.attempts.push(
    { atMs: 250, backend: first, status: 200 },
    { atMs: 300, backend: first, status: 429 },
    { atMs: 400, backend: first, status: undefined },
    { atMs: 500, backend: second, status: 503 },
    { atMs: 1000, backend: second, status: 200 },
  )
  log.durationMs = 10_000
  const backends = backendNames.map((name, index) => ({
    name, url: 'https://example', priority: index + 1, models: undefined, query: undefined, credential: CREDENTIAL,
  }))
  return { plan: { name, title: 'a title', balancing: undefined }, planned: 4, backends, log }
}

describe('the demo reports', () => {
  test('a summary counts calls as the application saw them and attempts as the wire saw them', () => {
    const summary = summarize(buildRun('balanced', ['one', 'two']))
    assert.deepEqual([summary.requests, summary.successes, summary.failures, summary.unfinished], [4, 2, 1, 1])
    assert.deepEqual([summary.throttled, summary.throttledPerSuccess], [1, 0.5])
    assert.deepEqual([summary.p50Ms, summary.p99Ms], [300, 1000])
    assert.deepEqual(summary.failuresByKind, { '429 RateLimitError': 1 })
    assert.deepEqual(summary.backends, [
      { name: 'one', priority: 1, calls: 3, successes: 1, throttled: 1, failures: 1 },
      { name: 'two', priority: 2, calls: 2, successes: 1, throttled: 0, failures: 1 },
    ])
  })

  test('a percentile is the smallest value that a share of the values does not exceed', () => {
    const values = Array.from({ length: 100 }, (_, index) => index + 1)
    assert.deepEqual([percentile(values, 0.5), percentile(values, 0.99), percentile([7], 0.99)], [50, 99, 7])
    assert.equal(percentile([], 0.5), undefined)
  })

  test('the table has a column for each run and a row for each backend of any', () => {
    const table = renderTable([summarize(buildRun('standard', ['one'])), summarize(buildRun('balanced', ['one', 'two']))])
    assert.equal(table, `\
                                  standard         balanced
-----------------------------------------------------------
calls answered              2 / 4 (50.0 %)   2 / 4 (50.0 %)
429s from backends                       1                1
429s per success                     0.500            0.500
429s seen by the SDK                     0                0
calls failed                             1                1
unfinished                               1                1
duration                            10.0 s           10.0 s
p50 of successes                    300 ms           300 ms
p99 of successes                   1000 ms          1000 ms
-----------------------------------------------------------
calls to one (priority 1)         5 (2 ok)         3 (1 ok)
calls to two (priority 2)                -         2 (1 ok)
`)
  })

  test('a run without successes has no percentiles and no ratio', () => {
    const log = new RunLog()
    log.durationMs = 5
    const table = renderTable([summarize({ ...buildRun('standard', ['one']), log })])
    assert.match(table, /^calls answered +0 \/ 0$/m)
    assert.match(table, /^p50 of successes +-$/m)
    assert.match(table, /^429s per success +-$/m)
    assert.doesNotMatch(table, /unfinished/)
  })

  test('a share is rounded down, so that 100 % are all', () => {
    assert.deepEqual([formatShare(1999, 2000), formatShare(3, 3), formatShare(0, 3)], ['99.9 %', '100.0 %', '0.0 %'])
  })

  test('failures are told by kind', () => {
    assert.equal(renderFailures([summarize(buildRun('standard', ['one']))]), 'failures of standard: 1 x 429 RateLimitError\n')
    assert.equal(renderFailures([]), '')
  })

  test('progress changes one line on a terminal, no wider than it is, and writes lines into a pipe', () => {
    const collect = (isTTY: boolean): string => {
      const written: string[] = []
      const stream = { isTTY, columns: 60, write: (text: string | Uint8Array) => { written.push(String(text)); return true } }
      const progress = new Progress(stream, true)
      progress.start(buildRun('balanced', ['one', 'two']))
      progress.say('stopping')
      progress.stop()
      progress.stop()
      return written.join('')
    }
    assert.equal(collect(false), 'balanced: a title\nstopping\n  10.0 s  answered 2 / 4 (50.0 %)  429s 1  failed 1  of 4\n')
    const live = collect(true)
    assert.equal(live, '\r\x1b[2Kstopping\n\r\x1b[2Kbalanced █████████░░░  10.0 s  answered 2 / 4 (50.0 %)  429\n')
  })
})
