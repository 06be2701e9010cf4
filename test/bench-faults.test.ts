/** The table of faults: its verdicts follow its rules, and the program behind it sees what really happens. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { rulesOf, SCENARIOS } from './bench/faults/scenarios.js'
import { ANSWER } from './bench/faults/service.js'
import { countWithin, firstGap, judge, required, slowest, summarize, wanted, type Attempt, type Call, type Observed, type Rules } from './bench/faults/verdict.js'
import { findSection, readTable } from './support/markdown.js'

const root = fileURLToPath(new URL('..', import.meta.url))

const answered = (text = ANSWER, more: Partial<Call> = {}): Call => ({ beganAt: 0, seconds: 1, end: 'answer', text, model: 'model-of-B', hasUsage: true, ...more } as Call)
const failed = (code?: string): Call => ({ beganAt: 0, seconds: 1, end: 'error', error: 'TypeError: terminated', code })
const attempt = (backend: Attempt['backend'], at = 0, did: Attempt['did'] = 'answered', isPrefilled = false): Attempt => ({ backend, at, did, isPrefilled })
const observed = (calls: Call[], attempts: Attempt[] = [], more: Partial<Observed> = {}): Observed => ({ calls, attempts, isAliveAfter: true, toldAnswered: ['B'], ...more })
const rules = (more: Partial<Rules> = {}): Rules => ({ answer: ANSWER, ideal: 'answer', checks: [], ...more })
const no = (): boolean => false

describe('a verdict', () => {
  test('is a pass for the whole answer and every check', () => {
    assert.deepEqual(judge(observed([answered()]), rules({ checks: [required('this', () => true)] })), { verdict: 'pass', reasons: [] })
  })

  test('is partial for the whole answer where something that is only wanted is not so', () => {
    assert.deepEqual(judge(observed([answered()]), rules({ checks: [wanted('this', no)] })), { verdict: 'partial', reasons: ['not so: this'] })
  })

  test('is safe for an error in time, with what it says', () => {
    assert.deepEqual(judge(observed([failed()]), rules({ checks: [wanted('this', no)] })), { verdict: 'safe', reasons: ['TypeError: terminated'] })
    assert.equal(judge(observed([answered(), failed()]), rules()).verdict, 'safe')
  })

  for (const [name, call, reason] of [
    ['a short answer', answered(ANSWER.slice(0, 100)), 'a short answer shown as good'],
    ['an empty answer', answered(''), 'an empty answer shown as good'],
    ['a doubled answer', answered(`${ANSWER.slice(0, 100)}${ANSWER}`), 'an answer with more than belongs to it'],
    ['another answer', answered('No.'), 'a wrong answer shown as good'],
    ['no end', { beganAt: 0, seconds: 40, end: 'hang' } as const, 'no end in time'],
  ] as const) {
    test(`is a failure for ${name}, also where an error is right, and however good the others are`, () => {
      for (const ideal of ['answer', 'error'] as const) assert.deepEqual(judge(observed([answered(), call]), rules({ ideal })), { verdict: 'fail', reasons: [reason] })
    })
  }

  test('is a failure where something that is required is not so, whatever the caller got, and where nothing was asked', () => {
    for (const call of [answered(), failed()]) assert.deepEqual(judge(observed([call]), rules({ checks: [required('this', no), wanted('that', no)] })), { verdict: 'fail', reasons: ['not so: this'] })
    assert.equal(judge(observed([]), rules()).verdict, 'fail')
  })

  test('is a pass for an error where that is right, and partial for an answer', () => {
    assert.equal(judge(observed([failed()]), rules({ ideal: 'error' })).verdict, 'pass')
    assert.equal(judge(observed([answered()]), rules({ ideal: 'error' })).verdict, 'partial')
  })

  test('is counted', () => {
    const judgements = (['pass', 'pass', 'safe'] as const).map((verdict) => ({ verdict, reasons: [] }))
    assert.equal(summarize('defaults', judgements), 'defaults: 2 pass / 0 partial / 1 safe / 0 fail')
  })

  test('looks at attempts by backend and time', () => {
    const seen = observed([answered(), answered(ANSWER, { seconds: 3 })], [attempt('B', 0.5), attempt('A', 1), attempt('A', 2.5)])
    assert.deepEqual([firstGap('A', seen), countWithin('A', 1, seen), countWithin('A', 2, seen), slowest(seen)], [1.5, 1, 2, 3])
    assert.ok(Number.isNaN(firstGap('B', seen)))
  })
})

describe('the rules of the scenarios', () => {
  const verdictOf = (id: string, seen: Observed): string => {
    const scenario = SCENARIOS.find((one) => one.id === id)
    assert.ok(scenario !== undefined)
    return judge(seen, rulesOf(scenario, 1)).verdict
  }

  test('are those of sixteen', () => {
    assert.deepEqual(SCENARIOS.map(({ id }) => id), Array.from({ length: 16 }, (_, index) => `S${String(index + 1).padStart(2, '0')}`))
  })

  test('want the same backend to be asked again after the time that it asked for', () => {
    assert.equal(verdictOf('S01', observed([answered()], [attempt('A'), attempt('A', 2)])), 'pass')
    assert.equal(verdictOf('S01', observed([answered()], [attempt('A'), attempt('A', 0.5)])), 'partial')
    assert.equal(verdictOf('S01', observed([answered()], [attempt('A'), attempt('B', 0.1)])), 'partial')
    assert.equal(verdictOf('S01', observed([answered()], [attempt('A'), attempt('A', 0.1), attempt('A', 0.2)])), 'fail')
    assert.equal(verdictOf('S03', observed([answered()], [attempt('A'), attempt('B', 0.1)])), 'partial')
  })

  test('bound attempts and time', () => {
    const seven = Array.from({ length: 7 }, (_, index) => attempt('A', index * 4))
    for (const id of ['S02', 'S04', 'S16']) assert.equal(verdictOf(id, observed([answered()], seven)), 'fail', id)
    assert.equal(verdictOf('S12', observed([failed('context_length_exceeded')], seven.slice(0, 2))), 'fail')
    assert.equal(verdictOf('S06', observed([answered(ANSWER, { seconds: 61 })], seven.slice(0, 2))), 'partial')
    assert.equal(verdictOf('S06', observed([answered(ANSWER, { seconds: 101 })], seven.slice(0, 1))), 'fail')
    assert.equal(verdictOf('S07', observed([answered(ANSWER, { seconds: 21 })])), 'partial')
    assert.equal(verdictOf('S09', observed([failed()], [], { isAliveAfter: false })), 'fail')
    assert.equal(verdictOf('S11', observed([answered(ANSWER, { seconds: 9 })])), 'fail')
  })

  test('want the real reason, and the name of who answered', () => {
    assert.equal(verdictOf('S13', observed([failed('content_filter')], [attempt('A')])), 'pass')
    assert.equal(verdictOf('S13', observed([failed('server_error')], [attempt('A')])), 'fail')
    assert.equal(verdictOf('S14', observed([failed()], [attempt('A'), attempt('B', 1, 'refused', true)])), 'fail')
    assert.equal(verdictOf('S16', observed([answered(ANSWER, { model: 'model-of-A' })])), 'fail')
    assert.equal(verdictOf('S16', observed([answered()], [], { toldAnswered: ['A'] })), 'fail')
    assert.equal(verdictOf('S16', observed([answered(ANSWER, { hasUsage: false })])), 'partial')
  })

  test('want every request answered while a backend is down, and it to be used again soon', () => {
    const back = [attempt('A', 0, 'refused'), attempt('A', 70)]
    assert.equal(verdictOf('S15', observed([answered(), answered(ANSWER, { beganAt: 64 })], back)), 'pass')
    assert.equal(verdictOf('S15', observed([failed(), answered()], back)), 'fail')
    assert.equal(verdictOf('S15', observed([answered()], [attempt('A', 91)])), 'fail')
  })
})

describe('the program', () => {
  async function run(...words: string[]): Promise<{ code: number, stdout: string, stderr: string }> {
    const { NODE_V8_COVERAGE: _coverage, ...env } = process.env
    return new Promise((resolve) => {
      execFile(process.execPath, ['--import', 'tsx', 'test/bench/faults/main.ts', ...words], { cwd: root, env }, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
      })
    })
  }

  test('measures what it says, in haste', async () => {
    const only = ['S04', 'S08', 'S09', 'S13', 'S16'].flatMap((id) => ['--only', id])
    const { code, stdout, stderr } = await run('--quick', '--json', '--set-up', 'defaults', ...only)
    assert.equal(code, 0, stderr)
    const { summaries, results } = JSON.parse(stdout) as { summaries: string[], results: { id: string, isStream: boolean, verdict: string, observed: Observed }[] }
    for (const isStream of [true, false]) {
      const seen = results.filter((result) => result.isStream === isStream)
      assert.deepEqual(seen.map(({ id, verdict }) => `${id} ${verdict}`), ['S04 pass', 'S08 safe', 'S09 safe', 'S13 pass', 'S16 pass'])
      assert.deepEqual(seen.map(({ observed: { attempts } }) => attempts.map(({ backend, did }) => `${backend} ${did}`).join(', ')), [
        'A refused, B answered', 'A broken', 'A broken', 'A refused', 'A refused, B answered',
      ])
    }
    assert.deepEqual(summaries, ['defaults: 3 pass / 0 partial / 2 safe / 0 fail', 'defaults, not streamed: 3 pass / 0 partial / 2 safe / 0 fail'])
  })

  test('knows its scenarios', async () => {
    const { code, stderr } = await run('--only', 'S17')
    assert.equal(code, 1)
    assert.match(stderr, /--only: must be one of S01, .*, S16, got "S17"/)
  })
})

test('the README shows a row for every scenario', () => {
  const rows = readTable(findSection(readFileSync(`${root}/README.md`, 'utf8'), 'Faults, one by one'), '', 'A does this')
  assert.deepEqual(rows.map(([id, fault]) => [id, fault]), SCENARIOS.map(({ id, fault }) => [id, fault]))
})
