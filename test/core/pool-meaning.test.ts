/** What follows for the pool from what an answer says: who is out, for how long, and where the request goes. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { BackendConfig, BackendCredential, PathKind, PoolConfig } from '../../src/core/types.js'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'
import { SEED } from '../support/seed.js'

const ours = { ownsCredential: true } as const
const two = (ofA: Partial<BackendConfig> = {}, ofB: Partial<BackendConfig> = {}, more: Partial<PoolConfig> = {}): PoolKit =>
  new PoolKit([backend('a', 1, ofA), backend('b', 2, ofB)], more)

/** A function gives it. */
const fetched: BackendCredential = {
  header: 'api-key', isFetched: true, resolve: () => 'key', leftMs: () => 0, expire: () => new Error('late'), refuse: () => {},
}

/** Of a caller with a credential, to any path. */
class CallersRequest extends TestRequest {
  readonly #key: string
  readonly #path: PathKind

  constructor(key: string, path: PathKind = 'core', more: Partial<Pick<TestRequest, 'scope' | 'maxWaitMs' | 'pinned'>> = {}) {
    super({ scope: 'm', ...more })
    this.#key = key
    this.#path = path
  }

  override get callerKey(): string {
    return this.#key
  }

  override get path(): PathKind {
    return this.#path
  }
}

const m = (more: Partial<Pick<TestRequest, 'maxWaitMs' | 'pinned'>> = {}): TestRequest => new TestRequest({ scope: 'm', ...more })

/** For how long what is out was said to be out, of each line that says so. */
const outs = (kit: PoolKit): string[] => kit.listener.take().filter((line) => /^(ejected|cooldown|caller-out) /.test(line))

describe('what a backend does not have', () => {
  for (const [status, said] of [[404, { code: 'DeploymentNotFound' }], [404, { code: 'model_not_found' }], [403, { code: 'model_not_found' }], [410, {}], [400, { code: 'OperationNotSupported' }]] as const) {
    test(`${status} ${JSON.stringify(said)}: the request goes on, and the name is out on this backend: a minute, doubled to five`, () => {
      const kit = two(ours, ours)
      let ms = 60_000
      for (const expected of [60_000, 120_000, 240_000, 300_000, 300_000]) {
        const request = m()
        assert.equal(kit.answer(kit.send(request), status, {}, said), 'missing')
        assert.equal(kit.send(request).backend.name, 'b')
        assert.deepEqual(outs(kit), [`ejected a/m ${expected} missing`])
        assert.equal(kit.send(new TestRequest({ scope: 'other' })).backend.name, 'a')
        kit.system.advance(ms = expected)
      }
      assert.equal(ms, 300_000)
    })
  }

  test('an update puts it right', () => {
    const kit = two()
    kit.answer(kit.send(m()), 404, {}, { code: 'DeploymentNotFound' })
    assert.equal(kit.send(m()).backend.name, 'b')
    kit.update([backend('a', 1), backend('b', 2)])
    assert.equal(kit.send(m()).backend.name, 'a')
  })

  test('an operation that a deployment does not know is the caller\'s mistake where it has answered others lately', () => {
    const kit = two()
    kit.answer(kit.send(m()), 200)
    for (const [waitMs, isOut] of [[599_999, false], [1, true]] as const) {
      kit.system.advance(waitMs)
      const request = m()
      kit.answer(kit.send(request), 400, {}, { code: 'OperationNotSupported' })
      assert.equal(kit.send(request).backend.name, 'b')
      assert.equal(kit.statusOf('a').scopes[0]?.reason, isOut ? 'missing' : undefined)
    }
  })

  test('without a name nothing is out', () => {
    const kit = two()
    const request = new TestRequest()
    assert.equal(kit.answer(kit.send(request), 404, {}, { code: 'model_not_found' }), 'missing')
    assert.equal(kit.send(request).backend.name, 'b')
    assert.deepEqual(outs(kit), [])
  })

  test('missing everywhere, it is asked for at the home once, also by one that could wait', () => {
    for (const maxWaitMs of [0, 5_000]) {
      const kit = new PoolKit([backend('a', 1), backend('b', 2), backend('c', 3)], { maxWaitMs })
      const first = m()
      for (let i = 0; i < 3; i++) kit.answer(kit.send(first), 404, {}, { code: 'model_not_found' })
      // The last answer was the first caller's: nobody looked into it unless that one could have waited.
      if (maxWaitMs === 0) kit.answer(kit.send(m()), 404, {}, { code: 'model_not_found' })
      else assert.deepEqual(kit.acquire(first), { kind: 'surface', reason: 'no-backend' })
      const next = m()
      const attempt = kit.send(next)
      assert.equal(attempt.backend.name, 'a')
      kit.answer(attempt, 404, {}, { code: 'model_not_found' })
      assert.deepEqual(kit.acquire(next), { kind: 'surface', reason: 'no-backend' })
    }
  })

  test('while one is asked once more, others are told by the home', () => {
    const kit = two()
    for (let i = 0; i < 2; i++) kit.answer(kit.send(m()), 404, {}, { code: 'model_not_found' })
    kit.system.advance(60_000)
    assert.deepEqual([1, 2, 3, 4].map(() => kit.send(m()).backend.name), ['a', 'b', 'a', 'a'])
    assert.equal(kit.statusOf('a').scopes[0]?.state, 'probing')
  })

  test('bound to one backend, it is told as it is', () => {
    const kit = two()
    const request = m({ pinned: true })
    assert.equal(kit.answer(kit.send(request), 410), 'answered')
    assert.deepEqual(outs(kit), [])
  })
})

