import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { inspect } from 'node:util'
import { readConfigFile } from '../../src/options/config-file.js'
import { InvalidOptionsError } from '../../src/errors.js'

const folder = mkdtempSync(join(tmpdir(), 'oplb-config-'))
after(() => { rmSync(folder, { recursive: true }) })

let files = 0
function write(content: unknown): string {
  const path = join(folder, `${++files}.json`)
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
  return path
}

const env = { KEY_EAST: 'PLANTED-east', TOKEN: 'PLANTED-token', EMPTY: '', SPACED: 'PLANTED ' }
const east = { url: 'https://east.openai.azure.com/openai/v1', priority: 1 }

const refuse = (content: unknown): InvalidOptionsError => {
  const path = write(content)
  try {
    readConfigFile(path, env)
  } catch (error) {
    assert.ok(error instanceof InvalidOptionsError, inspect(error))
    assert.equal(error.file, path)
    assert.ok(error.message.startsWith(`${path}: ${error.option} `), error.message)
    assert.ok(!inspect(error, { depth: null }).includes('PLANTED'), inspect(error))
    return error
  }
  assert.fail('it was accepted')
}

describe('a configuration file', () => {
  test('has the options, with secrets from the environment where it names a variable', () => {
    const { resolved, given } = readConfigFile(write({
      backends: [{ ...east, apiKey: { env: 'KEY_EAST' } }, { url: 'api.openai.com/v1', priority: 2, bearerToken: { env: 'TOKEN' } }, { url: 'x.example', priority: 3, apiKey: 'inline' }],
      maxWaitMs: 500,
      logger: false,
    }), env)
    const { backends, maxWaitMs } = resolved
    assert.deepEqual(given.backends.map(({ apiKey, bearerToken }) => apiKey ?? bearerToken), ['PLANTED-east', 'PLANTED-token', 'inline'])
    assert.deepEqual(backends.map((backend) => backend.credential?.resolve(0)), ['PLANTED-east', 'Bearer PLANTED-token', 'inline'])
    assert.equal(maxWaitMs, 500)
  })

  test('has the values of headers and query from there, too, each by itself', () => {
    const { backends: [backend] } = readConfigFile(write({ backends: [{ ...east, headers: { 'x-api-key': { env: 'KEY_EAST' }, 'x-route': 'a' }, query: { 'api-version': '1', code: { env: 'TOKEN' } } }], logger: false }), env).resolved
    assert.deepEqual([backend?.headers, backend?.query], [[['x-api-key', 'PLANTED-east'], ['x-route', 'a']], [['api-version', '1'], ['code', 'PLANTED-token']]])
    assert.throws(() => readConfigFile(write({ backends: [{ ...east, headers: { 'x-api-key': { env: 'NOT_THERE' } } }] }), env), /backends\[0\]\.headers\["x-api-key"\] needs the environment variable "NOT_THERE"/)
  })

  test('may begin with a byte order mark', () => {
    assert.equal(readConfigFile(write(`\uFEFF${JSON.stringify({ backends: [east] })}`), env).resolved.backends.length, 1)
  })

  test('that is not there is told with the reason', () => {
    const path = join(folder, 'missing.json')
    assert.throws(() => readConfigFile(path, env), (error) => {
      assert.ok(error instanceof InvalidOptionsError)
      assert.equal(error.message, `${path}: the file must be readable. Received: ENOENT.`)
      assert.ok(error.cause instanceof Error)
      return true
    })
  })

  test('that is a folder is told with the reason', () => {
    assert.throws(() => readConfigFile(folder, env), /must be readable\. Received: EISDIR/)
  })

  test('whose name cannot be one is told', () => {
    assert.throws(() => readConfigFile('a\0b', env), (error) => error instanceof InvalidOptionsError && /must be readable/.test(error.message))
  })

  test('that is not JSON is told without a piece of it, since that may be a key', () => {
    const error = refuse('{ "backends": [{ "apiKey": "PLANTED", } ] }')
    assert.equal(error.rule, 'must be valid JSON')
    assert.ok(!('cause' in error))
    assert.match(refuse(' \n').received, /an empty file/)
  })

  const wrong: readonly [content: unknown, option: string, rule: RegExp, received?: RegExp][] = [
    [[], 'options', /an object/],
    [null, 'options', /an object/],
    ['"PLANTED"', 'options', /an object/],
    [{}, 'backends', /an array/],
    [{ backends: { url: 'x' } }, 'backends', /an array/],
    [{ backends: ['x'] }, 'backends[0]', /an object/],
    [{ backends: [{ ...east, priority: 0 }] }, 'backends[0].priority', /an integer/],
    [{ backends: [{ ...east, apikey: 'PLANTED' }] }, 'backends[0].apikey', /did you mean apiKey/],
    [{ backends: [{ ...east, apiKey: 'PLANTED', bearerToken: { env: 'TOKEN' } }] }, 'backends[0]', /either/],
    [{ backends: [{ ...east, apiKey: null }] }, 'backends[0].apiKey', /can be sent/],
    [{ backends: [{ ...east, apiKey: { env: 'SPACED' } }] }, 'backends[0].apiKey', /can be sent/, /white space/],
    [{ backends: [east, { ...east, apiKey: { env: 'KEY_WEST' } }] }, 'backends[1].apiKey', /needs the environment variable "KEY_WEST"/, /undefined there/],
    [{ backends: [{ ...east, bearerToken: { env: 'EMPTY' } }] }, 'backends[0].bearerToken', /needs the environment variable "EMPTY"/, /an empty string there/],
    [{ backends: [{ ...east, apiKey: {} }] }, 'backends[0].apiKey', /\{ "env": "NAME_OF_A_VARIABLE" \}/],
    [{ backends: [{ ...east, apiKey: { env: 7 } }] }, 'backends[0].apiKey', /NAME_OF_A_VARIABLE/],
    [{ backends: [{ ...east, apiKey: { env: '' } }] }, 'backends[0].apiKey', /NAME_OF_A_VARIABLE/],
    [{ backends: [{ ...east, apiKey: { env: 'KEY_EAST', default: 'PLANTED' } }] }, 'backends[0].apiKey', /NAME_OF_A_VARIABLE/],
    [{ backends: [{ ...east, url: { env: 'KEY_EAST' } }] }, 'backends[0].url', /a URL such as/, /an object/],
    [{ backends: [{ ...east, models: { 'gpt-4o': 4 } }] }, 'backends[0].models["gpt-4o"]', /a string/],
    [{ backends: [east], maxWaitMs: null }, 'maxWaitMs', /milliseconds/, /null/],
    [{ backends: [east], logger: {} }, 'logger', /false or a logger/],
    ['{"__proto__": {"backends": []}, "backends": []}', '__proto__', /not an option/],
  ]
  for (const [content, option, rule, received] of wrong) {
    test(`${JSON.stringify(content)} is refused at ${option}, with the name of the file`, () => {
      const error = refuse(content)
      assert.equal(error.option, option)
      assert.match(error.rule, rule)
      if (received !== undefined) assert.match(error.received, received)
    })
  }

  test('takes an environment that has inherited names only for what it holds itself', () => {
    const error = refuse({ backends: [{ ...east, apiKey: { env: 'toString' } }] })
    assert.match(error.rule, /needs the environment variable "toString"/)
  })

  test('does not take an error of the environment for one of the file', () => {
    const error = new Error('no')
    const broken = new Proxy({}, { getOwnPropertyDescriptor() { throw error } })
    assert.throws(() => readConfigFile(write({ backends: [{ ...east, apiKey: { env: 'X' } }] }), broken), error)
  })
})
