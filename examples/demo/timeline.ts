import type { Run } from './run.js'
import { summarize } from './statistics.js'
import { element, escapeXml, text, type Svg } from './svg.js'
import { binRun, chooseBinMs, type Bin } from './timeline-bins.js'
import { drawPanel, PANEL_HEIGHT, PLOT_LEFT, PLOT_RIGHT, type Scales } from './timeline-panel.js'
import { BACKEND_COLOURS, STYLE } from './timeline-style.js'

const WIDTH = 960
const TOP = 136
const LEGEND_Y = 84

/**
 * A picture of the runs, one below the other on the same axes: above the line what was answered, by backend; below it
 * 429s and failures. A complete SVG file, light or dark as its reader likes.
 */
export function renderTimeline(runs: readonly Run[], subtitle: string): string {
  const longestMs = Math.max(1, ...runs.map((run) => run.log.durationMs ?? 0))
  const binMs = chooseBinMs(longestMs)
  const binned = runs.map((run) => binRun(run, binMs))
  const colours = assignColours(runs)
  const all = binned.flat()
  const perSecond = 1000 / binMs
  const above = perSecond * Math.max(...all.map((bin) => Math.max(bin.started, sum(bin.answered))))
  const below = perSecond * Math.max(...all.map((bin) => bin.throttled + bin.errors + bin.failed))
  // A handful of 429s must not fill the plot, and look like many.
  const scales: Scales = { endMs: Math.ceil(longestMs / binMs) * binMs, perSecond, above, below: Math.max(below, above / 4) }
  const height = TOP + runs.length * PANEL_HEIGHT + 8
  const panels = runs.map((run, index) => {
    const bins = binned[index] ?? []
    return drawPanel(TOP + index * PANEL_HEIGHT, run.plan.name, run.plan.title, describeResult(run), bins, scales, colours)
  })
  const svg = element('svg', { xmlns: 'http://www.w3.org/2000/svg', viewBox: `0 0 ${WIDTH} ${height}`, width: WIDTH, height, role: 'img' },
    element('title', {}, escapeXml('Requests over time')),
    element('desc', {}, escapeXml(runs.map((run) => `${run.plan.name}: ${describeResult(run)}`).join('. '))),
    element('style', {}, escapeXml(STYLE)),
    element('rect', { class: 'paper', width: WIDTH, height }),
    text(PLOT_LEFT, 36, 'title', 'The same work, side by side'),
    text(PLOT_LEFT, 57, 'small', subtitle),
    ...drawLegend(colours, all),
    ...panels,
  )
  return `<?xml version="1.0" encoding="UTF-8"?>\n${svg}\n`
}

/** Class names by backend, the same in all panels. */
function assignColours(runs: readonly Run[]): Map<string, string> {
  const names = runs.toSorted((a, b) => b.backends.length - a.backends.length).flatMap((run) => run.backends.map((backend) => backend.name))
  return new Map([...new Set(names)].map((name, index) => [name, `backend-${index % BACKEND_COLOURS}`]))
}

function describeResult(run: Run): string {
  const { requests, successes, throttledPerSuccess, p99Ms } = summarize(run)
  return [
    `${successes} of ${requests} answered`,
    ...(throttledPerSuccess === undefined ? [] : [`${throttledPerSuccess.toFixed(2)} 429s per success`]),
    ...(p99Ms === undefined ? [] : [`p99 ${Math.round(p99Ms)} ms`]),
  ].join('   ·   ')
}

function drawLegend(colours: ReadonlyMap<string, string>, bins: readonly Bin[]): Svg[] {
  const errors = bins.some((bin) => bin.errors > 0) ? [{ className: 'error', label: 'other error from a backend' }] : []
  return [
    ...drawLegendRow(LEGEND_Y, 'Answered by', [...colours].map(([label, className]) => ({ className, label }))),
    ...drawLegendRow(LEGEND_Y + 20, 'Not answered', [
      { className: 'throttled', label: '429 from a backend' }, ...errors, { className: 'failed', label: 'call failed' },
    ]),
    element('path', { class: 'started', d: `M${PLOT_RIGHT - 100} ${LEGEND_Y + 16}h16` }),
    text(PLOT_RIGHT, LEGEND_Y + 20, 'small', 'calls started', { 'text-anchor': 'end' }),
  ]
}

function drawLegendRow(y: number, heading: string, entries: readonly { className: string, label: string }[]): Svg[] {
  let x = PLOT_LEFT + 92
  return [text(PLOT_LEFT, y, 'small', heading), ...entries.flatMap(({ className, label }) => {
    const drawn = [element('rect', { class: className, x, y: y - 10, width: 12, height: 12, rx: 2 }), text(x + 18, y, 'small', label)]
    // The width of a letter is a guess, on the generous side: the reader's font is not known here.
    x += 34 + label.length * 7
    return drawn
  })]
}

function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((total, count) => total + count, 0)
}
