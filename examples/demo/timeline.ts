/**
 * The runs as a picture. Sums do not show when something happened: that a backend was left alone for as long as it was
 * full, and that calls went on being answered meanwhile. So all runs are cut into slices of time and drawn as one SVG file,
 * without a library and with everything that comes from outside escaped.
 */
import { formatShare, isSuccess, summarize } from './report.js'
import type { Run } from './run.js'

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
    `${successes} of ${requests} answered${requests === 0 ? '' : ` (${formatShare(successes, requests)})`}`,
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

/** What happened in one slice of a run's time, as counts. */
interface Bin {
  readonly fromMs: number
  readonly toMs: number
  /** Calls that the application started. */
  started: number
  /** Good answers, by backend. */
  readonly answered: Map<string, number>
  throttled: number
  /** Connection failures, and statuses that are neither good nor 429. */
  errors: number
  /** Calls that the application saw fail. */
  failed: number
}

/** Widths that people can read off an axis. */
const WIDTHS_MS = [250, 500, 1000, 2000, 3000, 5000, 10_000, 20_000, 30_000, 60_000]

/** Enough to see changes, few enough that a bar counts more than one or two requests. */
const MOST_BINS = 24

/** The width of a bin for runs of up to so long. */
export function chooseBinMs(durationMs: number): number {
  return WIDTHS_MS.find((width) => durationMs / width <= MOST_BINS) ?? Math.ceil(durationMs / MOST_BINS / 60_000) * 60_000
}

export function binRun({ backends, log }: Run, binMs: number): Bin[] {
  const durationMs = log.durationMs ?? log.nowMs()
  const bins: Bin[] = Array.from({ length: Math.max(1, Math.ceil(durationMs / binMs)) }, (_, index) => ({
    fromMs: index * binMs,
    toMs: (index + 1) * binMs,
    started: 0,
    answered: new Map(backends.map((backend) => [backend.name, 0])),
    throttled: 0,
    errors: 0,
    failed: 0,
  }))
  // What comes in the very moment in which the run ends belongs to the last bin.
  const binAt = (atMs: number): Bin | undefined => bins[Math.min(bins.length - 1, Math.floor(atMs / binMs))]
  for (const call of log.calls) {
    const bin = binAt(call.startedAtMs)
    if (bin !== undefined) bin.started += 1
    const end = call.failure === undefined || call.endedAtMs === undefined ? undefined : binAt(call.endedAtMs)
    if (end !== undefined) end.failed += 1
  }
  for (const { atMs, backend, status } of log.attempts) {
    const bin = binAt(atMs)
    if (bin === undefined) continue
    if (isSuccess(status)) bin.answered.set(backend, (bin.answered.get(backend) ?? 0) + 1)
    else if (status === 429) bin.throttled += 1
    else bin.errors += 1
  }
  return bins
}

const PANEL_HEIGHT = 310
const PLOT_LEFT = 64
const PLOT_RIGHT = 940
/** From the top of a panel: where its plot begins, how much of it is above the zero line and how much below. */
const PLOT_TOP = 40
const ABOVE = 140
const BELOW = 84

/** What all panels have in common, so that they can be compared by eye. */
interface Scales {
  readonly endMs: number
  /** What makes a rate of a bin's count. */
  readonly perSecond: number
  /** The highest rates, above and below the zero line. */
  readonly above: number
  readonly below: number
}

