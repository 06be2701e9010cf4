/**
 * What can be said on the command line, what it means together, and the text that tells it. Everything that was given or
 * left out is settled here once, so that no other file has a default of its own.
 */
import { parseArgs } from 'node:util'
import { averageLoad, CAPACITY_PER_SECOND, STARTS, type Start } from './scenario.js'

/** What to do, after everything that was given or left out has been settled. */
export interface Settings {
  /** `undefined`: the embedded simulator. */
  readonly real: { readonly kind: 'file', readonly path: string } | { readonly kind: 'environment' } | undefined
  /** What the package asks for: a model in the body (v1 paths), or a deployment in the path (Azure). */
  readonly target: Target
  readonly compare: 'standard' | 'pacing'
  readonly pacing: boolean
  /** Calls to start per second. */
  readonly rate: number
  readonly requests: number
  readonly start: Start
  /** Calls in flight at most. */
  readonly concurrency: number
  readonly maxWaitMs: number
  readonly seed: number
  /** `undefined`: a new folder among the temporary files. */
  readonly out: string | undefined
  readonly json: boolean
  readonly quiet: boolean
  readonly verbose: boolean
}

export type Target =
  | { readonly kind: 'model', readonly name: string }
  | { readonly kind: 'deployment', readonly name: string, readonly apiVersion: string }

/** Wrong use. The message says what to do instead. */
export class UsageError extends Error {}

/** Real instances cost money: few requests, slowly, unless asked for more. */
const REAL_REQUESTS = 20
const REAL_PER_SECOND = 2

/** Long enough to see the limits at work, short enough to watch: two runs and the last retries take some 20 s. */
const USUAL_SECONDS = 9

/** More than one backend bears (a third), less than all three. */
const USUAL_LOAD = 0.85

/** Timers are no finer than a millisecond. */
const MAX_PER_SECOND = 1000

/**
 * Reads the command line.
 * @returns `undefined` when only the help is wanted.
 * @throws UsageError
 */
export function readArguments(argv: readonly string[], env: NodeJS.ProcessEnv): Settings | undefined {
  const values = parse(argv)
  if (values.help) return undefined
  const real = findBackends(values.backends, env)
  const compare = oneOf('compare', values.compare ?? 'standard', ['standard', 'pacing'])
  const start = oneOf('start', values.start ?? 'steady', STARTS)
  reject(start === 'outage' && real !== undefined, '--start outage takes the simulated backends out; with real ones it cannot')
  reject(values.unpaced === true && compare === 'pacing', '--unpaced and --compare pacing exclude each other: one of its runs is unpaced')
  reject(values.load !== undefined && real !== undefined, '--load is a share of the simulator\'s capacity; with real backends use --rate')
  reject(values.load !== undefined && values.rate !== undefined, '--load and --rate exclude each other')
  reject(values.quiet === true && values.verbose === true, '--quiet and --verbose exclude each other')
  return {
    real,
    target: readTarget(values),
    compare,
    pacing: values.unpaced !== true,
    ...planAmount(values, real !== undefined, compare, start),
    start,
    concurrency: values.concurrency === undefined ? 1000 : wholeNumber('concurrency', values.concurrency),
    maxWaitMs: values['max-wait-ms'] === undefined ? 0 : number('max-wait-ms', values['max-wait-ms'], 0),
    seed: values.seed === undefined ? 1 : wholeNumber('seed', values.seed),
    out: values.out,
    json: values.json === true,
    quiet: values.quiet === true,
    verbose: values.verbose === true,
  }
}

const OPTIONS = {
  'backends': { type: 'string' },
  'model': { type: 'string' },
  'deployment': { type: 'string' },
  'api-version': { type: 'string' },
  'requests': { type: 'string' },
  'rate': { type: 'string' },
  'load': { type: 'string' },
  'duration': { type: 'string' },
  'start': { type: 'string' },
  'concurrency': { type: 'string' },
  'compare': { type: 'string' },
  'unpaced': { type: 'boolean' },
  'max-wait-ms': { type: 'string' },
  'seed': { type: 'string' },
  'out': { type: 'string' },
  'json': { type: 'boolean' },
  'quiet': { type: 'boolean' },
  'verbose': { type: 'boolean' },
  'help': { type: 'boolean', short: 'h' },
} as const

type Values = ReturnType<typeof parse>

function parse(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS, strict: true, allowPositionals: false }).values
  } catch (error) {
    // Node's own words name the option; the first sentence is enough.
    throw new UsageError(String((error as Error).message).split('. ', 1)[0])
  }
}

function findBackends(file: string | undefined, env: NodeJS.ProcessEnv): Settings['real'] {
  const path = file ?? env['OPENAI_LOADBALANCER_CONFIG']
  if (path !== undefined && path !== '') return { kind: 'file', path }
  reject(file === '', '--backends needs the name of a JSON file')
  return env['BACKEND_1_URL'] === undefined ? undefined : { kind: 'environment' }
}

function readTarget(values: Values): Target {
  const { model, deployment } = values
  reject(model !== undefined && deployment !== undefined, '--model and --deployment exclude each other')
  reject(model === '' || deployment === '', '--model and --deployment need a name')
  reject(values['api-version'] !== undefined && deployment === undefined, '--api-version goes with --deployment; the v1 paths need none')
  if (deployment === undefined) return { kind: 'model', name: model ?? 'gpt-4o' }
  return { kind: 'deployment', name: deployment, apiVersion: values['api-version'] ?? '2024-10-21' }
}

