/** Every example of the README's recipes is run as a reader would, and has to show what it says. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { compiledPath } from '../support/compiled.js'

/** Started as its reader starts it, since it starts TypeScript itself. The others are compiled, which is faster. */
const WITH_TSX: readonly string[] = ['without-code']

const root = fileURLToPath(new URL('../..', import.meta.url))

interface Run {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs an example to its end, 60 s at most. Its coverage is not ours: what it uses has tests of its own. */
function run(name: string): Promise<Run> {
  const { NODE_V8_COVERAGE: _coverage, NODE_OPTIONS: _options, OPENAI_LOADBALANCER_LOG_LEVEL: _level, ...env } = process.env
  const source = join('examples', `${name}.ts`)
  const args = WITH_TSX.includes(name) ? ['--import', 'tsx', source] : [compiledPath(source)]
  return new Promise((resolve) => {
    execFile(process.execPath, args, { cwd: root, env: { ...env, NO_COLOR: '1' }, timeout: 60_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr })
    })
  })
}

/** What an expression finds in the output; the numbers among its groups as numbers. */
function find(output: string, pattern: RegExp): number[] {
  const found = pattern.exec(output)
  assert.ok(found, `${String(pattern)} is not in:\n${output}`)
  return found.slice(1).map(Number)
}

type Check = (stdout: string, log: readonly { readonly event?: string; readonly backend?: string }[]) => void