/** One run: heading, axes, bars. */
function drawPanel(
  top: number, name: string, title: string, result: string, bins: readonly Bin[], scales: Scales, colours: ReadonlyMap<string, string>,
): Svg {
  const above = chooseAxis(scales.above)
  const below = chooseAxis(scales.below)
  const zero = PLOT_TOP + ABOVE
  const toX = (ms: number): number => PLOT_LEFT + (PLOT_RIGHT - PLOT_LEFT) * ms / scales.endMs
  const up = (rate: number): number => ABOVE * rate / above.max
  const down = (rate: number): number => BELOW * rate / below.max
  const upCount = (count: number): number => up(count * scales.perSecond)
  const downCount = (count: number): number => down(count * scales.perSecond)
  return element('g', { transform: `translate(0 ${top})` },
    // One text in two spans: only the viewer knows how wide the name is.
    element('text', { x: PLOT_LEFT, y: 16 }, element('tspan', { class: 'name' }, escapeXml(name)),
      element('tspan', { class: 'small', dx: 10 }, escapeXml(title))),
    text(PLOT_RIGHT, 16, 'result number', result, { 'text-anchor': 'end' }),
    ...above.ticks.flatMap((rate) => drawTick(zero - up(rate), rate)),
    ...below.ticks.slice(1).flatMap((rate) => drawTick(zero + down(rate), rate)),
    drawAxisLabel(zero - ABOVE / 2, 'answers / s'),
    drawAxisLabel(zero + BELOW / 2, '429s, failures / s'),
    ...bins.map((bin) => drawBin(bin, toX, zero, upCount, downCount, colours)),
    drawStarted(bins, toX, (count) => zero - upCount(count)),
    element('line', { class: 'axis', x1: PLOT_LEFT, x2: PLOT_RIGHT, y1: zero, y2: zero }),
    ...chooseAxis(scales.endMs / 1000, 10).ticks.filter((second) => second * 1000 <= scales.endMs).flatMap((second) => [
      element('line', { class: 'axis', x1: toX(second * 1000), x2: toX(second * 1000), y1: zero + BELOW, y2: zero + BELOW + 5 }),
      text(toX(second * 1000), zero + BELOW + 19, 'small number', `${second} s`, { 'text-anchor': 'middle' }),
    ]),
  )
}

function drawTick(y: number, rate: number): Svg[] {
  return [
    element('line', { class: 'grid', x1: PLOT_LEFT, x2: PLOT_RIGHT, y1: y, y2: y }),
    text(PLOT_LEFT - 8, y + 4, 'small number', String(rate), { 'text-anchor': 'end' }),
  ]
}

function drawAxisLabel(y: number, label: string): Svg {
  return text(0, 0, 'small', label, { 'text-anchor': 'middle', 'transform': `translate(18 ${y}) rotate(-90)` })
}

type ToPixels = (count: number) => number

/** Backends stacked upwards, trouble stacked downwards; the numbers behind them on hovering. */
function drawBin(
  bin: Bin, toX: (ms: number) => number, zero: number, up: ToPixels, down: ToPixels, colours: ReadonlyMap<string, string>,
): Svg {
  const x = toX(bin.fromMs) + 1
  const width = toX(bin.toMs) - toX(bin.fromMs) - 2
  const bars: Svg[] = []
  let y = zero
  for (const [backend, count] of bin.answered) {
    const height = up(count)
    y -= height
    if (count > 0) bars.push(element('rect', { class: colours.get(backend) ?? '', x, y, width, height }))
  }
  y = zero
  for (const kind of ['throttled', 'errors', 'failed'] as const) {
    const height = down(bin[kind])
    if (bin[kind] > 0) bars.push(element('rect', { class: kind === 'errors' ? 'error' : kind, x, y, width, height }))
    y += height
  }
  return element('g', {}, element('title', {}, escapeXml(describeBin(bin))), ...bars)
}

function describeBin(bin: Bin): string {
  const answered = [...bin.answered].map(([backend, count]) => `${backend} ${count}`).join(', ')
  const trouble = `${bin.throttled} 429s, ${bin.errors} other errors, ${bin.failed} failed calls`
  return `${bin.fromMs / 1000} to ${bin.toMs / 1000} s: ${bin.started} started; answered: ${answered}; ${trouble}`
}

function drawStarted(bins: readonly Bin[], toX: (ms: number) => number, toY: ToPixels): Svg {
  const steps = bins.map((bin) => `${Math.round(toX(bin.fromMs))} ${Math.round(toY(bin.started))}H${Math.round(toX(bin.toMs))}`)
  return element('path', { class: 'started', d: `M${steps.join('L')}` })
}

