/**
 * What the demo tells in words and numbers: how a run is going, and at the end the runs side by side.
 */
import type { WriteStream } from 'node:tty'
import type { Run } from './run.js'

interface BackendSummary {
  readonly name: string
  readonly priority: number
  /** Requests that it answered or that failed on it, retries and failovers included. */
  readonly calls: number
  /** 2xx. */
  readonly successes: number
  readonly throttled: number
  /** Connection failures and all other statuses. */
  readonly failures: number
}

/** What the report says of one run. Durations in milliseconds; `undefined` where there was nothing to measure. */
export interface RunSummary {
  readonly name: string
  readonly title: string
  readonly requests: number
  readonly successes: number
  readonly failures: number
  /** Under way when the run was interrupted. */
  readonly unfinished: number
  readonly failuresByKind: Readonly<Record<string, number>>
  readonly durationMs: number
  /** Of the successes, from the call to the end of its answer. */
  readonly p50Ms: number | undefined
  readonly p99Ms: number | undefined
  /** Real 429s, sent by backends. */
  readonly throttled: number
  readonly throttledPerSuccess: number | undefined
  /** 429s that the openai package was shown, made by a backend or by the balancer. */
  readonly throttledSeen: number
  readonly backends: readonly BackendSummary[]
  readonly interrupted: boolean
}

export function summarize({ plan, backends, log }: Run): RunSummary {
  const ended = log.calls.filter((call) => call.endedAtMs !== undefined)
  const succeeded = ended.filter((call) => call.failure === undefined)
  const latencies = succeeded.map((call) => (call.endedAtMs ?? 0) - call.startedAtMs).sort((a, b) => a - b)
  const throttled = log.attempts.filter((attempt) => attempt.status === 429).length
  return {
    name: plan.name,
    title: plan.title,
    requests: log.calls.length,
    successes: succeeded.length,
    failures: ended.length - succeeded.length,
    unfinished: log.calls.length - ended.length,
    failuresByKind: countBy(ended.flatMap((call) => call.failure ?? [])),
    durationMs: log.durationMs ?? log.nowMs(),
    p50Ms: percentile(latencies, 0.5),
    p99Ms: percentile(latencies, 0.99),
    throttled,
    throttledPerSuccess: succeeded.length === 0 ? undefined : throttled / succeeded.length,
    throttledSeen: log.throttledSeen,
    backends: backends.map(({ name, priority }) => {
      const attempts = log.attempts.filter((attempt) => attempt.backend === name)
      const successes = attempts.filter((attempt) => isSuccess(attempt.status)).length
      const throttled = attempts.filter((attempt) => attempt.status === 429).length
      return { name, priority, calls: attempts.length, successes, throttled, failures: attempts.length - successes - throttled }
    }),
    interrupted: log.interrupted,
  }
}

export function isSuccess(status: number | undefined): boolean {
  return status !== undefined && status >= 200 && status < 300
}

/** Nearest rank: the smallest value that is not exceeded by a share `p` of the values. */
export function percentile(sorted: readonly number[], p: number): number | undefined {
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)]
}

function countBy(words: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const word of words) counts[word] = (counts[word] ?? 0) + 1
  return counts
}

/** The runs side by side, a column each. */
export function renderTable(runs: readonly RunSummary[]): string {
  const rows: string[][] = [['', ...runs.map((run) => run.name)]]
  const add = (label: string, show: (run: RunSummary) => string): void => { rows.push([label, ...runs.map(show)]) }
  add('calls answered', (run) => formatAnswered(run.successes, run.requests))
  add('429s from backends', (run) => String(run.throttled))
  add('429s per success', (run) => run.throttledPerSuccess?.toFixed(3) ?? '-')
  add('429s seen by the SDK', (run) => String(run.throttledSeen))
  add('calls failed', (run) => String(run.failures))
  if (runs.some((run) => run.unfinished > 0)) add('unfinished', (run) => String(run.unfinished))
  add('duration', (run) => formatSeconds(run.durationMs))
  add('p50 of successes', (run) => formatMs(run.p50Ms))
  add('p99 of successes', (run) => formatMs(run.p99Ms))
  const divider = rows.length
  for (const backend of listBackends(runs)) {
    add(`calls to ${backend.name} (priority ${backend.priority})`, (run) => {
      const found = run.backends.find((one) => one.name === backend.name)
      return found === undefined ? '-' : formatCalls(found)
    })
  }
  return align(rows, divider)
}

