import { element, escapeXml, text, type Svg } from './svg.js'
import type { Bin } from './timeline-bins.js'

export const PANEL_HEIGHT = 310
export const PLOT_LEFT = 64
export const PLOT_RIGHT = 940
/** From the top of a panel: where its plot begins, how much of it is above the zero line and how much below. */
const PLOT_TOP = 40
const ABOVE = 140
const BELOW = 84

/** What all panels have in common, so that they can be compared by eye. */
export interface Scales {
  readonly endMs: number
  /** What makes a rate of a bin's count. */
  readonly perSecond: number
  /** The highest rates, above and below the zero line. */
  readonly above: number
  readonly below: number
}

/** One run: heading, axes, bars. */
export function drawPanel(
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
