// The one answer that no backend gave: all are throttled, come back then. It comes to the caller as any response does.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { recordingHandler, STYLES, type Hooks, type Recorder, type Style } from '../support/recording-handler.js'
import { Scene } from '../support/scene.js'
import { turns } from '../support/until.js'

/** A request while both backends ask to be left alone for so long, and the answer of our own that it gets. */
async function play(style: Style, hooks: Hooks = {}, { method = 'POST' as const as 'POST' | 'HEAD', retryAfterMs = 1_234.5 } = {}): Promise<{ recorder: Recorder, it: Scene }> {
  const it = new Scene(style, 'old')
  it.system.random = () => 0
  const recorder = recordingHandler(style, { hooks })
  it.engine.dispatch(it.inner, { origin: 'https://east.example', path: '/openai/x', method }, recorder.handler)
  for (let i = 0; i < 2; i++) it.inner.last.start().respond(429, { 'retry-after-ms': String(retryAfterMs) }).end()
  await turns(1)
  return { recorder, it }
}

const kinds = (recorder: Recorder): string[] => recorder.events.map(([kind]) => kind)

/** Of an answer that was recorded. */
function partsOf({ events }: Recorder): { status: number, headers: Record<string, string>, message: string | undefined, body: string } {
  const [, head, data] = events
  if (head?.[0] !== 'headers') assert.fail('no headers')
  const [, status, flat, message] = head
  const headers = Object.fromEntries(flat.flatMap((name, i) => (i % 2 === 0 ? [[name, flat[i + 1] ?? '']] : [])))
  return { status, headers, message, body: data?.[0] === 'data' ? data[1] : '' }
}

test('the answer says in milliseconds and in whole seconds when to come back, and its body is OpenAI\'s', async () => {
  const { status, headers, message, body } = partsOf((await play('new')).recorder)
  assert.deepEqual([status, message], [429, 'Too Many Requests'])
  assert.deepEqual(headers, { 'content-type': 'application/json', 'content-length': String(body.length), 'retry-after': '2', 'retry-after-ms': '1235' })
  const { error } = JSON.parse(body) as { error: Record<string, unknown> }
  assert.deepEqual({ ...error, message: '' }, { message: '', type: 'rate_limit_error', param: null, code: 'rate_limit_exceeded' })
  assert.match(String(error['message']), /retry after 1235 milliseconds/)
})

test('the shortest wait that can be told is a millisecond', async () => {
  const { headers } = partsOf((await play('new', {}, { retryAfterMs: 0 })).recorder)
  assert.deepEqual([headers['retry-after-ms'], headers['retry-after']], ['1', '1'])
})

for (const style of STYLES) {
  describe(`for a handler of the ${style} style`, () => {
    test('it comes as any response does', async () => {
      const { recorder, it } = await play(style)
      assert.deepEqual(kinds(recorder), ['start', 'headers', 'data', 'end'])
      assert.deepEqual(recorder.events.at(-1), ['end', []])
      assert.equal(it.underWay, 0)
    })

    test('a HEAD request gets the headers alone', async () => {
      const { recorder } = await play(style, {}, { method: 'HEAD' })
      assert.deepEqual(kinds(recorder), ['start', 'headers', 'end'])
      assert.equal(partsOf(recorder).headers['retry-after'], '2')
    })

    test('it waits where the caller pauses, at every step', async () => {
      const { recorder } = await play(style, { headers: (self) => { self.pause() }, data: (self) => { self.pause() } })
      assert.deepEqual(kinds(recorder), ['start', 'headers'])
      recorder.resume()
      assert.deepEqual(kinds(recorder), ['start', 'headers', 'data'])
      recorder.resume()
      assert.deepEqual(kinds(recorder), ['start', 'headers', 'data', 'end'])
    })

    test('an end of the pause from inside a callback plays nothing before that has returned', async () => {
      const order: string[] = []
      const { recorder } = await play(style, {
        headers: (self) => {
          self.pause()
          self.resume()
          order.push('headers over')
        },
        data: () => order.push('data'),
      })
      assert.deepEqual(order, ['headers over', 'data'])
      assert.equal(recorder.terminals, 1)
    })

    test('it stops where the caller aborts', async () => {
      const reason = new Error('enough')
      const { recorder, it } = await play(style, { headers: (self) => { self.abort(reason) } })
      // The recorder writes an event down when its hook is over.
      assert.deepEqual(kinds(recorder), ['start', 'error', 'headers'])
      assert.equal(recorder.error, reason)
      assert.equal(it.underWay, 0)
    })

    for (const step of ['headers', 'data', 'end'] as const) {
      test(`what the caller throws in ${step}, it is told`, async () => {
        const thrown = new Error(`thrown in ${step}`)
        const { recorder, it } = await play(style, { [step]: () => { throw thrown } })
        assert.deepEqual([recorder.error, recorder.terminals], [thrown, 1])
        assert.equal(it.underWay, 0)
      })
    }
  })
}
