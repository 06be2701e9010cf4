/** Temporary folders that a run which is ended does not leave behind. */
import { rmSync } from 'node:fs'
import { mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { whenEnded } from '../support/process-group.js'

const PREFIX = 'openai-priority-loadbalancer-matrix-'

/** No run takes that long. */
const STALE_MS = 2 * 3_600_000

/** In the given folder. Those of runs that had no time to clean up (a power cut, SIGKILL) are removed on the way. */
export async function makeFolder (parent: string): Promise<string> {
  for (const name of await readdir(parent)) {
    if (name.startsWith(PREFIX) && await isStale(join(parent, name))) await removeFolder(join(parent, name))
  }
  const folder = await mkdtemp(join(parent, PREFIX))
  whenEnded(() => { rmSync(folder, { recursive: true, force: true, maxRetries: 3 }) })
  return folder
}

/** A program that was just killed may be writing its last file. */
export async function removeFolder (folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 3 })
}

/** Gives it a name that no later run removes, and returns it. */
export async function keepFolder (folder: string): Promise<string> {
  const kept = folder.replace(PREFIX, 'kept-matrix-')
  await rename(folder, kept)
  return kept
}

async function isStale (folder: string): Promise<boolean> {
  try {
    return Date.now() - (await stat(folder)).mtimeMs > STALE_MS
  } catch {
    // Another run has just removed it.
    return false
  }
}
