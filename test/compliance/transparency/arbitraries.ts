/** What exchanges are drawn from. */
import fc from 'fast-check'
import { PEER_TAKES_LEGACY_HANDLERS } from '../../support/undici-style.js'
import { generating, isLookedInto } from './generating.js'
import { FATES, isDispatch, isFetch, isStream, isTraced, type Action, type BodyPlan, type Client, type Exchange, type HeadersPlan, type ResponsePlan, type Turn } from './exchange.js'

/** `usual` in so many of 100 cases. */
function mostly<T> (usual: T, share: number, ...others: fc.Arbitrary<T>[]): fc.Arbitrary<T> {
  return fc.oneof({ arbitrary: fc.constant(usual), weight: share * others.length }, ...others.map((arbitrary) => ({ arbitrary, weight: 100 - share })))
}

const long = 'ab\xe9'.repeat(40_000)
const piece = fc.oneof(fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)), maxLength: 60 }), fc.constantFrom('{"model":"gpt-4o"}', 'a'))

const STATUSES = [
  200, 200, 200, 200, 201, 202, 203, 204, 205, 206, 226, 299, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 408, 409, 410, 411, 412, 413, 415, 418, 421, 422,
  425, 428, 429, 431, 451, 500, 501, 502, 503, 504, 505, 529, 599,
]

const EVENT_STREAM = 'content-type: text/event-stream'

const RESPONSE_LINES = [
  'Set-Cookie: a=1; Path=/', 'set-cookie: b=2', 'set-cookie: a=1; Path=/', 'WWW-Authenticate: Basic realm="a, b"', 'www-authenticate: Bearer', 'X-MiXeD-Case: Yes',
  'X-Twice: 1', 'x-twice: 2', 'X-Latin: caf\xe9 \xfc\xdf', 'X-Empty:', 'x-blank:   ', 'x-padded:  \t a b \t ', 'X-Fold: one\r\n two\r\n\tthree', 'x-fold: \r\n late',
  EVENT_STREAM, 'Content-Type: application/json; charset=utf-8', 'Date: Sun, 22 Nov 2026 12:00:00 GMT', 'Connection: close', 'connection: keep-alive',
  'keep-alive: timeout=5', 'vary: a', 'Vary: b', 'link: </a>; rel=preload', 'ETag: "x"', 'constructor: 1', '__proto__: 1', 'tostring: 1', '1: 2', '0: 1', 'x-utf8: \xc3\xa4', 'location: /elsewhere',
  'x-ratelimit-limit-requests: 10', 'x-ratelimit-remaining-requests: 9', 'azure-openai-deployment-utilization: 40%', 'openai-processing-ms: 7', 'alt-svc: h2=":443"',
]
/** A backend that says these is left alone for a while: only where nothing follows. */
const LAST_LINES = ['retry-after: 1', 'retry-after-ms: 20', 'x-ms-retry-after-ms: 20']
/** Not what HTTP allows: undici says so. */
const BAD_LINES = ['x\x00y: 1', 'no colon', 'x-ctl: a\x01b', ' x-begins: folded', 'x y: 1', 'content-length: x', 'transfer-encoding: gzip']

function response (client: Client, isLast: boolean): fc.Arbitrary<ResponsePlan> {
  const line = fc.constantFrom(...RESPONSE_LINES, ...(isLast ? LAST_LINES : []))
  const fates = FATES.filter((fate) => fate !== 'reset in the body' || isTraced(client))
  return fc.record({
    interim: mostly<ResponsePlan['interim']>([], 70, fc.array(fc.constantFrom('102', '103'), { maxLength: 3 }), fc.constantFrom(['100'], ['103', '100'])),
    version: mostly<'1.1' | '1.0'>('1.1', 92, fc.constant('1.0')),
    status: fc.constantFrom(...STATUSES.filter((status) => isLast || status !== 429)),
    reason: mostly<ResponsePlan['reason']>('usual', 80, fc.constantFrom('none', 'empty', 'latin-1')),
    lines: mostly<string[]>([], 5, fc.array(line, { maxLength: 8 }), fc.array(line, { maxLength: 8 }), fc.array(line, { maxLength: 8 }), fc.array(line, { maxLength: 8 }), fc.constantFrom(...BAD_LINES).map((bad) => [bad])),
    filler: mostly(0, 92, fc.constantFrom(8_000, 16_000, 16_250, 16_380, 16_500, 65_536)),
    framing: fc.constantFrom('length', 'length', 'chunked', 'chunked', 'close'),
    extension: fc.boolean(),
    trailers: mostly<string[]>([], 60, fc.constantFrom(['X-Sum: 7'], ['x-sum: 7', 'x-more: caf\xe9'], ['x-sum: 1', 'x-sum: 2'])),
    body: fc.oneof({ weight: 9, arbitrary: piece }, { weight: 1, arbitrary: fc.constant('') }, { weight: 1, arbitrary: fc.constant(long) }),
    coding: mostly<ResponsePlan['coding']>('identity', 70, fc.constantFrom('gzip', 'deflate', 'br')),
    pieces: fc.integer({ min: 1, max: 4 }),
    cuts: fc.constant([]),
    early: mostly(false, 75, fc.constant(true)),
    fate: mostly<ResponsePlan['fate']>('whole', 75, fc.constantFrom(...fates)),
  }).map((plan) => ({ ...plan, ...withinHttp(plan) }))
}

