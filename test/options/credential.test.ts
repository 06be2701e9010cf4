import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { inspect } from 'node:util'
import { Credential, readCredential } from '../../src/options/credential.js'
import { CredentialError, InvalidOptionsError } from '../../src/errors.js'

const SECRET = 'sk-PLANTED-secret'

const refuse = (options: object): InvalidOptionsError => {
  try {
    readCredential(options, 'backends[1]', 'west')
  } catch (error) {
    assert.ok(error instanceof InvalidOptionsError)
    assert.ok(!inspect(error).includes('PLANTED'))
    return error
  }
  assert.fail('it was accepted')
}

const isCredentialError = (problem: RegExp, cause?: unknown) => (error: unknown) => {
  assert.ok(error instanceof CredentialError)
  assert.equal(error.backend, 'west')
  assert.match(error.message, problem)
  assert.ok(!error.message.includes('PLANTED'))
  assert.equal(error.cause, cause)
  return true
}

describe('a credential', () => {
  test('an apiKey goes out as api-key, as it is', () => {
    const credential = readCredential({ apiKey: SECRET }, 'backends[1]', 'west')
    assert.equal(credential?.header, 'api-key')
    assert.equal(credential.resolve(), SECRET)
  })

  test('a bearerToken goes out as authorization, after the word Bearer', () => {
    const credential = readCredential({ bearerToken: SECRET }, 'backends[1]', 'west')
    assert.equal(credential?.header, 'authorization')
    assert.equal(credential.resolve(), `Bearer ${SECRET}`)
  })

  test('without either there is none', () => {
    assert.equal(readCredential({}, 'backends[1]', 'west'), undefined)
  })

  test('a function is asked every time, and may answer at once', () => {
    let calls = 0
    const credential = new Credential('west', 'authorization', () => `token-${++calls}`)
    assert.equal(calls, 0)
    assert.equal(credential.resolve(), 'Bearer token-1')
    assert.equal(credential.resolve(), 'Bearer token-2')
  })

  test('a function may answer with a promise, and with the same token again', async () => {
    const tokens = ['a', 'a', 'b', 'a']
    const credential = new Credential('west', 'authorization', () => Promise.resolve(tokens.shift()))
    const values: string[] = []
    for (let i = 0; i < 4; i++) values.push(await credential.resolve())
    assert.deepEqual(values, ['Bearer a', 'Bearer a', 'Bearer b', 'Bearer a'])
  })

  test('answers that overtake each other are not mixed up', async () => {
    const answers: ((token: string) => void)[] = []
    const credential = new Credential('west', 'api-key', () => new Promise<string>((resolve) => { answers.push(resolve) }))
    const values = [1, 2, 3].map(async () => credential.resolve())
    for (const [index, token] of [[2, 'c'], [0, 'a'], [1, 'b']] as const) answers[index]?.(token)
    assert.deepEqual(await Promise.all(values), ['a', 'b', 'c'])
  })

  test('a function that throws becomes a CredentialError with the cause, whose text is not repeated', () => {
    const cause = new Error(`PLANTED ${SECRET}`)
    assert.throws(() => new Credential('west', 'api-key', () => { throw cause }).resolve(), isCredentialError(/its function failed/, cause))
  })

  test('a promise that rejects becomes a CredentialError with the cause', async () => {
    const cause = new Error(`PLANTED ${SECRET}`)
    await assert.rejects(async () => new Credential('west', 'api-key', () => Promise.reject(cause)).resolve(), isCredentialError(/its function failed/, cause))
  })

  test('an object whose then() throws becomes a CredentialError', async () => {
    const cause = new Error('no')
    const thenable = { get then() { throw cause } }
    await assert.rejects(async () => new Credential('west', 'api-key', () => thenable).resolve(), isCredentialError(/its function failed/, cause))
  })

  const unusable: readonly [given: unknown, problem: RegExp][] = [
    ['', /gave an empty string instead of a non-empty string/],
    [undefined, /gave undefined instead/],
    [null, /gave null instead/],
    [42, /gave a number instead/],
    [{ token: SECRET }, /gave an object instead/],
    [[SECRET], /gave an array instead/],
    [`${SECRET}\n`, /white space around it/],
    [` ${SECRET}`, /white space around it/],
    [`PLANTED\r\nx-evil: 1`, /characters that no header may have/],
    ['PLANTED\u0000', /characters that no header may have/],
    ['PLANTED€', /characters that no header may have/],
  ]
  for (const [given, problem] of unusable) {
    test(`a function that gives ${inspect(given)} fails, at once and as a promise`, async () => {
      await assert.rejects(async () => new Credential('west', 'api-key', () => given).resolve(), isCredentialError(problem))
      await assert.rejects(async () => new Credential('west', 'authorization', () => Promise.resolve(given)).resolve(), isCredentialError(problem))
    })
  }

  test('the word Bearer in front of a token is a mistake that is told', () => {
    const problem = /begins with "Bearer ", which is added by itself/
    assert.throws(() => new Credential('west', 'authorization', () => `bearer ${SECRET}`).resolve(), isCredentialError(problem))
    assert.match(refuse({ bearerToken: `Bearer ${SECRET}` }).received, problem)
    assert.equal(new Credential('west', 'api-key', () => 'Bearer x').resolve(), 'Bearer x')
  })

  test('a function that recovers is believed again, and a secret that was refused is refused again', () => {
    const given = ['good', '', '', 'good']
    const credential = new Credential('west', 'api-key', () => given.shift())
    assert.equal(credential.resolve(), 'good')
    assert.throws(() => credential.resolve(), CredentialError)
    assert.throws(() => credential.resolve(), CredentialError)
    assert.equal(credential.resolve(), 'good')
  })

  test('no way of printing it shows the secret, not even after a function gave it', () => {
    const provided = new Credential('west', 'authorization', () => SECRET)
    assert.equal(provided.resolve(), `Bearer ${SECRET}`)
    for (const credential of [new Credential('west', 'api-key', SECRET), provided]) {
      const prints = [inspect(credential, { showHidden: true, depth: null, getters: true }), JSON.stringify(credential), `${credential as unknown as string}`, JSON.stringify(Object.getOwnPropertyDescriptors(credential))]
      assert.ok(prints.every((print) => !print.includes('PLANTED')), prints.join())
    }
  })

  test('it cannot be changed', () => {
    assert.ok(Object.isFrozen(new Credential('west', 'api-key', SECRET)))
  })
})

