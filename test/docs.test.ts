/** The README is true: its code compiles, its tables say what the code does, its links lead somewhere. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Dispatcher } from 'undici'
import { BalancerClosedError, CredentialError, InstallError, InvalidOptionsError } from '../src/errors.js'
import { resolveOptions } from '../src/options/index.js'
import { HINTS } from '../src/request/hints.js'
import { makeThrottledAnswer } from '../src/request/own-answers.js'
import { DIFFERENCES, SHOWN_ELSEWHERE } from './compliance/transparency/differences.js'
import { MOST_WAITERS } from './support/pool-kit.js'
import { compileBlocks } from './support/compile-blocks.js'
import { codeSpans, findSection, readCodeBlocks, readSections, readTable } from './support/markdown.js'
import * as checks from './support/readme-checks.js'
import { readExportedTypes } from './support/type-members.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const readme = checks.readText(root, 'README.md')
const changelog = checks.readText(root, 'CHANGELOG.md')
const manifest = JSON.parse(checks.readText(root, 'package.json')) as {
  version: string; scripts: Record<string, string>; engines: { node: string }; peerDependencies: { undici: string }
}
const types = readExportedTypes(root, 'src/index.ts')
const exists = (path: string): boolean => path !== '' && existsSync(join(root, path))

const temp = mkdtempSync(join(tmpdir(), 'docs-'))
after(() => { rmSync(temp, { recursive: true }) })
function write(text: string): string {
  const path = join(temp, 'options.json')
  writeFileSync(path, text)
  return path
}

/** Takes note of where a request goes, and lets it end there. */
class Noting extends Dispatcher {
  readonly #take: (url: string) => void

  constructor(take: (url: string) => void) {
    super()
    this.#take = take
  }

  override dispatch({ origin, path }: Dispatcher.DispatchOptions): boolean {
    this.#take(`${String(origin)}${path}`)
    return true
  }
}

const ERRORS = {
  InvalidOptionsError: new InvalidOptionsError('', '', '').code,
  InstallError: new InstallError('').code,
  BalancerClosedError: new BalancerClosedError().code,
  CredentialError: new CredentialError('', '').code,
}

/** The README with one piece replaced: for showing that a check would find it. */
function spoil(from: string | RegExp, to: string): string {
  const spoilt = readme.replace(from, to)
  assert.notEqual(spoilt, readme, `${String(from)} is not in the README`)
  return spoilt
}

