/** An answer that comes before the upload has ended, and is the caller's because no other attempt can follow. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { PAIRS, Scene } from '../support/scene.js'
import { turns } from '../support/until.js'

for (const [caller, inner] of PAIRS) {
  describe(`a caller of the ${caller} style, a dispatcher of the ${inner} style`, () => {
    for (const status of [408, 503, 429, 404, 200]) {
      test(`a ${status} while the body is being sent leaves the upload alone where it is delivered`, async () => {
        const it = new Scene(caller, inner, { maxAttempts: 1 })
        const sent: string[] = []
        let goOn = (): void => {}
        const waits = new Promise<void>((resolve) => { goOn = resolve })
        async function * body (): AsyncGenerator<string> {
          yield 'one'
          await waits
          yield 'two'
        }
        const recorder = it.send({ path: '/openai/deployments/gpt-4o/chat/completions', body: body() })
        const call = it.inner.last.start()
        const upload = (async () => { for await (const chunk of call.opts.body as AsyncIterable<string>) sent.push(chunk) })()
        await turns(2)
        call.respond(status, { 'content-length': '2' })
        goOn()
        await upload
        assert.deepEqual(sent, ['one', 'two'])
        call.data('{}').end()
        assert.equal(recorder.terminals, 1)
        assert.equal(recorder.events.find(([kind]) => kind === 'headers')?.[1], status)
      })
    }
  })
}
