import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { adaptCaller } from '../../src/request/caller.js'
import { StableController } from '../../src/request/stable-controller.js'
import { makeThrottledAnswer, SyntheticResponse } from '../../src/request/own-answers.js'
import { recordingHandler, STYLES, type Hooks, type Recorder, type Style } from '../support/recording-handler.js'

function play(style: Style, hooks: Hooks = {}, hasBody = true): { recorder: Recorder, log: string[] } {
  const log: string[] = []
  const recorder = recordingHandler(style, { hooks })
  const caller = adaptCaller(recorder.handler)
  const controller = new StableController({ abort: () => log.push('aborted') })
  caller.start(controller)
  const response = new SyntheticResponse(caller, controller, 1_234.5, hasBody)
  response.start(() => { log.push('ends'); caller.end(controller, [], {}) }, (error) => log.push(`fails: ${error.message}`))
  return { recorder, log }
}

const kinds = (recorder: Recorder): string[] => recorder.events.map(([kind]) => kind)

test('the answer says in milliseconds and in whole seconds when to come back, and its body is OpenAI\'s', () => {
  const { headers, body } = makeThrottledAnswer(1_234.5)
  assert.deepEqual(headers, { 'content-type': 'application/json', 'content-length': String(body.byteLength), 'retry-after': '2', 'retry-after-ms': '1235' })
  const { error } = JSON.parse(body.toString()) as { error: Record<string, unknown> }
  assert.deepEqual({ ...error, message: '' }, { message: '', type: 'rate_limit_error', param: null, code: 'rate_limit_exceeded' })
  assert.match(String(error.message), /retry after 1235 milliseconds/)
})

test('the shortest wait that can be told is a millisecond', () => {
  assert.deepEqual([makeThrottledAnswer(0).headers['retry-after-ms'], makeThrottledAnswer(0).headers['retry-after']], ['1', '1'])
})

for (const style of STYLES) {
  describe(`for a handler of the ${style} style`, () => {
    test('it comes as any response does', () => {
      const { recorder, log } = play(style)
      const { headers, body } = makeThrottledAnswer(1_234.5)
      assert.deepEqual(recorder.events, [
        ['start'], ['headers', 429, Object.entries(headers).flat(), 'Too Many Requests'], ['data', body.toString('latin1')], ['end', []],
      ])
      assert.deepEqual(log, ['ends'])
    })

    test('a HEAD request gets the headers alone', () => {
      assert.deepEqual(kinds(play(style, {}, false).recorder), ['start', 'headers', 'end'])
    })

    test('it waits where the caller pauses, at every step', () => {
      const { recorder } = play(style, { headers: (it) => { it.pause() }, data: (it) => { it.pause() } })
      assert.deepEqual(kinds(recorder), ['start', 'headers'])
      recorder.resume()
      assert.deepEqual(kinds(recorder), ['start', 'headers', 'data'])
      recorder.resume()
      assert.deepEqual(kinds(recorder), ['start', 'headers', 'data', 'end'])
    })

    test('an end of the pause from inside a callback plays nothing before that has returned', () => {
      const order: string[] = []
      const { recorder } = play(style, {
        headers: (it) => {
          it.pause()
          it.resume()
          order.push('headers over')
        },
        data: () => order.push('data'),
      })
      assert.deepEqual(order, ['headers over', 'data'])
      assert.equal(recorder.terminals, 1)
    })

    test('it stops where the caller aborts', () => {
      const { recorder, log } = play(style, { headers: (it) => { it.abort(new Error('enough')) } })
      assert.deepEqual(kinds(recorder), ['start', 'headers'])
      assert.deepEqual(log, ['aborted'])
    })

    for (const step of ['headers', 'data', 'end'] as const) {
      test(`what the caller throws in ${step} comes back as its failure`, () => {
        const { log } = play(style, { [step]: () => { throw new Error(`thrown in ${step}`) } })
        assert.deepEqual(log.at(-1), `fails: thrown in ${step}`)
      })
    }
  })
}
