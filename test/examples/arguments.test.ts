import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { HELP, readArguments, UsageError } from '../../examples/demo/arguments.js'
import { CAPACITY_PER_SECOND } from '../../examples/demo/scenario.js'

function read(line: string, env: NodeJS.ProcessEnv = {}) {
  const settings = readArguments(line.split(' ').filter((word) => word !== ''), env)
  assert.ok(settings)
  return settings
}

function amount(line: string, env?: NodeJS.ProcessEnv): { rate: number, requests: number } {
  const { rate, requests } = read(line, env)
  return { rate, requests }
}

describe('the demo reads its command line', () => {
  test('without options it compares standard and balanced on the simulator, paced, with more than one backend bears', () => {
    const settings = read('')
    assert.equal(settings.real, undefined)
    assert.deepEqual(settings.target, { kind: 'model', name: 'gpt-4o' })
    assert.deepEqual([settings.compare, settings.pacing, settings.maxWaitMs], ['standard', true, 0])
    assert.ok(settings.rate > CAPACITY_PER_SECOND / 3 && settings.rate < CAPACITY_PER_SECOND)
    assert.equal(settings.requests, Math.round(9 * settings.rate))
  })

  test('two of requests, rate and duration give the third', () => {
    assert.deepEqual(amount('--requests 30 --duration 10'), { rate: 3, requests: 30 })
    assert.deepEqual(amount('--rate 4 --duration 10'), { rate: 4, requests: 40 })
    assert.deepEqual(amount('--rate 4 --requests 10'), { rate: 4, requests: 10 })
    assert.deepEqual(amount('--load 0.5 --requests 10'), { rate: CAPACITY_PER_SECOND / 2, requests: 10 })
    assert.deepEqual(amount('--rate 0.1 --duration 1'), { rate: 0.1, requests: 1 })
  })

  test('the comparison of pacing takes a minute at 0.8 of the capacity', () => {
    const rate = 0.8 * CAPACITY_PER_SECOND
    assert.deepEqual(amount('--compare pacing'), { rate, requests: Math.round(60 * rate) })
  })

  test('a run starts steadily unless it is said otherwise, and a ramp has fewer calls in the same time', () => {
    assert.equal(read('').start, 'steady')
    assert.equal(read('--start outage --compare pacing').start, 'outage')
    assert.deepEqual(amount('--start burst'), amount(''))
    assert.deepEqual(amount('--start ramp --rate 10 --duration 10'), { rate: 10, requests: 70 })
    assert.deepEqual(amount('--start ramp --rate 10 --requests 70'), { rate: 10, requests: 70 })
    const both = amount('--start ramp --requests 70 --duration 10')
    assert.ok(Math.abs(both.rate - 10) < 1e-9 && both.requests === 70)
    assert.equal(read('--start burst --backends pool.json').requests, 20)
  })

  test('real backends get 20 requests at 2 per second unless more is asked for', () => {
    assert.deepEqual(amount('--backends pool.json'), { rate: 2, requests: 20 })
    assert.deepEqual(amount('--backends pool.json --compare pacing'), { rate: 2, requests: 20 })
    assert.deepEqual(amount('--backends pool.json --duration 30'), { rate: 2, requests: 60 })
  })

  test('backends come from --backends, else from the configuration file, else from numbered variables', () => {
    const env = { OPENAI_LOADBALANCER_CONFIG: 'config.json', BACKEND_1_URL: 'https://one.example/openai/v1' }
    assert.deepEqual(read('--backends pool.json', env).real, { kind: 'file', path: 'pool.json' })
    assert.deepEqual(read('', env).real, { kind: 'file', path: 'config.json' })
    assert.deepEqual(read('', { BACKEND_1_URL: 'https://one.example/openai/v1' }).real, { kind: 'environment' })
    assert.equal(read('', { OPENAI_LOADBALANCER_CONFIG: '' }).real, undefined)
  })

  test('a deployment goes into the path and needs an API version', () => {
    assert.deepEqual(read('--model gpt-5').target, { kind: 'model', name: 'gpt-5' })
    assert.deepEqual(read('--deployment chat').target, { kind: 'deployment', name: 'chat', apiVersion: '2024-10-21' })
    assert.deepEqual(read('--deployment chat --api-version v9').target, { kind: 'deployment', name: 'chat', apiVersion: 'v9' })
  })

  test('help is asked for in two ways', () => {
    assert.equal(readArguments(['--help'], {}), undefined)
    assert.equal(readArguments(['-h', '--requests', 'nonsense'], {}), undefined)
  })

  const WRONG: readonly (readonly [string, RegExp])[] = [
    ['--request 5', /Unknown option '--request'$/],
    ['extra', /Unexpected argument 'extra'$/],
    ['--requests', /'--requests <value>' argument missing$/],
    ['--requests 0', /--requests must be a whole number from 1, not '0'/],
    ['--requests 1.5', /--requests must be a whole number from 1, not '1.5'/],
    ['--rate fast', /--rate must be a number above 0, not 'fast'/],
    ['--rate 2000', /at most 1000 calls per second can be started, not 2000/],
    ['--duration 0', /--duration must be a number above 0, not '0'/],
    ['--max-wait-ms=-1', /--max-wait-ms must be a number from 0, not '-1'/],
    ['--compare speed', /--compare must be one of standard, pacing, not 'speed'/],
    ['--compare pacing --unpaced', /--unpaced and --compare pacing exclude each other/],
    ['--load 1 --rate 5', /--load and --rate exclude each other/],
    ['--load 1 --backends pool.json', /with real backends use --rate/],
    ['--requests 5 --duration 5 --rate 5', /--requests, --duration and --rate are one too many/],
    ['--requests 5 --duration 5 --load 1', /--requests, --duration and --load are one too many/],
    ['--model a --deployment b', /--model and --deployment exclude each other/],
    ['--model=', /--model and --deployment need a name/],
    ['--api-version v1', /--api-version goes with --deployment/],
    ['--backends=', /--backends needs the name of a JSON file/],
    ['--start fast', /--start must be one of steady, burst, ramp, outage, not 'fast'/],
    ['--start outage --backends pool.json', /--start outage takes the simulated backends out; with real ones it cannot/],
    ['--quiet --verbose', /--quiet and --verbose exclude each other/],
  ]
  for (const [line, message] of WRONG) {
    test(`'${line}' is wrong use, with a message that says why`, () => {
      assert.throws(() => read(line), (error) => error instanceof UsageError && message.test(error.message))
    })
  }

  test('the help names every option', () => {
    const options = ['backends', 'model', 'deployment', 'api-version', 'requests', 'rate', 'load', 'duration', 'start', 'concurrency', 'seed',
      'compare', 'unpaced', 'max-wait-ms', 'out', 'json', 'quiet', 'verbose', 'help']
    for (const option of options) assert.match(HELP, new RegExp(`^  (-h, )?--${option}\\b`, 'm'))
    const named = [...HELP.matchAll(/^ {2}(?:-h, )?--([a-z-]+)/gm)].map((match) => match[1])
    assert.deepEqual(named.sort(), options.sort())
  })
})
