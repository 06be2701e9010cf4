/**
 * Seen: callers that invent model names. 20,000 of them cost 2 KB each per backend for ten minutes, whatever they were answered,
 * and where a backend has `models` a new name took longer the more there were. A name is remembered once it meant something to
 * a backend, and 1,000 are.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { BalancerOptions } from '../../src/options/index.js'
import { answers, startEastAndWest } from '../support/east-and-west.js'
import { backend, PoolKit, TestRequest } from '../support/pool-kit.js'
import { Scene } from '../support/scene.js'

const MANY = 20_000
const KEPT = 1_000

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

function heapUsed (): number {
  collectGarbage()
  return process.memoryUsage().heapUsed
}

/** One request for this model, which every backend that is asked answers like this. */
function ask (it: Scene, model: string, status: number, headers: Record<string, string> = {}): void {
  it.send({ path: '/openai/chat/completions', body: JSON.stringify({ model }) })
  for (let k = 0; k < it.inner.calls.length; k++) it.inner.calls[k]?.start().respond(status, headers).end()
  it.inner.calls.length = 0
  it.system.advance(1)
}

const make = (more: Partial<BalancerOptions> = {}): Scene => new Scene('new', 'old', more)

const names = (it: Scene, of = 'east'): string[] => it.backend(of).scopes.map(({ scope }) => scope)

describe(`${MANY} names`, () => {
  for (const [what, more] of [['', {}], [', also where backends rename some', { backends: [{ name: 'east', url: 'https://east.example/openai', priority: 1, models: { a: 'b' } }, { name: 'west', url: 'https://west.example/openai', priority: 2 }] }]] as const) {
    test(`that are answered 404 cost nothing that stays${what}`, () => {
      const it = make(more)
      ask(it, 'known', 200)
      for (let i = 0; i < 500; i++) ask(it, `warm up ${i}`, 404)
      const before = heapUsed()
      for (let i = 0; i < MANY; i++) ask(it, `invented ${i}`, 404)
      const grownBytes = heapUsed() - before
      assert.deepEqual(names(it), ['known', ''])
      const [known, unnamed] = it.backend('east').scopes
      assert.deepEqual([known?.attempts, unnamed?.attempts, it.backend('east').attempts], [1, MANY + 500, MANY + 501])
      // 2 KB each would be 40 MB.
      assert.ok(grownBytes < 4_000_000, `${grownBytes} bytes`)
    })
  }

  test('that are answered 200 keep the last thousand', () => {
    const it = make()
    for (let i = 0; i < MANY; i++) ask(it, `served ${i}`, 200)
    assert.deepEqual(names(it), Array.from({ length: KEPT }, (_, i) => `served ${MANY - KEPT + i}`))
  })

  test('that are throttled or fail are kept as well, and no more of them', () => {
    for (const [status, headers] of [[429, { 'retry-after-ms': '1' }], [503, { 'retry-after-ms': '1' }]] as const) {
      const it = make()
      for (let i = 0; i < 3 * KEPT; i++) ask(it, `refused ${i}`, status, headers)
      for (const of of ['east', 'west']) assert.equal(names(it, of).length, KEPT)
    }
  })

  test('that a key of the backend\'s own is refused for are no names', () => {
    const it = make({ backends: [{ name: 'east', url: 'https://east.example/openai', priority: 1, apiKey: 'wrong' }, { name: 'west', url: 'https://west.example/openai', priority: 2, apiKey: 'wrong' }] })
    for (let i = 0; i < 100; i++) {
      ask(it, `invented ${i}`, 401)
      it.system.advance(60_000)
    }
    assert.deepEqual(names(it), [''])
  })
})

describe('the name that goes when there are too many', () => {
  test('is the one whose last success is oldest, not the one that came first', () => {
    const it = make()
    for (let i = 0; i < KEPT; i++) ask(it, `served ${i}`, 200)
    ask(it, 'served 0', 200)
    // Asked, and to no avail.
    ask(it, 'served 1', 404)
    ask(it, 'one more', 200)
    assert.deepEqual([names(it).length, names(it).includes('served 0'), names(it).includes('served 1')], [KEPT, true, false])
  })

  test('is none of which a request is under way', () => {
    const it = make()
    it.send({ path: '/openai/chat/completions', body: '{"model":"streaming"}' })
    const streaming = it.inner.last.start().respond(200)
    it.inner.calls.length = 0
    for (let i = 0; i < 2 * KEPT; i++) ask(it, `served ${i}`, 200)
    assert.equal(it.backend('east').scopes.find(({ scope }) => scope === 'streaming')?.inFlight, 1)
    streaming.end()
    assert.equal(it.inFlight, 0)
    assert.equal(names(it).length, KEPT)
  })

  test('is never that of requests without a model', () => {
    const it = make()
    it.send({ path: '/openai/models' })
    it.inner.last.start().respond(200).end()
    it.inner.calls.length = 0
    for (let i = 0; i < 2 * KEPT; i++) ask(it, `served ${i}`, 200)
    assert.deepEqual([names(it).length, names(it).includes('')], [KEPT + 1, true])
  })
})

