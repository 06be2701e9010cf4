/** Seen: a header that undici refuses with a TypeError (a name that is no string) was held against the backend, and tried on the next. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Scene } from '../support/scene.js'

test('a TypeError is the caller\'s, and no backend is to blame', () => {
  const it = new Scene('new', 'old')
  const refusal = new TypeError('header name')
  it.inner.onDispatch = (call) => call.fail(refusal)
  const recorder = it.send()
  assert.equal(recorder.error, refusal)
  assert.deepEqual(it.origins, ['east'])
  assert.deepEqual([it.backend('east').state, it.backend('east').failures], ['available', 0])
})