/** Two ways to say how long a body is are a thing of `fate`, not of chance. */
function withinHttp ({ fate, framing, version, lines }: ResponsePlan): Partial<ResponsePlan> {
  const needed = fate === 'a bad chunk' ? 'chunked' : fate === 'two lengths' || fate === 'too long for its length' ? 'length' : framing
  return { framing: needed === 'chunked' && version === '1.0' && fate !== 'a bad chunk' ? 'close' : needed, version: fate === 'a bad chunk' ? '1.1' : version, lines }
}

const REQUEST_PAIRS: readonly (readonly [string, string])[] = [
  ['X-Request-Id', '7'], ['accept', '*/*'], ['Accept-Language', 'de, en;q=0.5'], ['user-agent', 'a test'], ['content-type', 'application/json'], ['Content-Type', 'text/plain'],
  ['X-Latin', 'caf\xe9'], ['x-empty', ''], ['api-key', 'the-callers'], ['Authorization', 'Bearer the-callers'], ['Ocp-Apim-Subscription-Key', 'the-callers'], ['cookie', 'a=1'], ['cookie', 'b=2'],
  ['x-twice', '1'], ['x-twice', '2'], ['X-Twice', '3'], ['accept-encoding', 'gzip'], ['range', 'bytes=0-1'], ['te', 'trailers'], ['openai-organization', 'org'], ['OpenAI-Project', 'proj'], ['x-api-key', 'the-callers'], ['X-Goog-Api-Key', 'the-callers'], ['constructor', '1'], ['1', '2'],
  ['connection', 'close'], ['Connection', 'keep-alive'], ['host', 'elsewhere.example'], ['Host', 'elsewhere.example:1'],
]
/** undici takes none of them. */
const BAD_PAIRS: readonly (readonly [string, string])[] = [
  ['transfer-encoding', 'chunked'], ['expect', '100-continue'], ['upgrade', 'h2c'], ['keep-alive', 'timeout=5'], ['content-length', 'x'], ['connection', 'upgrade'],
]
/** Nor these, which fetch does not even pass on. */
const WORSE_PAIRS: readonly (readonly [string, string])[] = [['bad name', '1'], ['x-bad', 'a\nb'], ['', '1']]

function headers (client: Client): fc.Arbitrary<HeadersPlan> {
  const pair = fc.constantFrom(...REQUEST_PAIRS)
  const bad = fc.constantFrom(...BAD_PAIRS, ...(isFetch(client) ? [] : WORSE_PAIRS))
  return fc.record({
    shape: isFetch(client) ? fc.constantFrom('object', 'iterable', 'Headers', 'none') : fc.constantFrom('object', 'object', 'flat', 'flat', 'iterable', 'Headers', 'none'),
    pairs: fc.tuple(fc.array(pair, { maxLength: 6 }), mostly<(readonly [string, string])[]>([], 95, bad.map((one) => [one]))).map(([good, wrong]) => [...good, ...wrong]),
  })
}