describe('the README', () => {
  test('has TypeScript examples that compile', () => {
    const blocks = readCodeBlocks(readme).filter(({ language }) => language === 'ts')
    assert.ok(blocks.length >= 15, `only ${blocks.length} examples`)
    assert.deepEqual(compileBlocks(root, blocks, [join(root, 'test', 'docs-stubs.d.ts')]), [])
  })

  test('has a table of options that is complete and true', () => {
    assert.deepEqual(checks.checkOptions(readme, types), [])
  })

  test('has all that one request may say, in a header and in withTraffic', () => {
    const rows = readTable(findSection(readme, 'What one request may say'), 'header', 'field of `withTraffic`')
    assert.deepEqual(rows.map((row) => row.slice(0, 2).map((cell) => codeSpans(cell)[0])), Object.entries(HINTS).map(([field, { header }]) => [header, field]))
    assert.deepEqual(types('Traffic').map(({ name }) => name), Object.keys(HINTS))
  })

  test('has a table of outcomes that says what classify does, for every status and code', () => {
    assert.deepEqual(checks.checkOutcomes(readme), [])
    assert.deepEqual(checks.checkCodes(readme, checks.readText(root, 'src/core/classify.ts')), [])
  })

  test('has a table of errors inside a 200 that says what becomes of them', () => {
    assert.deepEqual(checks.checkStreamErrors(readme), [])
  })

  test('has the levels of all events', () => {
    assert.deepEqual(checks.checkLogLevels(readme), [])
  })

  test('has the fields of all events', () => {
    assert.deepEqual(checks.checkEvents(readme, types), [])
  })

  test('has the fields of status()', () => {
    assert.deepEqual(checks.checkStatus(readme, types), [])
  })

  test('has all errors with their codes', () => {
    assert.deepEqual(checks.checkErrors(readme, ERRORS), [])
  })

  test('has worked examples of the rule for URLs that come out as they say', () => {
    assert.deepEqual(checks.checkUrls(readme, Noting), [])
  })

  test('has JSON that is taken as an options file', () => {
    assert.ok(readCodeBlocks(readme).some(({ language }) => language === 'json'))
    assert.deepEqual(checks.checkJson(readme, write), [])
  })

  test('names anchors and files that exist', () => {
    assert.deepEqual(checks.checkLinks(readme, exists), [])
    assert.deepEqual(checks.checkLinks(changelog, exists).filter((problem) => !problem.startsWith('README.md#')), [])
  })

  test('names commands that exist', () => {
    assert.deepEqual(checks.checkCommands(readme, manifest.scripts, exists), [])
  })

  test('leads to every section from its contents, and to every example', () => {
    const contents = findSection(readme, 'Contents')
    const chapters = readSections(readme).filter(({ level, title }) => level === 2 && title !== 'Contents')
    assert.deepEqual(chapters.filter(({ anchor }) => !contents.includes(`(#${anchor})`)).map(({ title }) => title), [])
    const examples = readdirSync(join(root, 'examples')).filter((file) => file.endsWith('.ts'))
    assert.deepEqual(examples.filter((file) => !readme.includes(`(examples/${file})`)), [])
  })

  test('shows an error message as it is', () => {
    const [message] = readCodeBlocks(readme).filter(({ text }) => text.startsWith('backends[0]'))
    assert.throws(() => resolveOptions({ backends: [{ url: 'https://a.example', priority: 0 }] }), { message: message?.text })
  })

  test('shows the 429 of the balancer as it is', () => {
    const [shown] = readCodeBlocks(readme).filter(({ language }) => language === 'http')
    const [head = '', body] = (shown?.text ?? '').split('\n\n')
    const answer = makeThrottledAnswer(352)
    assert.equal(body, answer.body.toString())
    const { 'content-length': _length, ...headers } = answer.headers
    assert.deepEqual(Object.fromEntries(head.split('\n').slice(1).map((line) => line.split(': '))), headers)
  })

  test('states the versions of Node and undici that the manifest states', () => {
    const [head, ...rows] = readTable(`${findSection(readme, 'Compatibility')}`, 'Node.js')
    const [, oldest = ''] = /^>=(.+)$/.exec(manifest.engines.node) ?? []
    assert.ok(head?.[0]?.includes(oldest), `${String(head)} does not name ${oldest}`)
    assert.ok(rows.length >= 3)
    const [, undici = ''] = /^\^(7\.\S+)/.exec(manifest.peerDependencies.undici) ?? []
    assert.match(findSection(readme, 'Compatibility'), new RegExp(`undici 7, from ${undici.replaceAll('.', '\\.')}`))
  })

  test('states how many requests may wait', () => {
    assert.ok(findSection(readme, 'Waiting').includes(`At most ${MOST_WAITERS.toLocaleString('en-US')} requests wait`))
  })

  test('names the differences from a bare Agent that tests allow, and no other', () => {
    assert.deepEqual(checks.checkDifferences(readme, [...DIFFERENCES, ...SHOWN_ELSEWHERE].map((difference) => difference.readme)), [])
    assert.deepEqual(SHOWN_ELSEWHERE.filter(({ test }) => !exists(test)), [])
  })

  test('says nothing in two ways: the words of the events are those of the log', () => {
    const events = readTable(findSection(readme, 'Logging'), 'event').map(([event = '']) => codeSpans(event)[0])
    const channels = readTable(findSection(readme, 'Events'), 'channel').map(([channel = '']) => codeSpans(channel)[0]?.split(':')[1])
    assert.deepEqual(channels, events)
  })
})

