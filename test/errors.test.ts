import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as errors from '../src/errors.js'
import { BalancerClosedError, CredentialError, InstallError, InvalidOptionsError, LoadBalancerError } from '../src/errors.js'

const samples = [
  { make: (m: typeof errors) => new m.InvalidOptionsError('maxAttempts', 'must be an integer of 1 or more', '0'), name: 'InvalidOptionsError', code: 'ERR_OPLB_INVALID_OPTIONS' },
  { make: (m: typeof errors) => new m.InstallError('It is installed already.'), name: 'InstallError', code: 'ERR_OPLB_INSTALL' },
  { make: (m: typeof errors) => new m.BalancerClosedError(), name: 'BalancerClosedError', code: 'ERR_OPLB_CLOSED' },
  { make: (m: typeof errors) => new m.CredentialError('west', 'its function failed'), name: 'CredentialError', code: 'ERR_OPLB_CREDENTIAL' },
] as const

describe('errors', () => {
  for (const { make, name, code } of samples) {
    test(`${name} is an Error and a LoadBalancerError with the code ${code}`, () => {
      const error = make(errors)
      assert.ok(error instanceof Error)
      assert.ok(error instanceof LoadBalancerError)
      assert.ok(error instanceof errors[name])
      assert.equal(error.name, name)
      assert.equal(error.code, code)
      assert.ok(error.stack?.startsWith(`${name}: ${error.message}`))
    })
  }

  test('an error of one copy of the package is an instance of the classes of another copy', async () => {
    const specifier = '../src/errors.js?second-copy'
    const copy = await import(specifier) as typeof errors
    assert.notEqual(copy.LoadBalancerError, LoadBalancerError)
    for (const { make, name } of samples) {
      assert.ok(make(copy) instanceof errors[name])
      assert.ok(make(errors) instanceof copy[name])
      assert.ok(make(copy) instanceof LoadBalancerError)
    }
  })

  test('an error is not an instance of a sibling class, and other values are of none', () => {
    assert.ok(!(new InstallError('no') instanceof BalancerClosedError))
    assert.ok(!(new LoadBalancerError('ERR_OPLB_X', 'x') instanceof InstallError))
    for (const value of [new Error('x'), {}, null, undefined, 'ERR_OPLB_INSTALL', 1]) {
      assert.ok(!((value as unknown) instanceof LoadBalancerError))
    }
  })

  test("a user's own subclass keeps the usual meaning of instanceof", () => {
    class OwnError extends InstallError {}
    assert.ok(new OwnError('x') instanceof OwnError)
    assert.ok(new OwnError('x') instanceof InstallError)
    assert.ok(!((new InstallError('x') as unknown) instanceof OwnError))
  })

  test('an InvalidOptionsError tells the option, the rule, the value and the file', () => {
    const error = new InvalidOptionsError('backends[0].priority', 'must be an integer of 1 or more', '"1"', { file: '/etc/lb.json' })
    assert.equal(error.message, '/etc/lb.json: backends[0].priority must be an integer of 1 or more. Received: "1".')
    assert.deepEqual([error.option, error.rule, error.received, error.file], ['backends[0].priority', 'must be an integer of 1 or more', '"1"', '/etc/lb.json'])
    assert.ok(!('cause' in error))
  })

  test('a CredentialError names the backend and keeps the cause, whose text is not in the message', () => {
    const cause = new Error('token endpoint said: SECRET')
    const error = new CredentialError('west "2"', 'its function failed', { cause })
    assert.equal(error.message, 'No credential for backend "west \\"2\\"": its function failed.')
    assert.equal(error.backend, 'west "2"')
    assert.equal(error.cause, cause)
  })

  test('messages and causes of the simple errors are kept', () => {
    const cause = new Error('why')
    assert.equal(new InstallError('what', { cause }).cause, cause)
    assert.equal(new BalancerClosedError('gone').message, 'gone')
    assert.match(new BalancerClosedError().message, /closed/)
  })
})
