/** Whole programs: with nothing but a command line option, by require(), and how they end. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BASE, CHAT, check, require, runProgram, says, saysJson, serve, throttles } from './support.mjs'
import * as imported from 'openai-priority-loadbalancer'

/** How long a program may live on after its last line. undici keeps idle connections for 4 s: one that waits for that is not over by itself. */
const LINGER_MS = 3_000

const answers = (call, response) => saysJson({ path: call.path, key: call.headers['api-key'] ?? null, body: call.body.toString() })(call, response)

/** A file with options, for as long as the test runs. */
function configure (t, options) {
  const folder = mkdtempSync(join(tmpdir(), 'matrix-config-'))
  t.after(() => { rmSync(folder, { recursive: true, force: true }) })
  const file = join(folder, 'backends.json')
  writeFileSync(file, JSON.stringify(options))
  return file
}

function assertEndedByItself ({ code, signal, output, lingerMs }) {
  assert.deepEqual([code, signal], [0, null], output)
  assert.ok(lingerMs < LINGER_MS, `lived on for ${Math.round(lingerMs)} ms`)
}

check('register: a program that knows nothing of it is balanced, and ends by itself', async (t) => {
  const [busy, free] = [await serve(t, throttles()), await serve(t, answers)]
  const file = configure(t, {
    intercept: [BASE],
    backends: [{ url: `${busy.url}/openai/v1`, priority: 1 }, { url: `${free.url}/openai/v1`, priority: 2, apiKey: { env: 'KEY_OF_FREE' } }],
  })
  const result = await runProgram('programs/plain.mjs', {
    args: ['--import', 'openai-priority-loadbalancer/register'],
    env: { OPENAI_LOADBALANCER_CONFIG: file, KEY_OF_FREE: 'key-of-free', PROGRAM_URL: CHAT },
  })
  assertEndedByItself(result)
  const lines = result.stdout.trim().split('\n').map((line) => JSON.parse(line))
  const expected = { path: '/openai/v1/chat/completions', key: 'key-of-free', body: 'hello' }
  assert.deepEqual(lines, [{ by: 'fetch', ...expected }, { by: 'undici.fetch', ...expected }, { by: 'undici.request', ...expected }])
  assert.equal(busy.calls.length, 1)
})

check('register: the threads of a program are balanced too', async (t) => {
  const backend = await serve(t, answers)
  const file = configure(t, { intercept: [BASE], backends: [{ url: `${backend.url}/openai/v1`, priority: 1 }] })
  const result = await runProgram('programs/worker.mjs', {
    args: ['--import', 'openai-priority-loadbalancer/register'], env: { OPENAI_LOADBALANCER_CONFIG: file, PROGRAM_URL: CHAT },
  })
  assertEndedByItself(result)
  assert.equal(result.stdout, 'main 200\nworker 200\n')
})

check('register: what is wrong with the file is said in one sentence, before the program begins', async (t) => {
  const wrong = [
    [undefined, /OPENAI_LOADBALANCER_CONFIG must name a JSON file/],
    ['/nowhere/backends.json', /\/nowhere\/backends\.json: the file must be readable\. Received: "?ENOENT/],
    [configure(t, { backends: [{ url: 'https://east.example', priority: 'high' }] }), /backends\[0\]\.priority must be/],
  ]
  for (const [file, sentence] of wrong) {
    const env = file === undefined ? { OPENAI_LOADBALANCER_CONFIG: '' } : { OPENAI_LOADBALANCER_CONFIG: file }
    const { code, output } = await runProgram('programs/plain.mjs', { args: ['--import', 'openai-priority-loadbalancer/register'], env: { ...env, PROGRAM_URL: 'http://127.0.0.1:9' } })
    assert.notEqual(code, 0)
    assert.match(output, sentence)
    assert.doesNotMatch(output, /^\{"by"/m)
  }
})

check('a program that has used fetch before it loads the package is balanced, cookies and all', async (t) => {
  const cookies = ['a=1; Path=/', 'b=2']
  const [busy, free] = [await serve(t, throttles()), await serve(t, says('free', { 'set-cookie': cookies }))]
  const result = await runProgram('programs/fetch-first.mjs', { env: { PROGRAM_BACKENDS: `${busy.url} ${free.url}` } })
  assertEndedByItself(result)
  assert.deepEqual(JSON.parse(result.stdout), { before: cookies, balanced: cookies, passed: cookies, after: cookies })
  assert.deepEqual([busy.calls.length, free.calls.length], [1, 4])
})

check('a program that has installed, and neither uninstalls nor closes, ends by itself', async (t) => {
  const [busy, free] = [await serve(t, throttles()), await serve(t, answers)]
  const result = await runProgram('programs/install.mjs', { env: { PROGRAM_BACKENDS: `${busy.url} ${free.url}` } })
  assertEndedByItself(result)
  assert.match(result.output, /^200$/m)
  assert.equal(free.calls.length, 1)
})

check('a program that throws on every deprecation does not throw', async (t) => {
  const [busy, free] = [await serve(t, throttles()), await serve(t, answers)]
  const result = await runProgram('programs/install.mjs', { args: ['--pending-deprecation', '--throw-deprecation'], env: { PROGRAM_BACKENDS: `${busy.url} ${free.url}` } })
  assertEndedByItself(result)
  assert.equal(result.stdout, '200\n')
})

check('a program whose fetch is undici\'s, by its install(), is balanced', async (t) => {
  const [busy, free] = [await serve(t, throttles()), await serve(t, answers)]
  const result = await runProgram('programs/undici-install.mjs', { env: { PROGRAM_BACKENDS: `${busy.url} ${free.url}` } })
  assertEndedByItself(result)
  assert.equal(result.stdout, 'true 200\n')
})

check('a request that waits for a backend keeps its program alive until it is answered', async (t) => {
  const backend = await serve(t, throttles(300))
  const ended = runProgram('programs/install.mjs', { env: { PROGRAM_BACKENDS: backend.url, PROGRAM_WAIT: '10000' } })
  await backend.next()
  backend.answerWith(answers)
  const result = await ended
  assertEndedByItself(result)
  assert.match(result.output, /^200$/m)
})

check('a warning of the default logger goes to stderr as pino writes it, and does not hold the process', async (t) => {
  const servers = [await serve(t, throttles()), await serve(t, answers)]
  const result = await runProgram('programs/install.mjs', {
    env: { PROGRAM_BACKENDS: servers.map(({ url }) => url).join(' '), PROGRAM_LOGGER: 'default', OPENAI_LOADBALANCER_LOG_LEVEL: 'debug' },
  })
  assertEndedByItself(result)
  assert.equal(result.stdout, '200\n')
  const lines = result.stderr.trim().split('\n').map((line) => JSON.parse(line))
  for (const { name } of lines) assert.equal(name, 'openai-priority-loadbalancer')
})

check('require() gives the same module as import, where this Node allows it', () => {
  if (process.features.require_module) {
    const required = require('openai-priority-loadbalancer')
    assert.equal(required.install, imported.install)
    assert.equal(required.PriorityBalancer, imported.PriorityBalancer)
  } else {
    assert.throws(() => require('openai-priority-loadbalancer'), { code: 'ERR_REQUIRE_ESM' })
  }
})

check('import makes no noise and leaves the global dispatcher alone', async () => {
  const { code, output } = await runProgram('programs/only-import.mjs')
  assert.deepEqual([code, output], [0, 'quiet\n'])
})
