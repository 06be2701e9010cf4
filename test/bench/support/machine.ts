import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism, cpus, totalmem } from 'node:os'

/** Numbers mean little without it. */
export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly platform: string
  readonly node: string
  /** Versions of undici, the first of them the one that the project itself uses. */
  readonly undici: readonly string[]
}

/** undici 8 refuses to load on anything older. */
const CAN_LOAD_UNDICI_8 = isAtLeast(process.versions.node, 22, 19)

/** The packages under which the project knows undici, and their versions; those that this Node can load. */
export const PEERS: readonly { readonly name: 'undici' | 'undici8'; readonly version: string }[] =
  (CAN_LOAD_UNDICI_8 ? ['undici', 'undici8'] as const : ['undici'] as const).map((name) => ({ name, version: versionOf(name) }))

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    platform: `${process.platform} ${process.arch}`,
    node: process.versions.node,
    undici: PEERS.map(({ version }) => version),
  }
}

export function toSentence({ cpu, cores, memoryGiB, platform, node, undici }: Machine): string {
  const eight = CAN_LOAD_UNDICI_8 ? '' : ' (undici 8 needs Node 22.19: not measured)'
  return `Measured on ${cpu}, ${cores} cores, ${memoryGiB} GiB, ${platform}, Node ${node}, undici ${undici.join(' and ')}${eight}.`
}

function versionOf(name: string): string {
  const manifest = JSON.parse(readFileSync(createRequire(import.meta.url).resolve(`${name}/package.json`), 'utf8')) as { version: string }
  return manifest.version
}

function isAtLeast(version: string, major: number, minor: number): boolean {
  const [actualMajor = 0, actualMinor = 0] = version.split('.').map(Number)
  return actualMajor > major || (actualMajor === major && actualMinor >= minor)
}
