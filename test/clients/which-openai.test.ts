/** Which `openai` the tests of this folder speak with: a run that means to exchange it must not go on with the project's own. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { completion, openaiClient } from '../support/openai-clients.js'
import { startScriptedBackend } from '../support/scripted-backend.js'

test('the client says that it is the major version which is meant', async (t) => {
  const backend = await startScriptedBackend()
  t.after(() => backend.close())
  backend.always((call) => { call.respond(200, {}, completion('Hello')) })
  await openaiClient(`${backend.url}/openai/v1`).chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello' }] })
  const meant = process.env.MATRIX_OPENAI ?? '6'
  assert.match(String(backend.calls[0]?.request.headers['user-agent']), new RegExp(`^OpenAI/JS ${meant}\\.`))
})
