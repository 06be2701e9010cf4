import type { Run } from './run.js'
import { isSuccess } from './statistics.js'

/** What happened in one slice of a run's time, as counts. */
export interface Bin {
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
