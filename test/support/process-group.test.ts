import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdtempSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { runGroup } from './process-group.js'
import { runScript, urlOf } from './run-child.js'

const NEVER_ENDS = 'setInterval(() => {}, 1_000)'

describe('a group of processes', () => {
  const options = { cwd: tmpdir(), env: process.env, timeoutMs: 60_000 }

  test('tells how its program ended, and what it wrote', async () => {
    const result = await runGroup(process.execPath, ['-e', "console.log('out'); console.error('err'); process.exitCode = 3"], options)
    assert.deepEqual(result, { code: 3, end: 'exit code 3', stdout: 'out\n', stderr: 'err\n' })
  })

  test('that takes too long is ended with everything that was started in it', async () => {
    // The inner program holds the outputs: only with its end are they closed.
    const program = `require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(NEVER_ENDS)}], { stdio: 'inherit' }); ${NEVER_ENDS}`
    const { code, end } = await runGroup(process.execPath, ['-e', program], { ...options, timeoutMs: 1_000 })
    assert.deepEqual([code, end], [null, 'SIGKILL after 1000 ms'])
  })

  test('that writes without end is ended', async () => {
    const { code, end } = await runGroup(process.execPath, ['-e', "setInterval(() => { process.stdout.write('x'.repeat(1 << 20)) })"], options)
    assert.deepEqual([code, end], [null, 'SIGKILL'])
  })

  test('ends with the process that runs it, which then cleans up', async (t) => {
    const server = createServer().listen(0, '127.0.0.1')
    t.after(() => server.close())
    await once(server, 'listening')
    const inner = `require('node:net').connect(${(server.address() as AddressInfo).port}, '127.0.0.1').write(String(process.ppid)); ${NEVER_ENDS}`
    const folder = mkdtempSync(join(tmpdir(), 'process-group-'))
    const ran = runScript(`
      import { rmSync } from 'node:fs'
      import { runGroup, whenEnded } from ${JSON.stringify(urlOf('test/support/process-group.ts'))}
      whenEnded(() => { rmSync(${JSON.stringify(folder)}, { recursive: true }) })
      await runGroup(process.execPath, ['-e', ${JSON.stringify(inner)}], { cwd: '.', env: process.env, timeoutMs: 60_000 })
    `)
    const [socket] = await once(server, 'connection') as [Socket]
    const [itsParent] = await once(socket, 'data') as [Buffer]
    const gone = once(socket.on('error', () => {}).resume(), 'close')
    process.kill(Number(itsParent), 'SIGTERM')
    await gone
    assert.equal((await ran).code, 1)
    assert.ok(!existsSync(folder))
  })
})
