/**
 * `npm run bench:faults`: what becomes of a request when a backend breaks, in the sixteen ways of a public benchmark of gateways,
 * through the real `openai` package, as Markdown. Backend A has the fault, B is healthy and second. Nothing leaves the loopback.
 *
 *     npm run bench:faults                        everything, streamed and not, with the defaults and tuned; a minute and a half
 *     npm run bench:faults -- --set-up defaults   only one of defaults, tuned
 *     npm run bench:faults -- --only S06          only this one; may be repeated
 *     npm run bench:faults -- --quick             all times divided by twenty
 *     npm run bench:faults -- --json              what was observed and judged, as JSON instead
 *
 * Ends with code 1 when a verdict is `fail`.
 */
import { parseArgs } from 'node:util'
import { describeMachine, toSentence } from '../support/machine.js'
import { toMarkdown, type Column, type Table } from '../support/table.js'
import { makeBalancer, observe, type SetUpName } from './observe.js'
import { rulesOf, SCENARIOS, type Scenario } from './scenarios.js'
import { attemptsAt, judge, slowest, summarize, type Judgement, type Observed } from './verdict.js'

const SET_UPS = ['defaults', 'tuned'] as const satisfies readonly SetUpName[]
const QUICK_SCALE = 1 / 20

interface Result extends Judgement {
  readonly id: string
  readonly setUp: SetUpName
  readonly isStream: boolean
  readonly observed: Observed
  readonly remark: string | undefined
}

const { values } = parseArgs({ options: { 'set-up': { type: 'string', multiple: true }, 'only': { type: 'string', multiple: true }, 'quick': { type: 'boolean' }, 'json': { type: 'boolean' } } })
const scale = values.quick === true ? QUICK_SCALE : 1
const setUps = pick('--set-up', SET_UPS, values['set-up'], (name) => name)
const scenarios = pick('--only', SCENARIOS, values.only, ({ id }) => id)

// An option that this version does not know ends the run here, before anything is measured without it.
for (const setUp of setUps) await makeBalancer(['http://127.0.0.1:1/v1', 'http://127.0.0.1:2/v1'], ['A', 'B'], { setUp, scale }).destroy()
// Code that is not compiled yet would be timed along with the first scenario.
for (const isStream of [true, false]) await observe(known('S04'), { setUp: 'defaults', isStream, scale: QUICK_SCALE })

const jobs = [true, false].flatMap((isStream) => setUps.flatMap((setUp) => scenarios
  .filter(({ isOnlyStreamed }) => isStream || isOnlyStreamed !== true)
  .map((scenario) => ({ scenario, setUp, isStream }))))
const results = await runAll()
const summaries = [true, false].flatMap((isStream) => setUps.map((setUp) => summarize(`${setUp}${isStream ? '' : ', not streamed'}`, find({ setUp, isStream }))))

if (values.json === true) console.log(JSON.stringify({ machine: describeMachine(), scale, summaries, results }, undefined, 2))
else {
  console.log(`${toSentence(describeMachine())}${scale === 1 ? '' : ' All times are a twentieth of what the table says: the seconds mean nothing.'}\n`)
  for (const isStream of [true, false]) console.log(`${toMarkdown(toTable(isStream))}\n${listReasons(isStream)}`)
  console.log(summaries.join('\n'))
}
if (results.some(({ verdict }) => verdict === 'fail')) process.exitCode = 1

/** Those that wait most of their time go on together, the others in turn beside them: their seconds are not those of a queue for the processor. */
async function runAll(): Promise<Result[]> {
  const run = async ({ scenario, setUp, isStream }: typeof jobs[number]): Promise<Result> => {
    const observed = await observe(scenario, { setUp, isStream, scale })
    const remark = scenario.remark?.(observed, scale)
    return { id: scenario.id, setUp, isStream, observed, remark, ...judge(observed, rulesOf(scenario, scale)) }
  }
  const isLong = ({ scenario }: typeof jobs[number]): boolean => scenario.isLong === true
  const long = Promise.all(jobs.filter(isLong).map(run))
  const short: Result[] = []
  for (const job of jobs.filter((one) => !isLong(one))) short.push(await run(job))
  return [...short, ...await long].sort((one, other) => one.id.localeCompare(other.id))
}

function find(wanted: Partial<Pick<Result, 'id' | 'setUp' | 'isStream'>>): Result[] {
  return results.filter((result) => Object.entries(wanted).every(([key, value]) => result[key as keyof Result] === value))
}

function toTable(isStream: boolean): Table {
  return {
    title: `Faults, ${isStream ? 'streamed' : 'not streamed'}`,
    note: 'What came of it; attempts at A and at B, as these count them; seconds until the caller had the end of the answer or the error, of the slowest where there were several requests.',
    columns: [{ key: 'id', label: '' }, { key: 'fault', label: 'A does this' }, ...setUps.flatMap(columnsOf)],
    rows: scenarios.flatMap(({ id, fault }) => {
      const cells = setUps.flatMap((setUp) => find({ id, setUp, isStream }).map(toCells))
      return cells.length === 0 ? [] : [{ id, fault, ...Object.assign({}, ...cells) as Record<string, string | number> }]
    }),
  }
}

function columnsOf(setUp: SetUpName): Column[] {
  return [{ key: `${setUp}Verdict`, label: setUp }, { key: `${setUp}Attempts`, label: 'A + B' }, { key: `${setUp}Seconds`, label: 's', digits: 2 }]
}

function toCells({ setUp, verdict, observed }: Result): Record<string, string | number> {
  const [a, b] = [attemptsAt('A', observed).length, attemptsAt('B', observed).length]
  return { [`${setUp}Verdict`]: verdict, [`${setUp}Attempts`]: `${a} + ${b}`, [`${setUp}Seconds`]: slowest(observed) }
}

/** Why a verdict is not a pass, and what else is worth telling. */
function listReasons(isStream: boolean): string {
  return find({ isStream }).flatMap(({ id, setUp, verdict, reasons, remark }) => {
    const words = [...(verdict === 'pass' ? [] : [`${verdict}: ${reasons.join('; ')}`]), ...(remark === undefined ? [] : [remark])]
    return words.length === 0 ? [] : [`- ${id}, ${setUp}: ${words.join('; ')}\n`]
  }).join('')
}

function known(wanted: string): Scenario {
  const scenario = SCENARIOS.find(({ id }) => id === wanted)
  if (scenario === undefined) throw new Error(`there is no scenario ${wanted}`)
  return scenario
}

/** @throws where a word names none of them. */
function pick<T>(option: string, all: readonly T[], words: readonly string[] | undefined, nameOf: (one: T) => string): readonly T[] {
  for (const word of words ?? []) {
    if (!all.some((one) => nameOf(one) === word)) throw new Error(`${option}: must be one of ${all.map(nameOf).join(', ')}, got "${word}"`)
  }
  return words === undefined ? all : all.filter((one) => words.includes(nameOf(one)))
}
