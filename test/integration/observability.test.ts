/** What a balancer tells while it works: events in their order, log lines at their levels, and `status()`. */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { pino } from 'pino'
import { Writable } from 'node:stream'
import type { BackendOptions, BalancerOptions } from '../../src/options/index.js'
import { type BalancerEventName, type BalancerEvents, CHANNEL_PREFIX, channels, subscribe } from '../../src/telemetry/events.js'
import { answers, failure, says, startEastAndWest, type EastAndWest } from '../support/east-and-west.js'
import { chat, completion } from '../support/openai-clients.js'
import { runScript, urlOf } from '../support/run-child.js'
import { startScriptedBackend } from '../support/scripted-backend.js'
import { until } from '../support/until.js'

type Told = { readonly [K in BalancerEventName]: { readonly event: K } & BalancerEvents[K] }[BalancerEventName]

/** Everything that is published from now on, in order. */
function listen(t: TestContext): Told[] {
  const told: Told[] = []
  const on = <K extends BalancerEventName>(event: K): void => {
    t.after(subscribe(event, (payload) => { told.push({ event, ...payload } as unknown as Told) }))
  }
  for (const event of Object.keys(channels) as BalancerEventName[]) on(event)
  return told
}

/** In a line each, as far as a test can know them beforehand. */
const brief = (told: readonly Told[]): string[] => told.map((event) => {
  switch (event.event) {
    case 'picked': return `picked ${event.backend} ${event.attempt}`
    case 'answered': return `answered ${event.backend} ${event.status}`
    case 'failover': return `failover ${event.backend} ${event.outcome} to ${event.to ?? 'none yet'}`
    case 'caller-out': return `caller-out ${event.backend} ${event.outcome}`
    case 'broken': return `broken ${event.backend} ${event.status}`
    case 'suspect-request': return `suspect ${event.backend} ${event.evidence}`
    case 'cooldown': return `cooldown ${event.backend} ${event.scope} ${event.source} ${event.status}`
    case 'ejected': return `ejected ${event.backend} ${event.reason}`
    case 'readmitted': return `readmitted ${event.backend} ${event.scope ?? 'whole'} after ${event.after}`
    case 'waiting': return `waiting ${event.queueLength}`
    case 'waited': return `waited, left ${event.queueLength}`
    case 'exhausted': return `exhausted ${event.reason} after ${event.attempts}`
  }
})

async function setUp(t: TestContext, options: Partial<BalancerOptions> = {}, ofEach?: [Partial<BackendOptions>, Partial<BackendOptions>]): Promise<EastAndWest & { told: Told[] }> {
  const world = await startEastAndWest(t, options, ofEach)
  return { ...world, told: listen(t) }
}

