/**
 * All that a request through the balancer may show otherwise than one through a bare Agent: each difference has its
 * sentence in the README, and says what exactly is to be seen instead. What none of them says is a defect.
 */
import { isDeepStrictEqual } from 'node:util'
import { isStateful } from '../../../src/request/route.js'
import { makeThrottledAnswer } from '../../../src/request/own-answers.js'
import { isFetch, isStream, type Exchange, type Turn } from './exchange.js'
import { OWN_KEY, type Played, type PlayedTurn } from './played.js'
import { SOURCE_ERROR } from './request-body.js'
import { withoutBoundary, type Call, type Trace } from './trace.js'

export interface Difference {
  readonly name: string
  /** The beginning of its point in the README's list. */
  readonly readme: string
  /** What is to be seen through the balancer, made from what was seen without it; `seen` for what only chance decides. */
  readonly expect: (bare: Played, seen: Played, exchange: Exchange) => Played
  /** What of that which was seen through the balancer is not held against it; all of it where this is missing. */
  readonly see?: (seen: Played, bare: Played, exchange: Exchange) => Played
}

export const DIFFERENCES: readonly Difference[] = [
  {
    name: 'a 429 of its own',
    readme: 'A 429, or a 5xx with a retry header,',
    expect: (bare, seen, exchange) => mapTurns(bare, seen, exchange, (turn, through, plan) => isThrottling(turn, plan) ? asThrottled(turn, through, plan) : turn),
  },
  {
    name: 'the start comes at once',
    readme: 'A handler is told of the start at once,',
    expect (bare, seen, exchange) {
      const started = mapTurns(bare, seen, exchange, (turn, through, plan) => {
        if (givesUpAtOnce(plan) && onlyEnded(through, 'the caller gave up')) return through
        const source = endsAtStart(plan) ? through.source : turn.source
        return { ...mapTraces(turn, through, (trace, other) => startFirst(trace, other, endsAtStart(plan))), source }
      })
      return exchange.turns.some(mayNotConnect) ? { ...started, wire: started.wire.filter(isUsed) } : started
    },
    // Who gives up before there is a connection leaves one that nothing goes over, or none.
    see: (seen, _bare, exchange) => exchange.turns.some(mayNotConnect) ? { ...seen, wire: seen.wire.filter(isUsed) } : seen,
  },
  {
    name: 'the sending is told to every handler',
    readme: 'With undici 7, `onBodySent` and `onRequestSent`',
    expect: (bare) => bare,
    see: (seen, bare) => ({
      ...seen,
      turns: seen.turns.map((turn, i) => ({ ...turn, traces: turn.traces.map((trace, j) => bare.turns[i]?.traces[j]?.calls.some(isProgress) === true ? trace : withoutProgress(trace)) })),
    }),
  },
  {
    name: 'the host is the backend\'s',
    readme: 'Your `host` header',
    expect (bare, seen) {
      const [, host = ''] = /^host: (127\.0\.0\.1:\d+)\r$/im.exec(seen.wire.join('\n')) ?? []
      return mapWire(bare, (connection) => connection.replace(/^(host: )elsewhere\.example(:1)?\r$/gim, `$1${host}\r`))
    },
  },
  {
    name: 'the credential is the backend\'s',
    readme: 'A backend with a credential of its own',
    expect: (bare, _seen, { setting }) => setting === 'own credential' ? mapWire(bare, ownCredential) : bare,
    see: (seen, _bare, { setting }) => setting === 'own credential' ? mapWire(seen, withoutOwnCredential) : seen,
  },
  {
    name: 'the url is the one that was asked for',
    readme: '`response.url` is the URL that you asked for',
    expect: (bare, seen, exchange) => exchange.setting !== 'made-up url' ? bare : mapTurns(bare, seen, exchange, (turn, through) => {
      const { url } = turn.result as { url?: string }
      return url === undefined ? turn : { ...turn, result: { ...turn.result as object, url: (through.result as { url?: string }).url } }
    }),
  },
  {
    name: 'a body of known length is read first',
    readme: 'A request body with a known length',
    expect (bare, seen, exchange) {
      const read = mapTurns(bare, seen, exchange, (turn, through, plan) => {
        if (failsUnsent(plan)) return onlyEnded(through, SOURCE_ERROR) ? through : turn
        if (!isStream(plan.body) && !(isFetch(exchange.client) && plan.body.kind !== 'none')) return turn
        const isWrong = plan.body.announced === 'one more' || plan.body.announced === 'one less'
        const source = isWrong || (plan.body.announced !== 'nothing' && isRefused(turn)) ? through.source : turn.source
        return { ...mapTraces(turn, through, (trace, { returned }) => typeof returned === 'boolean' ? { ...trace, returned } : trace), source }
      })
      // Bare, too, it may come to nothing before a byte was sent.
      return exchange.turns.some(failsUnsent) && requestsIn(read.wire) > requestsIn(seen.wire) ? { ...read, wire: withoutLastRequest(read.wire) } : read
    },
  },
  {
    name: 'a body that is not sent is let go of',
    readme: 'A stream or iterable whose request comes to nothing',
    expect: (bare, seen, exchange) => mapTurns(bare, seen, exchange, (turn, through) => isRefused(turn) ? { ...turn, source: through.source } : turn),
  },
]