const RECIPES: Readonly<Record<string, Check>> = {
  'ptu-first': (stdout, log) => {
    const [attempts, ptu, throttled] = find(stdout, /^ptu: (\d+) attempts, (\d+) successes, (\d+) throttled$/m)
    const [east] = find(stdout, /^east: \d+ attempts, (\d+) successes, 0 throttled$/m)
    const [west] = find(stdout, /^west: \d+ attempts, (\d+) successes, 0 throttled$/m)
    assert.ok(ptu !== undefined && east !== undefined && west !== undefined && throttled !== undefined)
    assert.ok(ptu > 0 && throttled > 0, 'the PTU takes some and refuses some')
    assert.equal(ptu + throttled, attempts)
    assert.equal(ptu + east + west, 12, 'every call succeeds')
    assert.ok(log.some(({ event, backend }) => event === 'cooldown' && backend === 'ptu'))
  },
  'several-regions': (stdout, log) => {
    const [sweden, france] = find(stdout, /^All regions are well: +sweden (\d+), france (\d+), eastus 0$/m)
    assert.ok(sweden !== undefined && france !== undefined)
    assert.equal(sweden + france, 40)
    // Three quarters of 40 by chance: outside of these bounds once in 10,000 runs.
    assert.ok(sweden >= 19 && sweden <= 39, `sweden got ${sweden} of 40`)
    assert.deepEqual(find(stdout, /^Sweden refuses connections: sweden (\d+), france (\d+), eastus 0$/m), [sweden, france + 10])
    assert.deepEqual(find(stdout, /^France does, too: +sweden (\d+), france (\d+), eastus (\d+)$/m), [sweden, france + 10, 10])
    assert.match(stdout, /^States: sweden (ejected|probing), france (ejected|probing), eastus available$/m)
    assert.deepEqual([...new Set(log.map(({ event, backend }) => `${event} ${backend}`))].sort(), ['ejected france', 'ejected sweden'])
  },
  'azure-to-openai': (stdout) => {
    assert.match(stdout, /^answered by contoso-gpt4o-eu\nanswered by gpt-4o$/m)
    assert.match(stdout, /^contoso\.openai\.azure\.com got \/openai\/v1\/chat\/completions\?api-version=preview for contoso-gpt4o-eu, api-key: key-azure, authorization: undefined$/m)
    assert.match(stdout, /^api\.openai\.com got \/v1\/chat\/completions for gpt-4o, api-key: undefined, authorization: Bearer sk-openai$/m)
    assert.match(stdout, /contoso\.openai\.azure\.com: 2 requests \(1 x 200, 1 x 503\)\n {2}api\.openai\.com: 1 request \(1 x 200\)/)
  },
  'entra-id': (stdout) => {
    assert.match(stdout, /^20 answers with 1 token$/m)
    const [east = 0, west = 0] = find(stdout, /east\.openai\.azure\.com: (\d+) requests? \(\1 x 200\)\n.*west\.openai\.azure\.com: (\d+) requests? \(\2 x 200\)/)
    assert.equal(east + west, 20)
  },
  'several-models': (stdout) => {
    assert.match(stdout, /^east gpt-4o: cooldown, 3 successes, 1 throttled$/m)
    assert.match(stdout, /^east gpt-4o-mini: available, 6 successes, 0 throttled$/m)
    assert.match(stdout, /^west gpt-4o: available, 3 successes, 0 throttled$/m)
    assert.doesNotMatch(stdout, /^west gpt-4o-mini/m)
  },
  'long-prompts': (stdout) => {
    assert.match(stdout, /^a short text: gpt-4o, ended with stop\nfailover: east overlong \(context_length_exceeded\), on to long\na long text: gpt-4\.1, ended with stop$/m)
    assert.match(stdout, /^failover: east failed, on to long\nan answer that is cut off: gpt-4\.1, ended with stop$/m)
  },
  'plain-fetch': (stdout) => {
    assert.match(stdout, /^before install: TypeError: fetch failed$/m)
    assert.match(stdout, /^after install: 200, \S/m)
    assert.match(stdout, /east\.openai\.azure\.com: 1 request \(1 x 200\)/)
  },
  'undici-request': (stdout) => {
    assert.match(stdout, /^undici\.request: 200\nfetch: 200\nopenai: completed\ncomposed: 200, east 1, west 0$/m)
    assert.match(stdout, /east\.openai\.azure\.com: 4 requests \(4 x 200\)/)
  },
  'tests-with-mock-agent': (stdout) => {
    assert.match(stdout, /^east was throttled, west answered, no mock is left over$/m)
  },
  waiting: (stdout) => {
    const [answered = 0] = find(stdout, /^maxWaitMs 0: (\d) of 8 answered\n {2}the others: 429, retry-after \d+$/m)
    assert.ok(answered > 0 && answered < 8, `${answered} of 8`)
    assert.match(stdout, /^maxWaitMs 10000: 8 of 8 answered$/m)
  },
  'status-and-events': (stdout) => {
    assert.match(stdout, /^cooldown: east \(gpt-4o\), because of 429 with retry-after-ms\nfailover: request 1, attempt 1 on east was throttled, on to west\nanswered: request 1 by west with 200\nanswered: request 2 by west with 200$/m)
    const { backends } = JSON.parse(stdout.slice(stdout.indexOf('{\n'), stdout.indexOf('\n}\n') + 2)) as { backends: { name: string; state: string; successes: number }[] }
    assert.deepEqual(backends.map(({ name, state, successes }) => [name, state, successes]), [['east', 'cooldown', 0], ['west', 'available', 2]])
  },
  'custom-logger': (stdout) => {
    assert.match(stdout, /^warn {2}\[cooldown\] Backend "east" \(gpt-4o\) cools down for \d+ ms \(429, retry-after-ms\)$/m)
    assert.match(stdout, /^info {2}\[failover\] Attempt 1 on backend "east": throttled; on to "west"$/m)
    assert.doesNotMatch(stdout, /^debug/m)
  },
  'without-code': (stdout) => {
    assert.match(stdout, /^the program's answer: completed$/m)
    assert.match(stdout, /^the balancer's log: Attempt 1 on backend "east": throttled; on to "west"$/m)
    assert.match(stdout, /east\.openai\.azure\.com: 1 request \(1 x 429\)\n.*west\.openai\.azure\.com: 1 request \(1 x 200\)/)
  },
}

/** What loggers write on stderr, and nothing else: a warning of Node's there would be ours to fix. */
function parseLog(stderr: string): { event?: string; backend?: string }[] {
  return stderr.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as { event?: string })
}

describe('the example', { concurrency: 2 }, () => {
  for (const [name, check] of Object.entries(RECIPES)) {
    test(`${name} runs without account or network, and shows what it says`, async () => {
      const { code, stdout, stderr } = await run(name)
      assert.equal(code, 0, stderr)
      check(stdout, parseLog(stderr))
    })
  }

  test('files are all run here', () => {
    const files = readdirSync(join(root, 'examples')).filter((file) => file.endsWith('.ts')).map((file) => file.slice(0, -'.ts'.length))
    assert.deepEqual(Object.keys(RECIPES).sort(), files.sort())
  })
})