describe('events, in their order', () => {
  test('a request that needs nothing: picked, answered', async (t) => {
    const { east, client, told } = await setUp(t)
    east.always(says('east'))
    await chat(client)
    assert.deepEqual(brief(told), ['picked east 1', 'answered east 200'])
  })

  test('throttled: the cooldown, then the failover', async (t) => {
    const { east, west, client, told } = await setUp(t)
    east.always(answers(429, { 'retry-after-ms': '400' }))
    await chat(client)
    assert.deepEqual(brief(told), [
      'picked east 1', 'cooldown east gpt-4o retry-after-ms 429', 'failover east throttled to west', 'picked west 2', 'answered west 200',
    ])
    const [picked, cooldown, failover, , answered] = told
    const requestId = picked?.event === 'picked' ? picked.requestId : 0
    assert.ok(Number.isInteger(requestId) && requestId > 0)
    assert.deepEqual(picked, { event: 'picked', requestId, scope: 'gpt-4o', backend: 'east', url: east.url, priority: 1, attempt: 1 })
    assert.ok(cooldown?.event === 'cooldown' && cooldown.cooldownMs >= 400 && cooldown.cooldownMs <= 440)
    assert.deepEqual(cooldown, { event: 'cooldown', backend: 'east', url: east.url, priority: 1, scope: 'gpt-4o', cooldownMs: cooldown.cooldownMs, source: 'retry-after-ms', status: 429 })
    assert.deepEqual(failover, { event: 'failover', requestId, scope: 'gpt-4o', backend: 'east', url: east.url, priority: 1, attempt: 1, outcome: 'throttled', to: 'west' })
    assert.deepEqual(answered, { event: 'answered', requestId, scope: 'gpt-4o', backend: 'west', url: west.url, priority: 2, attempt: 2, status: 200, latencyMs: 0 })
  })

  test('a cooldown that is over is told when its backend is used again', async (t) => {
    const { east, balancer, client, told } = await setUp(t)
    east.always(answers(429, { 'retry-after-ms': '400' }))
    await chat(client)
    told.length = 0
    east.always(says('east'))
    balancer.system.advance(440)
    await chat(client)
    assert.deepEqual(brief(told), ['readmitted east gpt-4o after cooldown', 'picked east 1', 'answered east 200'])
  })

  test('failed twice: the ejection, and the readmission by the probe', async (t) => {
    const { east, balancer, client, told } = await setUp(t)
    east.always(answers(503))
    await chat(client)
    assert.deepEqual(brief(told), ['picked east 1', 'failover east failed to west', 'picked west 2', 'answered west 200'], 'once is no ejection')
    told.length = 0
    await chat(client)
    assert.deepEqual(brief(told), ['picked east 1', 'ejected east failed', 'failover east failed to west', 'picked west 2', 'answered west 200'])
    const ejected = told[1]
    assert.ok(ejected?.event === 'ejected' && ejected.cooldownMs > 0 && ejected.cooldownMs <= 500)
    told.length = 0
    east.always(says('east'))
    balancer.system.advance(500)
    await chat(client)
    assert.deepEqual(brief(told), ['picked east 1', 'answered east 200', 'readmitted east gpt-4o after ejected'])
  })

  test('unreachable, and misconfigured', async (t) => {
    const { east, client, told } = await setUp(t, {}, [{ apiKey: 'wrong' }, {}])
    east.always((call) => { call.reset() })
    await chat(client)
    assert.deepEqual(brief(told), ['picked east 1', 'ejected east unreachable', 'failover east failed to west', 'picked west 2', 'answered west 200'])
    const second = await setUp(t, {}, [{ apiKey: 'wrong' }, {}])
    second.east.always(answers(401))
    await chat(second.client)
    assert.deepEqual(brief(second.told), ['picked east 1', 'ejected east misconfigured', 'failover east misconfigured to west', 'picked west 2', 'answered west 200'])
  })

  test('held: waiting, waited, and how many wait', async (t) => {
    const { east, west, balancer, client, told } = await setUp(t, { maxWaitMs: 5_000, pacing: false })
    for (const backend of [east, west]) backend.always(answers(429, { 'retry-after-ms': '1000' }))
    const both = [chat(client)]
    await until(() => balancer.status().waiting === 1)
    both.push(chat(client))
    await until(() => balancer.status().waiting === 2)
    assert.deepEqual(brief(told).filter((line) => /waiting|exhausted/.test(line)), ['waiting 1', 'waiting 2'])
    east.always(says('east'))
    west.always(says('west'))
    told.length = 0
    balancer.system.advance(1_100)
    await Promise.all(both)
    assert.deepEqual(brief(told).filter((line) => /wait/.test(line)), ['waited, left 1', 'waited, left 0'])
    const waited = told.find(({ event }) => event === 'waited')
    assert.ok(waited?.event === 'waited' && waited.waitedMs >= 1_000 && waited.waitedMs <= 1_100)
  })

  test('exhausted: with a 429 that says when, or with the last real answer', async (t) => {
    const { east, west, client, told } = await setUp(t)
    for (const backend of [east, west]) backend.always(answers(429, { 'retry-after-ms': '1000' }))
    await failure(chat(client))
    const last = told.at(-1)
    assert.ok(last?.event === 'exhausted')
    assert.ok(last.retryAfterMs !== undefined && last.retryAfterMs >= 1_000 && last.retryAfterMs <= 1_100)
    assert.deepEqual(brief([last]), ['exhausted throttled after 2'])
    await failure(chat(client))
    assert.deepEqual(brief(told.slice(-1)), ['exhausted throttled after 0'], 'known beforehand')

    const second = await setUp(t, { maxAttempts: 1 })
    second.east.always(answers(500))
    await failure(chat(second.client))
    assert.deepEqual(brief(second.told).slice(-2), ['answered east 500', 'exhausted attempts after 1'])
    const end = second.told.at(-1)
    assert.ok(end?.event === 'exhausted' && end.retryAfterMs === undefined)
  })

  test('their names begin with the package\'s own', () => {
    assert.equal(CHANNEL_PREFIX, 'openai-priority-loadbalancer:')
    for (const [event, { name }] of Object.entries(channels)) assert.equal(name, `openai-priority-loadbalancer:${event}`)
  })
})

