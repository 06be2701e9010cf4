/** `fetch(url, { dispatcher })`: the balancer takes the handlers of both fetches, whichever undici it is built upon. */
import assert from 'node:assert/strict'
import * as undici from 'undici'
import {
  CHAT, FETCHES, NATIVE_HANDLERS_ARE_OLD, OTHERS, UNDICI_8, bareAgent, check, makeBalancer, rejection, rootCause, says, serve, throttles,
} from './support.mjs'

for (const { name, fetch } of [...FETCHES, ...OTHERS.map(({ name, fetch }) => ({ name: `the fetch of ${name}`, fetch }))]) {
  check(`dispatcher option: ${name} is balanced, and only where it is given`, async (t) => {
    const [busy, free] = [await serve(t, throttles()), await serve(t, says('free', { 'set-cookie': ['a=1; Path=/', 'b=2'] }))]
    const dispatcher = makeBalancer(t, [busy, free])
    const response = await fetch(CHAT, { method: 'POST', body: 'hello', dispatcher })
    assert.equal(await response.text(), 'free')
    assert.deepEqual(response.headers.getSetCookie(), ['a=1; Path=/', 'b=2'])
    assert.deepEqual([busy.bodies().join(), free.bodies().join()], ['hello', 'hello'])
    assert.ok(await rejection(fetch(CHAT)) instanceof TypeError)
  })
}

const AGENT_IS_REFUSED = UNDICI_8 && NATIVE_HANDLERS_ARE_OLD

check(`known defect${AGENT_IS_REFUSED ? '' : ', not here'}: native fetch does not take a bare Agent of undici 8 before Node 26; it takes a balancer over one`, async (t) => {
  const server = await serve(t, says('here'))
  const agent = bareAgent(t)
  if (AGENT_IS_REFUSED) {
    const error = await rejection(fetch(server.url, { dispatcher: agent }))
    assert.equal(rootCause(error).message, 'invalid onRequestStart method')
  } else {
    assert.equal(await (await fetch(server.url, { dispatcher: agent })).text(), 'here')
  }
  const balancer = makeBalancer(t, [server], { dispatcher: agent })
  // For what is balanced, and for what only passes through.
  for (const url of [CHAT, `${server.url}/elsewhere`]) assert.equal(await (await fetch(url, { dispatcher: balancer })).text(), 'here')
})

const { cache, decompress, dns, dump, redirect, responseError, retry } = undici.interceptors

for (const [name, intercept] of Object.entries({ cache, decompress, dns, dump, redirect, responseError, retry })) {
  check(`interceptors: undici's ${name} works inside a balancer, and around one`, async (t) => {
    const [busy, free] = [await serve(t, throttles()), await serve(t, says('free'))]
    const agent = new undici.Agent()
    t.after(() => agent.close())
    const dispatchers = [makeBalancer(t, [busy, free], { dispatcher: agent.compose(intercept()) })]
    // Around a balancer `dns` would have to find the made-up host first.
    if (name !== 'dns') dispatchers.push(makeBalancer(t, [busy, free]).compose(intercept()))
    for (const dispatcher of dispatchers) {
      const { statusCode, body } = await undici.request(CHAT, { method: 'POST', body: 'hello', dispatcher })
      assert.deepEqual([statusCode, await body.text()], [200, name === 'dump' ? '' : 'free'])
      if (name !== 'dump') assert.equal(await (await undici.fetch(CHAT, { dispatcher })).text(), 'free')
    }
    // Inside, `responseError` makes an error of the 429: the backend is then out for an unknown time, and may be tried again at once.
    const counted = busy.calls.filter(({ method }) => name !== 'responseError' || method === 'POST')
    assert.deepEqual(counted.map(({ body }) => String(body)), dispatchers.map(() => 'hello'))
  })
}

check('dispatcher option: an Agent, a Pool, a Client and a RetryAgent of any undici can be inside', async (t) => {
  const [busy, free] = [await serve(t, throttles(1)), await serve(t, says('free'))]
  for (const { Agent, RetryAgent } of [undici, ...OTHERS]) {
    const agent = new Agent()
    t.after(() => agent.close())
    for (const inner of [agent, new RetryAgent(agent, { maxRetries: 1 })]) {
      const dispatcher = makeBalancer(t, [busy, free], { dispatcher: inner })
      for (const { fetch } of FETCHES) assert.equal(await (await fetch(CHAT, { method: 'POST', body: 'x', dispatcher })).text(), 'free')
    }
  }
  for (const Inner of [undici.Pool, undici.Client]) {
    const inner = new Inner(free.url)
    t.after(() => inner.close())
    const dispatcher = makeBalancer(t, [free], { dispatcher: inner })
    for (const { fetch } of FETCHES) assert.equal(await (await fetch(CHAT, { method: 'POST', body: 'x', dispatcher })).text(), 'free')
  }
})
