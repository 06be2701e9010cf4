/** Node binaries of the wanted versions, from the npm package `node`, kept in a folder for the next time. */
import { existsSync } from 'node:fs'
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../package/packed-project.js'
import { makeFolder } from './folders.js'

const CACHE = join(tmpdir(), 'openai-priority-loadbalancer-nodes')

/** The latest of a line is asked for anew after a day. */
const FRESH_MS = 86_400_000

export interface NodeBinary {
  readonly path: string
  /** `24.21.0` */
  readonly version: string
}

/** The binary for `24` or `20.18.1`, installed when it is not there yet. */
export async function findNode (wanted: string): Promise<NodeBinary> {
  const folder = join(CACHE, wanted)
  if (!await isFresh(folder, wanted)) {
    try {
      await install(folder, wanted)
    } catch (error) {
      // Yesterday's does when the registry cannot be reached, and one that another run has put there in the meantime.
      if (!existsSync(binaryIn(folder))) {
        throw new Error(`There is no Node ${wanted} to test with: the npm package node@${wanted} could not be installed into ${CACHE}.\n${(error as Error).message}`)
      }
    }
  }
  const path = binaryIn(folder)
  const { code, output } = await run(path, ['--version'], folder)
  if (code !== 0) throw new Error(`Node ${wanted} does not start: ${output}`)
  return { path, version: output.trim().replace(/^v/, '') }
}

function binaryIn (folder: string): string {
  return join(folder, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
}

async function isFresh (folder: string, wanted: string): Promise<boolean> {
  if (!existsSync(binaryIn(folder))) return false
  const isExact = wanted.includes('.')
  return isExact || Date.now() - (await stat(join(folder, 'package.json'))).mtimeMs < FRESH_MS
}

async function install (folder: string, wanted: string): Promise<void> {
  // Elsewhere and then moved to its place: a run that is interrupted leaves nothing that looks whole.
  await mkdir(CACHE, { recursive: true })
  const fresh = await makeFolder(CACHE)
  try {
    await installInto(fresh, wanted)
    await rm(folder, { recursive: true, force: true })
    await rename(fresh, folder)
  } finally {
    await rm(fresh, { recursive: true, force: true })
  }
}

async function installInto (fresh: string, wanted: string): Promise<void> {
  await writeFile(join(fresh, 'package.json'), JSON.stringify({ name: 'nodes', private: true }))
  const installed = await run('npm', ['install', `node@${wanted}`, '--prefer-offline', '--no-audit', '--no-fund', '--fetch-retries=1', '--loglevel=error'], fresh)
  if (installed.code !== 0) throw new Error(`npm install node@${wanted} failed:\n${installed.output}`)
  // The package gets its binary in an install script, which npm may have been told not to run.
  if (!existsSync(binaryIn(fresh))) {
    const scripted = await run(process.execPath, ['installArchSpecificPackage.js'], join(fresh, 'node_modules', 'node'))
    if (scripted.code !== 0 || !existsSync(binaryIn(fresh))) throw new Error(`node@${wanted} has no binary for ${process.platform} ${process.arch}:\n${scripted.output}`)
  }
}
