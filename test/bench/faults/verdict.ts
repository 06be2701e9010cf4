/**
 * What a run of a fault scenario was worth, from what the caller got and what the servers saw, and from nothing else: pure, so that
 * the rules can be read and tested without a socket.
 *
 * - *pass*: the caller has the whole, right answer (or, where an error is right, that error), and every check held.
 * - *partial*: the same, but later or with other attempts than wanted: a check that is only wanted did not hold.
 * - *safe*: no answer, but a clean error in time, and every check that is required held.
 * - *fail*: a wrong, doubled or short answer shown as good, none at all, or a check that is required did not hold.
 */

export type Verdict = 'pass' | 'partial' | 'safe' | 'fail'

/** What the caller made of one request. Times are in seconds since the scenario began. */
export type Call = { readonly beganAt: number, readonly seconds: number } & (
  | { readonly end: 'answer', readonly text: string, readonly model: string | undefined, readonly hasUsage: boolean }
  | { readonly end: 'error', readonly error: string, readonly code: string | undefined }
  | { readonly end: 'hang' }
)

/** What a server saw of one attempt, and what it did about it. */
export interface Attempt {
  readonly backend: 'A' | 'B'
  /** Seconds since the scenario began. */
  readonly at: number
  did: 'answered' | 'refused' | 'broken'
  /** The conversation ended with a piece of an answer, to be continued. */
  readonly isPrefilled: boolean
}

export interface Observed {
  /** In the order in which they were made: one, but for sequences. */
  readonly calls: readonly Call[]
  readonly attempts: readonly Attempt[]
  /** A healthy request through the same pool was answered afterwards. */
  readonly isAliveAfter: boolean
  /** Who answered, in the balancer's own words. */
  readonly toldAnswered: readonly ('A' | 'B')[]
}

export interface Check {
  readonly says: string
  /** What breaks it is a failure; what is only wanted makes a *pass* a *partial*. */
  readonly isRequired: boolean
  holds(observed: Observed): boolean
}

export interface Rules {
  /** The only text that is a right answer. */
  readonly answer: string
  readonly ideal: 'answer' | 'error'
  readonly checks: readonly Check[]
}

export interface Judgement {
  readonly verdict: Verdict
  /** What kept it from being a pass. */
  readonly reasons: readonly string[]
}

export function judge(observed: Observed, { answer, ideal, checks }: Rules): Judgement {
  const { calls } = observed
  const broken = checks.filter((check) => !check.holds(observed))
  const says = (list: readonly Check[]): string[] => list.map((check) => `not so: ${check.says}`)
  const failed = [
    ...(calls.length === 0 ? ['nothing was asked'] : []),
    ...(calls.some(({ end }) => end === 'hang') ? ['no end in time'] : []),
    ...calls.flatMap((call) => call.end === 'answer' && call.text !== answer ? [describeWrong(call.text, answer)] : []),
    ...says(broken.filter(({ isRequired }) => isRequired)),
  ]
  if (failed.length > 0) return { verdict: 'fail', reasons: failed }
  const errors = calls.flatMap((call) => call.end === 'error' ? [call.error] : [])
  const wanted = says(broken)
  if (ideal === 'error' && errors.length < calls.length) return { verdict: 'partial', reasons: ['answered where an error is right', ...wanted] }
  if (ideal === 'answer' && errors.length > 0) return { verdict: 'safe', reasons: [...new Set(errors)] }
  return { verdict: wanted.length > 0 ? 'partial' : 'pass', reasons: wanted }
}

function describeWrong(text: string, answer: string): string {
  if (text === '') return 'an empty answer shown as good'
  if (answer.startsWith(text)) return 'a short answer shown as good'
  return text.length > answer.length ? 'an answer with more than belongs to it' : 'a wrong answer shown as good'
}

export function countVerdicts(judgements: readonly Judgement[]): Record<Verdict, number> {
  const counts = { pass: 0, partial: 0, safe: 0, fail: 0 }
  for (const { verdict } of judgements) counts[verdict]++
  return counts
}

/** `defaults: 8 pass / 3 partial / 5 safe / 0 fail` */
export function summarize(name: string, judgements: readonly Judgement[]): string {
  const { pass, partial, safe, fail } = countVerdicts(judgements)
  return `${name}: ${pass} pass / ${partial} partial / ${safe} safe / ${fail} fail`
}

export const required = (says: string, holds: Check['holds']): Check => ({ says, isRequired: true, holds })
export const wanted = (says: string, holds: Check['holds']): Check => ({ says, isRequired: false, holds })

export function attemptsAt(backend: Attempt['backend'], { attempts }: Observed): readonly Attempt[] {
  return attempts.filter((attempt) => attempt.backend === backend)
}

export function slowest({ calls }: Observed): number {
  return Math.max(...calls.map(({ seconds }) => seconds))
}

/** Seconds from the first attempt at a backend to the second; NaN without a second. */
export function firstGap(backend: Attempt['backend'], observed: Observed): number {
  const [first, second] = attemptsAt(backend, observed)
  return (second?.at ?? NaN) - (first?.at ?? NaN)
}

/** Attempts at a backend within so many seconds of the first one there. */
export function countWithin(backend: Attempt['backend'], seconds: number, observed: Observed): number {
  const attempts = attemptsAt(backend, observed)
  return attempts.filter(({ at }) => at - (attempts[0]?.at ?? 0) < seconds).length
}
