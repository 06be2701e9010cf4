import assert from 'node:assert/strict'
import { afterEach, describe, test } from 'node:test'
import { inspect } from 'node:util'
import { resolveOptions, type ConfiguredBackend, type Logger } from '../../src/options/index.js'
import type { Attempt, PoolListener, PoolRequest } from '../../src/core/types.js'
import { channels, CHANNEL_PREFIX, subscribe } from '../../src/telemetry/channels.js'
import type { BalancerEventName } from '../../src/telemetry/events.js'
import { EVENT_LEVELS } from '../../src/telemetry/log-events.js'
import { createTelemetry } from '../../src/telemetry/telemetry.js'

const LEVELS = ['debug', 'info', 'warn', 'error'] as const
type Level = (typeof LEVELS)[number]

/** A logger that writes down, from a level on. */
class Recorder implements Logger {
  readonly lines: { level: string, fields: Record<string, unknown>, message: string }[] = []
  readonly #from: number
  constructor(from: Level | 'silent') { this.#from = from === 'silent' ? Infinity : LEVELS.indexOf(from) }
  isLevelEnabled(level: string): boolean { return LEVELS.indexOf(level as Level) >= this.#from }
  debug(fields: object, message: string): void { this.#write('debug', fields, message) }
  info(fields: object, message: string): void { this.#write('info', fields, message) }
  warn(fields: object, message: string): void { this.#write('warn', fields, message) }
  error(fields: object, message: string): void { this.#write('error', fields, message) }
  #write(level: string, fields: object, message: string): void { this.lines.push({ level, fields: { ...fields }, message }) }
}

const backends = [
  { name: 'east', url: 'https://east.example/openai/v1', priority: 1, apiKey: 'PLANTED', query: { key: 'PLANTED' } },
  { name: 'west', url: 'https://west.example/openai/v1', priority: 2, bearerToken: () => 'PLANTED' },
]

function setUp(from: Level | 'silent') {
  const recorder = new Recorder(from)
  const { logger, backends: [east, west] } = resolveOptions({ backends, logger: recorder })
  return { telemetry: createTelemetry(logger), lines: recorder.lines, east: east as ConfiguredBackend, west: west as ConfiguredBackend }
}

const makeRequest = (scope = 'gpt-4o'): PoolRequest & { secret: string } => ({
  scope, bodyBytes: 9, pinned: false, wake() {}, attempts: 2, tried: undefined, lastOutcome: undefined, waitingSince: undefined, secret: 'PLANTED',
})
const makeAttempt = (backend: ConfiguredBackend, number = 1): Attempt<ConfiguredBackend> => ({ kind: 'send', backend, number, startedAt: 5 })

const stops: (() => void)[] = []
afterEach(() => { for (const stop of stops.splice(0)) stop() })
function record<K extends BalancerEventName>(name: K) {
  const events: unknown[] = []
  stops.push(subscribe(name, (event) => { events.push(event) }))
  return events
}

const eastFields = { backend: 'east', url: 'https://east.example/openai/v1', priority: 1 }

type Told = readonly [
  name: BalancerEventName, level: Level,
  tell: (telemetry: PoolListener<ConfiguredBackend>, request: PoolRequest, east: ConfiguredBackend, west: ConfiguredBackend) => void,
  fields: Record<string, unknown>, message: string,
]
const told: readonly Told[] = [
  ['picked', 'debug', (t, request, east) => { t.picked(request, makeAttempt(east)) },
    { ...eastFields, scope: 'gpt-4o', attempt: 1 }, 'Attempt 1 goes to backend "east"'],
  ['answered', 'debug', (t, request, east) => { t.answered(request, makeAttempt(east, 2), 200, 123.4) },
    { ...eastFields, scope: 'gpt-4o', attempt: 2, status: 200, latencyMs: 123.4 }, 'Backend "east" answered 200 after 124 ms'],
  ['failover', 'info', (t, request, east, west) => { t.failover(request, makeAttempt(east), 'throttled', west) },
    { ...eastFields, scope: 'gpt-4o', attempt: 1, outcome: 'throttled', to: 'west' }, 'Attempt 1 on backend "east": throttled; on to "west"'],
  ['failover', 'info', (t, request, east) => { t.failover(request, makeAttempt(east), 'failed', undefined) },
    { ...eastFields, scope: 'gpt-4o', attempt: 1, outcome: 'failed', to: undefined }, 'Attempt 1 on backend "east": failed; the request waits'],
  ['cooldown', 'warn', (t, _request, east) => { t.cooldown(east, 'my-gpt4o', 43, 'retry-after-ms', 429) },
    { ...eastFields, scope: 'my-gpt4o', cooldownMs: 43, source: 'retry-after-ms', status: 429 }, 'Backend "east" (my-gpt4o) cools down for 43 ms (429, retry-after-ms)'],
  ['cooldown', 'warn', (t, _request, east) => { t.cooldown(east, '', 10_000, 'default', 503) },
    { ...eastFields, scope: '', cooldownMs: 10_000, source: 'default', status: 503 }, 'Backend "east" cools down for 10000 ms (503, default)'],
  ['ejected', 'warn', (t, _request, east) => { t.ejected(east, 0.5, 'failed') },
    { ...eastFields, cooldownMs: 0.5, reason: 'failed' }, 'Backend "east" failed repeatedly; out for 1 ms'],
  ['ejected', 'warn', (t, _request, east) => { t.ejected(east, 400, 'unreachable') },
    { ...eastFields, cooldownMs: 400, reason: 'unreachable' }, 'Backend "east" cannot be reached; out for 400 ms'],
  ['ejected', 'error', (t, _request, east) => { t.ejected(east, 60_000, 'misconfigured') },
    { ...eastFields, cooldownMs: 60_000, reason: 'misconfigured' }, 'Backend "east" refused its apiKey or bearerToken (401 or 403): please check it; out for 60000 ms'],
  ['readmitted', 'info', (t, _request, east) => { t.readmitted(east, undefined, 'ejected') },
    { ...eastFields, scope: undefined, after: 'ejected' }, 'Backend "east" is available again after its ejection'],
  ['readmitted', 'info', (t, _request, east) => { t.readmitted(east, 'my-gpt4o', 'cooldown') },
    { ...eastFields, scope: 'my-gpt4o', after: 'cooldown' }, 'Backend "east" (my-gpt4o) is available again after its cooldown'],
  ['waiting', 'debug', (t, request) => { t.waiting(request, 3) },
    { scope: 'gpt-4o', queueLength: 3 }, 'Every backend is throttled: the request waits (waiting now: 3)'],
  ['waited', 'debug', (t, request) => { t.waited(request, 99.1, 2) },
    { scope: 'gpt-4o', waitedMs: 99.1, queueLength: 2 }, 'The request goes on after waiting 100 ms (waiting now: 2)'],
  ['exhausted', 'error', (t, request) => { t.exhausted(request, 1200, 'throttled') },
    { scope: 'gpt-4o', attempts: 2, retryAfterMs: 1200, reason: 'throttled' }, 'No backend is available: every backend is throttled; the caller gets a 429, retry after 1200 ms'],
  ['exhausted', 'error', (t, request) => { t.exhausted(request, 500, 'queue-full') },
    { scope: 'gpt-4o', attempts: 2, retryAfterMs: 500, reason: 'queue-full' }, 'No backend is available: too many requests are waiting already; the caller gets a 429, retry after 500 ms'],
  ...([['attempts', 'its attempts are used up (maxAttempts; by default one per backend)'], ['budget', 'the retry budget is used up (retryBudget)'], ['no-backend', 'no other backend is left to try'], ['pinned', 'it belongs to the home backend']] as const).map(([reason, words]): Told => [
    'exhausted', 'error', (t, request) => { t.exhausted(request, undefined, reason) },
    { scope: 'gpt-4o', attempts: 2, retryAfterMs: undefined, reason }, `No further attempt: ${words}; the caller gets the last answer or error`,
  ]),
]

describe('each event', () => {
  for (const [name, level, tell, fields, message] of told) {
    test(`${name} is logged at level ${level}, and not below: ${message}`, () => {
      const { telemetry, lines, east, west } = setUp(level)
      tell(telemetry, makeRequest(), east, west)
      const [line, ...more] = lines
      assert.deepEqual(more, [])
      const { requestId, ...others } = line?.fields ?? {}
      assert.deepEqual({ ...line, fields: others }, { level, message, fields: { event: name, ...fields } })
      assert.equal(typeof requestId, 'backend' in fields && !('attempt' in fields) ? 'undefined' : 'number')

      const above = setUp(LEVELS[LEVELS.indexOf(level) + 1] ?? 'silent')
      tell(above.telemetry, makeRequest(), above.east, above.west)
      assert.deepEqual(above.lines, [])
    })

    test(`${name} is published with the same fields, whatever the level of the logger: ${message}`, () => {
      const events = record(name)
      const { telemetry, lines, east, west } = setUp('silent')
      tell(telemetry, makeRequest(), east, west)
      assert.deepEqual(lines, [])
      const [{ requestId: _, ...event }] = events as [Record<string, unknown>]
      assert.deepEqual(event, fields)
    })
  }

  test('goes to subscribers and to the logger when both listen', () => {
    const events = record('cooldown')
    const { telemetry, lines, east } = setUp('debug')
    telemetry.cooldown(east, '', 1, 'default', 429)
    assert.equal(events.length, 1)
    assert.equal(lines.length, 1)
  })

  test('holds no credential and no query of a backend, nothing of the request but its scope', () => {
    const events = Object.keys(channels).map((name) => record(name as BalancerEventName))
    const { telemetry, lines, east, west } = setUp('debug')
    for (const [, , tell] of told) tell(telemetry, makeRequest(), east, west)
    assert.equal(lines.length, told.length)
    assert.equal(events.flat().length, told.length)
    assert.ok(!inspect({ lines, events }, { depth: null, showHidden: true }).includes('PLANTED'))
  })

  test('has a level in the table', () => {
    assert.deepEqual(Object.keys(EVENT_LEVELS).sort(), Object.keys(channels).sort())
  })
})

describe('request ids', () => {
  test('are the same for all events of a request, and others for another request', () => {
    const ids: unknown[] = []
    for (const name of ['picked', 'failover', 'waiting', 'exhausted'] as const) stops.push(subscribe(name, ({ requestId }) => { ids.push(requestId) }))
    const { telemetry, east, west } = setUp('silent')
    const requests = [makeRequest(), makeRequest()] as const
    for (const request of requests) {
      telemetry.picked(request, makeAttempt(east))
      telemetry.failover(request, makeAttempt(east), 'failed', west)
    }
    for (const request of requests) telemetry.exhausted(request, 1, 'throttled')
    // A second balancer in the process counts on.
    setUp('silent').telemetry.waiting(makeRequest(), 1)
    const [first] = ids as [number]
    assert.deepEqual(ids, [first, first, first + 1, first + 1, first, first + 1, first + 2])
  })
})

describe('when nobody listens', () => {
  /** Bytes that many calls leave on the heap; a garbage collection in between would make it less. */
  function measure(telemetry: PoolListener<ConfiguredBackend>, east: ConfiguredBackend, west: ConfiguredBackend): number {
    const request = makeRequest(), attempt = makeAttempt(east)
    const before = process.memoryUsage().heapUsed
    for (let i = 0; i < 20_000; i++) {
      telemetry.picked(request, attempt)
      telemetry.answered(request, attempt, 200, 12)
      telemetry.failover(request, attempt, 'failed', west)
      telemetry.readmitted(east, undefined, 'ejected')
    }
    return process.memoryUsage().heapUsed - before
  }

  test('a call allocates nothing', () => {
    const { telemetry, east, west } = setUp('silent')
    measure(telemetry, east, west)
    const silent = Math.min(...[1, 2, 3].map(() => measure(telemetry, east, west)))
    assert.ok(silent < 400_000, `${silent} bytes for 80000 calls`)
    // The same measurement sees what a listener costs.
    record('picked')
    const heard = Math.max(...[1, 2, 3].map(() => measure(telemetry, east, west)))
    assert.ok(heard > 1_000_000, `${heard} bytes with a subscriber`)
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
    const { telemetry, east } = setUp('silent')
    telemetry.picked(makeRequest(), makeAttempt(east))
    stopFirst()
    stopFirst()
    telemetry.picked(makeRequest(), makeAttempt(east))
    stopSecond()
    telemetry.picked(makeRequest(), makeAttempt(east))
    assert.deepEqual([first.length, second.length], [1, 2])
    assert.equal(channels.picked.hasSubscribers, false)
  })

  test('a subscriber that throws does not reach the request: others are called, and the process is told', async () => {
    const error = new Error('subscriber')
    const events: unknown[] = []
    stops.push(subscribe('picked', () => { throw error }), subscribe('picked', (event) => { events.push(event) }))
    const { telemetry, east } = setUp('silent')
    // The test runner listens for uncaught exceptions itself: only ours shall hear this one.
    const listeners = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    try {
      const uncaught = new Promise((resolve) => { process.once('uncaughtException', resolve) })
      telemetry.picked(makeRequest(), makeAttempt(east))
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
    const { logger, backends: [east] } = resolveOptions({ backends, logger: { debug: broken, info: broken, warn: broken, error: broken } })
    const telemetry = createTelemetry(logger)
    telemetry.exhausted(makeRequest(), 1, 'throttled')
    telemetry.ejected(east as ConfiguredBackend, 1, 'misconfigured')
    assert.equal(events.length, 1)
    assert.match((await warning).message, /logger.*disk full/)
  })
})
