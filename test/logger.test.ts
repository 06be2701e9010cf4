import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, test } from 'node:test'
import { pino } from 'pino'
import { InvalidOptionsError } from '../src/errors.js'
import { resolveLogger, type Logger } from '../src/logger.js'

const source = new URL('../src/logger.ts', import.meta.url).href

/** Runs a program of its own, since the default logger writes to the process's stderr. */
function run(code: string, env: Record<string, string> = {}, setUp = '') {
  const program = `${setUp}\nconst { resolveLogger } = await import(${JSON.stringify(source)})\nconst logger = resolveLogger(undefined, process.env)\n${code}`
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
    encoding: 'utf8', timeout: 20_000, env: { ...process.env, ...env },
  })
  return { stdout, stderr, status, lines: stderr.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Record<string, unknown>) }
}

class Recorder implements Logger {
  readonly lines: unknown[][] = []
  debug(...line: [object, string]): void { this.lines.push(['debug', ...line]) }
  info(...line: [object, string]): void { this.lines.push(['info', ...line]) }
  warn(...line: [object, string]): void { this.lines.push(['warn', ...line]) }
  error(...line: [object, string]): void { this.lines.push(['error', ...line]) }
}

const writeAll = "for (const level of ['debug', 'info', 'warn', 'error']) logger[level]({ field: level }, 'hello')"

describe('the default logger', () => {
  test('writes warnings and errors to stderr as pino does, and loses none when the process exits at once', () => {
    const { stdout, lines, status } = run(`${writeAll}\nprocess.exit(3)`, { OPENAI_LOADBALANCER_LOG_LEVEL: '' })
    assert.equal(status, 3)
    assert.equal(stdout, '')
    assert.deepEqual(lines.map(({ name, level, field, msg }) => ({ name, level, field, msg })), [
      { name: 'openai-priority-loadbalancer', level: 40, field: 'warn', msg: 'hello' },
      { name: 'openai-priority-loadbalancer', level: 50, field: 'error', msg: 'hello' },
    ])
  })

  test('takes its level from OPENAI_LOADBALANCER_LOG_LEVEL, in any letter case', () => {
    const { lines } = run(writeAll, { OPENAI_LOADBALANCER_LOG_LEVEL: 'Debug' })
    assert.deepEqual(lines.map(({ level }) => level), [20, 30, 40, 50])
  })

  test('does not load pino before there is a line to write', () => {
    const loaded = "const { createRequire } = await import('node:module')\nconst isLoaded = () => Object.keys(createRequire(import.meta.url).cache).some((file) => /[\\\\/]pino[\\\\/]/.test(file))"
    const { stdout } = run("logger.info({}, 'x'); console.log(isLoaded()); logger.warn({}, 'x'); console.log(isLoaded())", {}, loaded)
    assert.equal(stdout, 'false\ntrue\n')
  })

  test('says once that pino is missing, where a bundle left it out, and goes on', () => {
    const hide = "const { default: Module } = await import('node:module')\nconst load = Module._load\nModule._load = (id, ...rest) => { if (id === 'pino') throw new Error('not bundled'); return load(id, ...rest) }"
    const { stderr, stdout, status } = run(`${writeAll}\nconsole.log('done')`, { OPENAI_LOADBALANCER_LOG_LEVEL: 'debug' }, hide)
    assert.equal(status, 0)
    assert.equal(stdout, 'done\n')
    assert.equal(stderr.match(/cannot load pino: pass a logger of your own, or false\. not bundled/g)?.length, 1, stderr)
  })

  test('knows what is enabled', () => {
    const enabled = (level: string) => ['debug', 'info', 'warn', 'error', 'fatal'].filter((name) => resolveLogger(undefined, { OPENAI_LOADBALANCER_LOG_LEVEL: level }).isLevelEnabled(name))
    assert.deepEqual(enabled(''), ['warn', 'error', 'fatal'])
    assert.deepEqual(enabled(' info '), ['info', 'warn', 'error', 'fatal'])
    assert.deepEqual(enabled('silent'), [])
    assert.equal(resolveLogger(undefined, {}).isLevelEnabled('no such level'), false)
  })

  test('writes nothing with the level silent', () => {
    assert.equal(run(writeAll, { OPENAI_LOADBALANCER_LOG_LEVEL: 'silent' }).stderr, '')
  })

  test('a level that there is not is told with the levels that there are', () => {
    assert.throws(() => resolveLogger(undefined, { OPENAI_LOADBALANCER_LOG_LEVEL: 'loud' }), (error) => {
      assert.ok(error instanceof InvalidOptionsError)
      assert.match(error.message, /OPENAI_LOADBALANCER_LOG_LEVEL must be one of trace, debug, info, warn, error, fatal, silent. Received: "loud"/)
      return true
    })
    assert.throws(() => resolveLogger(undefined, { OPENAI_LOADBALANCER_LOG_LEVEL: 'constructor' }), InvalidOptionsError)
  })

  test('the level in the environment does not matter to a logger that was given', () => {
    assert.equal(resolveLogger(false, { OPENAI_LOADBALANCER_LOG_LEVEL: 'loud' }).isLevelEnabled('error'), false)
  })
})