describe('log lines', () => {
  /** A pino logger of the user's, and what it writes. */
  function createLogger(level: string) {
    const lines: { level: number, event: string }[] = []
    const logger = pino({ level }, new Writable({ write(line: Buffer, _encoding, done) { lines.push(JSON.parse(line.toString()) as never); done() } }))
    return { logger, take: () => lines.splice(0).map((line) => `${pino.levels.labels[line.level]} ${line.event}`) }
  }

  test('are at debug, info, warn and error as documented', async (t) => {
    const { logger, take } = createLogger('trace')
    const { east, west, balancer, client } = await startEastAndWest(t, { logger, maxWaitMs: 2_000 }, [{ apiKey: 'key' }, { apiKey: 'another' }])
    east.always(answers(429, { 'retry-after-ms': '400' }))
    await chat(client)
    assert.deepEqual(take(), ['debug picked', 'warn cooldown', 'info failover', 'debug picked', 'debug answered'])
    balancer.system.advance(440)
    east.always(says('east'))
    await chat(client)
    assert.deepEqual(take(), ['info readmitted', 'debug picked', 'debug answered'])
    east.always(answers(503))
    await chat(client)
    await chat(client)
    assert.deepEqual(take().filter((line) => line.includes('ejected')), ['warn ejected'])
    balancer.system.advance(500)
    east.always(answers(403))
    await chat(client)
    assert.deepEqual(take().filter((line) => line.includes('ejected')), ['error ejected'], 'our own credential is wrong: it has to be replaced')
    west.always(answers(429, { 'retry-after-ms': '1500' }))
    const held = chat(client)
    await until(() => balancer.status().waiting === 1)
    assert.deepEqual(take(), ['debug picked', 'warn cooldown', 'info failover', 'debug waiting'])
    west.always(answers(429, { 'retry-after-ms': '9000' }))
    balancer.system.advance(1_650)
    await failure(held)
    assert.deepEqual(take(), ['debug waited', 'info readmitted', 'debug picked', 'warn cooldown', 'error exhausted'])
  })

  test('below the logger\'s level are not put together', async (t) => {
    const { logger, take } = createLogger('warn')
    const { east, client } = await startEastAndWest(t, { logger })
    east.always(answers(429))
    await chat(client)
    assert.deepEqual(take(), ['warn cooldown'])
  })
})

describe('what listens cannot break what it listens to', () => {
  test('a logger that throws is told of once, and requests go on', async (t) => {
    const warnings: Error[] = []
    const onWarning = (warning: Error): void => { warnings.push(warning) }
    process.on('warning', onWarning)
    t.after(() => process.off('warning', onWarning))
    const fail = (): never => { throw new Error('the disk is full') }
    const { east, client } = await startEastAndWest(t, { logger: { debug: fail, info: fail, warn: fail, error: fail, isLevelEnabled: () => true } })
    east.always(answers(429))
    for (let i = 0; i < 3; i++) assert.equal(await chat(client), 'west')
    await until(() => warnings.length > 0)
    assert.deepEqual(warnings.map(({ name, message }) => [name, message.includes('the disk is full')]), [['LoadBalancerWarning', true]])
  })

  test('a subscriber that throws ends no request: Node makes it an uncaught exception of the process', async (t) => {
    const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
    t.after(() => Promise.all([east.close(), west.close()]))
    east.always(answers(429))
    west.always((call) => { call.respond(200, {}, completion('west')) })
    const { code, stdout, stderr } = await runScript(`
      import { PriorityBalancer, subscribe } from ${JSON.stringify(urlOf('src/index.ts'))}
      let uncaught = 0
      process.on('uncaughtException', (error) => { if (error.message === 'mine') uncaught++; else throw error })
      const balancer = new PriorityBalancer({ backends: [{ url: '${east.url}', priority: 1 }, { url: '${west.url}', priority: 2 }], logger: false })
      for (const event of ['picked', 'answered', 'failover', 'cooldown']) subscribe(event, () => { throw new Error('mine') })
      const response = await fetch('${east.url}/v1/chat/completions', { method: 'POST', body: '{}', dispatcher: balancer })
      await response.text()
      await balancer.close()
      console.log(response.status, uncaught)
    `)
    assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: '200 5\n', stderr: '' })
  })
})