/** An axis from 0 to `max` or a little above, with round ticks. */
export function chooseAxis(max: number, most = 4): { readonly max: number, readonly ticks: readonly number[] } {
  if (!(max > 0)) return { max: 1, ticks: [0, 1] }
  const rough = max / most
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) ?? 10) * power
  const count = Math.ceil(max / step * 0.999)
  // Ticks as 0.3, not as 0.30000000000000004.
  return { max: count * step, ticks: Array.from({ length: count + 1 }, (_, index) => Number((index * step).toPrecision(6))) }
}

/** Backends in the order of their priority; dark, middle and light, so that neighbours differ without colour as well. */
const BACKENDS = ['#2456c8', '#2bb3a0', '#b199ee', '#5b7083', '#d172a8', '#7fa32b', '#45a8d8', '#8c6d52']
const BACKENDS_DARK = ['#5b8dff', '#36c9b4', '#cdbcff', '#8fa5b8', '#ec93c4', '#a5cc4d', '#72c8f2', '#b8987a']

/** How many backends get a colour of their own; further ones begin anew. */
const BACKEND_COLOURS = BACKENDS.length

/** Colours as plain values in classes: not every viewer of SVG knows custom properties. */
const STYLE = `
text { font: 13px system-ui, -apple-system, Segoe UI, Roboto, Liberation Sans, sans-serif; }
.title { font-size: 20px; font-weight: 600; }
.name { font-size: 15px; font-weight: 600; }
.result { font-weight: 600; }
.small { font-size: 12px; }
.number { font-variant-numeric: tabular-nums; }
.started { fill: none; stroke-width: 1.5; stroke-dasharray: 4 3; }
${colours('#ffffff', '#1f2328', '#59636e', '#e4e7eb', '#8c959f', '#f0a30a', '#b4531f', '#d1242f', BACKENDS)}
@media (prefers-color-scheme: dark) {
${colours('#0d1117', '#e6edf3', '#9198a1', '#262c36', '#6e7781', '#f5b83d', '#d9793f', '#ff6a69', BACKENDS_DARK)}
}
`

function colours(
  paper: string, ink: string, muted: string, grid: string, axis: string,
  throttled: string, error: string, failed: string, backends: readonly string[],
): string {
  return [
    `.paper { fill: ${paper}; }`,
    `.title, .name, .result { fill: ${ink}; }`,
    `.small { fill: ${muted}; }`,
    `.grid { stroke: ${grid}; }`,
    `.axis { stroke: ${axis}; }`,
    `.started { stroke: ${ink}; }`,
    `.throttled { fill: ${throttled}; }`,
    `.error { fill: ${error}; }`,
    `.failed { fill: ${failed}; }`,
    ...backends.map((colour, index) => `.backend-${index} { fill: ${colour}; }`),
  ].join('\n')
}

declare const SAFE: unique symbol

/** A piece of SVG that is safe to put into more SVG. Plain strings are not taken for one: they have to be escaped first. */
type Svg = string & { readonly [SAFE]: true }

/** An element; attribute values are escaped, children are SVG already. */
export function element(name: string, attributes: Readonly<Record<string, string | number>>, ...children: readonly Svg[]): Svg {
  const written = Object.entries(attributes)
    .map(([key, value]) => ` ${key}="${typeof value === 'number' ? round(value) : escapeXml(value)}"`)
    .join('')
  return (children.length === 0 ? `<${name}${written}/>` : `<${name}${written}>${children.join('')}</${name}>`) as Svg
}

export function text(x: number, y: number, className: string, content: string, more: Readonly<Record<string, string | number>> = {}): Svg {
  return element('text', { x, y, class: className, ...more }, escapeXml(content))
}

/** Characters that XML 1.0 does not know at all are left out. */
export function escapeXml(value: string): Svg {
  return value
    .replace(/[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, '')
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`) as Svg
}

/** A tenth of a pixel is more than anyone sees. */
function round(value: number): string {
  return String(Math.round(value * 10) / 10)
}
