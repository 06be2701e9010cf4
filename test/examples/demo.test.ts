import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { after, describe, test } from 'node:test'
import { runDemo, watchInterruption } from '../../examples/demo/demo.js'
import { AzureSimulator } from '../../examples/demo/simulator/azure-simulator.js'
import type { RunSummary } from '../../examples/demo/report.js'
import { compiledPath } from '../support/compiled.js'

const MAIN = compiledPath('examples/demo/main.ts')
const folder = mkdtempSync(join(tmpdir(), 'demo-test-'))
let timelines = 0
/** A new one for each run, since they go on at once. */
const chooseOut = (): string => join(folder, `timeline-${timelines++}.svg`)

interface Result {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** The demo as its own process, with nothing in its environment that could lead it elsewhere. */
async function spawnDemo(
  args: readonly string[], env: NodeJS.ProcessEnv = {}, watch: (child: ChildProcess) => void = () => undefined,
): Promise<Result> {
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(OPENAI_|AZURE_|BACKEND_)/.test(name)))
  const child = spawn(process.execPath, [MAIN, ...args], { env: { ...clean, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  watch(child)
  const closed = once(child, 'close') as Promise<[number | null]>
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), closed])
  return { code, stdout, stderr }
}

function parseReport(stdout: string): { runs: RunSummary[], timeline: string } {
  return JSON.parse(stdout) as { runs: RunSummary[], timeline: string }
}