/** What the successes of a run do not show: why calls failed, most frequent first. */
export function renderFailures(runs: readonly RunSummary[]): string {
  const lines = runs.flatMap(({ name, failuresByKind }) => {
    const kinds = Object.entries(failuresByKind).sort((a, b) => b[1] - a[1])
    return kinds.length === 0 ? [] : [`failures of ${name}: ${kinds.map(([kind, count]) => `${count} x ${kind}`).join(', ')}\n`]
  })
  return lines.join('')
}

/** What the demo is about: how many of the calls that were made were answered. */
function formatAnswered(answered: number, made: number): string {
  return `${answered} / ${made}${made === 0 ? '' : ` (${formatShare(answered, made)})`}`
}

/** In percent, rounded down: 100.0 % are all. */
export function formatShare(part: number, whole: number): string {
  return `${(Math.floor(1000 * part / whole) / 10).toFixed(1)} %`
}

function formatCalls({ calls, successes }: BackendSummary): string {
  return calls === successes ? String(calls) : `${calls} (${successes} ok)`
}

function listBackends(runs: readonly RunSummary[]): BackendSummary[] {
  const byName = new Map(runs.flatMap((run) => run.backends).map((backend) => [backend.name, backend]))
  return [...byName.values()].sort((a, b) => a.priority - b.priority)
}

/** Labels to the left, values to the right, a rule under the heading and above the backends. */
function align(rows: readonly string[][], divider: number): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const rule = '-'.repeat(widths.reduce((sum, width) => sum + width, 3 * (widths.length - 1)))
  const pad = (cell: string, column: number): string => column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)
  const [heading = '', ...lines] = rows.map((row) => row.map(pad).join('   '))
  return [heading, rule, ...lines.slice(0, divider - 1), rule, ...lines.slice(divider - 1)].map((line) => `${line}\n`).join('')
}

function formatSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}

function formatMs(ms: number | undefined): string {
  return ms === undefined ? '-' : `${Math.round(ms)} ms`
}

/** Fast enough to look alive. */
const LIVE_EVERY_MS = 100
/** Into a pipe or a file: enough to know that it goes on. */
const LINE_EVERY_MS = 3000
const BAR = 12

/** Where progress goes; a terminal has `isTTY` and `columns`. */
export type ProgressStream = Pick<WriteStream, 'write'> & { readonly isTTY?: boolean, readonly columns?: number }

/** Shows how a run is going: one line that changes on a terminal, a line now and then elsewhere. */
export class Progress {
  readonly #stream: ProgressStream
  readonly #live: boolean
  #run: Run | undefined
  #timer: NodeJS.Timeout | undefined

  /** `live: false`: never a changing line, since something else writes to the terminal too. */
  constructor(stream: ProgressStream, live: boolean) {
    this.#stream = stream
    this.#live = live && stream.isTTY === true
  }

  start(run: Run): void {
    this.stop()
    this.#run = run
    if (!this.#live) this.say(`${run.plan.name}: ${run.plan.title}`)
    this.#timer = setInterval(() => { this.#show() }, this.#live ? LIVE_EVERY_MS : LINE_EVERY_MS)
    // What keeps the process alive is the run.
    this.#timer.unref()
  }

  /** Shows how the run ended. Does nothing when none is under way. */
  stop(): void {
    if (this.#run === undefined) return
    clearInterval(this.#timer)
    this.#show()
    if (this.#live) this.#stream.write('\n')
    this.#run = undefined
  }

  /** A line of its own. */
  say(line: string): void {
    this.#stream.write(this.#live && this.#run !== undefined ? `\r\x1b[2K${line}\n` : `${line}\n`)
  }

  #show(): void {
    if (this.#run === undefined) return
    if (!this.#live) return this.say(`  ${describeProgress(this.#run)}`)
    // A line that wraps could not be written over.
    const line = `${this.#run.plan.name.padEnd(8)} ${drawBar(this.#run)}  ${describeProgress(this.#run)}`
    this.#stream.write(`\r\x1b[2K${line.slice(0, (this.#stream.columns ?? 80) - 1)}`)
  }
}

function describeProgress({ planned, log }: Run): string {
  const ended = log.calls.filter((call) => call.endedAtMs !== undefined)
  const failed = ended.filter((call) => call.failure !== undefined).length
  const throttled = log.attempts.filter((attempt) => attempt.status === 429).length
  const seconds = ((log.durationMs ?? log.nowMs()) / 1000).toFixed(1)
  return `${seconds} s  answered ${formatAnswered(ended.length - failed, log.calls.length)}  429s ${throttled}  failed ${failed}  of ${planned}`
}

function drawBar({ planned, log }: Run): string {
  const done = Math.round(BAR * log.calls.filter((call) => call.endedAtMs !== undefined).length / planned)
  return '█'.repeat(done) + '░'.repeat(BAR - done)
}
