import type { WriteStream } from 'node:tty'
import type { Run } from './run.js'

/** Fast enough to look alive. */
const LIVE_EVERY_MS = 100
/** Into a pipe or a file: enough to know that it goes on. */
const LINE_EVERY_MS = 3000
const BAR = 20

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

export function describeProgress({ planned, log }: Run): string {
  const ended = log.calls.filter((call) => call.endedAtMs !== undefined)
  const failed = ended.filter((call) => call.failure !== undefined).length
  const throttled = log.attempts.filter((attempt) => attempt.status === 429).length
  const seconds = ((log.durationMs ?? log.nowMs()) / 1000).toFixed(1)
  return `${seconds} s  sent ${log.calls.length}/${planned}  ok ${ended.length - failed}  failed ${failed}  429s ${throttled}`
}

function drawBar({ planned, log }: Run): string {
  const done = Math.round(BAR * log.calls.filter((call) => call.endedAtMs !== undefined).length / planned)
  return '█'.repeat(done) + '░'.repeat(BAR - done)
}