// They wait for most of their time: for planned calls, latencies and limits.
describe('the demo', { timeout: 60_000, concurrency: 4 }, () => {
  after(() => { rmSync(folder, { recursive: true }) })

  test('shows that one backend is not enough and three are, and writes nothing but the report to stdout', async () => {
    const out = chooseOut()
    // Twice what all three bear in the long run, for a second: more than one takes at once, less than what three do.
    const { code, stdout, stderr } = await spawnDemo(['--requests', '40', '--duration', '1', '--json', '--quiet', '--out', out])
    assert.deepEqual([code, stderr], [0, ''])
    const { runs: [standard, balanced], timeline } = parseReport(stdout)
    assert.ok(standard && balanced)
    assert.deepEqual([standard.requests, balanced.requests], [40, 40])
    assert.ok(standard.throttled > 0 && standard.failures > 0)
    assert.ok(balanced.successes > standard.successes)
    assert.deepEqual(standard.backends.map((backend) => backend.name), ['ptu-eastus'])
    assert.deepEqual(balanced.backends.map((backend) => backend.priority), [1, 2, 2])
    assert.equal(balanced.backends.reduce((sum, backend) => sum + backend.successes, 0), balanced.successes)
    assert.equal(timeline, out)
    assert.match(readFileSync(out, 'utf8'), /^<\?xml.*<svg .*<\/svg>\n$/s)
  })

  test('prints the table and the place of the timeline, by deployment too, and progress to stderr', async () => {
    const { code, stdout, stderr } = await spawnDemo(['--requests', '3', '--rate', '20', '--deployment', 'chat', '--unpaced'])
    assert.equal(code, 0)
    assert.match(stdout, /^ +standard +balanced\n-+\ncalls answered +3 \/ 3 \(100\.0 %\) +3 \/ 3 \(100\.0 %\)\n429s from backends +0 +0\n/)
    assert.match(stdout, /\n429s per success +0\.000 +0\.000\n/)
    const timeline = /^timeline: (.+)$/m.exec(stdout)?.[1] ?? ''
    assert.ok(existsSync(timeline))
    rmSync(join(timeline, '..'), { recursive: true })
    assert.match(stderr, /^standard: one backend/m)
    assert.match(stderr, /^balanced: all backends, through the balancer without pacing/m)
    assert.doesNotMatch(stdout + stderr, /simulated-key/)
  })

  test('compares unpaced with paced', async () => {
    const out = chooseOut()
    const args = ['--compare', 'pacing', '--load', '1.2', '--duration', '0.3', '--json', '--quiet', '--out', out]
    const { code, stdout } = await spawnDemo(args)
    assert.equal(code, 0)
    assert.deepEqual(parseReport(stdout).runs.map((run) => run.name), ['unpaced', 'paced'])
  })

  test('with an outage at the beginning, calls that may wait are answered all the same', async () => {
    const out = chooseOut()
    const args = ['--start', 'outage', '--compare', 'pacing', '--requests', '12', '--duration', '1.5', '--max-wait-ms', '10000']
    const { code, stdout } = await spawnDemo([...args, '--json', '--quiet', '--out', out])
    assert.equal(code, 0)
    for (const { name, requests, successes, backends } of parseReport(stdout).runs) {
      assert.deepEqual([name, requests, successes], [name, 12, 12])
      // The first call met backends that were out: on the wire that is a failure, and it was answered all the same.
      assert.ok(backends.some((backend) => backend.failures > 0), name)
      assert.equal(backends.reduce((sum, backend) => sum + backend.successes, 0), 12)
    }
  })

  test('a burst and a ramp are said in the report and in the picture', async () => {
    await Promise.all(['burst', 'ramp'].map(async (start) => {
      const out = chooseOut()
      const { code, stdout } = await spawnDemo(['--start', start, '--requests', '8', '--duration', '0.2', '--json', '--quiet', '--out', out])
      assert.equal(code, 0)
      assert.equal((JSON.parse(stdout) as { settings: { start: string } }).settings.start, start)
      assert.match(readFileSync(out, 'utf8'), new RegExp(`8 calls at [0-9.]+ per second \\(${start}\\)`))
    }))
  })

  test('runs against real servers from a file, and counts what they counted', async () => {
    const out = chooseOut()
    const simulator = await AzureSimulator.start({
      backends: [
        { name: 'east', apiKeys: ['secret-east'], limits: { kind: 'standard', requestsPerMinute: 300, requestWindowMs: 1000 } },
        { name: 'west', bearerTokens: ['secret-west'], deployments: { 'gpt-4o-west': undefined } },
      ],
    })
    try {
      const [east, west] = simulator.backends
      const file = join(folder, 'backends.json')
      writeFileSync(file, JSON.stringify({
        backends: [
          { name: 'west', url: west?.url, priority: 2, bearerToken: { env: 'WEST' }, models: { 'gpt-4o': 'gpt-4o-west' } },
          { name: 'east', url: east?.url, priority: 1, apiKey: { env: 'EAST' } },
        ],
      }))
      const args = ['--backends', file, '--rate', '100', '--json', '--out', out]
      const { code, stdout, stderr } = await spawnDemo(args, { EAST: 'secret-east', WEST: 'secret-west' })
      assert.equal(code, 0, stderr)
      assert.match(stderr, /real instances: 2 runs of 20 calls each, which cost money/)
      assert.doesNotMatch(stdout + stderr + readFileSync(out, 'utf8'), /secret-/)
      const { runs } = parseReport(stdout)
      for (const backend of simulator.backends) {
        const counted = runs.flatMap((run) => run.backends).filter((one) => one.name === backend.name)
        const sum = (pick: (one: (typeof counted)[number]) => number): number => counted.reduce((total, one) => total + pick(one), 0)
        assert.deepEqual(
          [sum((one) => one.calls), sum((one) => one.successes), sum((one) => one.throttled)],
          [backend.counters.requests, backend.counters.succeeded, backend.counters.throttled],
        )
      }
      assert.equal(runs[1]?.successes, 20)
      assert.deepEqual([[...east?.counters.keys ?? []], [...west?.counters.keys ?? []]], [['secret-east'], ['secret-west']])
    } finally {
      await simulator.close()
    }
  })

  test('takes real servers from the environment, and exits with 1 when not one call is answered', async () => {
    const out = chooseOut()
    const simulator = await AzureSimulator.start({ backends: [{ name: 'only', apiKeys: ['right'] }] })
    try {
      const env = { BACKEND_1_URL: simulator.backend('only').url, BACKEND_1_API_KEY: 'wrong' }
      const { code, stdout } = await spawnDemo(['--requests', '2', '--rate', '50', '--out', out], env)
      assert.equal(code, 1)
      assert.match(stdout, /^failures of standard: 2 x 401 AuthenticationError$/m)
      assert.match(stdout, /^failures of balanced: 2 x 401 AuthenticationError$/m)
    } finally {
      await simulator.close()
    }
  })

  test('--help prints what there is and exits with 0', async () => {
    const { code, stdout, stderr } = await spawnDemo(['--help'])
    assert.deepEqual([code, stderr], [0, ''])
    assert.match(stdout, /^Usage: npm start -- \[options\]\n/)
  })

  const BARE = join(folder, 'bare.json')
  writeFileSync(BARE, '{"backends":[{"url":"https://one.example/openai/v1","priority":1}]}')
  const ONE = { BACKEND_1_URL: 'https://one.example/openai/v1' }
  const WRONG: readonly (readonly [string, readonly string[], NodeJS.ProcessEnv, RegExp])[] = [
    ['an unknown option', ['--fast'], {}, /^Unknown option '--fast'\nnpm start -- --help shows what can be given\.\n$/],
    ['a folder that does not exist', ['--out', join(folder, 'no', 'x.svg')], {}, /^--out: the folder of '.*' does not exist/],
    ['a file of backends that is not there', ['--backends', join(folder, 'none.json')], {}, /none\.json: .*must be readable/],
    ['a backend without a credential', [], ONE, /^BACKEND_1_URL needs BACKEND_1_API_KEY or/],
    ['a backend without a credential in a file', ['--backends', BARE], {}, /^backends\[0\] needs an apiKey or a bearerToken/],
    ['a priority that is none', [], { ...ONE, BACKEND_1_API_KEY: 'k', BACKEND_1_PRIORITY: 'high' }, /^backends\[0\]\.priority/],
  ]
  for (const [what, args, env, message] of WRONG) {
    test(`${what} is wrong use: a message and 2, before anything is sent`, async () => {
      const [stdout, stderr] = [new PassThrough(), new PassThrough()]
      const code = await runDemo(args, env, stdout, stderr, new AbortController().signal)
      assert.equal(code, 2)
      assert.equal(stdout.read(), null)
      assert.match(String(stderr.read()), message)
    })
  }

  test('wrong use is an exit code of the process too', async () => {
    const { code, stdout } = await spawnDemo(['--duration', 'long'])
    assert.deepEqual([code, stdout], [2, ''])
  })

  test('Ctrl-C stops it, and what there is is reported: exit code 130', async () => {
    const out = chooseOut()
    let sent = 0
    const { code, stdout, stderr } = await spawnDemo(['--rate', '50', '--duration', '60', '--out', out], {}, (child) => {
      child.stderr?.on('data', (chunk) => {
        if (sent > 0) return
        sent = Number(/ answered \d+ \/ (\d+) .*of 3000\n/.exec(String(chunk))?.[1] ?? 0)
        if (sent === 0) return
        // Twice, as npm and the terminal both pass it on.
        child.kill('SIGINT')
        child.kill('SIGINT')
      })
    })
    assert.equal(code, 130, stderr)
    assert.match(stderr, /^stopping; Ctrl-C again exits at once$/m)
    const reported = Number(/^calls answered +\d+ \/ (\d+) /m.exec(stdout)?.[1])
    assert.ok(reported >= sent && reported < 3000, `${reported} reported, ${sent} sent`)
    assert.doesNotMatch(stdout, /balanced/)
    assert.ok(existsSync(out))
  })
})

describe('an interruption', () => {
  test('aborts at the first Ctrl-C, takes its echo for the same and exits at the second', () => {
    const signals = new EventEmitter()
    let now = 1000
    let exits = 0
    const signal = watchInterruption(signals, () => now, () => { exits += 1 })
    assert.equal(signal.aborted, false)
    signals.emit('SIGINT')
    assert.equal(signal.aborted, true)
    now += 20
    signals.emit('SIGINT')
    assert.equal(exits, 0)
    now += 400
    signals.emit('SIGINT')
    assert.equal(exits, 1)
  })
})
