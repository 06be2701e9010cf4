// What one request says of itself in `x-balancer-*` headers: read, checked, acted on, and never sent.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Logger } from '../../src/options/index.js'
import { deepFreeze } from '../support/freeze.js'
import type { Recorder } from '../support/recording-handler.js'
import { EAST, PAIRS, Scene } from '../support/scene.js'
import { turns } from '../support/until.js'

/** Takes down what is logged, from `level` on. */
function keepLines(): { readonly logger: Logger; readonly lines: [fields: object, line: string][] } {
  const lines: [object, string][] = []
  const keep = (fields: object, line: string): void => { lines.push([fields, line]) }
  const skip = (): void => {}
  return { logger: { debug: skip, info: skip, warn: keep, error: keep, isLevelEnabled: (level) => level === 'warn' || level === 'error' }, lines }
}

interface Told {
  readonly status: unknown
  readonly headers: Record<string, string>
  readonly message: unknown
  readonly error: Record<string, unknown>
}

function toldTo({ events }: Recorder): Told {
  const head = events.find((event) => event[0] === 'headers')
  const data = events.find((event) => event[0] === 'data')
  if (head?.[0] !== 'headers') assert.fail('no headers')
  const { error } = JSON.parse(data?.[0] === 'data' ? data[1] : '{}') as { error: Record<string, unknown> }
  return { status: head[1], headers: Object.fromEntries(head[2].flatMap((name, i) => (i % 2 === 0 ? [[name, head[2][i + 1] ?? '']] : []))), message: head[3], error }
}

/** Both backends refuse for so long. */
function refuseBoth(it: Scene, retryAfterMs: number): void {
  for (let i = 0; i < 2; i++) it.inner.last.start().respond(429, { 'retry-after-ms': String(retryAfterMs) }).end()
}

/** The same headers in every form that a dispatcher is given. */
const FORMS: readonly (readonly [form: string, make: (pairs: readonly (readonly [string, string])[]) => unknown])[] = [
  ['an object', (pairs) => Object.fromEntries(pairs)],
  ['an object without a prototype', (pairs) => Object.assign(Object.create(null) as object, Object.fromEntries(pairs))],
  ['a flat array', (pairs) => pairs.flat()],
  ['a flat array of Buffers', (pairs) => pairs.flat().map((text) => Buffer.from(text))],
  ['a Map', (pairs) => new Map(pairs)],
  ['a generator', function* (pairs) { yield* pairs.map((pair) => [...pair]) }],
  ['an object of arrays', (pairs) => Object.fromEntries(pairs.map(([name, value]) => [name, [value]]))],
]

test('without the option the headers are removed and ignored, and a process is told so once', async () => {
  const { logger, lines } = keepLines()
  new Scene('new', 'new', { logger: false }).send({ headers: { 'x-balancer-max-wait-ms': '5000' } })
  for (let i = 0; i < 3; i++) {
    const it = new Scene('new', 'new', { logger })
    const recorder = it.send({ headers: { 'x-balancer-max-wait-ms': '5000', 'X-Balancer-Typo': 'x', 'a': '1' } })
    assert.deepEqual(it.inner.last.opts.headers, { a: '1' })
    refuseBoth(it, 1_000)
    await turns(1)
    assert.deepEqual([toldTo(recorder).status, it.engine.status().waiting], [429, 0])
  }
  const warnings = lines.filter(([, line]) => line.includes('x-balancer-'))
  assert.equal(warnings.length, 1)
  assert.match(warnings[0]?.[1] ?? '', /^Headers of requests that begin with x-balancer- are removed and ignored: the option requestHeaders is false\..* withTraffic\(\)/)
})

for (const requestHeaders of [false, true]) {
  describe(`with requestHeaders: ${requestHeaders}`, () => {
    for (const [form, make] of FORMS) {
      test(`${form} of headers is sent without those that are for us, every time, and all others stay as they are`, () => {
        const it = new Scene('new', 'new', { requestHeaders, maxWaitMs: 5_000 })
        const ours = [['X-Balancer-Max-Wait-MS', '9000'], ['x-balancer-deadline-ms', '60000']] as const
        const theirs = [['Accept', 'a'], ['x-balance', 'b'], ['x-balancer', 'c'], ['X-Stainless-OS', 'd']] as const
        const all = [ours[0], theirs[0], theirs[1], ours[1], theirs[2], theirs[3]] as const
        it.send({ headers: deepFreeze(make(all)) })
        refuseBoth(it, 4_000)
        it.system.advance(4_001)
        assert.equal(it.inner.calls.length, 3)
        // What is good for one reading only becomes an array; the rest is of the same kind as before.
        const made = make(theirs) as object
        const expected = Array.isArray(made) || !(Symbol.iterator in made) ? made : theirs.flat()
        for (const { opts } of it.inner.calls) assert.deepEqual(opts.headers, Array.isArray(expected) ? expected : { ...expected })
      })
    }

    test('they are removed beside a credential of the backend\'s own, a host and a length, too', () => {
      const it = new Scene('new', 'new', { requestHeaders, backends: [{ url: EAST, priority: 1, apiKey: 'ours' }] })
      it.send({ headers: { 'x-balancer-max-wait-ms': '5', 'host': 'east.example', 'api-key': 'theirs', 'accept': 'a' } })
      assert.deepEqual(it.inner.last.opts.headers, ['accept', 'a', 'api-key', 'ours'])
    })

    test('a request that is not balanced passes as it is', () => {
      const it = new Scene('new', 'new', { requestHeaders })
      const headers = { 'x-balancer-max-wait-ms': 'what?' }
      it.send({ origin: 'https://elsewhere.example', headers })
      assert.equal(it.inner.last.opts.headers, headers)
    })

    test('an odd entry at the end of a flat array is undici\'s to refuse, whatever it is', () => {
      const it = new Scene('new', 'new', { requestHeaders })
      it.send({ headers: ['x-balancer-max-wait-ms', '5', 'a', '1', 'x-balancer-max-wait-ms'] })
      assert.deepEqual(it.inner.last.opts.headers, ['a', '1', 'x-balancer-max-wait-ms'])
    })
  })
}