describe('our own credential is refused', () => {
  test('a fixed one: the backend is out for a minute, time and again', () => {
    const kit = two(ours)
    for (let i = 0; i < 3; i++) {
      kit.answer(kit.send(m()), 401)
      assert.deepEqual(outs(kit), ['ejected a 60000 misconfigured'])
      kit.system.advance(60_000)
    }
  })

  test('of a function: one second, doubled to a minute; a success ends that', () => {
    const kit = two({ ...ours, credential: fetched })
    for (const ms of [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
      kit.setChance(0)
      kit.answer(kit.send(m()), 401)
      assert.deepEqual(outs(kit), [`ejected a ${ms} credential`])
      kit.system.advance(ms)
    }
    kit.answer(kit.send(m()), 200)
    kit.answer(kit.send(m()), 401)
    assert.deepEqual(outs(kit), ['ejected a 1000 credential'])
  })

  test('where the error names the model, or the path is none of the first three: the scope', () => {
    for (const [path, param] of [['core', 'model'], ['model', undefined]] as const) {
      const kit = two(ours)
      kit.answer(kit.send(new CallersRequest('', path, { scope: 'dall-e-3' })), 403, {}, param === undefined ? {} : { param })
      assert.deepEqual(outs(kit), ['ejected a/dall-e-3 60000 misconfigured'])
      assert.equal(kit.send(m()).backend.name, 'a')
      assert.equal(kit.send(new TestRequest({ scope: 'dall-e-3' })).backend.name, 'b')
    }
  })

  test('a 403 that nobody looked into takes out no more than the scope, a 401 the backend', () => {
    for (const [status, out] of [[403, 'ejected a/m 60000 misconfigured'], [401, 'ejected a 60000 misconfigured']] as const) {
      const kit = new PoolKit([backend('a', 1, ours)])
      kit.answer(kit.send(m()), status)
      assert.deepEqual(outs(kit), [out])
    }
  })

  test('outside the model API nothing is out, and the request goes on', () => {
    const kit = two(ours)
    for (const status of [401, 403]) {
      const request = new CallersRequest('', 'outside')
      assert.equal(kit.answer(kit.send(request), status), 'misconfigured')
      assert.equal(kit.send(request).backend.name, 'b')
    }
    assert.deepEqual(outs(kit), [])
  })

  test('with a key that an update has replaced since, nothing is out', () => {
    const kit = two(ours)
    const attempt = kit.send(m())
    kit.update([backend('a', 1, ours), backend('b', 2)])
    assert.equal(kit.answer(attempt, 401), 'misconfigured')
    assert.deepEqual(outs(kit), [])
  })

  test('a 403 that says when to come back is throttled for as long', () => {
    const kit = two(ours)
    kit.answer(kit.send(m()), 403, { 'retry-after': '1' })
    assert.deepEqual(outs(kit), ['cooldown a m 1000 retry-after 403'])
    assert.equal(kit.send(new TestRequest({ scope: 'other' })).backend.name, 'a')
  })
})

describe('the account is exhausted', () => {
  test('ours: the backend is out for a minute, doubled to 15; one request finds out', () => {
    const kit = two(ours)
    for (const minutes of [1, 2, 4, 8, 15, 15]) {
      const request = m()
      assert.equal(kit.answer(kit.send(request), 402), 'exhausted')
      assert.equal(kit.send(request).backend.name, 'b')
      assert.deepEqual(outs(kit), [`ejected a ${minutes * 60_000} exhausted`])
      kit.system.advance(minutes * 60_000 - 1)
      assert.equal(kit.send(m()).backend.name, 'b')
      kit.system.advance(1)
    }
    const probe = kit.send(m())
    assert.equal(probe.backend.name, 'a')
    assert.equal(kit.send(m()).backend.name, 'b')
    kit.answer(probe, 200)
    assert.equal(kit.send(m()).backend.name, 'a')
  })

  test('a caller\'s: out for this credential alone; a success with it ends that', () => {
    const kit = two()
    for (const minutes of [1, 2, 4, 8, 15, 15]) {
      const request = new CallersRequest('poor')
      kit.answer(kit.send(request), 402)
      assert.equal(kit.send(request).backend.name, 'b')
      assert.deepEqual(outs(kit), [`caller-out a ${minutes * 60_000} exhausted`])
      assert.equal(kit.statusOf('a').callersOut, 1)
      assert.equal(kit.send(new CallersRequest('rich')).backend.name, 'a')
      kit.system.advance(minutes * 60_000 - 1)
      assert.equal(kit.send(new CallersRequest('poor')).backend.name, 'b')
      kit.system.advance(1)
    }
    const probe = kit.send(new CallersRequest('poor'))
    assert.equal(probe.backend.name, 'a')
    assert.equal(kit.send(new CallersRequest('poor')).backend.name, 'b', 'one finds out')
    kit.answer(probe, 200)
    assert.equal(kit.send(new CallersRequest('poor')).backend.name, 'a')
    assert.equal(kit.statusOf('a').callersOut, 0)
  })

  test('several that were under way together count once', () => {
    const kit = two()
    const attempts = [1, 2, 3].map(() => kit.send(new CallersRequest('poor')))
    kit.system.advance(10)
    for (const attempt of attempts) kit.answer(attempt, 402)
    assert.deepEqual(outs(kit), ['caller-out a 60000 exhausted'])
  })

  test('256 credentials are remembered, and the oldest is forgotten', () => {
    const kit = two()
    for (let i = 0; i <= 256; i++) kit.answer(kit.send(new CallersRequest(`key ${i}`)), 402)
    assert.equal(kit.statusOf('a').callersOut, 256)
    assert.equal(kit.send(new CallersRequest('key 0')).backend.name, 'a')
    assert.equal(kit.send(new CallersRequest('key 1')).backend.name, 'b')
  })

  test('it is asked all the same where there is no other, at once, also by one that could wait', () => {
    const kit = new PoolKit([backend('a', 1, ours)], { maxWaitMs: 5_000 })
    for (let i = 0; i < 3; i++) {
      const request = m()
      kit.answer(kit.send(request), 402)
      assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'no-backend' })
    }
  })

  test('the last column of the table holds for any order of answers: what one caller did is no other caller\'s business', () => {
    fc.assert(fc.property(fc.array(fc.tuple(fc.constantFrom('x', 'y'), fc.constantFrom(200, 401, 402, 403, 429)), { maxLength: 12 }), (steps) => {
      const kit = two()
      for (const [key, status] of steps) {
        const sent = kit.acquire(new CallersRequest(key))
        if (sent.kind === 'send') kit.answer(sent, status, status === 429 ? { 'retry-after-ms': '15' } : {})
        kit.system.advance(20)
      }
      assert.equal(kit.send(new CallersRequest('z')).backend.name, 'a')
    }), { seed: SEED })
  })
})