describe('the checks of the README find', () => {
  test('an example that does not compile', () => {
    const wrong = { language: 'ts', given: '', line: 10, text: "import { install } from 'openai-priority-loadbalancer'\ninstall({ backends: [{ url: 1, priority: 1 }] })" }
    const [problem] = compileBlocks(root, [wrong], [])
    assert.match(problem ?? '', /^line 11: Type 'number' is not assignable to type 'string'/)
  })

  for (const [what, from, to, check, expected] of [
    ['another default', '| `maxCooldownMs` | `60000` |', '| `maxCooldownMs` | `30000` |', checks.checkOptions, /^maxCooldownMs is 60000 by default/],
    ['another retry budget', '{ ratio: 0.2, minPerSecond: 10 }` |', '{ ratio: 0.2, minPerSecond: 5 }` |', checks.checkOptions, /^retryBudget is/],
    ['another log level', 'on stderr, level `warn` |', 'on stderr, level `info` |', checks.checkOptions, /^the default level is warn/],
    ['a missing option', /^\| `pacing`.*\n/m, '', checks.checkOptions, /^pacing is not in the table$/],
    ['an option that is none', '| `backends[].home` |', '| `backends[].house` |', checks.checkOptions, /^backends\[\]\.home is not in the table$/],
    ['a default where there is none', '| `intercept` | the URLs', '| `intercept` | `[]`', checks.checkOptions, /^intercept has no default/],
    ['a required option called optional', '| `backends` | required |', '| `backends` | none |', checks.checkOptions, /^backends is required/],
    ['an outcome of another class', '| `429` | throttled |', '| `429` | answered |', checks.checkOutcomes, /^429 is throttled, the table says answered$/],
    ['a status in the wrong row', '| `408`, any other', '| `409`, any other', checks.checkOutcomes, /^408 is failed, the table says answered$/],
    ['a code in the wrong row', '`ModelNotFound`, `OperationNotSupported`', '`ModelNotFound`, `server_error`', checks.checkOutcomes, /^400 that says server_error is answered, the table says missing$/],
    ['a refusal that is of either credential', ', to a credential of your client\'s | refused', ' | refused', checks.checkOutcomes, /^401 that says PermissionDenied to a credential of ours is misconfigured, the table says refused$/],
    ['a request that is too large in another row', ', or that can never fit: ', ', or not: ', checks.checkOutcomes, /^429 that can never fit is oversized, the table says throttled$/],
    ['a longer prompt without a place to go', 'that says `context_length_exceeded`, where another backend has `largerContext` | overlong', 'that says `context_length_exceeded` | overlong', checks.checkOutcomes, /^400 that says context_length_exceeded is answered, the table says overlong$/],
    ['an error inside a 200 in the wrong row', '`slow_down`, `429` |', '`slow_down`, `server_error` |', checks.checkStreamErrors, /^server_error is failed, the table says throttled$/],
    ['a missing class', '| ignored |', '| nothing |', checks.checkOutcomes, /^ignored is not in the table$/],
    ['another level', '| `failover` | `info` |', '| `failover` | `debug` |', checks.checkLogLevels, /^failover is logged as info, the table says debug$/],
    ['an event that is none', '| `waited` | `debug` |', '| `awaited` | `debug` |', checks.checkLogLevels, /^waited is logged as debug/],
    ['a missing field', '`attempt`, `outcome`, `to`, `errorCode`', '`attempt`, `outcome`, `errorCode`', checks.checkEvents, /^openai-priority-loadbalancer:failover has attempt/],
    ['a missing field of the status', '`totalMs` and `longestMs`', '`totalMs`', checks.checkStatus, /^longestMs is not in the table$/],
  ] as const) {
    test(`${what} in a table`, () => {
      const [problem] = check(spoil(from, to), types)
      assert.match(problem ?? 'nothing', expected)
    })
  }

  test('a code that is not told of', () => {
    assert.deepEqual(checks.checkCodes(readme, "new Set(['insufficient_quota', 'bankrupt'])"), ['bankrupt is not in the table'])
    assert.deepEqual(checks.checkCodes(readme, ''), ['no code was found'])
  })

  test('another code of an error', () => {
    assert.deepEqual(checks.checkErrors(spoil('| `ERR_OPLB_CLOSED` |', '| `ERR_OPLB_END` |'), ERRORS), ['BalancerClosedError has the code ERR_OPLB_CLOSED, the table says ERR_OPLB_END'])
  })

  test('a worked example that comes out otherwise', () => {
    assert.match(checks.checkUrls(spoil('| `https://api.openai.com/v1/responses` |', '| `https://api.openai.com/responses` |'), Noting)[0] ?? '', /is sent to https:\/\/api\.openai\.com\/v1\/responses/)
    assert.match(checks.checkUrls(spoil('| `https://a.openai.azure.com/openai/v10/x`', '| `https://a.openai.azure.com/openai/v1/x`'), Noting)[0] ?? '', /is sent to https:\/\/elsewhere\.example\/x/)
  })

  test('JSON that is no options file', () => {
    assert.match(checks.checkJson(spoil('"maxWaitMs": 2000', '"maxWait": 2000'), write)[0] ?? '', /maxWait is not an option/)
    assert.match(checks.checkJson(spoil('"maxWaitMs": 2000\n', '"maxWaitMs": 2000,\n'), write)[0] ?? '', /must be valid JSON/)
  })

  test('a difference from a bare Agent that is missing, or that no test stands for', () => {
    const known = [...DIFFERENCES, ...SHOWN_ELSEWHERE].map((difference) => difference.readme)
    assert.deepEqual(checks.checkDifferences(spoil(/^- Your `host` header.*\n/m, ''), known), ['"Your `host` header" is not in the list'])
    assert.deepEqual(checks.checkDifferences(spoil('- Your `host` header', '- Cookies are lost.\n- Your `host` header'), known), ['no test stands for "Cookies are lost."'])
  })

  test('links, files and commands that are not there', () => {
    assert.deepEqual(checks.checkLinks(spoil('](#pacing)', '](#pace)'), exists), ['#pace leads nowhere'])
    assert.deepEqual(checks.checkLinks(spoil('](examples/waiting.ts)', '](examples/queue.ts)'), exists), ['examples/queue.ts leads nowhere'])
    assert.deepEqual(checks.checkLinks(spoil('`src/core/pick.ts`', '`src/core/choose.ts`'), exists), ['there is no src/core/choose.ts'])
    assert.deepEqual(checks.checkLinks(spoil('npx tsx examples/ptu-first.ts', 'npx tsx examples/first.ts'), exists), ['there is no examples/first.ts'])
    assert.deepEqual(checks.checkCommands(spoil('npm run lint', 'npm run check'), manifest.scripts, exists), ['npm run check: package.json has no such script'])
    assert.deepEqual(checks.checkCommands('npm test', { test: 'tsx test/none.ts' }, exists), ['npm run test starts test/none.ts, which is not there'])
    assert.deepEqual(checks.checkCommands('npm start', manifest.scripts, exists), ['npm test is not named'])
  })
})

describe('the changelog', () => {
  test('keeps to its form: the version of the manifest with its date, and behaviour changes under a heading of their own', () => {
    const titles = readSections(changelog).map(({ title }) => title)
    assert.ok(titles.includes(`[${manifest.version}] - 2026-11-22`), titles.join(', '))
    assert.ok(titles.lastIndexOf('Behaviour changes') > titles.indexOf(`[${manifest.version}] - 2026-11-22`))
    const known = new Set(['Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security', 'Behaviour changes'])
    assert.deepEqual(readSections(changelog).filter(({ level, title }) => level === 3 && !known.has(title)).map(({ title }) => title), [])
  })
})
