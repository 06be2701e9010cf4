/**
 * Seen: `destroy()` while the caller had paused the 429 of our own: the caller heard of the error, and then, when it resumed, of
 * data and of an end. An exchange ends once, and nothing comes after it.
 */
import assert from 'node:assert/strict'
import { describe, test, type TestContext } from 'node:test'
import { request } from 'undici'
import { answers, startEastAndWest, type EastAndWest } from '../support/east-and-west.js'
import type { Hooks, Recorder } from '../support/recording-handler.js'
import { PAIRS, Scene } from '../support/scene.js'
import { turns } from '../support/until.js'

const kinds = ({ events }: Recorder): string[] => events.map(([kind]) => kind)

for (const [caller, inner] of PAIRS) {
  describe(`a caller of the ${caller} style, an inner dispatcher of the ${inner} style`, () => {
    /** A request that gets our own 429 while both backends are throttled. */
    async function refuse (hooks: Hooks): Promise<{ it: Scene; recorder: Recorder }> {
      const it = new Scene(caller, inner)
      it.send({ path: '/openai/deployments/gpt-4o/x' })
      for (let i = 0; i < 2; i++) it.inner.last.start().respond(429, { 'retry-after-ms': '30000' }).end()
      await turns(1)
      const recorder = it.send({ path: '/openai/deployments/gpt-4o/x' }, { hooks })
      await turns(1)
      return { it, recorder }
    }

    const ends: readonly [name: string, end: (it: Scene, recorder: Recorder) => void][] = [
      ['destroy()', ({ engine }) => { void engine.destroy(new Error('destroyed')) }],
      ['an abort', (_it, recorder) => { recorder.abort(new Error('given up')) }],
    ]
    for (const [name, end] of ends) {
      for (const at of ['headers', 'data'] as const) {
        test(`${name} while our own 429 is paused after its ${at} is the end`, async () => {
          const { it, recorder } = await refuse({ [at]: (self: Recorder) => { self.pause() } })
          const before = at === 'headers' ? ['start', 'headers'] : ['start', 'headers', 'data']
          assert.deepEqual(kinds(recorder), before)
          end(it, recorder)
          recorder.resume()
          await turns(3)
          assert.deepEqual(kinds(recorder), [...before, 'error'])
          assert.deepEqual([recorder.terminals, it.underWay], [1, 0])
        })

        test(`${name} from inside the callback of its ${at} is the end`, async () => {
          const it = new Scene(caller, inner)
          it.send({ path: '/openai/deployments/gpt-4o/x' })
          for (let i = 0; i < 2; i++) it.inner.last.start().respond(429, { 'retry-after-ms': '30000' }).end()
          const hooks: Hooks = { [at]: (self: Recorder) => { end(it, self) } }
          await turns(1)
          const recorder = it.send({ path: '/openai/deployments/gpt-4o/x' }, { hooks })
          await turns(3)
          recorder.resume()
          await turns(1)
          // What a callback is told with is written down after its hook.
          assert.deepEqual(kinds(recorder).filter((kind) => kind !== at), at === 'headers' ? ['start', 'error'] : ['start', 'headers', 'error'])
          assert.deepEqual([recorder.terminals, it.underWay], [1, 0])
        })
      }
    }

    test('paused and resumed without an end in between it comes as a whole', async () => {
      const { it, recorder } = await refuse({ headers: (self) => { self.pause() } })
      recorder.resume()
      await turns(1)
      assert.deepEqual(kinds(recorder), ['start', 'headers', 'data', 'end'])
      assert.equal(it.underWay, 0)
    })

    test('a backend\'s answer that is paused ends once as well', async () => {
      for (const [, end] of ends) {
        const it = new Scene(caller, inner)
        const recorder = it.send({}, { hooks: { headers: (self) => { self.pause() } } })
        const call = it.inner.last.start().respond(200)
        end(it, recorder)
        recorder.resume()
        call.data('late').end()
        await turns(1)
        assert.deepEqual(kinds(recorder), ['start', 'headers', 'error'])
      }
    })
  })
}

describe('over real sockets', () => {
  async function refused (t: TestContext): Promise<EastAndWest> {
    const world = await startEastAndWest(t)
    for (const backend of [world.east, world.west]) backend.always(answers(429, { 'retry-after': '30' }))
    return world
  }

  test('a fetch whose 429 is not read yet is rejected by destroy, or has it whole', async (t) => {
    const { east, balancer } = await refused(t)
    const response = await fetch(`${east.url}/openai/v1/models`, { dispatcher: balancer } as unknown as RequestInit)
    await balancer.engine.destroy(new Error('destroyed'))
    assert.equal(response.status, 429)
    assert.match(await response.text(), /rate_limit_exceeded/)
  })

  test('a request of undici\'s is told of one end', async (t) => {
    const { east, balancer } = await refused(t)
    const { statusCode, body } = await request(`${east.url}/openai/v1/models`, { dispatcher: balancer })
    assert.equal(statusCode, 429)
    let ends = 0
    for (const event of ['end', 'error'] as const) body.on(event, () => { ends++ })
    void balancer.engine.destroy(new Error('destroyed'))
    body.resume()
    await turns(5)
    assert.equal(ends, 1)
  })
})