/** Of requests, rate and duration any two give the third. */
function planAmount(values: Values, real: boolean, compare: Settings['compare'], start: Start): { rate: number, requests: number } {
  const usual = usualAmount(real, compare)
  const requests = values.requests === undefined ? undefined : wholeNumber('requests', values.requests)
  const seconds = values.duration === undefined ? undefined : number('duration', values.duration)
  const given = readRate(values)
  reject(given !== undefined && requests !== undefined && seconds !== undefined,
    `--requests, --duration and ${values.rate === undefined ? '--load' : '--rate'} are one too many: each follows from the other two`)
  const load = averageLoad(start)
  const rate = given ?? (requests !== undefined && seconds !== undefined ? requests / seconds / load : usual.rate)
  reject(rate > MAX_PER_SECOND, `at most ${MAX_PER_SECOND} calls per second can be started, not ${Math.round(rate)}`)
  return { rate, requests: requests ?? Math.max(1, Math.round(seconds === undefined ? usual.requests(rate * load) : rate * load * seconds)) }
}

/** `requests`: by the calls per second that there are on average. */
function usualAmount(real: boolean, compare: Settings['compare']): { rate: number, requests: (rate: number) => number } {
  if (real) return { rate: REAL_PER_SECOND, requests: () => REAL_REQUESTS }
  if (compare === 'pacing') return { rate: 0.8 * CAPACITY_PER_SECOND, requests: (rate) => 60 * rate }
  return { rate: USUAL_LOAD * CAPACITY_PER_SECOND, requests: (rate) => USUAL_SECONDS * rate }
}

function readRate(values: Values): number | undefined {
  if (values.rate !== undefined) return number('rate', values.rate)
  return values.load === undefined ? undefined : number('load', values.load) * CAPACITY_PER_SECOND
}

function oneOf<T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((word) => word === value)
  if (found === undefined) throw new UsageError(`--${name} must be one of ${allowed.join(', ')}, not '${value}'`)
  return found
}

function wholeNumber(name: string, value: string): number {
  const parsed = Number(value)
  if (!Number.isSafeInteger(parsed) || parsed < 1) throw new UsageError(`--${name} must be a whole number from 1, not '${value}'`)
  return parsed
}

/** Above `min` where that is left out, else from it. */
function number(name: string, value: string, min?: number): number {
  const parsed = Number(value)
  const fits = Number.isFinite(parsed) && value.trim() !== '' && (min === undefined ? parsed > 0 : parsed >= min)
  if (!fits) throw new UsageError(`--${name} must be a number ${min === undefined ? 'above 0' : `from ${min}`}, not '${value}'`)
  return parsed
}

function reject(wrong: boolean, message: string): void {
  if (wrong) throw new UsageError(message)
}

export const HELP = `Usage: npm start -- [options]

Sends the same work through the openai package twice and compares:
  standard   one backend (the first of the lowest priority number), the package's own retries
  balanced   all backends, through openai-priority-loadbalancer

Without options it needs no account and no network: three simulated Azure OpenAI backends on
loopback (priorities 1, 2, 2), about 20 seconds. The report goes to stdout, everything else to stderr.

Real instances (this costs money: 20 requests a run unless you ask for more)
  --backends FILE      JSON file, as for OPENAI_LOADBALANCER_CONFIG:
                       {"backends": [{"url": "https://...", "priority": 1, "apiKey": {"env": "KEY"}}, ...]}
  Without --backends the environment is looked at:
    OPENAI_LOADBALANCER_CONFIG   name of such a file
    BACKEND_1_URL, BACKEND_1_PRIORITY (default 1), BACKEND_1_API_KEY or BACKEND_1_BEARER_TOKEN,
    BACKEND_2_URL, ...           one group for each backend

What is asked
  --model NAME         model, in the body (URLs end in /openai/v1 or /v1); default gpt-4o
  --deployment NAME    Azure deployment, in the path (URLs without /openai)
  --api-version V      with --deployment; default 2024-10-21

How much
  --requests N         number of calls in each run
  --rate N             calls per second; default 2 for real instances
  --load X             instead of --rate: share of the simulator's capacity; default 0.85
  --duration S         seconds in which calls are started; default 9
  --start KIND         how a run begins; default steady
                         steady   with the load
                         burst    idle for as long as 60 calls take to come, then these 60 at once, then the load
                         ramp     a tenth of the load for a third of the time, then all of it
                         outage   the simulated backends refuse connections for the first third of the time
  --concurrency N      calls in flight at most; default 1000
  --seed N             arrivals and prompts; default 1

What is compared
  --compare pacing     unpaced and paced, both balanced; default --load 0.8 --duration 60
  --unpaced            the balanced run without pacing
  --max-wait-ms N      how long the balancer may hold a call when all backends are throttled; default 0

Output
  --out FILE           where the timeline (SVG) goes; default a new folder among the temporary files
  --json               the report as JSON
  --quiet              no progress on stderr
  --verbose            the balancer's own log on stderr
  -h, --help           this text

Exit codes: 0 done; 1 a run failed (an error, or not one call answered); 2 wrong use; 130 after Ctrl-C.
Ctrl-C stops sending, tidies up and reports what there is; a second one exits at once.
`