for (const [caller, inner] of PAIRS) {
  describe(`a caller of the ${caller} style, a dispatcher of the ${inner} style`, () => {
    const scene = (options: ConstructorParameters<typeof Scene>[2] = {}): Scene => new Scene(caller, inner, { requestHeaders: true, ...options })

    test('x-balancer-max-wait-ms is the patience of this request, in every form of headers', () => {
      for (const [form, make] of FORMS) {
        const it = scene()
        it.send({ headers: make([['X-Balancer-Max-Wait-Ms', '5000']]) })
        refuseBoth(it, 4_000)
        assert.equal(it.engine.status().waiting, 1, form)
        it.system.advance(4_001)
        assert.equal(it.inner.calls.length, 3)
      }
    })

    test('x-balancer-max-wait-ms: 0 takes the patience away that the option gives', async () => {
      const it = scene({ maxWaitMs: 60_000 })
      const recorder = it.send({ headers: { 'x-balancer-max-wait-ms': '0' } })
      refuseBoth(it, 1_000)
      await turns(1)
      assert.deepEqual([toldTo(recorder).status, it.engine.status().waiting], [429, 0])
    })

    test('x-balancer-deadline-ms bounds this request, be that sooner or later than the option', async () => {
      for (const [ofAll, ofOne] of [[undefined, 1_000], [500, 1_000], [60_000, 1_000]] as const) {
        const it = scene({ deadlineMs: ofAll })
        const recorder = it.send({ headers: { 'x-balancer-deadline-ms': String(ofOne) } })
        it.inner.last.start()
        it.system.advance(ofOne - 1)
        assert.equal(recorder.terminals, 0)
        it.system.advance(1)
        await turns(1)
        assert.match(String(recorder.error), /within deadlineMs \(1000 ms\)/)
      }
    })

    test('what cannot be understood is a 400 that names header, rule and value; nothing is sent, and no backend is blamed', async () => {
      const { logger, lines } = keepLines()
      const it = scene({ logger })
      const recorder = it.send({ headers: { 'X-Balancer-Max-Wait-Ms': 'soon' }, body: '{"model":"gpt-4o"}' })
      assert.deepEqual(recorder.events, [['start']], 'not before dispatch has returned')
      await turns(1)
      const { status, headers, message, error } = toldTo(recorder)
      assert.deepEqual([status, message, recorder.terminals], [400, 'Bad Request', 1])
      assert.deepEqual(Object.keys(headers), ['content-type', 'content-length'])
      assert.deepEqual(error, {
        message: 'openai-priority-loadbalancer: The header x-balancer-max-wait-ms must be a whole number of milliseconds from 0 to 86400000, and nothing else. Received: "soon".',
        type: 'invalid_request_error', param: 'x-balancer-max-wait-ms', code: 'invalid_value',
      })
      assert.deepEqual([it.inner.calls.length, it.underWay, it.system.pending, it.backend('east').attempts], [0, 0, 0, 0])
      assert.deepEqual(lines, [[{ header: 'x-balancer-max-wait-ms' },
        'A request gets a 400, and is not sent: its header x-balancer-max-wait-ms must be a whole number of milliseconds from 0 to 86400000, and nothing else']])
    })

    test('a caller that gives up at once is not told of a 400 any more', async () => {
      const it = scene()
      const recorder = it.send({ headers: { 'x-balancer-stream': '' } })
      recorder.abort(new Error('enough'))
      await turns(1)
      assert.deepEqual(recorder.events.map(([kind]) => kind), ['start', 'error'])
      assert.equal(it.underWay, 0)
    })
  })
}