/** The rest of the README's list: what takes more than one backend, an option or TLS to be seen, and the test that shows it. */
export const SHOWN_ELSEWHERE: readonly { readonly readme: string, readonly test: string }[] = [
  { readme: 'One request may be several on the wire', test: 'test/clients/outcomes.test.ts' },
  { readme: 'A body that has been rewritten by `models`', test: 'test/request/scope.test.ts' },
  { readme: 'undici\'s own redirect option', test: 'test/request/rewrite.test.ts' },
  { readme: 'An attempt that takes longer than `attemptTimeoutMs`', test: 'test/integration/faults.test.ts' },
  { readme: 'With undici 8, `install` lets', test: 'test/compliance/transparency.test.ts' },
]

function mapTurns (played: Played, seen: Played, exchange: Exchange, map: (bare: PlayedTurn, seen: PlayedTurn, turn: Turn) => PlayedTurn): Played {
  return {
    ...played,
    turns: played.turns.map((bare, i) => {
      const through = seen.turns[i]
      const turn = exchange.turns[i]
      return through === undefined || turn === undefined ? bare : map(bare, through, turn)
    }),
  }
}

function mapTraces (turn: PlayedTurn, seen: PlayedTurn, map: (bare: Trace, seen: Trace) => Trace): PlayedTurn {
  return { ...turn, traces: turn.traces.map((trace, i) => map(trace, seen.traces[i] ?? trace)) }
}

function mapWire (played: Played, map: (connection: string) => string): Played {
  return { ...played, wire: played.wire.map(map) }
}

const isStart = ([method]: Call): boolean => method === 'onConnect' || method === 'onRequestStart'
const isError = ([method]: Call): boolean => method === 'onError' || method === 'onResponseError'
const isProgress = ([method]: Call): boolean => method === 'onBodySent' || method === 'onRequestSent'

const isUsed = (connection: string): boolean => connection !== ''

const givesUpAtOnce = ({ action }: Turn): boolean => action.kind === 'abort' && action.at === 'once'

const endsAtStart = ({ action }: Turn): boolean => (action.kind === 'throw' || action.kind === 'abort inside') && action.at === 'start'

const mayNotConnect = (turn: Turn): boolean => givesUpAtOnce(turn) || endsAtStart(turn) || failsUnsent(turn)

/** The start, and this error: bare, undici may say first what else is wrong with the request, or only that it was aborted. */
function onlyEnded ({ traces }: PlayedTurn, message: string): boolean {
  const [start, error, ...rest] = traces[0]?.calls ?? []
  return traces.length === 1 && start !== undefined && isStart(start) && error !== undefined && isError(error) && rest.length === 0 && (error.at(-1) as { message: string }).message === message
}

