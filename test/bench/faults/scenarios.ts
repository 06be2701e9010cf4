/**
 * The sixteen faults of Failover Bench, a public benchmark of gateways (https://github.com/failoverbench/failoverbench, methodology
 * 0.1), written anew: what backend A does wrong, and what is looked at besides the answer. Limits and times are the benchmark's, and
 * so is the judgement of what is *wanted*, also where this package does otherwise on purpose: S01 and S03 want the same backend to
 * be asked once more, while a pool that has another one goes on at once.
 */
import { ANSWER, TOKENS, type Fault, type Times } from './service.js'
import { attemptsAt, countWithin, firstGap, required, slowest, wanted, type Check, type Observed, type Rules } from './verdict.js'

export interface Scenario {
  readonly id: string
  readonly fault: string
  readonly ofA: Fault
  readonly ofB: Fault
  readonly ideal: Rules['ideal']
  /** Seconds after which a call counts as hanging. */
  readonly hangsAfter: number
  /** Seconds after which requests are made: without it there is one, at once. */
  readonly sequence?: (scale: number) => readonly number[]
  /** Where it is about what only a stream has. */
  readonly isOnlyStreamed?: boolean
  /** Most of its time is spent in waiting. */
  readonly isLong?: boolean
  /** What is worth telling and decides nothing. */
  readonly remark?: (observed: Observed, scale: number) => string
  /** @param scale by which all the times of the run are multiplied. */
  checks(scale: number): readonly Check[]
}

const healthy: Fault = (exchange) => exchange.answer()

/** Once, then healthy. */
const once = (fault: Fault): Fault => (exchange) => exchange.number === 1 ? fault(exchange) : exchange.answer()

const overloaded: Fault = async (exchange) => { exchange.refuse(503, 'server_error', 'overloaded') }

const cut: Fault = async (exchange) => {
  if (exchange.isStream) {
    await exchange.beginStream()
    await exchange.sendTokens(0, 40)
  } else await exchange.sendBody(exchange.body(), 0.6)
  exchange.break('close')
}

const noMoreThan = (count: number): Check => required(`at most ${count} attempts at A`, (observed) => attemptsAt('A', observed).length <= count)
const onlyOne: Check = required('A is asked once', (observed) => attemptsAt('A', observed).length === 1)
const askedAgain: Check = wanted('A is asked once more', (observed) => attemptsAt('A', observed).length >= 2)
const aliveAfter: Check = required('a healthy request is answered afterwards', ({ isAliveAfter }) => isAliveAfter)
const hasUsage: Check = wanted('the answer says what was used', ({ calls }) => calls.every((call) => call.end !== 'answer' || call.hasUsage))
const calm = (count: number, seconds: number): Check => required(`at most ${count} attempts at A within ${seconds} s`, (observed) => countWithin('A', seconds, observed) <= count)
const isWithin = (seconds: number) => (observed: Observed): boolean => slowest(observed) <= seconds
const inSeconds = (seconds: number): string => `at the end after ${Number(seconds.toFixed(2))} s`

/** A request every four seconds, across an outage of sixty. */
const SEQUENCE = { count: 20, every: 4, down: 60, backWithin: 30 } as const

/** The pauses between two looks at a backend that is out begin with a quarter of a second and double, whatever the scale: not less than this is fair. */
const LEAST_BACK_WITHIN_S = 3

const backWithin = (scale: number): number => Math.max(SEQUENCE.backWithin * scale, LEAST_BACK_WITHIN_S)

const DEFAULTS = { ofB: healthy, ideal: 'answer', hangsAfter: 40, checks: () => [] } as const