describe('a value', () => {
  const scene = (): Scene => new Scene('new', 'new', { requestHeaders: true })
  const MS = /must be a whole number of milliseconds from \d+ to 86400000/
  const bad: readonly (readonly [header: string, value: unknown, rule: RegExp, shown: string])[] = [
    ...['', ' ', '-1', '+5', '5.0', '1e3', '0x10', '5 000', '86400001', '9'.repeat(400), '1, 2', '5,5', 'NaN', '5ms', '\u0665'].map((value) =>
      ['x-balancer-max-wait-ms', value, MS, value.length > 80 ? `${value.slice(0, 80)}...` : value.trim().replace('\u0665', '\\u0665')] as const),
    ['x-balancer-max-wait-ms', ['1', '2'], MS, '1, 2'],
    ['x-balancer-max-wait-ms', ['1', '1'], MS, '1, 1'],
    ['x-balancer-max-wait-ms', [], MS, ''],
    ['x-balancer-max-wait-ms', null, MS, ''],
    ['x-balancer-max-wait-ms', true, MS, 'true'],
    ['x-balancer-max-wait-ms', 1.5, MS, '1.5'],
    ['x-balancer-max-wait-ms', { secret: 'x' }, MS, '(object)'],
    ['x-balancer-max-wait-ms', 'a\r\nb\u0000"', MS, 'a\\u000d\\u000ab\\u0000"'],
    ['x-balancer-deadline-ms', '0', /from 1 to 86400000/, '0'],
    ['x-balancer-deadline-ms', '86400001', /from 1 to 86400000/, '86400001'],
    ['x-balancer-stream', 'Whole', /must be "whole"/, 'Whole'],
    ['x-balancer-stream', 'whole, whole', /must be "whole"/, 'whole, whole'],
    ['x-balancer-maxwait-ms', '1', /is not known \(known are x-balancer-max-wait-ms, x-balancer-deadline-ms, x-balancer-stream\)/, '1'],
    ['x-balancer-class', 'background', /is not known/, 'background'],
    ['X-BALANCER-ONLY', 'eu', /x-balancer-only is not known/, 'eu'],
    ['x-balancer-', 'x', /is not known/, 'x'],
  ]
  for (const [header, value, rule, shown] of bad) {
    test(`of ${header} that is ${JSON.stringify(value).slice(0, 60)} is refused`, async () => {
      for (const headers of [{ [header]: value }, [header, value], new Map([[header, value]])]) {
        const it = scene()
        const recorder = it.send({ headers })
        await turns(1)
        const { status, error } = toldTo(recorder)
        assert.deepEqual([status, error.type, error.param, it.inner.calls.length], [400, 'invalid_request_error', header.toLowerCase(), 0])
        assert.match(String(error.message), rule)
        assert.ok(String(error.message).endsWith(`Received: "${shown}".`), String(error.message))
        assert.match(String(error.message), /^[\x20-\x7e]{1,400}$/)
      }
    })
  }

  test('that is there under two spellings, or twice in a list, is refused', async () => {
    for (const headers of [{ 'x-balancer-stream': 'whole', 'X-Balancer-Stream': 'whole' }, ['x-balancer-stream', 'whole', 'x-balancer-stream', 'whole']]) {
      const it = scene()
      const recorder = it.send({ headers })
      await turns(1)
      assert.deepEqual([toldTo(recorder).status, toldTo(recorder).error.param], [400, 'x-balancer-stream'])
    }
  })

  test('that is right is taken, also as a number, with white space around it, and at the ends of its range', () => {
    const headers: Record<string, unknown>[] = [
      ...['0', '86400000', ' 5000\t', '007', 5_000, ['5000'], Buffer.from('5000')].map((value) => ({ 'x-balancer-max-wait-ms': value })),
      ...['1', '86400000'].map((value) => ({ 'x-balancer-deadline-ms': value })),
      { 'x-balancer-stream': 'whole' },
    ]
    for (const given of headers) {
      const it = scene()
      it.send({ headers: given })
      assert.deepEqual([it.inner.calls.length, it.inner.last.opts.headers], [1, {}], JSON.stringify(given))
      it.inner.last.start().respond(200).end()
    }
  })

  test('that is undefined is none, as undici sends none', () => {
    const it = scene()
    it.send({ headers: { 'x-balancer-max-wait-ms': undefined, 'x-balancer-typo': undefined, 'a': '1' } })
    assert.deepEqual(it.inner.last.opts.headers, { a: '1' })
  })

  test('a name too long to show, or not printable, is shown as far as it is', async () => {
    const it = scene()
    const recorder = it.send({ headers: { [`x-balancer-${'\u00fc'.repeat(200)}`]: '1' } })
    await turns(1)
    const { param, message } = toldTo(recorder).error as Record<string, string>
    assert.match(param ?? '', /^x-balancer-(\\u00fc){69}\.\.\.$/)
    assert.match(message ?? '', /^[\x20-\x7e]{1,1200}$/)
  })

  test('a HEAD request gets the headers of the 400 alone', async () => {
    const it = scene()
    const recorder = it.send({ method: 'HEAD', headers: { 'x-balancer-stream': 'half' } })
    await turns(1)
    assert.deepEqual(recorder.events.map(([kind]) => kind), ['start', 'headers', 'end'])
  })
})

test('requestHeaders can be changed by an update', async () => {
  const it = new Scene('new', 'new')
  it.engine.update({ requestHeaders: true })
  const recorder = it.send({ headers: { 'x-balancer-stream': 'half' } })
  await turns(1)
  assert.equal(toldTo(recorder).status, 400)
})
