/**
 * Seen: `dispatch` with `upgrade` and a handler that has no `onUpgrade` was sent, where undici refuses it: the backend opened a
 * connection of which no code heard.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Agent, request, type Dispatcher } from 'undici'
import { startEastAndWest } from '../support/east-and-west.js'
import { PEER_TAKES_LEGACY_HANDLERS } from '../support/undici-style.js'
import { turns } from '../support/until.js'

type Callback = (...args: unknown[]) => void

const legacy = ['onConnect', 'onError', 'onHeaders', 'onData', 'onComplete', 'onUpgrade']
const modern = ['onRequestStart', 'onResponseError', 'onResponseStart', 'onResponseData', 'onResponseEnd', 'onRequestUpgrade']

/** What a request with this handler came to, told in one line; nothing where it was not refused. */
async function send (dispatcher: Dispatcher, origin: string, opts: object, names: readonly string[]): Promise<string | undefined> {
  let told: unknown
  const handler = Object.fromEntries(names.map((name): [string, Callback] => [name, (...args) => { if (/Error$/.test(name)) told = args.at(-1) }]))
  try {
    dispatcher.dispatch({ origin, path: '/openai/v1/realtime', method: 'GET', ...opts }, handler as never)
  } catch (error) {
    told = error
  }
  await turns(3)
  return told === undefined ? undefined : `${(told as { code?: string }).code} ${(told as Error).message}`
}

const handlers: readonly (readonly [name: string, names: readonly string[], isRefused: { readonly upgrade: boolean; readonly plain: boolean }])[] = [
  ['onUpgrade', legacy.filter((name) => name !== 'onUpgrade'), { upgrade: true, plain: false }],
  ['onHeaders', legacy.filter((name) => name !== 'onHeaders'), { upgrade: false, plain: true }],
  ['onComplete', legacy.filter((name) => name !== 'onComplete'), { upgrade: false, plain: true }],
  // undici 7 looks at no handler of the new style, and so do we there.
  ...(PEER_TAKES_LEGACY_HANDLERS ? [] : [['onRequestUpgrade', modern.filter((name) => name !== 'onRequestUpgrade'), { upgrade: true, plain: false }] as const]),
]

for (const [missing, names, refused] of handlers) {
  describe(`a handler without ${missing}`, () => {
    for (const [what, opts, isRefused] of [['an upgrade', { upgrade: 'websocket' }, refused.upgrade], ['a plain request', {}, refused.plain]] as const) {
      test(`${isRefused ? 'is refused' : 'is good enough'} for ${what}`, async (t) => {
        const { east, west, balancer } = await startEastAndWest(t)
        let upgrades = 0
        for (const backend of [east, west]) {
          backend.always((call) => { call.respond(200) })
          backend.onUpgrade((_request, socket) => {
            upgrades++
            socket.destroy()
          })
        }
        const told = await send(balancer, east.url, opts, names)
        assert.equal(told, isRefused ? `UND_ERR_INVALID_ARG invalid ${missing} method` : undefined)
        if (isRefused) assert.deepEqual([upgrades, east.calls.length, west.calls.length], [0, 0, 0])
        assert.equal(balancer.engine.requests.size === 0 || !isRefused, true)
        // In the words of the undici that is used, where that takes handlers of this style.
        if (isRefused && (PEER_TAKES_LEGACY_HANDLERS || missing === 'onRequestUpgrade')) {
          const agent = new Agent()
          t.after(() => agent.destroy())
          assert.equal(told, await send(agent, east.url, opts, names))
        }
      })
    }
  })
}

test('undici\'s own request() asks for no upgrade, and is refused in the same words', async (t) => {
  const { east, balancer } = await startEastAndWest(t)
  east.always((call) => { call.respond(200) })
  const agent = new Agent()
  t.after(() => agent.destroy())
  const outcomes = await Promise.all([agent, balancer].map((dispatcher) => request(`${east.url}/openai/v1/realtime`, { dispatcher, upgrade: 'websocket' } as never).then(() => 'sent', (error: Error) => error.message)))
  assert.equal(outcomes[1], outcomes[0])
  assert.notEqual(outcomes[1], 'sent')
})