export const SCENARIOS: readonly Scenario[] = [
  {
    ...DEFAULTS, id: 'S01', fault: '429 with `Retry-After: 2`, once', hangsAfter: 20,
    ofA: once(async (exchange) => { exchange.refuse(429, 'rate_limit_error', 'rate_limit_exceeded', { 'retry-after': '2' }) }),
    checks: () => [askedAgain, wanted('... after the time that it asked for', (observed) => firstGap('A', observed) >= 1.8), calm(2, 1.5)],
  },
  {
    ...DEFAULTS, id: 'S02', fault: '429 without a header, for ever',
    ofA: async (exchange) => { exchange.refuse(429, 'rate_limit_error', 'rate_limit_exceeded') }, checks: () => [calm(4, 3), noMoreThan(6)],
  },
  { ...DEFAULTS, id: 'S03', fault: '500 once', hangsAfter: 20, ofA: once(async (exchange) => { exchange.refuse(500, 'server_error', null) }), checks: () => [askedAgain] },
  { ...DEFAULTS, id: 'S04', fault: '503 for ever', ofA: overloaded, checks: () => [noMoreThan(6)] },
  { ...DEFAULTS, id: 'S05', fault: 'reset before any header, once', hangsAfter: 20, ofA: once(async (exchange) => { exchange.break('reset') }) },
  {
    ...DEFAULTS, id: 'S06', fault: 'no answer at all', isLong: true, hangsAfter: 130,
    ofA: async (exchange) => {
      await exchange.pause(exchange.times.silence)
      exchange.break('close')
    },
    checks: (scale) => [required(inSeconds(100 * scale), isWithin(100 * scale)), wanted('A is not asked again', (observed) => attemptsAt('A', observed).length <= 1)],
  },
  {
    ...DEFAULTS, id: 'S07', fault: 'first token after 20 s', isLong: true, hangsAfter: 60,
    ofA: async (exchange) => {
      if (exchange.isStream) exchange.sendStreamHeaders()
      await exchange.pause(exchange.times.firstToken)
      await exchange.answer()
    },
    checks: (scale) => [wanted(inSeconds(15 * scale), isWithin(15 * scale))],
  },
  { ...DEFAULTS, id: 'S08', fault: 'cut after 40 of 60 tokens', ofA: cut },
  {
    ...DEFAULTS, id: 'S09', fault: 'silent for 30 s after 20 tokens, then closed', isLong: true, hangsAfter: 70,
    ofA: async (exchange) => {
      if (exchange.isStream) {
        await exchange.beginStream()
        await exchange.sendTokens(0, 20)
      } else await exchange.sendBody(exchange.body(), 0)
      await exchange.pause(exchange.times.stall)
      exchange.break('close')
    },
    checks: (scale) => [required(inSeconds(45 * scale), isWithin(45 * scale)), aliveAfter],
  },
  {
    ...DEFAULTS, id: 'S10', fault: 'a chunk that is not JSON', hangsAfter: 30,
    ofA: async (exchange) => {
      if (!exchange.isStream) return exchange.sendBody(`${exchange.body().slice(0, 200)}"`)
      await exchange.beginStream()
      await exchange.sendTokens(0, 10)
      await exchange.send('{"object":"chat.completion.chunk","choices":[{"delta":{"content":')
      await exchange.sendTokens(10, TOKENS.length)
      await exchange.finishStream()
      await exchange.endStream()
    },
    checks: () => [aliveAfter],
  },
  {
    ...DEFAULTS, id: 'S11', fault: 'no `[DONE]`', hangsAfter: 30, isOnlyStreamed: true,
    ofA: async (exchange) => {
      await exchange.beginStream()
      await exchange.sendTokens(0, TOKENS.length)
      await exchange.finishStream()
      await exchange.endStream('')
    },
    checks: () => [required(inSeconds(8), isWithin(8)), hasUsage],
  },
  {
    ...DEFAULTS, id: 'S12', fault: '400 `context_length_exceeded`', hangsAfter: 20,
    ofA: async (exchange) => { exchange.refuse(400, 'invalid_request_error', 'context_length_exceeded') }, checks: () => [onlyOne],
  },
  {
    ...DEFAULTS, id: 'S13', fault: '400 of the content filter', hangsAfter: 20, ideal: 'error',
    ofA: async (exchange) => { exchange.refuse(400, 'invalid_request_error', 'content_filter') },
    checks: () => [onlyOne, required('the service\'s reason is told', ({ calls }) => calls.every((call) => call.end !== 'error' || call.code === 'content_filter'))],
  },
  {
    ...DEFAULTS, id: 'S14', fault: 'cut, and B takes no prefilled answer', isOnlyStreamed: true, ofA: cut,
    ofB: async (exchange) => {
      if (exchange.isPrefilled) exchange.refuse(400, 'invalid_request_error', 'invalid_prefill')
      else await exchange.answer()
    },
    checks: () => [required('no error of a prefilled attempt in place of the real one', ({ calls, attempts }) => !(calls.some(({ end }) => end === 'error') && attempts.some(({ isPrefilled }) => isPrefilled)))],
  },
  {
    ...DEFAULTS, id: 'S15', fault: '503 for 60 s, then healthy; 20 requests', isLong: true, hangsAfter: 30,
    sequence: (scale) => {
      const { count, every, down } = SEQUENCE
      // In haste as many more as it takes to see whether A is used again.
      const last = scale === 1 ? count : Math.ceil((down * scale + backWithin(scale)) / (every * scale))
      return Array.from({ length: last }, (_, index) => index * every * scale)
    },
    remark: (observed, scale) => {
      const isDown = (at: number): boolean => at < SEQUENCE.down * scale
      return `while A was down, it was asked ${attemptsAt('A', observed).filter(({ at }) => isDown(at)).length} times for ${observed.calls.filter(({ beganAt }) => isDown(beganAt)).length} requests`
    },
    ofA: (exchange) => exchange.elapsed < exchange.times.down ? overloaded(exchange) : exchange.answer(),
    checks: (scale) => [
      required('every request is answered while A is down', ({ calls }) => calls.every((call) => call.beganAt >= SEQUENCE.down * scale || call.end === 'answer')),
      required(`A is used again within ${backWithin(scale)} s`, (observed) => attemptsAt('A', observed).some(({ did, at }) => did === 'answered' && at <= SEQUENCE.down * scale + backWithin(scale))),
    ],
  },
  {
    ...DEFAULTS, id: 'S16', fault: '503 for ever: who answered?', ofA: overloaded,
    checks: () => [
      required('the answer names the model of the backend that gave it', ({ calls }) => calls.every((call) => call.end !== 'answer' || call.model === 'model-of-B')),
      required('the event `answered` names that backend, once', ({ toldAnswered }) => toldAnswered.join() === 'B'),
      hasUsage, noMoreThan(6),
    ],
  },
]

export function rulesOf({ ideal, checks }: Scenario, scale: number): Rules {
  return { answer: ANSWER, ideal, checks: checks(scale) }
}

export function scaleTimes(times: Times, scale: number): Times {
  return {
    betweenTokens: times.betweenTokens * scale, firstToken: times.firstToken * scale, stall: times.stall * scale, silence: times.silence * scale, down: times.down * scale,
  }
}
