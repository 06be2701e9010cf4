/** A refusal that comes while the request body is still being sent. */
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { describe, test } from 'node:test'
import { request } from 'undici'
import { gate } from '../support/gate.js'
import { startScriptedBackend } from '../support/scripted-backend.js'
import { turns, until } from '../support/until.js'
import { VirtualBalancer } from '../support/virtual-balancer.js'

describe('a stream that outgrows maxReplayBytes after an early refusal goes out whole, from its start', () => {
  const whole = 'a'.repeat(80) + 'b'.repeat(80) + 'c'.repeat(80)

  async function * pieces(rest: Promise<void>): AsyncGenerator<string> {
    yield whole.slice(0, 80)
    await rest
    yield whole.slice(80, 160)
    yield whole.slice(160)
  }

  test('while its request is held', async (t) => {
    const backend = await startScriptedBackend()
    const balancer = new VirtualBalancer({ backends: [{ url: backend.url, priority: 1 }], maxWaitMs: 1_000, maxReplayBytes: 100, logger: false })
    t.after(() => Promise.all([balancer.destroy(), backend.close()]))
    const rest = gate()
    const answer = request(`${backend.url}/responses`, { method: 'POST', body: Readable.from(pieces(rest.promise), { objectMode: false }), dispatcher: balancer })
    const first = await backend.next()
    first.respond(429, { 'retry-after-ms': '20' })
    await until(() => balancer.status().waiting === 1, 'the request is held')
    rest.open()
    await turns()
    balancer.system.advance(100)
    const second = await backend.next()
    assert.equal(await second.request.text(), whole)
    second.respond(200, {}, 'ok')
    assert.equal(await (await answer).body.text(), 'ok')
  })

  test('while the next backend\'s credential is fetched', async (t) => {
    const [east, west] = await Promise.all([startScriptedBackend(), startScriptedBackend()])
    const [rest, asked, token] = [gate(), gate(), gate<string>()]
    const bearerToken = (): Promise<string> => {
      asked.open()
      return token.promise
    }
    const balancer = new VirtualBalancer({ backends: [{ url: east.url, priority: 1 }, { url: west.url, priority: 2, bearerToken }], maxReplayBytes: 100, logger: false })
    t.after(() => Promise.all([balancer.destroy(), east.close(), west.close()]))
    const answer = request(`${east.url}/responses`, { method: 'POST', body: Readable.from(pieces(rest.promise), { objectMode: false }), dispatcher: balancer })
    const first = await east.next()
    first.respond(429, { 'retry-after-ms': '20' })
    await asked.promise
    rest.open()
    await turns()
    token.open('a-token')
    const second = await west.next()
    assert.equal(await second.request.text(), whole)
    second.respond(200, {}, 'ok')
    assert.equal(await (await answer).body.text(), 'ok')
  })
})
