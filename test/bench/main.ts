/**
 * `npm run bench`: what the balancer costs, as Markdown. Under three minutes; no service, no network but the loopback.
 *
 *     npm run bench                        all parts
 *     npm run bench -- --part pure         one of pure, end-to-end, first-output, failover, scale; may be repeated
 *     npm run bench -- --part pure --against COMMIT    beside the package as it was at a commit, in one run
 *     npm run bench -- --json              the numbers as JSON instead
 *     npm run bench -- --quick             shows that everything runs; the numbers are too few to mean anything
 *
 * Everything is measured in child processes, which run the package compiled as it is published, in plain Node.
 */
import { benchEndToEnd } from './end-to-end/part.js'
import { benchFailover } from './failover/part.js'
import { benchFirstOutput } from './first-output/part.js'
import { benchPure } from './pure/part.js'
import { benchScale } from './scale/part.js'
import { PARTS, readArguments, type PartName } from './support/arguments.js'
import { compilePackage } from './support/compile.js'
import { describeMachine, toSentence } from './support/machine.js'
import { toMarkdown } from './support/table.js'
import type { Bench } from './support/bench.js'

const BENCHES: Readonly<Record<PartName, Bench>> = {
  'pure': benchPure, 'end-to-end': benchEndToEnd, 'first-output': benchFirstOutput, 'failover': benchFailover, 'scale': benchScale,
}

const { parts, json, quick, against } = readArguments(process.argv.slice(2))
const machine = describeMachine()
const compiled = compilePackage()
const before = against === undefined ? undefined : compilePackage(against)
const remove = (): void => {
  compiled.remove()
  before?.remove()
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    remove()
    process.exit(1)
  })
}
try {
  const results: Record<string, unknown> = {}
  if (!json) console.log(`${toSentence(machine)}\n`)
  for (const part of PARTS.filter((name) => parts.includes(name))) {
    const tables = await BENCHES[part](compiled, quick, before)
    results[part] = tables
    if (!json) console.log(tables.map(toMarkdown).join('\n'))
  }
  if (json) console.log(JSON.stringify({ machine, quick, results }, undefined, 2))
} finally {
  remove()
}