describe('a name', () => {
  test('is remembered from its first answer on that means something, also over sockets and with the SDK', async (t) => {
    const { east, client, status } = await startEastAndWest(t)
    const send = (model: string): Promise<unknown> => client.chat.completions.create({ model, messages: [{ role: 'user', content: 'hi' }] }).catch(() => {})
    east.always(answers(404))
    await send('unknown')
    assert.deepEqual(status()[0].scopes.map(({ scope, attempts }) => [scope, attempts]), [['', 1]])
    east.always(answers(429, { 'retry-after': '30' }))
    await send('unknown')
    assert.deepEqual(status()[0].scopes.map(({ scope, attempts, state }) => [scope, attempts, state]), [['', 1, 'available'], ['unknown', 1, 'cooldown']])
    assert.deepEqual(status()[1].scopes.map(({ scope }) => scope), ['unknown'])
  })

  test('of which two requests are under way is known until both have ended', () => {
    const it = make()
    const calls = [1, 2].map(() => {
      it.send({ path: '/openai/chat/completions', body: '{"model":"twice"}' })
      return it.inner.last.start()
    })
    calls[0]?.respond(404).end()
    assert.deepEqual(names(it), ['twice'])
    calls[1]?.respond(400).end()
    assert.deepEqual(it.backend('east').scopes.map(({ scope, attempts, inFlight }) => [scope, attempts, inFlight]), [['', 2, 0]])
    ask(it, 'twice', 200)
    assert.deepEqual(names(it), ['', 'twice'])
  })

  test('whose requests are given up while they wait for an answer is known still: the next one to wait is the second', () => {
    const it = make()
    const recorder = it.send({ path: '/openai/chat/completions', body: '{"model":"slow"}' })
    it.inner.last.start()
    it.system.advance(10_000)
    recorder.abort()
    assert.deepEqual(names(it), ['slow'])
  })

  const kept: readonly [name: string, kept: string][] = [
    ['gpt-4o', 'gpt-4o'],
    ['x'.repeat(64), 'x'.repeat(64)],
    ['x'.repeat(65), 'x'.repeat(64)],
    ['a\nb\u0000c', 'a?b?c'],
    ['modèle 4 ü', 'modèle 4 ü'],
    ['\u{1F600}'.repeat(60), '\u{1F600}'.repeat(60)],
    [`${'x'.repeat(63)}\u{1F600}\u{1F600}`, `${'x'.repeat(63)}\u{1F600}`],
  ]
  for (const [name, expected] of kept) {
    test(`is kept as 64 printable characters: ${JSON.stringify(name.slice(0, 12))}, ${name.length} long`, () => {
      const it = make()
      ask(it, name, 200)
      assert.deepEqual(names(it), [expected])
      assert.doesNotMatch(JSON.stringify(it.engine.status()), /\\n|\\u0000/)
    })
  }
})

test('with models a new name looks at as many others whether there are ten or a thousand', () => {
  let looks = 0
  const models = new Proxy<Record<string, string>>({ small: 'gpt', large: 'gpt' }, {
    getOwnPropertyDescriptor (target, key) {
      looks++
      return Reflect.getOwnPropertyDescriptor(target, key)
    },
  })
  const kit = new PoolKit([backend('a', 1, { models })])
  const use = (scope: string): number => {
    const before = looks
    kit.answer(kit.send(new TestRequest({ scope })), 200)
    return looks - before
  }
  for (let i = 0; i < 10; i++) use(`first ${i}`)
  const few = use('after ten')
  for (let i = 0; i < 900; i++) use(`more ${i}`)
  assert.equal(use('after a thousand'), few)
  // And those that share a deployment still do.
  kit.throttle('small', 30_000)
  assert.equal(kit.acquire(new TestRequest({ scope: 'large' })).kind, 'reject')
})
