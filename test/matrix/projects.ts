/** A consumer's project for each pair of undici and openai: the tarball installed by npm, and the checks beside it. */
import { cp, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { root, run, type PackedProject } from '../package/packed-project.js'
import type { Cell } from './plan.js'

/** Other copies of undici that a program may hold, whichever one it gives to the balancer. */
const OTHERS = ['6', '7', '8'] as const

/** The latest of a line is asked for by one that is known to be there: npm's cache may hold a list from before it. */
const LATEST: Readonly<Record<string, string>> = { '8': '^8.13.1' }

/** Cells that differ only in Node share a project. */
export function projectOf ({ undici, openai }: Cell): string {
  return `undici-${undici}${openai === undefined ? '' : `-openai-${openai}`}`
}

/** Makes the project of a cell and returns its folder. */
export async function createProject (packed: PackedProject, cell: Cell): Promise<string> {
  const folder = join(packed.temp, projectOf(cell))
  await mkdir(folder)
  await cp(join(root, 'test', 'matrix', 'consumer'), folder, { recursive: true })
  const dependencies: Record<string, string> = { [packed.manifest.name]: `file:${packed.tarball}`, undici: LATEST[cell.undici] ?? cell.undici }
  if (cell.openai !== undefined) {
    dependencies.openai = cell.openai
    for (const major of OTHERS) dependencies[`undici-${major}`] = `npm:undici@${LATEST[major] ?? major}`
  }
  await writeFile(join(folder, 'package.json'), JSON.stringify({ name: 'consumer', private: true, dependencies }))
  const npm = (...more: string[]): ReturnType<typeof run> => run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error', ...more], folder)
  const installed = await npm()
  const isTooOld = cell.undici.startsWith('7.') && cell.refusal !== undefined
  if (isTooOld) {
    // npm is the first to say that it does not fit; only who insists comes to the message of ours.
    if (installed.code === 0 || !installed.output.includes('ERESOLVE')) throw new Error(`npm has not refused undici ${cell.undici}:\n${installed.output}`)
    const forced = await npm('--legacy-peer-deps')
    if (forced.code !== 0) throw new Error(`npm install failed:\n${forced.output}`)
  } else if (installed.code !== 0) throw new Error(`npm install failed:\n${installed.output}`)
  return folder
}
