/** Seen: `/openai/..;x/admin` was balanced, though a server that cuts parameters off a segment reads it as `/admin`, outside of the base. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { recordingHandler } from '../support/recording-handler.js'
import { Scene } from '../support/scene.js'

test('a dot segment with parameters is a dot segment: its request passes through as it came', () => {
  for (const path of ['/openai/..;x/admin', '/openai/.;x/admin', '/openai/%2e%2e;x/admin']) {
    const it = new Scene('new', 'new', { backends: [{ name: 'east', url: 'https://east.example/openai', priority: 1, apiKey: 'ours' }] })
    const opts = { origin: 'https://east.example', path, method: 'GET' } as const
    it.engine.dispatch(it.inner, opts, recordingHandler('new').handler)
    assert.equal(it.inner.last.opts, opts, path)
    assert.equal(it.backend('east').attempts, 0)
  }
})
