/** Seen: a query that begins like a stateful path (`/openai?/files`) was taken for one, and its request stayed with a backend that throttled it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Scene } from '../support/scene.js'

test('a query that begins like a stateful path binds its request to no backend', () => {
  for (const query of ['?/files', '?/openai/batches', '?files']) {
    const it = new Scene('new', 'old')
    it.send({ path: `/openai${query}` })
    it.inner.last.start().respond(429).end()
    assert.deepEqual(it.origins, ['east', 'west'], query)
  }
})