describe('no logger', () => {
  test('takes every line and enables no level', () => {
    const logger = resolveLogger(false, {})
    for (const level of ['debug', 'info', 'warn', 'error'] as const) {
      logger[level]({}, 'x')
      assert.equal(logger.isLevelEnabled(level), false)
    }
  })
})

describe("a caller's logger", () => {
  test('gets each line at its level, as a method of itself', () => {
    const recorder = new Recorder()
    const logger = resolveLogger(recorder, {})
    for (const level of ['debug', 'info', 'warn', 'error'] as const) logger[level]({ level }, 'hello')
    assert.deepEqual(recorder.lines, ['debug', 'info', 'warn', 'error'].map((level) => [level, { level }, 'hello']))
    assert.equal(logger.isLevelEnabled('debug'), true)
  })

  test('is asked what is enabled, also when its level changes later', () => {
    const target = pino({ level: 'error' })
    const logger = resolveLogger(target, {})
    assert.equal(logger.isLevelEnabled('info'), false)
    target.level = 'info'
    assert.equal(logger.isLevelEnabled('info'), true)
  })

  test('may throw: the process is warned once, the request goes on', async () => {
    const warning = new Promise<Error>((resolve) => { process.once('warning', resolve) })
    const broken = new Recorder()
    broken.warn = () => { throw new Error('disk full') }
    const logger = resolveLogger(broken, {})
    logger.warn({}, '1')
    logger.warn({}, '2')
    logger.info({}, '3')
    assert.deepEqual(broken.lines, [['info', {}, '3']])
    assert.match((await warning).message, /logger of openai-priority-loadbalancer throws.*disk full/)
  })

  test('may throw something that is no error, and from isLevelEnabled, which then counts as not enabled', async () => {
    const warnings: Error[] = []
    const onWarning = (warning: Error) => { warnings.push(warning) }
    process.on('warning', onWarning)
    const logger = resolveLogger(Object.assign(new Recorder(), { isLevelEnabled() { throw 'PLANTED' } }), {})
    assert.equal(logger.isLevelEnabled('warn'), false)
    assert.equal(logger.isLevelEnabled('warn'), false)
    await new Promise(setImmediate)
    process.off('warning', onWarning)
    assert.equal(warnings.length, 1)
    assert.ok(!warnings[0]?.message.includes('PLANTED'))
  })

  test('without one of the four methods is refused', () => {
    for (const value of [null, true, 'pino', {}, [], { debug() {}, info() {}, warn() {} }, { debug() {}, info() {}, warn() {}, error: 'no' }]) {
      assert.throws(() => resolveLogger(value, {}), (error) => error instanceof InvalidOptionsError && error.option === 'logger' && /false or a logger with debug\(\)/.test(error.rule))
    }
  })

  test('whose members throw when they are read is refused', () => {
    assert.throws(() => resolveLogger({ get debug() { throw new Error('no') } }, {}), InvalidOptionsError)
  })

  test('may be a function with methods, and the console', () => {
    assert.ok(resolveLogger(Object.assign(() => {}, { debug() {}, info() {}, warn() {}, error() {} }), {}))
    assert.ok(resolveLogger(console satisfies Logger, {}))
  })
})
