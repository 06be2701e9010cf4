/**
 * Balancing without a line of code: Node loads the balancer before the program, with options from a JSON file.
 *
 *     OPENAI_LOADBALANCER_CONFIG=backends.json node --import openai-priority-loadbalancer/register app.js
 *
 * This file runs that command with `without-code/backends.json` and `without-code/app.ts`:
 *
 *     npx tsx examples/without-code.ts
 */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { runLocally, type Local } from './support/run-locally.js'

const fileIn = (path: string) => fileURLToPath(new URL(path, import.meta.url))

async function main(local: Local): Promise<void> {
  const hosts = ['contoso-east.openai.azure.com', 'contoso-west.openai.azure.com']
  local.server('contoso-east.openai.azure.com').inject({ kind: 'status', status: 429, retryAfterMs: 30_000 }, 1)

  const { stdout, stderr } = await promisify(execFile)(process.execPath, [
    // Only here: TypeScript, and local servers in the place of the two in the file.
    '--import', 'tsx', '--import', new URL('./support/divert-child.ts', import.meta.url).href,
    '--import', 'openai-priority-loadbalancer/register',
    fileIn('./without-code/app.ts'),
  ], {
    env: {
      ...process.env,
      OPENAI_LOADBALANCER_CONFIG: fileIn('./without-code/backends.json'),
      OPENAI_LOADBALANCER_LOG_LEVEL: 'info',
      KEY_EAST: 'key-east',
      KEY_WEST: 'key-west',
      LOCAL_ORIGINS: JSON.stringify(Object.fromEntries(hosts.map((host) => [host, local.server(host).origin]))),
    },
  })
  process.stdout.write(stdout)
  for (const line of stderr.split('\n').filter((text) => text.startsWith('{'))) {
    console.log(`the balancer's log: ${(JSON.parse(line) as { msg: string }).msg}`)
  }
}

// Below here: local servers in the place of the two in the file.
await runLocally({
  'contoso-east.openai.azure.com': { apiKeys: ['key-east'] },
  'contoso-west.openai.azure.com': { apiKeys: ['key-west'] },
}, main)