describe('a caller\'s credential is refused', () => {
  const mixed = (): PoolKit => new PoolKit([backend('a', 1), backend('b', 2, ours), backend('c', 3)])

  for (const [status, said] of [[403, {}], [401, { code: 'PermissionDenied' }]] as const) {
    test(`${status}: on among those that get the same, never to one with a key of ours; out for it alone, a second doubled to a minute`, () => {
      const kit = mixed()
      for (const ms of [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]) {
        const request = new CallersRequest('bad')
        assert.equal(kit.answer(kit.send(request), status, {}, said), 'refused')
        assert.equal(kit.send(request).backend.name, 'c')
        assert.deepEqual(outs(kit), [`caller-out a ${ms} refused`])
        kit.system.advance(ms)
      }
    })
  }

  test('it is paid from the retry budget', () => {
    const kit = new PoolKit([backend('a', 1), backend('b', 2)], { retryBudget: { ratio: 0, minPerSecond: 0 } })
    const request = new CallersRequest('bad')
    kit.answer(kit.send(request), 403)
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'budget' })
  })

  for (const [status, said] of [[403, {}], [401, { code: 'PermissionDenied' }], [401, {}], [401, { code: 'invalid_api_key' }]] as const) {
    test(`${status} ${JSON.stringify(said)}: no key of ours lets it in later, whatever keeps the first backend from being asked`, () => {
      const kit = two({}, ours)
      kit.answer(kit.send(new CallersRequest('bad')), status, {}, said)
      for (let i = 0; i < 3; i++) {
        const again = new CallersRequest('bad')
        const attempt = kit.send(again)
        assert.equal(attempt.backend.name, 'a')
        kit.answer(attempt, status, {}, said)
        kit.system.advance(i * 40_000)
      }
      kit.throttle('m', 5_000)
      assert.equal(kit.acquire(new CallersRequest('bad')).kind, 'reject')
      assert.equal(kit.send(new CallersRequest('good')).backend.name, 'b')
      kit.system.advance(5_000)
      kit.settle(kit.send(new CallersRequest('good')), 'reset')
      assert.equal(kit.send(new CallersRequest('bad')).backend.name, 'a')
      assert.equal(kit.send(new CallersRequest('good')).backend.name, 'b')
    })
  }

  test('a plain 401 keeps nothing from being asked, and a success takes it back', () => {
    const kit = two({}, ours)
    kit.answer(kit.send(new CallersRequest('late')), 401)
    assert.equal(kit.statusOf('a').callersOut, 0)
    assert.deepEqual(outs(kit), [])
    kit.answer(kit.send(new CallersRequest('late')), 401)
    kit.answer(kit.send(new CallersRequest('late')), 200)
    kit.throttle('m', 5_000)
    assert.equal(kit.send(new CallersRequest('late')).backend.name, 'b')
  })

  test('a home with a key of ours does not let it in because the others miss the model', () => {
    const backends = [backend('a', 1), backend('b', 2, ours)]
    const kit = new PoolKit(backends, { home: backends[1] ?? backend('b') })
    kit.answer(kit.send(new CallersRequest('bad')), 403)
    kit.answer(kit.send(new CallersRequest('good')), 404, {}, { code: 'model_not_found' })
    kit.system.advance(1_000)
    assert.equal(kit.send(new CallersRequest('bad')).backend.name, 'a')
  })

  test('nor does one that alone has another model: the credential is refused where it came from', () => {
    const kit = two({ serves: ['m'] }, ours)
    kit.answer(kit.send(new CallersRequest('bad')), 403)
    assert.equal(kit.send(new CallersRequest('good', 'core', { scope: 'n' })).backend.name, 'b')
    const request = new CallersRequest('bad', 'core', { scope: 'n' })
    const attempt = kit.send(request)
    assert.equal(attempt.backend.name, 'a')
    kit.answer(attempt, 404, {}, { code: 'model_not_found' })
    assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'no-backend' })
  })

  test('where an update gives the backend a key of its own, it is let in as everybody is', () => {
    const kit = two({}, ours)
    kit.answer(kit.send(new CallersRequest('bad')), 403)
    kit.update([backend('a', 1, ours), backend('b', 2, ours)])
    assert.equal(kit.send(new CallersRequest('bad')).backend.name, 'a')
  })

  test('for pictures, or for one model: it chats on', () => {
    for (const [path, said] of [['model', {}], ['core', { param: 'model' }]] as const) {
      const kit = mixed()
      const request = new CallersRequest('bad', path, { scope: 'dall-e-3' })
      kit.answer(kit.send(request), 403, {}, said)
      assert.equal(kit.send(request).backend.name, 'c')
      assert.equal(kit.send(new CallersRequest('bad')).backend.name, 'a')
      assert.deepEqual(outs(kit), [])
    }
  })

  test('outside the model API nothing is remembered of it, and yet no key of ours lets this request in', () => {
    const kit = two({}, ours)
    for (const status of [401, 403]) {
      const request = new CallersRequest('bad', 'outside')
      if (kit.answer(kit.send(request), status) === 'refused') assert.deepEqual(kit.acquire(request), { kind: 'surface', reason: 'no-backend' })
    }
    kit.throttle('m', 5_000)
    assert.equal(kit.send(new CallersRequest('bad')).backend.name, 'b')
  })

  test('an older 403 says nothing of an account that is exhausted, and the other way round', () => {
    const kit = two()
    kit.answer(kit.send(new CallersRequest('x')), 403)
    kit.system.advance(1_000)
    kit.answer(kit.send(new CallersRequest('x')), 402)
    assert.deepEqual(outs(kit), ['caller-out a 1000 refused', 'caller-out a 60000 exhausted'])
    kit.system.advance(60_000)
    kit.answer(kit.send(new CallersRequest('x')), 401)
    assert.equal(kit.statusOf('a').callersOut, 0)
  })
})
