import { parseArgs } from 'node:util'

/** In the order in which they run. */
export const PARTS = ['pure', 'end-to-end', 'first-output', 'failover', 'scale'] as const

export type PartName = typeof PARTS[number]

export interface Arguments {
  readonly parts: readonly PartName[]
  readonly json: boolean
  readonly quick: boolean
  /** A commit to compare with. */
  readonly against: string | undefined
}

/** @throws when there is a word that it does not know. */
export function readArguments(words: readonly string[]): Arguments {
  const { values } = parseArgs({
    args: [...words],
    options: { part: { type: 'string', multiple: true }, json: { type: 'boolean' }, quick: { type: 'boolean' }, against: { type: 'string' } },
  })
  return { parts: values.part?.map(checkPart) ?? PARTS, json: values.json ?? false, quick: values.quick ?? false, against: values.against }
}

function checkPart(word: string): PartName {
  const part = PARTS.find((name) => name === word)
  if (part === undefined) throw new Error(`--part: must be one of ${PARTS.join(', ')}, got "${word}"`)
  return part
}