function body (client: Client): fc.Arbitrary<BodyPlan> {
  const kind = isFetch(client)
    ? fc.constantFrom('none', 'string', 'string', 'Uint8Array', 'ArrayBuffer', 'Blob', 'FormData', 'URLSearchParams', 'web stream', 'async iterable')
    : fc.constantFrom('none', 'string', 'string', 'Buffer', 'Uint8Array', 'DataView', 'ArrayBuffer', 'Blob', 'FormData', 'Readable', 'Readable', 'web stream', 'async iterable', 'async iterable', 'sync iterable', 'a number')
  return fc.record({
    kind,
    chunks: fc.oneof({ weight: 12, arbitrary: fc.array(piece, { maxLength: 4 }) }, { weight: 1, arbitrary: fc.constant([long, 'x']) }),
    announced: mostly<BodyPlan['announced']>('nothing', 70, fc.constant('its length'), fc.constant('its length'), fc.constantFrom('one more', 'one less')),
    waits: fc.boolean(),
    fails: mostly(false, 90, fc.constant(true)),
  }).map((plan) => isStream(plan) ? plan : { ...plan, waits: false, fails: false })
}

function action (client: Client): fc.Arbitrary<Action> {
  const none: Action = { kind: 'none' }
  const abort = fc.constantFrom('once', 'request', 'headers', 'data').map((at): Action => ({ kind: 'abort', at }))
  if (!isDispatch(client)) return mostly(none, 88, isTraced(client) ? abort : fc.constant(none))
  const inside = fc.record({ kind: fc.constantFrom('throw', 'pause', 'abort inside'), at: fc.constantFrom('start', 'headers', 'data', 'end') })
  return mostly<Action>(none, 80, abort, inside, inside)
}

function options (client: Client): fc.Arbitrary<Turn['options']> {
  if (isFetch(client)) return mostly<Turn['options']>({}, 80, fc.constantFrom<Turn['options']>({ redirect: 'manual' }, { redirect: 'error' }, { cache: 'no-store' }, { credentials: 'omit' }))
  return mostly<Turn['options']>({}, 75, fc.constantFrom<Turn['options']>(
    { reset: true }, { reset: false }, { blocking: true }, { blocking: false }, { idempotent: false }, { idempotent: true }, { expectContinue: true }, { throwOnError: true }, { throwOnError: false },
    { maxRedirections: 0 }, { maxRedirections: 2 }, { headersTimeout: 5_000 }, { bodyTimeout: 5_000 }, { headersTimeout: -1 }, { servername: 'elsewhere.example' }, { typeOfService: 8 }, { reset: 'yes' }, ...(isDispatch(client) ? [{ upgrade: 'echo' }] : []),
  ))
}

