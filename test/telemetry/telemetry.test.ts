// What is told of the work: each event on its channel, and as a line in the log, with the same fields.
import assert from 'node:assert/strict'
import { afterEach, describe, test } from 'node:test'
import { inspect } from 'node:util'
import { channels, CHANNEL_PREFIX, subscribe, type BalancerEventName, type BalancerOptions, type Logger } from '../../src/index.js'
import { EAST, Scene, WEST } from '../support/scene.js'
import { turns } from '../support/until.js'

const LEVELS = ['debug', 'info', 'warn', 'error'] as const
type Level = (typeof LEVELS)[number]

interface Line { readonly level: string, readonly fields: Record<string, unknown>, readonly message: string }

/** A logger that writes down, from a level on. */
class Recorder implements Logger {
  readonly lines: Line[] = []
  readonly #from: number
  constructor(from: Level | 'silent') { this.#from = from === 'silent' ? Infinity : LEVELS.indexOf(from) }
  isLevelEnabled(level: string): boolean { return LEVELS.indexOf(level as Level) >= this.#from }
  debug(fields: object, message: string): void { this.#write('debug', fields, message) }
  info(fields: object, message: string): void { this.#write('info', fields, message) }
  warn(fields: object, message: string): void { this.#write('warn', fields, message) }
  error(fields: object, message: string): void { this.#write('error', fields, message) }
  #write(level: string, fields: object, message: string): void { this.lines.push({ level, fields: { ...fields }, message }) }

  of(event: string): Line[] {
    return this.lines.filter(({ fields }) => fields['event'] === event)
  }
}

const backends: BalancerOptions['backends'] = [
  { name: 'east', url: EAST, priority: 1, apiKey: 'PLANTED', query: { key: 'PLANTED' }, models: { mine: 'my-gpt4o' } },
  { name: 'west', url: WEST, priority: 2, bearerToken: () => 'PLANTED' },
]

const stops: (() => void)[] = []
afterEach(() => { for (const stop of stops.splice(0)) stop() })
function record<K extends BalancerEventName>(name: K): unknown[] {
  const events: unknown[] = []
  stops.push(subscribe(name, (event) => { events.push(event) }))
  return events
}

/** A balancer in which chance always says the same, and who listens to its log. */
function setUp(from: Level | 'silent', more: Partial<BalancerOptions> = {}): { it: Scene, log: Recorder } {
  const log = new Recorder(from)
  const it = new Scene('new', 'new', { backends, logger: log, pacing: false, ...more })
  chance(it, 0)
  return { it, log }
}

const chance = (it: Scene, value: number): void => { it.system.random = () => value }

/** A request with nothing to tell of but its model. */
function send(it: Scene, model = 'gpt-4o'): ReturnType<Scene['send']> {
  return it.send({ path: '/openai/chat/completions', body: model === '' ? 'PLANTED' : `{"model":"${model}","x":"PLANTED"}`, headers: { 'x-theirs': 'PLANTED' } })
}

/** The attempt that was made last is answered, or fails. */
const answer = (it: Scene, status: number, headers: Record<string, string> = {}): void => { it.inner.last.start().respond(status, { ...headers, 'x-theirs': 'PLANTED' }).end() }
const fail = (it: Scene): void => { it.inner.last.start().fail(Object.assign(new Error('ECONNREFUSED'), { code: 'ECONNREFUSED' })) }
const throttle = (it: Scene, ms: number): void => { answer(it, 429, { 'retry-after-ms': String(ms) }) }

const eastFields = { backend: 'east', url: EAST, priority: 1 }
const westFields = { backend: 'west', url: WEST, priority: 2 }

/** These get the callers' own credentials. */
const ofCallers = [{ name: 'east', url: EAST, priority: 1 }, { name: 'west', url: WEST, priority: 2 }]

interface Told {
  readonly event: BalancerEventName
  readonly level: Level
  readonly more?: Partial<BalancerOptions>
  /** What leads to the event, which is the last of its kind. */
  readonly play: (it: Scene) => void
  readonly fields: Record<string, unknown>
  readonly message: string
}

const told: readonly Told[] = [
  {
    event: 'picked', level: 'debug', play: (it) => { send(it) },
    fields: { ...eastFields, scope: 'gpt-4o', attempt: 1 }, message: 'Attempt 1 goes to backend "east"',
  },
  {
    event: 'answered', level: 'debug',
    play: (it) => {
      send(it)
      throttle(it, 1_000)
      it.system.advance(123.5)
      answer(it, 200)
    },
    fields: { ...westFields, scope: 'gpt-4o', attempt: 2, status: 200, latencyMs: 123.5 }, message: 'Backend "west" answered 200 after 124 ms',
  },
  {
    event: 'failover', level: 'info',
    play: (it) => {
      send(it)
      throttle(it, 1_000)
    },
    fields: { ...eastFields, scope: 'gpt-4o', attempt: 1, outcome: 'throttled', to: 'west' }, message: 'Attempt 1 on backend "east": throttled; on to "west"',
  },
  {
    event: 'failover', level: 'info', more: { maxWaitMs: 10_000 },
    play: (it) => {
      send(it)
      throttle(it, 1_000)
      answer(it, 500)
    },
    fields: { ...westFields, scope: 'gpt-4o', attempt: 2, outcome: 'failed', to: undefined }, message: 'Attempt 2 on backend "west": failed; the request waits',
  },
  {
    event: 'cooldown', level: 'warn',
    play: (it) => {
      send(it, 'mine')
      throttle(it, 43)
    },
    fields: { ...eastFields, scope: 'my-gpt4o', cooldownMs: 43, source: 'retry-after-ms', status: 429 }, message: 'Backend "east" (my-gpt4o) cools down for 43 ms (429, retry-after-ms)',
  },
  {
    event: 'cooldown', level: 'warn',
    play: (it) => {
      send(it, '')
      answer(it, 429)
    },
    fields: { ...eastFields, scope: '', cooldownMs: 10_000, source: 'default', status: 429 }, message: 'Backend "east" cools down for 10000 ms (429, default)',
  },
  {
    event: 'ejected', level: 'warn',
    play: (it) => {
      chance(it, 0.001)
      for (let i = 0; i < 2; i++) {
        send(it)
        answer(it, 500)
        answer(it, 200)
      }
    },
    fields: { ...eastFields, scope: 'gpt-4o', cooldownMs: 250.125, reason: 'failed', tookMs: 0 },
    message: 'Backend "east" (gpt-4o) failed repeatedly; out for 251 ms',
  },
  {
    event: 'ejected', level: 'warn',
    play: (it) => {
      chance(it, 0.75)
      send(it)
      fail(it)
    },
    fields: { ...eastFields, scope: undefined, cooldownMs: 343.75, reason: 'unreachable', tookMs: 0 },
    message: 'Backend "east" cannot be reached; out for 344 ms',
  },
  {
    event: 'ejected', level: 'error',
    play: (it) => {
      send(it)
      answer(it, 401)
    },
    fields: { ...eastFields, scope: undefined, cooldownMs: 60_000, reason: 'misconfigured', tookMs: 0 },
    message: 'Backend "east" refused its credential (401 or 403): please check it; out for 60000 ms',
  },
  {
    event: 'ejected', level: 'error',
    play: (it) => {
      send(it)
      it.inner.last.start().respond(400, { 'content-type': 'application/json' }).data('{"error":{"code":"insufficient_quota","type":"PLANTED not, it is too long to be a code of any service that is known"}}').end()
    },
    fields: { ...eastFields, scope: undefined, cooldownMs: 60_000, reason: 'exhausted', tookMs: 0, errorCode: 'insufficient_quota', errorType: undefined },
    message: 'Backend "east" says that its account is exhausted: quota, credit or spend limit (insufficient_quota); out for 60000 ms',
  },
  {
    event: 'caller-out', level: 'warn', more: { backends: ofCallers },
    play: (it) => {
      send(it)
      answer(it, 402)
    },
    fields: { ...eastFields, scope: 'gpt-4o', attempt: 1, outcome: 'exhausted', cooldownMs: 60_000 },
    message: 'Backend "east" says that the account of a caller is exhausted; out for this credential alone for 60000 ms',
  },
  {
    event: 'caller-out', level: 'warn', more: { backends: ofCallers },
    play: (it) => {
      send(it)
      answer(it, 403)
    },
    fields: { ...eastFields, scope: 'gpt-4o', attempt: 1, outcome: 'refused', cooldownMs: 1_000 },
    message: 'Backend "east" refused the credential of a caller; out for this credential alone for 1000 ms',
  },
  {
    event: 'broken', level: 'warn',
    play: (it) => {
      send(it)
      it.inner.last.start().respond(200).data('PLANTED').fail(new Error('PLANTED'))
    },
    fields: { ...eastFields, scope: 'gpt-4o', attempt: 1, status: 200 },
    message: 'The response of backend "east" (200) broke off: the caller has a part of it, and the request cannot move any more',
  },
  {
    event: 'suspect-request', level: 'warn',
    play: (it) => {
      send(it)
      for (let i = 0; i < 2; i++) answer(it, 500)
    },
    fields: { ...westFields, scope: 'gpt-4o', attempt: 2, evidence: 500 },
    message: 'Backend "west" failed the request as another one did (500): the request is at fault, and no backend is held responsible',
  },
  {
    event: 'readmitted', level: 'info',
    play: (it) => {
      for (let i = 0; i < 2; i++) {
        send(it)
        answer(it, 500)
        answer(it, 200)
      }
      it.system.advance(250)
      send(it)
      answer(it, 200)
    },
    fields: { ...eastFields, scope: 'gpt-4o', after: 'ejected' }, message: 'Backend "east" (gpt-4o) is available again after its ejection',
  },
  {
    event: 'readmitted', level: 'info',
    play: (it) => {
      send(it, 'mine')
      throttle(it, 1_000)
      it.system.advance(1_000)
      send(it, 'mine')
    },
    fields: { ...eastFields, scope: 'my-gpt4o', after: 'cooldown' }, message: 'Backend "east" (my-gpt4o) is available again after its cooldown',
  },
  {
    event: 'waiting', level: 'debug', more: { maxWaitMs: 10_000 },
    play: (it) => {
      send(it)
      throttle(it, 1_000)
      throttle(it, 1_000)
      for (let i = 0; i < 2; i++) send(it)
    },
    fields: { scope: 'gpt-4o', queueLength: 3 }, message: 'Every backend is throttled: the request waits (waiting now: 3)',
  },
  {
    event: 'waited', level: 'debug', more: { maxWaitMs: 10_000 },
    play: (it) => {
      send(it)
      throttle(it, 1_000)
      throttle(it, 99.5)
      it.system.advance(99.5)
    },
    fields: { scope: 'gpt-4o', waitedMs: 99.5, queueLength: 0 }, message: 'The request goes on after waiting 100 ms (waiting now: 0)',
  },
  {
    event: 'exhausted', level: 'error',
    play: (it) => {
      send(it)
      throttle(it, 2_000)
      throttle(it, 1_200)
    },
    fields: { scope: 'gpt-4o', attempts: 2, retryAfterMs: 1_200, reason: 'throttled' },
    message: 'No backend is available: every backend is throttled; the caller gets a 429, retry after 1200 ms',
  },
  {
    event: 'exhausted', level: 'error', more: { maxWaitMs: 10_000 },
    play: (it) => {
      send(it)
      throttle(it, 2_000)
      throttle(it, 500)
      for (let i = 0; i < 1_024; i++) send(it)
    },
    fields: { scope: 'gpt-4o', attempts: 0, retryAfterMs: 15_000, reason: 'queue-full' },
    message: 'No backend is available: too many requests are waiting already; the caller gets a 429, retry after 15000 ms',
  },
  {
    event: 'exhausted', level: 'error', more: { maxAttempts: 1 },
    play: (it) => {
      send(it)
      throttle(it, 1_000)
    },
    fields: { scope: 'gpt-4o', attempts: 1, retryAfterMs: undefined, reason: 'attempts' },
    message: 'No further attempt: its attempts are used up (maxAttempts; by default one per backend); the caller gets the last answer or error',
  },
  {
    event: 'exhausted', level: 'error', more: {
      retryBudget: { ratio: 0, minPerSecond: 0 }, backends: [...backends, { name: 'north', url: 'https://north.example/openai', priority: 3, apiKey: 'PLANTED' }],
    },
    play: (it) => {
      send(it)
      answer(it, 500)
      answer(it, 503)
    },
    fields: { scope: 'gpt-4o', attempts: 2, retryAfterMs: undefined, reason: 'budget' },
    message: 'No further attempt: the retry budget is used up (retryBudget); the caller gets the last answer or error',
  },
  {
    event: 'exhausted', level: 'error', more: { maxAttempts: 3 },
    play: (it) => {
      send(it)
      for (let i = 0; i < 2; i++) answer(it, 500)
    },
    fields: { scope: 'gpt-4o', attempts: 2, retryAfterMs: undefined, reason: 'no-backend' },
    message: 'No further attempt: no other backend is left to try; the caller gets the last answer or error',
  },
]

/** Events of one request say which; those of a backend do not. */
const tellsRequest = (fields: Record<string, unknown>): boolean => !('backend' in fields) || 'attempt' in fields

describe('each event', () => {
  for (const { event, level, more, play, fields, message } of told) {
    test(`${event} is logged at level ${level}, and not below: ${message}`, () => {
      const { it, log } = setUp(level, more)
      play(it)
      const line = log.of(event).at(-1)
      const { requestId, ...others } = line?.fields ?? {}
      assert.deepEqual({ ...line, fields: others }, { level, message, fields: { event, ...fields } })
      assert.equal(typeof requestId, tellsRequest(fields) ? 'number' : 'undefined')

      const above = setUp(LEVELS[LEVELS.indexOf(level) + 1] ?? 'silent', more)
      play(above.it)
      assert.deepEqual(above.log.of(event), [])
    })

    test(`${event} is published with the same fields, whatever the level of the logger: ${message}`, () => {
      const events = record(event)
      const { it, log } = setUp('silent', more)
      play(it)
      assert.deepEqual(log.lines, [])
      const { requestId, ...published } = events.at(-1) as Record<string, unknown>
      assert.deepEqual(published, fields)
      assert.equal(typeof requestId, tellsRequest(fields) ? 'number' : 'undefined')
    })
  }

  test('is among those above', () => {
    assert.deepEqual([...new Set(told.map(({ event }) => event))].sort(), Object.keys(channels).sort())
  })

  test('goes to subscribers and to the logger when both listen', () => {
    const events = record('cooldown')
    const { it, log } = setUp('debug')
    send(it)
    throttle(it, 1_000)
    assert.equal(events.length, 1)
    assert.equal(log.of('cooldown').length, 1)
  })

  test('holds no credential and no query of a backend, nothing of the request but its scope', () => {
    const events = Object.keys(channels).map((name) => record(name as BalancerEventName))
    const lines = told.flatMap(({ more, play }) => {
      const { it, log } = setUp('debug', more)
      play(it)
      return log.lines.filter(({ fields }) => 'event' in fields)
    })
    assert.ok(lines.length > told.length)
    assert.equal(events.flat().length, lines.length)
    assert.ok(!inspect({ lines, events }, { depth: null, showHidden: true, maxArrayLength: null }).includes('PLANTED'))
  })
})

describe('request ids', () => {
  test('are the same for all events of a request, and others for another request', () => {
    const ids: unknown[] = []
    for (const name of ['picked', 'failover', 'exhausted'] as const) stops.push(subscribe(name, ({ requestId }) => { ids.push(requestId) }))
    const { it } = setUp('silent')
    for (let i = 0; i < 2; i++) send(it)
    // Picked, failover, picked: of the one, then of the other.
    for (const index of [0, 1]) it.inner.calls[index]?.start().respond(500).end()
    for (const index of [2, 3]) it.inner.calls[index]?.start().respond(500).end()
    // A second balancer in the process counts on.
    send(setUp('silent').it)
    const [first] = ids as [number]
    assert.deepEqual(ids.map((id) => (id as number) - first), [0, 1, 0, 0, 1, 1, 0, 1, 2])
  })
})

describe('channels', () => {
  test('are named after their event', () => {
    for (const [name, channel] of Object.entries(channels)) assert.equal(channel.name, `openai-priority-loadbalancer:${name}`)
    assert.equal(CHANNEL_PREFIX, 'openai-priority-loadbalancer:')
  })

  test('fall silent for who unsubscribes, and only for them', () => {
    const first: unknown[] = [], second: unknown[] = []
    const stopFirst = subscribe('picked', (event) => { first.push(event) })
    const stopSecond = subscribe('picked', (event) => { second.push(event) })
    const { it } = setUp('silent')
    send(it)
    stopFirst()
    stopFirst()
    send(it)
    stopSecond()
    send(it)
    assert.deepEqual([first.length, second.length], [1, 2])
    assert.equal(channels.picked.hasSubscribers, false)
  })

  test('a subscriber that throws does not reach the request: others are called, and the process is told', async () => {
    const error = new Error('subscriber')
    const events: unknown[] = []
    stops.push(subscribe('picked', () => { throw error }), subscribe('picked', (event) => { events.push(event) }))
    const { it } = setUp('silent')
    // The test runner listens for uncaught exceptions itself: only ours shall hear this one.
    const listeners = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    try {
      const uncaught = new Promise((resolve) => { process.once('uncaughtException', resolve) })
      const recorder = send(it)
      answer(it, 200)
      assert.equal(recorder.events.at(-1)?.[0], 'end')
      assert.equal(events.length, 1)
      assert.equal(await uncaught, error)
    } finally {
      for (const listener of listeners) process.on('uncaughtException', listener)
    }
  })
})

describe('a logger that throws', () => {
  test('does not reach the request, and subscribers are still told', async () => {
    const warning = new Promise<Error>((resolve) => { process.once('warning', resolve) })
    const events = record('exhausted')
    const broken = () => { throw new Error('disk full') }
    const it = new Scene('new', 'new', { backends, logger: { debug: broken, info: broken, warn: broken, error: broken } })
    const recorder = send(it)
    for (let i = 0; i < 2; i++) throttle(it, 1_000)
    await turns(1)
    assert.equal(recorder.events.at(-1)?.[0], 'end')
    assert.equal(events.length, 1)
    assert.match((await warning).message, /logger.*disk full/)
  })
})