describe('status', () => {
  test('counts a request as in flight until its body ends', async (t) => {
    const { east, balancer, client, status } = await startEastAndWest(t)
    const stream = client.chat.completions.create({ model: 'gpt-4o', messages: [], stream: true })
    const call = await east.next()
    assert.deepEqual([status()[0].inFlight, status()[0].lastLatencyMs], [1, undefined])
    balancer.system.advance(321)
    call.head(200, { 'content-type': 'text/event-stream' })
    await call.write('data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n')
    const chunks = await stream
    const [before] = status()
    assert.deepEqual([before.inFlight, before.lastLatencyMs, before.successes, before.scopes[0]?.inFlight], [1, 321, 1, 1])
    call.end('data: [DONE]\n\n')
    const texts: unknown[] = []
    for await (const chunk of chunks) texts.push(chunk.choices[0]?.delta.content)
    assert.deepEqual(texts, ['Hi'])
    await until(() => status()[0].inFlight === 0)
    assert.equal(status()[0].scopes[0]?.inFlight, 0)
  })

  test('counts a swallowed answer as in flight until it is read or given up', async (t) => {
    const { east, balancer, client, status } = await startEastAndWest(t)
    const answer = chat(client)
    const call = await east.next()
    call.head(429, { 'retry-after': '5', 'content-length': '1000' })
    assert.equal(await answer, 'west', 'which does not wait for it')
    assert.equal(status()[0].inFlight, 1)
    balancer.system.advance(1_000)
    assert.equal(status()[0].inFlight, 0)
  })

  test('tells everything about backends and scopes, and nothing else', async (t) => {
    const { east, west, balancer, client } = await startEastAndWest(t, { pacing: false }, [{ weight: 3, apiKey: 'key' }, { models: { 'gpt-4o': 'gpt4o-west' } }])
    east.always(answers(429, { 'retry-after': '20' }))
    await chat(client)
    const { waiting, backends: [first, second] } = balancer.status()
    assert.equal(waiting, 0)
    const cooldownMs = first?.cooldownMs ?? 0
    assert.ok(cooldownMs >= 20_000 && cooldownMs <= 21_000)
    const counts = { attempts: 1, successes: 0, throttled: 1, spillovers: 0, failures: 0, inFlight: 0 }
    assert.deepEqual(first, {
      name: 'east', url: east.url, priority: 1, weight: 3, state: 'cooldown', cooldownMs, reason: undefined, callersOut: 0, lastLatencyMs: undefined, ...counts,
      scopes: [{ scope: 'gpt-4o', state: 'cooldown', cooldownMs, reason: undefined, out: { until: balancer.system.wallNow() + cooldownMs, reason: 'throttled' }, ...counts, pace: [] }],
    })
    const served = { attempts: 1, successes: 1, throttled: 0, spillovers: 0, failures: 0, inFlight: 0 }
    assert.deepEqual(second, {
      name: 'west', url: west.url, priority: 2, weight: 1, state: 'available', cooldownMs: 0, reason: undefined, callersOut: 0, lastLatencyMs: 0, ...served,
      scopes: [{ scope: 'gpt4o-west', state: 'available', cooldownMs: 0, reason: undefined, ...served, pace: [] }],
    })
    balancer.system.advance(cooldownMs)
    assert.deepEqual([balancer.status().backends[0]?.state, balancer.status().backends[0]?.cooldownMs], ['available', 0])
    assert.equal(first?.state, 'cooldown', 'a snapshot does not change')
  })
})