describe('a wrong credential option', () => {
  test('apiKey beside bearerToken is refused', () => {
    const error = refuse({ apiKey: SECRET, bearerToken: SECRET })
    assert.equal(error.message, 'backends[1] must have either apiKey or bearerToken. Received: both.')
  })

  test('one that is undefined, as from a missing environment variable, is refused and not taken for none', () => {
    for (const key of ['apiKey', 'bearerToken']) {
      const error = refuse({ [key]: undefined })
      assert.equal(error.option, `backends[1].${key}`)
      assert.match(error.rule, /environment variable missing/)
    }
    assert.match(refuse({ apiKey: undefined, bearerToken: undefined }).option, /apiKey|bearerToken/)
  })

  test('an undefined one beside a real one does no harm', () => {
    assert.equal(readCredential({ apiKey: undefined, bearerToken: 'x' }, 'b', 'b')?.resolve(), 'Bearer x')
    assert.equal(readCredential({ apiKey: 'x', bearerToken: undefined }, 'b', 'b')?.resolve(), 'x')
  })

  for (const value of ['', ' ', null, 42, {}, [SECRET], `${SECRET} `, 'PLANTED\n1', 'PLANTED€']) {
    test(`${inspect(value)} is refused, and not shown`, () => {
      const error = refuse({ apiKey: value })
      assert.equal(error.option, 'backends[1].apiKey')
      assert.match(error.rule, /string that can be sent in a header, or a function/)
    })
  }
})
