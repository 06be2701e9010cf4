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
    assert.equal(credential.resolve(0), SECRET)
  })

  test('a bearerToken goes out as authorization, after the word Bearer', () => {
    const credential = readCredential({ bearerToken: SECRET }, 'backends[1]', 'west')
    assert.equal(credential?.header, 'authorization')
    assert.equal(credential.resolve(0), `Bearer ${SECRET}`)
  })

  test('without either there is none', () => {
    assert.equal(readCredential({}, 'backends[1]', 'west'), undefined)
  })

  test('a function is asked every time, and may answer at once', () => {
    let calls = 0
    const credential = new Credential('west', 'authorization', () => `token-${++calls}`)
    assert.equal(calls, 0)
    assert.equal(credential.resolve(0), 'Bearer token-1')
    assert.equal(credential.resolve(0), 'Bearer token-2')
  })

  test('a function may answer with a promise, and with the same token again', async () => {
    const tokens = ['a', 'a', 'b', 'a']
    const credential = new Credential('west', 'authorization', () => Promise.resolve(tokens.shift()))
    const values: string[] = []
    for (let i = 0; i < 4; i++) values.push(await credential.resolve(0))
    assert.deepEqual(values, ['Bearer a', 'Bearer a', 'Bearer b', 'Bearer a'])
  })

  test('of a function that takes time one call is under way at once, for all that need it, and the next is made after its end', async () => {
    const answers: ((token: string) => void)[] = []
    const credential = new Credential('west', 'api-key', () => new Promise<string>((resolve) => { answers.push(resolve) }))
    const values = Array.from({ length: 300 }, async () => credential.resolve(0))
    assert.equal(answers.length, 1)
    answers[0]?.('a')
    assert.deepEqual(new Set(await Promise.all(values)), new Set(['a']))
    const next = credential.resolve(0)
    answers[1]?.('b')
    assert.equal(await next, 'b')
    assert.equal(answers.length, 2)
  })

  test('a call that fails fails all that share it, and the next one is made anew', async () => {
    const answers = [Promise.reject(new Error('vault')), Promise.resolve('b')]
    const credential = new Credential('west', 'api-key', () => answers.shift())
    const outcomes = await Promise.allSettled([credential.resolve(0), credential.resolve(0)])
    assert.deepEqual(outcomes.map(({ status }) => status), ['rejected', 'rejected'])
    assert.equal(await credential.resolve(0), 'b')
  })

  test('a call is shared by backends that have the function in common, each of which sends it in its own way', async () => {
    let calls = 0
    const provider = (): Promise<string> => { calls++; return Promise.resolve('x') }
    const values = [new Credential('east', 'api-key', provider).resolve(0), new Credential('west', 'authorization', provider).resolve(0)]
    assert.deepEqual([await Promise.all(values), calls], [['x', 'Bearer x'], 1])
  })

  test('a call has 30 s, whoever joins it; then it is given up, another one may be made, and what it gives after all counts for nothing', async () => {
    const answers: ((token: string) => void)[] = []
    const credential = new Credential('west', 'authorization', () => new Promise<string>((resolve) => { answers.push(resolve) }))
    const first = credential.resolve(1_000)
    assert.equal(credential.leftMs(1_000), 30_000)
    void credential.resolve(30_999)
    assert.equal(answers.length, 1)
    assert.deepEqual([credential.leftMs(30_999), credential.leftMs(40_000)], [1, 0])
    assert.ok(isCredentialError(/the bearerToken function of "west" failed: it gave nothing within 30 s\.$/)(credential.expire()))
    const second = credential.resolve(31_000)
    assert.equal(answers.length, 2)
    answers[0]?.('late')
    assert.equal(await first, 'Bearer late')
    void credential.resolve(31_001)
    assert.equal(answers.length, 2, 'the second is under way still')
    answers[1]?.('b')
    assert.equal(await second, 'Bearer b')
  })

  describe('that was refused', () => {
    test('is told to the function at its next call, and until it has given another one', async () => {
      const hints: unknown[] = []
      const answers: (() => unknown)[] = [() => 'old', () => { throw new Error('vault') }, () => Promise.reject(new Error('vault')), () => Promise.resolve('new'), () => 'new']
      const credential = new Credential('west', 'authorization', (...hint) => { hints.push(...(hint.length === 0 ? ['none'] : hint)); return answers.shift()?.() })
      assert.equal(credential.resolve(0), 'Bearer old')
      credential.refuse('Bearer old')
      for (let i = 0; i < 2; i++) await assert.rejects(async () => credential.resolve(0), CredentialError)
      assert.equal(await credential.resolve(0), 'Bearer new')
      assert.equal(credential.resolve(0), 'Bearer new')
      assert.deepEqual(hints, ['none', { refused: true }, { refused: true }, { refused: true }, 'none'])
    })

    test('is told also to a function that answers at once', () => {
      const hints: unknown[] = []
      const credential = new Credential('west', 'api-key', (hint) => { hints.push(hint); return 'x' })
      void credential.resolve(0)
      credential.refuse('x')
      for (let i = 0; i < 2; i++) void credential.resolve(0)
      assert.deepEqual(hints, [undefined, { refused: true }, undefined])
    })

    test('says nothing of the one that has replaced it since', () => {
      const hints: unknown[] = []
      const given = ['old', 'new', 'new']
      const credential = new Credential('west', 'api-key', (hint) => { hints.push(hint); return given.shift() })
      void credential.resolve(0)
      void credential.resolve(0)
      credential.refuse('old')
      void credential.resolve(0)
      assert.deepEqual(hints, [undefined, undefined, undefined])
    })

    test('changes nothing where it is a fixed one', () => {
      const credential = new Credential('west', 'api-key', SECRET)
      credential.refuse(SECRET)
      assert.equal(credential.resolve(0), SECRET)
    })
  })

  test('a function that throws becomes a CredentialError with the cause, whose text is not repeated', () => {
    const cause = new Error(`PLANTED ${SECRET}`)
    assert.throws(() => new Credential('west', 'api-key', () => { throw cause }).resolve(0), isCredentialError(/the apiKey function of "west" failed \(see the cause\)/, cause))
  })

  test('a promise that rejects becomes a CredentialError with the cause', async () => {
    const cause = new Error(`PLANTED ${SECRET}`)
    await assert.rejects(async () => new Credential('west', 'api-key', () => Promise.reject(cause)).resolve(0), isCredentialError(/the apiKey function of "west" failed \(see the cause\)/, cause))
  })

  test('an object whose then() throws becomes a CredentialError', async () => {
    const cause = new Error('no')
    const thenable = { get then() { throw cause } }
    await assert.rejects(async () => new Credential('west', 'api-key', () => thenable).resolve(0), isCredentialError(/the apiKey function of "west" failed \(see the cause\)/, cause))
  })

  const unusable: readonly [given: unknown, problem: RegExp][] = [
    ['', /failed: it gave an empty string instead of a non-empty string/],
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
      await assert.rejects(async () => new Credential('west', 'api-key', () => given).resolve(0), isCredentialError(problem))
      await assert.rejects(async () => new Credential('west', 'authorization', () => Promise.resolve(given)).resolve(0), isCredentialError(problem))
    })
  }

  test('the word Bearer in front of a token is a mistake that is told', () => {
    const problem = /begins with "Bearer ", which is added by itself/
    assert.throws(() => new Credential('west', 'authorization', () => `bearer ${SECRET}`).resolve(0), isCredentialError(problem))
    assert.match(refuse({ bearerToken: `Bearer ${SECRET}` }).received, problem)
    assert.equal(new Credential('west', 'api-key', () => 'Bearer x').resolve(0), 'Bearer x')
  })

  test('a function that recovers is believed again, and a secret that was refused is refused again', () => {
    const given = ['good', '', '', 'good']
    const credential = new Credential('west', 'api-key', () => given.shift())
    assert.equal(credential.resolve(0), 'good')
    assert.throws(() => credential.resolve(0), CredentialError)
    assert.throws(() => credential.resolve(0), CredentialError)
    assert.equal(credential.resolve(0), 'good')
  })

  test('no way of printing it shows the secret, not even after a function gave it', () => {
    const provided = new Credential('west', 'authorization', () => SECRET)
    assert.equal(provided.resolve(0), `Bearer ${SECRET}`)
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
    assert.equal(readCredential({ apiKey: undefined, bearerToken: 'x' }, 'b', 'b')?.resolve(0), 'Bearer x')
    assert.equal(readCredential({ apiKey: 'x', bearerToken: undefined }, 'b', 'b')?.resolve(0), 'x')
  })

  for (const value of ['', ' ', null, 42, {}, [SECRET], `${SECRET} `, 'PLANTED\n1', 'PLANTED€']) {
    test(`${inspect(value)} is refused, and not shown`, () => {
      const error = refuse({ apiKey: value })
      assert.equal(error.option, 'backends[1].apiKey')
      assert.match(error.rule, /string that can be sent in a header, or a function/)
    })
  }
})
