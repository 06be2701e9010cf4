/** What the README claims, held against what it claims it of. Each check returns what is wrong, one sentence each; nothing: all is well. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Dispatcher } from 'undici'
import { PriorityBalancer } from '../../src/balancer.js'
import { readConfigFile } from '../../src/options/config-file.js'
import { classify, classifyInStream } from '../../src/core/classify.js'
import { DEFAULTS } from '../../src/options/index.js'
import { EVENTS } from '../../src/telemetry/telemetry.js'
import { codeSpans, findSection, readCodeBlocks, readLinks, readSections, readTable, withoutCodeBlocks } from './markdown.js'
import type { Member } from './type-members.js'

/** Members of a public type. */
export type Types = (name: string) => Member[]

/** `{ ratio: 0.2 }` or `'output'` as the table has it. */
function parseValue(text: string): unknown {
  try {
    return JSON.parse(text.replaceAll(/([{,]\s*)(\w+):/g, '$1"$2":').replaceAll("'", '"'))
  } catch {
    return text
  }
}

export function checkOptions(readme: string, types: Types): string[] {
  const rows = readTable(findSection(readme, 'Options'), 'option', 'default', 'meaning')
  const cells = new Map(rows.map(([option = '', value = '']) => [codeSpans(option)[0] ?? option, value]))
  const members = [
    ...types('BalancerOptions').map((member) => ({ ...member, path: member.name })),
    ...types('BackendOptions').map((member) => ({ ...member, path: `backends[].${member.name}` })),
  ]
  const wrong: string[] = []
  for (const { path, name, optional } of members) {
    const cell = cells.get(path)
    if (cell === undefined) { wrong.push(`${path} is not in the table`); continue }
    if ((cell === 'required') === optional) wrong.push(`${path} is ${optional ? 'optional' : 'required'}, the table says "${cell}"`)
    const [said] = codeSpans(cell)
    if (name === 'logger') {
      if (!codeSpans(cell).includes(DEFAULTS.logLevel)) wrong.push(`the default level is ${DEFAULTS.logLevel}, the table says "${cell}"`)
    } else if (name in DEFAULTS) {
      const expected = JSON.stringify(DEFAULTS[name as keyof typeof DEFAULTS])
      if (JSON.stringify(parseValue(said ?? '')) !== expected) wrong.push(`${path} is ${expected} by default, the table says "${cell}"`)
    } else if (cell.startsWith('`')) wrong.push(`${path} has no default of its own, the table says "${cell}"`)
  }
  const paths = new Set(members.map(({ path }) => path))
  return [...wrong, ...[...cells.keys()].filter((option) => !paths.has(option)).map((option) => `${option} is no option`)]
}

interface Rule {
  readonly outcome: string
  readonly statuses: ReadonlySet<number>
  /** Of an error; empty: it does not matter what it says. */
  readonly codes: readonly string[]
  readonly orTooLarge: boolean
  readonly needsHint: boolean
  readonly needsLarger: boolean
  /** Whose credential was refused; undefined: either's. */
  readonly owns: boolean | undefined
}

const STATUSES = Array.from({ length: 400 }, (_, index) => 200 + index)

function toRule([cell = '', outcome = '']: readonly string[]): Rule {
  const [where = '', said = ''] = cell.split(' that says ')
  const patterns = codeSpans(where).filter((span) => /^\d(\d\d|xx)$/.test(span)).map((span) => new RegExp(`^${span.replace('xx', '\\d\\d')}$`))
  return {
    outcome,
    statuses: new Set(STATUSES.filter((status) => patterns.some((pattern) => pattern.test(String(status))))),
    codes: readCodes(said),
    orTooLarge: cell.includes('can never fit'),
    needsHint: cell.includes('with a retry header'),
    needsLarger: cell.includes(LARGER),
    owns: cell.includes("of the backend's own") ? true : cell.includes("of your client's") ? false : undefined,
  }
}

const LARGER = 'where another backend has `largerContext`'

/** The codes and types of errors that a cell names. */
function readCodes(cell: string): string[] {
  return codeSpans(cell.replace(LARGER, ''))
}

const readOutcomes = (readme: string): string[][] => readTable(findSection(readme, 'What an outcome means'), 'outcome', 'class')
const readStreamErrors = (readme: string): string[][] => readTable(findSection(readme, 'Errors inside a 200'), 'what the error says', 'class')

const CLASSES = ['success', 'answered', 'throttled', 'oversized', 'failed', 'misconfigured', 'refused', 'exhausted', 'missing', 'overlong', 'ignored']

type Answer = Parameters<typeof classify>[0]

/** Every status and every code of the table, as a code and as a type, with and without what else counts. */
export function checkOutcomes(readme: string): string[] {
  const rules = readOutcomes(readme).map(toRule)
  const codes = [...new Set(rules.flatMap((rule) => rule.codes))]
  const errors = [undefined, ...codes.flatMap((code) => [{ code, type: undefined, param: undefined }, { code: undefined, type: code, param: undefined }])]
  const wrong: string[] = []
  for (const status of STATUSES) {
    const ofStatus = rules.filter(({ statuses }) => statuses.has(status))
    for (const error of errors) {
      for (const hint of [undefined, { ms: 1_000, source: 'retry-after' as const }]) {
        for (const [ownsCredential, isTooLarge, hasLarger] of FLAGS) {
          const answer = { status, hint, error, ownsCredential, isTooLarge, hasLarger }
          const said = ofStatus.find((rule) => fits(rule, answer))?.outcome
          const actual = classify(answer)
          if (said !== actual) wrong.push(`${describeAnswer(answer)} is ${actual}, the table says ${String(said)}`)
        }
      }
    }
  }
  const named = new Set(rules.map(({ outcome }) => outcome))
  return [...wrong, ...CLASSES.filter((name) => !named.has(name)).map((name) => `${name} is not in the table`)]
}

/** Of three things that are true or not, all eight ways; first that none is. */
const FLAGS = [false, true].flatMap((one) => [false, true].flatMap((two) => [false, true].map((three) => [three, two, one] as const)))

function fits({ codes, orTooLarge, needsHint, needsLarger, owns }: Rule, { hint, error, ownsCredential, isTooLarge, hasLarger }: Answer): boolean {
  const says = codes.length === 0 || (orTooLarge && isTooLarge) || codes.some((code) => code === error?.code || code === error?.type)
  return says && (!needsHint || hint !== undefined) && (!needsLarger || hasLarger) && (owns === undefined || owns === ownsCredential)
}

function describeAnswer({ status, hint, error, ownsCredential, isTooLarge, hasLarger }: Answer): string {
  return [
    status, ...(error === undefined ? [] : [`that says ${error.code ?? error.type}`]), ...(hint === undefined ? [] : ['with retry-after']),
    ...(ownsCredential ? ['to a credential of ours'] : []), ...(isTooLarge ? ['that can never fit'] : []), ...(hasLarger ? ['beside a larger one'] : []),
  ].join(' ')
}

/** Each code of the table of errors inside a 200, and an error without any. */
export function checkStreamErrors(readme: string): string[] {
  return readStreamErrors(readme).flatMap(([cell = '', said = '']) => {
    const hasLarger = cell.includes(LARGER)
    const codes: (string | undefined)[] = [...readCodes(cell), ...(cell.includes('no reason') ? [undefined] : [])]
    return codes.flatMap((code) => {
      const actual = classifyInStream({ error: { code: code?.replace('*', 'x').replace('xx', '03'), type: undefined, param: undefined }, isTooLarge: false, hasLarger })
      return actual === said ? [] : [`${code ?? 'no reason'} is ${actual}, the table says ${said}`]
    })
  })
}

/** @param source of the table that decides: what it knows by name has to be told. */
export function checkCodes(readme: string, source: string): string[] {
  const known = [...source.matchAll(/new Set\(\[([^\]]*)\]\)/g)].flatMap(([, list = '']) => [...list.matchAll(/'([^']+)'/g)].map(([, code = '']) => code))
  const told = new Set(readOutcomes(readme).flatMap(([cell = '']) => readCodes(cell)))
  return [...(known.length === 0 ? ['no code was found'] : []), ...known.filter((code) => !told.has(code)).map((code) => `${code} is not in the table`)]
}

export function checkLogLevels(readme: string): string[] {
  const rows = readTable(findSection(readme, 'Logging'), 'event', 'level')
  const said = new Map(rows.map(([event = '', level = '']) => [codeSpans(event)[0], codeSpans(level)[0]]))
  const levels: Readonly<Record<string, string>> = Object.fromEntries(Object.entries(EVENTS).map(([event, { level }]) => [event, level]))
  return [
    ...Object.entries(levels).filter(([event, level]) => said.get(event) !== level).map(([event, level]) => `${event} is logged as ${level}, the table says ${String(said.get(event))}`),
    ...[...said.keys()].filter((event) => event === undefined || !(event in levels)).map((event) => `${String(event)} is no event`),
  ]
}

export function checkEvents(readme: string, types: Types): string[] {
  const rows = readTable(findSection(readme, 'Events'), 'channel', 'fields')
  const said = new Map(rows.map(([channel = '', fields = '']) => [codeSpans(channel)[0], codeSpans(fields).sort().join(', ')]))
  const channels = new Map(Object.keys(EVENTS).map((event) => [`openai-priority-loadbalancer:${event}`, `${event.replace(/(^|-)(\w)/g, (_, __, letter: string) => letter.toUpperCase())}Event`]))
  return [
    ...[...channels].flatMap(([channel, type]) => {
      const fields = types(type).map(({ name }) => name).sort().join(', ')
      return said.get(channel) === fields ? [] : [`${channel} has ${fields}, the table says ${String(said.get(channel))}`]
    }),
    ...[...said.keys()].filter((channel) => channel === undefined || !channels.has(channel)).map((channel) => `${String(channel)} is no channel`),
  ]
}

export function checkStatus(readme: string, types: Types): string[] {
  const rows = readTable(findSection(readme, 'Status'), 'field')
  const named = new Set(rows.flatMap((row) => row.flatMap(codeSpans)).map((span) => span.replace(/^.*\./, '').replace('[]', '')))
  return ['PoolStatus', 'QueueStatus', 'WaitStatus', 'BackendStatus', 'ScopeStatus'].flatMap(types).filter(({ name }) => name !== 'backends' && !named.has(name)).map(({ name }) => `${name} is not in the table`)
}

/** @param errors the code of each class that is exported. */
export function checkErrors(readme: string, errors: Readonly<Record<string, string>>): string[] {
  const rows = readTable(findSection(readme, 'Errors'), 'class')
  const said = new Map(rows.map(([name = '', code = '']) => [codeSpans(name)[0] ?? name, codeSpans(code)[0]]))
  const names = new Set([...Object.keys(errors), ...said.keys()])
  return [...names].filter((name) => said.get(name) !== errors[name]).map((name) => `${name} has the code ${errors[name]}, the table says ${said.get(name)}`)
}

/** Undici asks for all of them. */
const HANDLER = { onConnect () {}, onError () {}, onHeaders: () => true, onData: () => true, onComplete () {} }

/** Sends the request of each worked example through a balancer, and looks at what would go out. */
export function checkUrls(readme: string, Fake: new (take: (url: string) => void) => Dispatcher): string[] {
  return readTable(findSection(readme, 'The one rule for URLs'), 'request', 'its base').flatMap(([request = '', base = '', backend = '', expected = '']) => {
    const [from] = codeSpans(request)
    const [intercept] = codeSpans(base)
    const isNone = base.startsWith('none')
    const [to] = isNone ? codeSpans(request) : codeSpans(expected)
    if (from === undefined || intercept === undefined || to === undefined) return [`a row that cannot be read: ${request}`]
    let sent = ''
    const balancer = new PriorityBalancer({
      logger: false,
      intercept: [isNone ? new URL(intercept, from).href : intercept],
      backends: [{ url: codeSpans(backend)[0] ?? 'https://elsewhere.example', priority: 1 }],
      dispatcher: new Fake((url) => { sent = url }),
    })
    const { origin } = new URL(from)
    balancer.dispatch({ origin, path: from.slice(origin.length), method: 'GET' }, HANDLER)
    return sent === to ? [] : [`${from} is sent to ${sent}, the table says ${to}`]
  })
}

/** @param write puts a file where it can be read, and says where. */
export function checkJson(readme: string, write: (text: string) => string): string[] {
  return readCodeBlocks(readme).filter(({ language }) => language === 'json').flatMap(({ text, line }) => {
    const names = [...text.matchAll(/"env": "(\w+)"/g)].map(([, name]) => [name, 'secret'])
    try {
      readConfigFile(write(text), Object.fromEntries(names) as Record<string, string>)
      return []
    } catch (error) {
      return [`line ${line}: ${(error as Error).message}`]
    }
  })
}

/** @param exists whether there is such a file in the project. */
export function checkLinks(readme: string, exists: (path: string) => boolean): string[] {
  const anchors = new Set(readSections(readme).map(({ anchor }) => `#${anchor}`))
  const files = [...withoutCodeBlocks(readme).matchAll(/`((?:src|examples|test)\/[\w/.-]+|\.ci\/\w+)`/g)].map(([, path]) => path ?? '')
  const inCommands = readCodeBlocks(readme).filter(({ language }) => language === 'sh').flatMap(({ text }) => [...text.matchAll(/\b(?:tsx|bash) (\S+)/g)].map(([, path]) => path ?? ''))
  return [
    ...readLinks(readme).filter((link) => link.startsWith('#') ? !anchors.has(link) : !link.startsWith('https://') && !exists(link.replace(/#.*$/, ''))).map((link) => `${link} leads nowhere`),
    ...[...files, ...inCommands].filter((path) => !exists(path)).map((path) => `there is no ${path}`),
  ]
}

/** @param root of the project: what a script starts has to be there. */
export function checkCommands(readme: string, scripts: Readonly<Record<string, string>>, exists: (path: string) => boolean): string[] {
  const named = new Set([...readme.matchAll(/\bnpm (?:run ([\w:-]+)|(test|start))\b/g)].map(([, run, short]) => run ?? short ?? ''))
  return [
    ...[...named].flatMap((name) => {
      const script = scripts[name]
      if (script === undefined) return [`npm run ${name}: package.json has no such script`]
      const [, file] = /^tsx (\S+)/.exec(script) ?? []
      return file === undefined || exists(file) ? [] : [`npm run ${name} starts ${file}, which is not there`]
    }),
    ...(named.has('test') ? [] : ['npm test is not named']),
  ]
}

/** @param known the beginnings of the points that tests stand for, each once */
export function checkDifferences(readme: string, known: readonly string[]): string[] {
  const points = findSection(readme, 'Differences from a bare Agent').split('\n').filter((line) => line.startsWith('- ')).map((line) => line.slice(2))
  return [
    ...known.filter((beginning) => !points.some((point) => point.startsWith(beginning))).map((beginning) => `"${beginning}" is not in the list`),
    ...points.filter((point) => known.filter((beginning) => point.startsWith(beginning)).length !== 1).map((point) => `no test stands for "${point.slice(0, 60)}"`),
  ]
}

export function readText(root: string, path: string): string {
  return readFileSync(join(root, path), 'utf8')
}
