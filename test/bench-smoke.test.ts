/** The benchmarks run, all of them; what they measure in so short a time means nothing. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { PARTS, readArguments } from './bench/support/arguments.js'
import { median, quantile } from './bench/support/statistics.js'
import { toMarkdown, type Table } from './bench/support/table.js'

const root = fileURLToPath(new URL('..', import.meta.url))

async function bench(...words: string[]): Promise<string> {
  // Coverage would slow down what is measured, and is not that of the sources: the benchmarks run what they have compiled.
  const { NODE_V8_COVERAGE: _coverage, ...env } = process.env
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', 'test/bench/main.ts', ...words], { cwd: root, env })
  return stdout
}

test('every part measures everything that its tables have a place for', async () => {
  const { machine, results } = JSON.parse(await bench('--quick', '--json')) as { machine: { node: string }, results: Record<string, Table[]> }
  assert.equal(machine.node, process.versions.node)
  assert.deepEqual(Object.keys(results), [...PARTS])
  for (const { title, columns, rows } of Object.values(results).flat()) {
    assert.ok(rows.length > 1, title)
    for (const row of rows) {
      for (const { key } of columns) assert.ok(typeof row[key] === 'string' || Number.isFinite(row[key]), `${title}: ${key} of ${JSON.stringify(row)}`)
    }
  }
})

test('a part that does not exist is told, with those that do', async () => {
  await assert.rejects(bench('--part', 'routing'), /--part: must be one of pure, end-to-end, first-output, failover, scale, got "routing"/)
})

test('without words everything is run in full', () => {
  assert.deepEqual(readArguments([]), { parts: PARTS, json: false, quick: false, against: undefined })
  assert.deepEqual(readArguments(['--part', 'scale', '--part', 'pure', '--quick']), { parts: ['scale', 'pure'], json: false, quick: true, against: undefined })
})

describe('numbers', () => {
  test('a quantile lies between its neighbours', () => {
    assert.equal(median([3, 1, 2]), 2)
    assert.equal(median([4, 1]), 2.5)
    assert.equal(quantile([0, 10], 0.25), 2.5)
    assert.equal(quantile([7], 0.99), 7)
    assert.ok(Number.isNaN(median([])))
  })

  test('are shown with the digits of their column, and what was not measured with a dash', () => {
    const markdown = toMarkdown({
      title: 'Costs', note: 'All of them.', columns: [{ key: 'what', label: '' }, { key: 'ns', label: 'ns' }, { key: 'ratio', label: 'ratio', digits: 2 }],
      rows: [{ what: 'one', ns: 1_234.5, ratio: 1 }, { what: 'two', ns: 7 }],
    })
    assert.equal(markdown, [
      '### Costs', '', 'All of them.', '', '|  | ns | ratio |', '| --- | --: | --: |', '| one | 1,235 | 1.00 |', '| two | 7 | – |', '',
    ].join('\n'))
  })
})
