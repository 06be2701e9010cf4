/** A refusal that comes while the request body is still being sent. */
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { request } from 'undici'
import { gate } from '../support/gate.js'
import { startScriptedBackend } from '../support/scripted-backend.js'
import { turns, until } from '../support/until.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'

test('a stream that outgrows maxReplayBytes while its request is held goes out whole, from its start', async (t) => {
  const backend = await startScriptedBackend()
  const balancer = new VirtualBalancer({ backends: [{ url: backend.url, priority: 1 }], maxWaitMs: 1_000, maxReplayBytes: 100, logger: false })
  t.after(() => Promise.all([balancer.destroy(), backend.close()]))
  const rest = gate()
  async function * pieces(): AsyncGenerator<string> {
    yield 'a'.repeat(80)
    await rest.promise
    yield 'b'.repeat(80)
    yield 'c'.repeat(80)
  }
  const answer = request(`${backend.url}/responses`, { method: 'POST', body: Readable.from(pieces(), { objectMode: false }), dispatcher: balancer })
  const first = await backend.next()
  first.respond(429, { 'retry-after-ms': '20' })
  await until(() => balancer.status().waiting === 1, 'the request is held')
  rest.open()
  await turns()
  balancer.system.advance(100)
  const second = await backend.next()
  assert.equal(await second.request.text(), 'a'.repeat(80) + 'b'.repeat(80) + 'c'.repeat(80))
  second.respond(200, {}, 'ok')
  assert.equal(await (await answer).body.text(), 'ok')
})
