/**
 * Shows in half a minute what the balancer is good for: the same work with and without it, from the command line to the
 * report and an exit code. Reading this file is reading the demo; the others are its parts.
 */
import type { EventEmitter } from 'node:events'
import { accessSync, constants, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { InvalidOptionsError } from '../../src/index.js'
import { createSender } from './application.js'
import { HELP, readArguments, UsageError, type Settings } from './arguments.js'
import { openPool, type Pool } from './backends.js'
import { Progress, renderFailures, renderTable, summarize, type ProgressStream, type RunSummary } from './report.js'
import { performRun, planRuns, type Run } from './run.js'
import { planWork } from './scenario.js'
import { renderTimeline } from './timeline.js'

const DONE = 0
const FAILED = 1
const WRONG_USE = 2
const INTERRUPTED = 130

/** The whole demo: returns the exit code. The report goes to `stdout`, all else to `stderr`. */
export async function runDemo(
  argv: readonly string[], env: NodeJS.ProcessEnv, stdout: ProgressStream, stderr: ProgressStream, signal: AbortSignal,
): Promise<number> {
  try {
    const settings = readArguments(argv, env)
    if (settings === undefined) {
      stdout.write(HELP)
      return DONE
    }
    // Before anything is sent, and paid for: the backends must be right and the picture must have a place.
    const pool = await openPool(settings, env)
    try {
      if (settings.real === undefined) await warmUp(pool, settings, signal)
    } finally {
      await pool.close()
    }
    const out = chooseOut(settings.out)

    const runs = await performRuns(settings, env, stderr, signal)
    if (runs.length === 0) return INTERRUPTED
    writeFileSync(out, renderTimeline(runs, describeWork(settings)))
    const summaries = runs.map(summarize)
    stdout.write(settings.json ? renderJson(settings, summaries, out) : renderReport(summaries, out))
    if (signal.aborted) return INTERRUPTED
    return summaries.some((run) => run.successes === 0) ? FAILED : DONE
  } catch (error) {
    if (error instanceof UsageError || error instanceof InvalidOptionsError) {
      stderr.write(`${error.message}\nnpm start -- --help shows what can be given.\n`)
      return WRONG_USE
    }
    stderr.write(`the demo failed: ${(error as Error).stack ?? String(error)}\n`)
    return FAILED
  }
}

/** The first calls of a process are slow: code is being loaded. Whichever run comes first should not pay for that. */
async function warmUp(pool: Pool, settings: Settings, signal: AbortSignal): Promise<void> {
  const [backend] = pool.backends
  if (backend === undefined) return
  const calls = planWork({ requests: 8, rate: 1000, seed: settings.seed, responses: settings.target.kind === 'model', start: 'steady' })
  const send = createSender(backend, settings.target, () => undefined)
  // What fails here fails in the runs too, and is reported there.
  await Promise.allSettled(calls.map((call) => send(call, signal)))
}

async function performRuns(settings: Settings, env: NodeJS.ProcessEnv, stderr: ProgressStream, signal: AbortSignal): Promise<Run[]> {
  const progress = settings.quiet ? undefined : new Progress(stderr, !settings.verbose)
  signal.addEventListener('abort', () => { progress?.say('stopping; Ctrl-C again exits at once') }, { once: true })
  if (settings.real !== undefined) progress?.say(`real instances: 2 runs of ${settings.requests} calls each, which cost money`)
  const work = planWork({ ...settings, responses: settings.real === undefined && settings.target.kind === 'model' })
  const runs: Run[] = []
  for (const plan of planRuns(settings)) {
    if (signal.aborted) break
    await performRun(plan, work, settings, env, signal, (run) => {
      runs.push(run)
      progress?.start(run)
    })
    progress?.stop()
  }
  return runs
}

/** @throws UsageError when the file could not be written. */
function chooseOut(out: string | undefined): string {
  if (out === undefined) return join(mkdtempSync(join(tmpdir(), 'openai-priority-loadbalancer-')), 'timeline.svg')
  try {
    accessSync(dirname(resolve(out)), constants.W_OK)
  } catch {
    throw new UsageError(`--out: the folder of '${out}' does not exist or cannot be written to`)
  }
  return resolve(out)
}

function describeWork({ requests, rate, real, seed, start }: Settings): string {
  const where = real === undefined ? 'to simulated Azure OpenAI backends' : 'to real instances'
  return `${requests} calls at ${Number(rate.toPrecision(3))} per second${start === 'steady' ? '' : ` (${start})`} ${where}, at the same moments in each run (seed ${seed})`
}

function renderReport(runs: readonly RunSummary[], out: string): string {
  return `${renderTable(runs)}\n${renderFailures(runs)}timeline: ${out}\n`
}

function renderJson({ requests, rate, start, seed, concurrency, maxWaitMs, target }: Settings, runs: readonly RunSummary[], out: string): string {
  const settings = { requests, rate, start, seed, concurrency, maxWaitMs, target }
  return `${JSON.stringify({ settings, runs, timeline: out }, undefined, 2)}\n`
}

/**
 * npm, its shell and the terminal may each pass the same keypress on. No user presses Ctrl-C twice within this time.
 */
const SAME_KEYPRESS_MS = 300

/** Aborts at the first Ctrl-C, so that the demo can tidy up, and calls `exit` at the second. */
export function watchInterruption(signals: EventEmitter, now: () => number, exit: () => void): AbortSignal {
  const interruption = new AbortController()
  let firstAt = 0
  signals.on('SIGINT', () => {
    if (interruption.signal.aborted) {
      if (now() - firstAt > SAME_KEYPRESS_MS) exit()
      return
    }
    firstAt = now()
    interruption.abort()
  })
  return interruption.signal
}
