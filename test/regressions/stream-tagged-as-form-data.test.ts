/**
 * Seen: the `form-data` package's FormData, which is a stream, was taken by its tag for one that can be sent any number of
 * times; the second backend was sent what was left of it, which is nothing.
 */
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { Scene } from '../support/scene.js'

async function textOf(body: unknown): Promise<string> {
  let text = ''
  for await (const chunk of body as AsyncIterable<unknown>) text += String(chunk)
  return text
}

test('a stream that says that it is FormData reaches the second backend whole', async () => {
  const it = new Scene('new', 'old')
  const body = Object.assign(Readable.from(['a', 'b'], { objectMode: false }), { [Symbol.toStringTag]: 'FormData' })
  it.send({ body })
  const first = it.inner.last.start()
  assert.equal(await textOf(first.opts.body), 'ab')
  first.respond(429).end()
  assert.deepEqual(it.origins, ['east', 'west'])
  assert.equal(await textOf(it.inner.last.opts.body), 'ab')
})
