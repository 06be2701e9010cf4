import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { RunLog } from '../../examples/demo/application.js'
import type { Run } from '../../examples/demo/run.js'
import { binRun, chooseAxis, chooseBinMs, escapeXml, renderTimeline } from '../../examples/demo/timeline.js'

const CREDENTIAL = { scheme: 'api-key', value: 'secret-key' } as const

function buildRun(name: Run['plan']['name'], backendNames: readonly string[], fill: (log: RunLog) => void): Run {
  const log = new RunLog()
  log.durationMs = 10_000
  fill(log)
  const backends = backendNames.map((name) => ({
    name, url: 'https://example', priority: 1, models: undefined, query: undefined, credential: CREDENTIAL,
  }))
  return { plan: { name, title: `the ${name} run`, balancing: undefined }, planned: 4, backends, log }
}

const busy = (log: RunLog): void => {
  log.calls.push({ startedAtMs: 0, endedAtMs: 600, failure: undefined }, { startedAtMs: 700, endedAtMs: 9999, failure: 'x' })
  log.attempts.push(
    { atMs: 550, backend: 'one', status: 200 },
    { atMs: 560, backend: 'two', status: 200 },
    { atMs: 720, backend: 'one', status: 429 },
    { atMs: 10_000, backend: 'one', status: undefined },
  )
}

/** Takes a document apart tag by tag; throws where elements do not close in order or an attribute or a character is not legal. */
function parseXml(document: string): { readonly names: string[], readonly texts: string[] } {
  const names: string[] = []
  const texts: string[] = []
  const open: string[] = []
  const tokens = document.replace(/^<\?xml version="1\.0" encoding="UTF-8"\?>\n/, '').matchAll(/<([^>]*)>|([^<]+)/g)
  for (const [, tag, characters] of tokens) {
    if (tag === undefined) {
      assert.doesNotMatch(characters ?? '', /&(?!#\d+;)|>/, 'text is escaped')
      texts.push((characters ?? '').replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code))))
    } else if (tag.startsWith('/')) {
      assert.equal(tag.slice(1), open.pop(), 'elements close in order')
    } else {
      const [, name = '', attributes = '', close] = /^([a-z]+)((?: [a-zA-Z0-9-]+="[^"<&]*(?:&#\d+;[^"<&]*)*")*)(\/?)$/.exec(tag) ?? []
      assert.notEqual(name, '', `<${tag}> is well formed`)
      assert.doesNotMatch(attributes, /NaN|undefined|Infinity/)
      names.push(name)
      if (close !== '/') open.push(name)
    }
  }
  assert.deepEqual(open, [], 'everything is closed')
  return { names, texts }
}

describe('the demo draws a timeline', () => {
  test('it is a well-formed SVG with a panel for each run, labels, a legend, and colours for light and dark', () => {
    const runs = [buildRun('standard', ['one'], busy), buildRun('balanced', ['one', 'two'], busy)]
    const svg = renderTimeline(runs, 'two calls')
    const { names, texts } = parseXml(svg)
    assert.equal(names[0], 'svg')
    for (const label of ['standard', 'balanced', 'the balanced run', 'two calls', 'one', 'two', '429 from a backend',
      'other error from a backend', 'call failed', 'calls started', 'answers / s', '429s, failures / s', '0 s', '10 s']) {
      assert.ok(texts.includes(label), `it says '${label}'`)
    }
    assert.match(svg, /@media \(prefers-color-scheme: dark\)/)
    assert.ok(texts.includes('1 of 2 answered (50.0 %)   ·   1.00 429s per success   ·   p99 600 ms'))
  })

  test('names are escaped and no credential is drawn', () => {
    const name = '<script>alert("1 & 2")</script>\u0000'
    const svg = renderTimeline([buildRun('balanced', [name], () => undefined)], `"quotes" & 'more' <b>`)
    const { names, texts } = parseXml(svg)
    assert.ok(!names.includes('script') && !names.includes('b'))
    assert.ok(texts.includes('<script>alert("1 & 2")</script>'))
    assert.doesNotMatch(svg, /secret-key/)
  })

  test('a run in which nothing happened, or that was stopped at once, is drawn too', () => {
    parseXml(renderTimeline([buildRun('standard', ['one'], (log) => { log.durationMs = 0 })], ''))
    parseXml(renderTimeline([], ''))
  })

  test('with more backends than colours the colours begin anew', () => {
    const names = Array.from({ length: 10 }, (_, index) => `backend ${index}`)
    const svg = renderTimeline([buildRun('balanced', names, (log) => {
      for (const backend of names) log.attempts.push({ atMs: 10, backend, status: 200 })
    })], '')
    assert.equal(svg.match(/class="backend-0"/g)?.length, 4, 'two backends, each in the legend and in the plot')
  })

  test('bins count calls where they start, failures where they end and answers where they come', () => {
    const bins = binRun(buildRun('standard', ['one', 'two'], busy), 500)
    assert.equal(bins.length, 20)
    const [first, second] = bins
    const last = bins.at(-1)
    assert.deepEqual([first?.started, second?.started], [1, 1])
    assert.deepEqual([...second?.answered ?? []], [['one', 1], ['two', 1]])
    assert.deepEqual([second?.throttled, last?.failed, last?.errors], [1, 1, 1])
  })

  test('bins are as wide as people can read off an axis, and at most 24 of them', () => {
    assert.deepEqual([1, 2000, 9500, 20_000, 62_000, 600_000, 7_200_000].map(chooseBinMs), [250, 250, 500, 1000, 3000, 30_000, 300_000])
  })

  test('an axis ends at a round number not below the highest value', () => {
    assert.deepEqual(chooseAxis(32), { max: 40, ticks: [0, 10, 20, 30, 40] })
    assert.deepEqual(chooseAxis(1.1), { max: 1.5, ticks: [0, 0.5, 1, 1.5] })
    assert.deepEqual(chooseAxis(0), { max: 1, ticks: [0, 1] })
    assert.deepEqual(chooseAxis(-Infinity), { max: 1, ticks: [0, 1] })
  })

  test('characters that XML has no place for are left out', () => {
    assert.equal(escapeXml('a\u0001\ud800b\u{1f600}&'), 'ab\u{1f600}&#38;')
  })
})
