/**
 * A request through a balancer with one healthy backend is not to be told from one through a bare Agent: generated
 * exchanges are played with both, on real sockets, and every call of the handler, what the caller gets, every byte that
 * the server got and the number of its connections are compared. What may differ has a name: see `differences.ts`.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import * as undici from 'undici'
import { install } from '../../src/install.js'
import { PEER_TAKES_LEGACY_HANDLERS } from '../support/undici-style.js'
import { FIXED_SEED, SEED } from '../support/seed.js'
import { startScriptedBackend } from '../support/scripted-backend.js'
import { testCertificate } from '../support/tls.js'
import { exchange } from './transparency/arbitraries.js'
import { compare, DIFFERENCES } from './transparency/differences.js'
import { isLookedInto } from './transparency/generating.js'
import { CLIENTS, FATES, type Client, type Exchange } from './transparency/exchange.js'
import { playBalanced, playBare } from './transparency/play.js'
import { SABOTAGES } from './transparency/sabotage.js'
import { startWireServer, type WireServer } from './transparency/wire-server.js'

/** 500 in all. Those of `dispatch` see most and cost least. */
const RUNS: Readonly<Record<Client, number>> = {
  'native fetch': 70, 'native fetch, global': 50, 'native fetch, installed': 50, 'undici fetch': 60, 'undici request': 90, 'dispatch, new style': 90, 'dispatch, old style': 90,
}

/** Each client has exchanges of its own. */
const seedOf = (client: Client, seed = SEED): number => seed + CLIENTS.indexOf(client)

/** The same in every run: what these exchanges are, and that they show what they are to show, does not hang on luck. */
const sampleOf = (client: Client): Exchange[] => fc.sample(exchange(client), { seed: seedOf(client, FIXED_SEED), numRuns: RUNS[client] })

/** Sockets are not in our hand: what differs by chance (a chunk cut otherwise before an abort) does not differ three times. */
const TIMES = 3

let server: WireServer
const needed = new Set<string>()
before(async () => { server = await startWireServer() })
after(() => server.close())

async function playBoth (given: Exchange): Promise<ReturnType<typeof compare>> {
  const bare = await playBare(undici, server, given)
  return compare(bare, await playBalanced(undici, server, given), given)
}

async function assertTransparent (given: Exchange): Promise<void> {
  let played = await playBoth(given)
  for (let times = 1; times < TIMES && !isDeepStrictEqual(played.actual, played.expected); times++) played = await playBoth(given)
  assert.deepEqual(played.actual, played.expected)
  assert.ok(played.actual.turns.every(({ result }) => !Object.hasOwn(result as object, 'hung')), 'an exchange that never ends, with a bare Agent too, shows nothing')
  for (const name of played.needed) needed.add(name)
}

describe('a request through a balancer with one backend is the one of a bare Agent', () => {
  for (const client of CLIENTS) {
    test(`by ${client}, ${RUNS[client]} exchanges`, async () => {
      await fc.assert(fc.asyncProperty(exchange(client), assertTransparent), { seed: seedOf(client), numRuns: RUNS[client], endOnFailure: true })
    })
  }

  test('but for the differences that have a name, each of which was seen', async () => {
    const names = DIFFERENCES.map(({ name }) => name).filter((name) => PEER_TAKES_LEGACY_HANDLERS || name !== 'the sending is told to every handler')
    const unseen = (): string[] => names.filter((name) => !needed.has(name))
    for (const client of CLIENTS) {
      for (const given of sampleOf(client)) if (unseen().length > 0) await assertTransparent(given)
    }
    assert.deepEqual(unseen(), [])
    assert.equal(Object.values(RUNS).reduce((sum, runs) => sum + runs), 500)
  })
})

