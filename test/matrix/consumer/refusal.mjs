/** A pair of Node and undici that cannot work: whoever imports the package, in whichever way, reads what to do. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { spawnSync } from 'node:child_process'
import { UNDICI, require } from './versions.mjs'

const sentence = new RegExp(process.env.MATRIX_SENTENCE)
const cwd = fileURLToPath(new URL('.', import.meta.url))

test(`import is refused with undici ${UNDICI}`, async () => {
  await assert.rejects(import('openai-priority-loadbalancer'), sentence)
})

test('so is --import .../register', () => {
  const { status, stderr, stdout } = spawnSync(process.execPath, ['--import', 'openai-priority-loadbalancer/register', '--eval', 'console.log("begun")'], { cwd, encoding: 'utf8', timeout: 15_000 })
  assert.equal(status, 1)
  assert.match(stderr, sentence)
  assert.doesNotMatch(stdout, /begun/)
})

test('so is require(), where this Node allows it', () => {
  assert.throws(() => require('openai-priority-loadbalancer'), process.features.require_module ? sentence : { code: 'ERR_REQUIRE_ESM' })
})