const METHODS = ['GET', 'GET', 'GET', 'HEAD', 'POST', 'POST', 'POST', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND', 'QUERY']
const PATHS = [
  '/x', '/x', '/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21', '/v1/responses', '/v1/responses/resp_1', '/files', '/x?a=1&b=%20&c', '/x?api-key=the-callers&a=1', '/x?a=1&sig=the-callers&b=2', '/x?key=the-callers', '/', '/a//b', '/a%2Fb',
]
/** A dispatcher takes them as they are; fetch tidies them up. */
const ODD_PATHS = ['/a/../b', '/a/%2e%2e/b', '/x?', '/caf\xe9', '/a b', 'x', '*']

function turn (client: Client, isLast: boolean): fc.Arbitrary<Turn> {
  const any: fc.Arbitrary<Turn> = fc.record({
    method: isFetch(client) ? fc.constantFrom(...METHODS, 'post') : mostly('POST', 20, ...METHODS.map((method) => fc.constant(method)), fc.constantFrom('BAD METHOD', '', 'CONNECT', 'TRACE')),
    path: isDispatch(client) ? mostly('/x', 30, fc.constantFrom(...PATHS), fc.constantFrom(...PATHS), fc.constantFrom(...ODD_PATHS)) : fc.constantFrom(...PATHS),
    query: isFetch(client) ? fc.constant(undefined) : mostly<Turn['query']>(undefined, 90, fc.constantFrom({ a: '1' }, { 'api-key': 'the-callers', b: '2 3' })),
    headers: headers(client), body: body(client), options: options(client), response: response(client, isLast), action: action(client), optional: fc.boolean(),
  })
  return fc.oneof({ weight: 5, arbitrary: any }, { weight: 1, arbitrary: generating(any) }).map((plan) => playable(client, isLast, plan))
}

/** What cannot be, or cannot be told from chance, is made into something that can. */
function playable (client: Client, isLast: boolean, plan: Turn): Turn {
  const mayHaveBody = !isFetch(client) || !['GET', 'HEAD'].includes(plan.method)
  let { response, body, headers } = plan
  // How much of an upload goes out before the answer is shown depends on when that is: its headers may wait for its output.
  if (isLookedInto(plan)) body = { ...body, waits: false, fails: false }
  // A stream without output is not delivered.
  else if (plan.method.toUpperCase() === 'POST') response = { ...response, lines: response.lines.filter((line) => line !== EVENT_STREAM) }
  // undici refuses two of them; the balancer puts the backend's in their place.
  headers = { ...headers, pairs: headers.pairs.filter(([name], i) => !isHost(name) || headers.pairs.findIndex(([other]) => isHost(other)) === i) }
  if (isLeftAlone(plan)) headers = { ...headers, pairs: headers.pairs.filter(([name]) => !isHost(name)) }
  // Fetch announces what it can by itself. With a length of the caller's, Node 20 and 22 repeat it, and undici 7 waits for ever when it is wrong.
  if (isFetch(client)) body = { ...body, announced: 'nothing' }
  if (!mayHaveBody) body = { ...body, kind: 'none', announced: 'nothing' }
  if (!isStream(body)) body = { ...body, waits: false, fails: false }
  // In the chunked coding an empty chunk is the end.
  else body = { ...body, chunks: body.chunks.filter((chunk) => chunk !== '' && !(body.waits && chunk === long)) }
  // A body whose length was announced is read before it is sent: one that waits for the answer would wait for ever.
  if (body.waits && (body.announced !== 'nothing' || body.chunks.length < 2)) body = { ...body, waits: false }
  if (body.waits) response = { ...response, early: true }
  // undici 7's own fetch may wait for ever for an answer that came before the upload had ended and ends with the connection.
  if (body.waits && isFetch(client)) response = { ...response, framing: response.framing === 'close' ? 'length' : response.framing, coding: 'identity', fate: 'whole', version: '1.1' }
  // How much of an upload has gone out when the answer comes is chance, unless the upload waits for it, or is one piece.
  if (!body.waits && (isStream(body) || body.kind === 'Blob' || body.kind === 'FormData' || isFetch(client))) response = { ...response, early: false }
  // Fetch has its result at a 205, and nobody reads the body that comes even so. After a 421 it asks again, which Node 20's does wrongly.
  if (isFetch(client) && (response.status === 205 || response.status === 421)) response = { ...response, status: response.status + 1 }
  // A source that is longer than announced is given up before it can fail, or not.
  if (body.announced === 'one less') body = { ...body, fails: false }
  // Whether the connection is gone already when the next request comes is chance.
  if (!isLast && body.announced !== 'nothing') body = { ...body, announced: 'its length' }
  // That a source fails whose length was announced is found out before anything is sent: see the differences. The next request would be on another connection.
  if (body.announced !== 'nothing' && !isLast) body = { ...body, fails: false }
  // What the caller gets of an answer that says "too many" is not this answer: the balancer's own cannot be met in its middle.
  const isThrottling = response.status === 429 || ((response.status >= 500 || response.status === 403) && response.lines.some((line) => LAST_LINES.includes(line)))
  // And how far a body has been read that waits for what the client gives up at is chance.
  if (isThrottling) body = { ...body, waits: false }
  // Of one that is not delivered no more is read than 64 KiB, and its connection is given up.
  if (isThrottling && response.body === long) response = { ...response, body: 'ab' }
  const action: Action = !isLast || isThrottling || (body.waits && plan.action.kind === 'abort') ? { kind: 'none' } : plan.action
  // What undici 8 puts before its Agent for the fetch of Node 22 and 24 waits for ever after an interim answer, when no body follows.
  if (client.startsWith('native') && !PEER_TAKES_LEGACY_HANDLERS) response = { ...response, interim: [] }
  // What there is of it comes in one piece, and something of it must be missing when the client gives up.
  if (action.kind === 'abort' && response.body.length < 2) response = { ...response, body: 'ab' }
  // Of an answer that redirects fetch reads no more than what has come with it, and may give it up before or after it breaks.
  if (isFetch(client) && response.status >= 300 && response.status < 400) response = { ...response, body: response.body === long ? 'ab' : response.body, fate: isBrokenOff(response.fate) ? 'whole' : response.fate }
  // Interim answers may come in one piece with the final one or not, and the client may give up before or after.
  if (action.kind === 'abort') response = { ...response, interim: [] }
  // undici fails an assertion of its own when a connection ends while its parser is paused.
  if (action.kind === 'pause') response = { ...response, framing: response.framing === 'close' ? 'length' : response.framing, fate: 'whole', version: '1.1', lines: response.lines.filter((line) => line !== 'Connection: close') }
  // How much of a body that is read in pieces has gone out by then is chance.
  if (action.kind === 'abort' && action.at === 'request' && (body.kind === 'Blob' || body.kind === 'FormData')) body = { ...body, kind: 'string' }
  // Whether a connection that comes to an end is gone already when the next request comes is chance.
  if (!isLast) response = { ...response, fate: 'whole', filler: Math.min(response.filler, 8_000) }
  // How much of a long body goes out before somebody gives up is chance.
  if (response.early || response.fate !== 'whole' || action.kind !== 'none' || body.announced === 'one less') body = { ...body, chunks: body.chunks.filter((chunk) => chunk !== long) }
  // undici refuses a query beside one in the path, of which nothing may be left where the backend has a credential of its own.
  const query = plan.path.includes('the-callers') ? undefined : plan.query
  return { ...plan, query, headers, body, response, action }
}

const isBrokenOff = (fate: ResponsePlan['fate']): boolean => fate === 'fin in the body' || fate === 'reset in the body' || fate === 'a bad chunk' || fate === 'too long for its length'

const isHost = (name: string): boolean => name.toLowerCase() === 'host'

export function exchange (client: Client): fc.Arbitrary<Exchange> {
  return fc.record({
    client: fc.constant(client),
    setting: fc.constantFrom('as the client sends it', 'as the client sends it', 'own credential', 'made-up url'),
    agent: mostly<Exchange['agent']>(undefined, 60, fc.constant({}), fc.constantFrom({ maxHeaderSize: 500 }, { maxResponseSize: 100 }, { strictContentLength: false }, { keepAliveTimeout: 1_000 }, { pipelining: 0 }, { connections: 1 }, { maxRequestsPerClient: 1 })),
    turns: fc.oneof(
      { weight: 4, arbitrary: fc.tuple(turn(client, true)) },
      { weight: 1, arbitrary: fc.tuple(turn(client, false), turn(client, true)) },
      { weight: 1, arbitrary: fc.tuple(turn(client, false), turn(client, false), turn(client, true)) },
    ),
  }).map((plan) => ({
    ...plan,
    turns: plan.turns.map((turn, i) => i > 0 && isClosedUnanswered(turn) ? { ...turn, response: { ...turn.response, fate: 'whole' } } : turn),
    setting: plan.turns.some(isLeftAlone) ? 'as the client sends it' : plan.setting,
    agent: isChance(plan) ? {} : plan.agent,
  }))
}

/** With options of the Agent's that make something else of these turns than what they are to show. */
function isChance ({ agent, turns }: Pick<Exchange, 'agent' | 'turns'>): boolean {
  // Whether a connection that is given up for them is gone already when the next request comes.
  if (turns.length > 1 && (agent?.['maxHeaderSize'] ?? agent?.['maxResponseSize']) !== undefined) return true
  // That a stream is too long may be found out before its output is there, or afterwards.
  if (agent?.['maxResponseSize'] !== undefined && turns.some(isLookedInto)) return true
  // undici would send the head alone then, and the server would wait for the rest.
  return agent?.['strictContentLength'] === false && turns.some(({ body }) => body.announced === 'one more')
}

/** On a connection that has served before this is nobody's failure to the balancer: it sends the request once more, as tests of its own show. */
function isClosedUnanswered ({ response: { fate } }: Turn): boolean {
  return fate === 'reset instead' || fate === 'fin instead' || fate === 'fin in the head'
}

/** What matches no base goes to where the client sends it, as it came. And for a backend with its own credential the balancer takes an option back that undici refuses. */
function isLeftAlone ({ method, path, options }: Turn): boolean {
  return method === 'CONNECT' || ODD_PATHS.includes(path) || options['maxRedirections'] === 2
}