describe('the exchanges', () => {
  const all = CLIENTS.flatMap(sampleOf)
  const turns = all.flatMap((one) => one.turns)
  /** How many requests are of this kind. */
  const count = (is: (turn: Exchange['turns'][number]) => boolean): number => turns.filter(is).length

  test('are of every kind', () => {
    const has = (line: string) => (turn: Exchange['turns'][number]): boolean => turn.response.lines.some((one) => one.toLowerCase().startsWith(line))
    const twice = (line: string) => (turn: Exchange['turns'][number]): boolean => turn.response.lines.filter((one) => one.toLowerCase().startsWith(line)).length > 1
    const kinds: Readonly<Record<string, number>> = {
      ...Object.fromEntries(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'QUERY'].map((method) => [method, count((turn) => turn.method === method)])),
      ...Object.fromEntries(['2', '3', '4', '5'].map((digit) => [`${digit}xx`, count(({ response }) => String(response.status).startsWith(digit))])),
      ...Object.fromEntries([204, 304, 429].map((status) => [status, count(({ response }) => response.status === status)])),
      ...Object.fromEntries(['100', '102', '103'].map((status) => [status, count(({ response }) => response.interim.includes(status as '100'))])),
      ...Object.fromEntries(['length', 'chunked', 'close'].map((framing) => [framing, count(({ response }) => response.framing === framing)])),
      ...Object.fromEntries(['gzip', 'deflate', 'br'].map((coding) => [coding, count(({ response }) => response.coding === coding)])),
      ...Object.fromEntries(FATES.map((fate) => [fate, count(({ response }) => response.fate === fate)])),
      ...Object.fromEntries(['none', 'empty', 'latin-1'].map((reason) => [`reason: ${reason}`, count(({ response }) => response.reason === reason)])),
      ...Object.fromEntries(['once', 'request', 'headers', 'data'].map((at) => [`abort: ${at}`, count(({ action }) => action.kind === 'abort' && action.at === at)])),
      ...Object.fromEntries(['throw', 'pause', 'abort inside'].map((kind) => [kind, count(({ action }) => action.kind === kind)])),
      ...Object.fromEntries(['object', 'flat', 'iterable', 'Headers', 'none'].map((shape) => [`headers: ${shape}`, count(({ headers }) => headers.shape === shape)])),
      ...Object.fromEntries(['none', 'string', 'Buffer', 'Uint8Array', 'ArrayBuffer', 'Blob', 'FormData', 'URLSearchParams', 'Readable', 'async iterable', 'sync iterable', 'web stream'].map((kind) => [`body: ${kind}`, count(({ body }) => body.kind === kind)])),
      'cookies twice': count(twice('set-cookie')), 'challenges twice': count(twice('www-authenticate')), 'latin-1': count(has('x-latin')), folded: count(has('x-fold')), 'empty value': count(has('x-empty')),
      'headers near the limit': count(({ response }) => response.filler > 16_000 && response.filler < 16_500), 'headers above it': count(({ response }) => response.filler > 16_500),
      trailers: count(({ response }) => response.framing === 'chunked' && response.trailers.length > 0), extensions: count(({ response }) => response.framing === 'chunked' && response.extension),
      'event streams': count((turn) => isLookedInto(turn) && has('content-type: text/event-stream')(turn)), 'streams that are compressed': count((turn) => isLookedInto(turn) && turn.response.coding !== 'identity'),
      early: count(({ response }) => response.early), 'upload that waits': count(({ body }) => body.waits), 'upload that fails': count(({ body }) => body.fails), 'slow bodies': count(({ response }) => response.pieces > 1),
      'length announced': count(({ body }) => body.announced === 'its length'), 'wrong length': count(({ body }) => body.announced === 'one more' || body.announced === 'one less'), reset: count(({ options }) => options['reset'] === true),
      blocking: count(({ options }) => options['blocking'] !== undefined), expectContinue: count(({ options }) => options['expectContinue'] === true), throwOnError: count(({ options }) => options['throwOnError'] !== undefined),
      upgrade: count(({ options }) => options['upgrade'] !== undefined),
      'several over one connection': all.filter((one) => one.turns.length > 1).length, 'own credential': all.filter(({ setting }) => setting === 'own credential').length, 'made-up url': all.filter(({ setting }) => setting === 'made-up url').length,
    }
    assert.deepEqual(Object.entries(kinds).filter(([, times]) => times < 3), [])
  })
})

describe('it would be seen that', () => {
  for (const [what, spoil] of SABOTAGES) {
    test(what, async () => {
      const exchanges = fc.sample(exchange('dispatch, old style'), { seed: FIXED_SEED, numRuns: 300 }).filter(({ turns }) => turns.every(({ action }) => action.kind === 'none' || what.startsWith('an abort')))
      for (const given of exchanges) {
        const bare = await playBare(undici, server, given)
        const { actual, expected } = compare(bare, await playBalanced(undici, server, given, spoil), given)
        if (isDeepStrictEqual(actual, expected)) continue
        // It is the sabotage that is seen, and nothing else.
        const without = await playBoth(given)
        if (isDeepStrictEqual(without.actual, without.expected)) return
      }
      assert.fail(`none of ${exchanges.length} exchanges differs`)
    })
  }
})

test('native fetch speaks HTTP/2 after install where undici does, unless the dispatcher forbids it', async (t) => {
  const certificate = await testCertificate()
  const backend = await startScriptedBackend({ protocol: 'h2-or-http', certificate })
  t.after(() => backend.close())
  backend.always((call) => { call.respond(200) })
  const versions: (string | undefined)[] = []
  for (const options of [{}, { allowH2: false }]) {
    const dispatcher = new undici.Agent({ ...options, connect: { ca: certificate.ca } })
    const balancer = install({ backends: [{ url: backend.url, priority: 1 }], dispatcher, logger: false })
    assert.equal((await fetch(`${backend.url}/x`)).status, 200)
    versions.push(backend.calls.at(-1)?.request.httpVersion)
    await balancer.uninstall()
    await dispatcher.destroy()
  }
  assert.deepEqual(versions, [PEER_TAKES_LEGACY_HANDLERS ? '1.1' : '2.0', '1.1'])
})
