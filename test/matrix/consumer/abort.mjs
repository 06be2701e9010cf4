/** The caller gives up: before, during, between attempts, in the body. It hears its own reason at once; the wire goes quiet. */
import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import * as undici from 'undici'
import { CHAT, FETCHES, balance, check, rejection, serve, throttles, withResolvers } from './support.mjs'

const REASON = new Error('changed my mind')

/** One face for all that can be aborted: `begin(signal)` makes the request. `own` is what it must reject with. */
const CALLERS = [
  ...FETCHES.map(({ name, fetch }) => ({
    name,
    begin: (signal) => fetch(CHAT, { method: 'POST', body: 'x', signal }),
    read: (response) => response.text(),
  })),
  {
    name: 'undici request',
    begin: (signal) => undici.request(CHAT, { method: 'POST', body: 'x', signal }),
    read: (response) => response.body.text(),
  },
]

/** Takes requests, begins to answer where told, and never ends. */
const hangs = (first) => (_call, response) => { if (first !== undefined) response.write(first) }

for (const { name, begin, read } of CALLERS) {
  check(`abort: ${name}, before it begins: nothing is sent`, async (t) => {
    const backend = await serve(t, hangs())
    const balancer = balance(t, [backend])
    const error = await rejection(begin(AbortSignal.abort(REASON)))
    assert.equal(error, REASON)
    assert.deepEqual([backend.calls.length, balancer.status().backends[0].inFlight], [0, 0])
  })

  check(`abort: ${name}, while a backend is asked: the connection is given up, no other backend is asked`, async (t) => {
    const servers = [await serve(t, hangs()), await serve(t, hangs())]
    const balancer = balance(t, servers)
    const controller = new AbortController()
    const arrival = servers[0].next()
    const failed = rejection(begin(controller.signal))
    const call = await arrival
    controller.abort(REASON)
    assert.equal(await failed, REASON)
    assert.deepEqual(await call.gone, { finished: false })
    assert.equal(servers[1].calls.length, 0)
    assert.deepEqual(balancer.status().backends.map(({ inFlight, failures, state }) => [inFlight, failures, state]), [[0, 0, 'available'], [0, 0, 'available']])
  })

  check(`abort: ${name}, during the second attempt`, async (t) => {
    const servers = [await serve(t, throttles()), await serve(t, hangs())]
    balance(t, servers)
    const controller = new AbortController()
    const arrival = servers[1].next()
    const failed = rejection(begin(controller.signal))
    const call = await arrival
    controller.abort(REASON)
    assert.equal(await failed, REASON)
    assert.deepEqual(await call.gone, { finished: false })
  })

  check(`abort: ${name}, while it waits for a backend: at once, and the wait is over`, async (t) => {
    const backend = await serve(t, throttles(30_000))
    const balancer = balance(t, [backend], { maxWaitMs: 60_000 })
    const controller = new AbortController()
    const failed = rejection(begin(controller.signal))
    while (balancer.status().waiting === 0) await new Promise(setImmediate)
    controller.abort(REASON)
    assert.equal(await failed, REASON)
    assert.deepEqual([balancer.status().waiting, backend.calls.length], [0, 1])
  })

  check(`abort: ${name}, in the body: what has come stays, the rest is not read`, async (t) => {
    const servers = [await serve(t, throttles()), await serve(t, hangs('begun'))]
    balance(t, servers)
    const controller = new AbortController()
    const response = await begin(controller.signal)
    const [call] = servers[1].calls
    const failed = rejection(read(response))
    controller.abort(REASON)
    assert.equal(await failed, REASON)
    assert.deepEqual(await call.gone, { finished: false })
  })

  check(`abort: ${name}, a timeout is a timeout`, async (t) => {
    const backend = await serve(t, hangs())
    balance(t, [backend])
    const error = await rejection(begin(AbortSignal.timeout(200)))
    assert.equal(error.name, 'TimeoutError')
    // Not in time to arrive at all, on a very busy machine.
    for (const { gone } of backend.calls) assert.deepEqual(await gone, { finished: false })
  })
}

for (const { name, fetch } of FETCHES) {
  check(`abort: ${name}, the reader cancels the body`, async (t) => {
    const servers = [await serve(t, throttles()), await serve(t, hangs('begun'))]
    balance(t, servers)
    const response = await fetch(CHAT)
    const reader = response.body.getReader()
    await reader.read()
    await reader.cancel(REASON)
    assert.deepEqual(await servers[1].calls[0].gone, { finished: false })
  })
}

check('abort: undici request with an EventEmitter as its signal, and undici stream', async (t) => {
  const servers = [await serve(t, throttles()), await serve(t, hangs())]
  balance(t, servers)
  const signals = [new EventEmitter(), new EventEmitter()]
  const begun = [
    (signal) => undici.request(CHAT, { signal }),
    (signal) => undici.stream(CHAT, { method: 'GET', signal }, () => assert.fail('there was no answer')),
  ]
  for (const [i, begin] of begun.entries()) {
    const arrival = servers[1].next()
    const failed = rejection(begin(signals[i]))
    const call = await arrival
    signals[i].emit('abort')
    assert.equal((await failed).code, 'UND_ERR_ABORTED')
    assert.deepEqual(await call.gone, { finished: false })
  }
})

check('abort: many requests at once leave nothing behind', async (t) => {
  const servers = [await serve(t, throttles(10)), await serve(t, hangs('begun'))]
  const balancer = balance(t, servers)
  const all = withResolvers()
  let arrived = 0
  servers[1].answerWith((call, response) => { hangs('begun')(call, response); if (++arrived === 30) all.resolve() })
  const controller = new AbortController()
  const failures = Array.from({ length: 30 }, () => rejection(fetch(CHAT, { method: 'POST', body: 'x', signal: controller.signal }).then((response) => response.text())))
  await all.promise
  controller.abort(REASON)
  for (const failure of await Promise.all(failures)) assert.equal(failure, REASON)
  await Promise.all(servers[1].calls.map(({ gone }) => gone))
  assert.deepEqual(balancer.status().backends.map(({ inFlight }) => inFlight), [0, 0])
})