/** @param endsAtStart the handler throws or gives up when it hears of the start: of what is wrong with the request it never hears */
function startFirst (without: Trace, seen: Trace, endsAtStart: boolean): Trace {
  // It is not dispatched at all then, and whether more would be welcome is not known.
  const bare = endsAtStart ? { ...without, returned: seen.returned } : without
  const [start, ...rest] = seen.calls
  if (start === undefined || !isStart(start) || bare.calls.some(isStart)) return bare
  if (endsAtStart) return { ...bare, calls: [start, ...rest.filter(isError).slice(0, 1)] }
  // undici has no controller for a request that never got a connection.
  return { ...bare, calls: [start, ...bare.calls.map((call): Call => call[0] === 'onResponseError' ? [call[0], start[1], call[2]] : call)] }
}

/** Nothing of it reaches the server: bare, a part does. */
const failsUnsent = ({ body }: Turn): boolean => isStream(body) && (body.announced === 'its length' || body.announced === 'one more') && body.fails && body.chunks.length > 0

const requestsIn = (wire: readonly string[]): number => wire.reduce((sum, connection) => sum + (connection.match(/ HTTP\/1\.1\r\n/g)?.length ?? 0), 0)

function withoutLastRequest (wire: readonly string[]): string[] {
  const last = wire.at(-1) ?? ''
  // Counted for those that go with the backend's own credential.
  const count = /^(\d+)(?= with the backend's own credential\n)/.exec(last)?.[0]
  const first = count === undefined ? 0 : last.indexOf('\n') + 1
  const kept = last.slice(first, Math.max(first, last.search(/[A-Z]+ \S* HTTP\/1\.1\r\n(?![^]* HTTP\/1\.1\r\n)/)))
  if (kept === '') return wire.slice(0, -1)
  return [...wire.slice(0, -1), (count === undefined ? '' : `${Number(count) - 1}${last.slice(count.length, first)}`) + kept]
}

/** undici did not take the request at all. */
function isRefused ({ traces, result }: PlayedTurn): boolean {
  return /UND_ERR_INVALID_ARG|UND_ERR_NOT_SUPPORTED|Query params cannot be passed/.test(JSON.stringify([traces, result]))
}

function withoutProgress ({ calls, returned }: Trace): Trace {
  const joined: Call[] = []
  for (const call of calls.filter((one) => !isProgress(one))) {
    const last = joined.at(-1)
    // Pieces of the answer that a piece of the request came between.
    if (last?.[0] === call[0] && (call[0] === 'onData' || call[0] === 'onResponseData')) joined[joined.length - 1] = [call[0], ...call.slice(1, -1), String(last.at(-1)) + String(call.at(-1))]
    else joined.push(call)
  }
  return { returned, calls: joined }
}

/** All that is generated of what a backend with a credential of its own must not see; further names are shown in the tests of the headers. */
const CREDENTIAL_HEADERS = /^(api-key|authorization|ocp-apim-subscription-key|x-api-key|x-goog-api-key|cookie|proxy-authorization|openai-organization|openai-project): .*\r\n/gim
const CREDENTIAL_PARAMETERS = /([?&])(api-key|subscription-key|key|code|sig|access_token)=the-callers(?:&|(?= ))/g

/** undici writes the caller's headers in their order, and those of its own after them. */
function ownCredential (connection: string): string {
  const requests = connection.match(/ HTTP\/1\.1\r\n/g)?.length ?? 0
  return `${requests} with the backend's own credential\n` + connection.replace(CREDENTIAL_HEADERS, '').replace(CREDENTIAL_PARAMETERS, '$1').replace(/[?&](?= HTTP\/1\.1\r\n)/g, '')
}

function withoutOwnCredential (connection: string): string {
  const line = `api-key: ${OWN_KEY}\r\n`
  return `${connection.split(line).length - 1} with the backend's own credential\n${connection.replaceAll(line, '')}`
}

const isFinalHead = ([method, first, second]: Call): boolean => (method === 'onHeaders' && Number(first) >= 200) || (method === 'onResponseStart' && Number(second) >= 200)

/** Of the last answer that came to the caller; undefined when there was none. */
function statusOf ({ traces, result }: PlayedTurn): number | undefined {
  const head = traces.at(-1)?.calls.find(isFinalHead)
  if (head === undefined) return (result as { status?: number }).status
  return Number(head[0] === 'onHeaders' ? head[1] : head[2])
}

/** Of a stateful path the real answer is handed over, whatever it is. */
function isThrottling (bare: PlayedTurn, { response, path }: Turn): boolean {
  if (isStateful(path)) return false
  const status = statusOf(bare) ?? 0
  return status === 429 || ((status >= 500 || status === 403) && response.lines.some((line) => /^(x-ms-)?retry-after/i.test(line)))
}

/** Up to the answer the calls are those of the real one; from there on they are what the balancer says itself. What the caller makes of them follows. */
function asThrottled (bare: PlayedTurn, seen: PlayedTurn, { method }: Turn): PlayedTurn {
  // Where nothing but the result is to be seen, its words have to be ours; where it has none, its status.
  if (bare.traces.length === 0 && method === 'HEAD') return statusOf(seen) === 429 ? { ...bare, result: seen.result } : bare
  if (bare.traces.length === 0) return JSON.stringify(seen.result).includes('no backend is available right now, all are throttled') ? { ...bare, result: seen.result } : bare
  const ms = /content-length\D+\d+\D+retry-after\D+\d+\D+retry-after-ms\D+(\d+)/.exec(JSON.stringify(seen.traces))
  // Where the backend is out, and there is no other one, even its 429 is the best answer that there is: then nothing differs at all.
  if (ms === null) return bare
  const { headers, body } = makeThrottledAnswer(Number(ms[1]))
  const rawHeaders = Object.entries(headers).flat().map((text) => ({ bytes: text }))
  const traces = bare.traces.map((trace, i): Trace => {
    const at = trace.calls.findIndex(isFinalHead)
    if (i < bare.traces.length - 1 || at === -1) return trace
    const isOld = trace.calls[at]?.[0] === 'onHeaders'
    const controller = { aborted: false, paused: false, reason: null, rawHeaders, rawTrailers: null }
    const hasPrototype = true
    const answer: Call[] = isOld
      ? [['onHeaders', 429, rawHeaders, '[function]', 'Too Many Requests'], ['onData', body.toString()], ['onComplete', []]]
      : [
          ['onResponseStart', controller, 429, { entries: Object.entries(headers), hasPrototype }, 'Too Many Requests'], ['onResponseData', controller, body.toString()],
          ['onResponseEnd', { ...controller, rawTrailers: [] }, { entries: [], hasPrototype }],
        ]
    return { ...trace, calls: [...trace.calls.slice(0, at), ...answer.filter((_call, step) => step !== 1 || method !== 'HEAD')] }
  })
  return { ...bare, traces, result: statusOf(seen) === 429 ? seen.result : bare.result }
}

/** Whether a connection that has just served is ready for the next request is chance, and with it whether undici asks for no more. */
function withoutLaterReturns (played: Played): Played {
  const without = (trace: Trace): Trace => typeof trace.returned === 'boolean' ? { ...trace, returned: true } : trace
  return { ...played, turns: played.turns.map((turn, i) => i === 0 ? turn : { ...turn, traces: turn.traces.map(without) }) }
}

export interface Comparison {
  readonly expected: Played
  readonly actual: Played
  /** The names of the differences without which the two would not be equal, or would be by chance. */
  readonly needed: readonly string[]
}

/** What is to be seen through the balancer, and what was seen: equal, or there is a difference that nobody has named. */
export function compare (bare: Played, seen: Played, exchange: Exchange): Comparison {
  let expected = withoutLaterReturns(mapWire(bare, withoutBoundary))
  let actual = withoutLaterReturns(mapWire(seen, withoutBoundary))
  const needed: string[] = []
  for (const { name, expect, see } of DIFFERENCES) {
    const [before, beforehand] = [expected, actual]
    actual = see?.(actual, expected, exchange) ?? actual
    expected = expect(expected, actual, exchange)
    if (!isDeepStrictEqual(expected, before) || !isDeepStrictEqual(actual, beforehand)) needed.push(name)
  }
  return { expected, actual, needed }
}
