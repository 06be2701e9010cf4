/** Runs one cell under its Node: the checks of a consumer's project, or tests of this project with another `openai`. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../package/packed-project.js'
import { runGroup } from '../support/process-group.js'
import type { NodeBinary } from './nodes.js'
import type { Cell } from './plan.js'
import type { CellResult } from './report.js'
import { readTap } from './tap.js'

/** A cell takes some ten seconds; one that takes so long hangs, and is ended. */
const CELL_MS = 120_000

/** What a developer's shell may hold, and npm and tsx add: none of it is the consumer's. */
const NOT_THE_CONSUMERS = /^(node_.*|npm_.*|https?_proxy|no_proxy|all_proxy|openai_.*|azure_openai_.*|force_color)$/i

export async function runCell (cell: Cell, node: NodeBinary, folder: string, env: Readonly<Record<string, string>>): Promise<CellResult> {
  const start = performance.now()
  const { end, output } = await runChecks(node.path, argumentsOf(cell), folder, { ...env, MATRIX_SENTENCE: cell.refusal ?? '', MATRIX_OPENAI: cell.openai ?? '' })
  const { passed, failures } = readTap(output)
  // A program that dies, hangs or checks nothing has failed, whatever it said before.
  const isSilent = failures.length === 0 && (end !== 'exit code 0' || passed === 0)
  return {
    cell, nodeVersion: node.version, passed, seconds: (performance.now() - start) / 1_000,
    failures: isSilent ? [{ name: `the program ended with ${end} after ${passed} checks`, details: output.slice(-4_000) }] : failures,
  }
}

function argumentsOf ({ refusal, tests }: Cell): string[] {
  if (tests === undefined) return [refusal === undefined ? 'main.mjs' : 'refusal.mjs']
  const files = readdirSync(join(root, tests)).filter((file) => file.endsWith('.test.ts')).map((file) => join(tests, file))
  return ['--import', './test/support/swap-openai.mjs', '--import', 'tsx', '--test', ...files]
}

async function runChecks (node: string, args: readonly string[], cwd: string, more: Readonly<Record<string, string>>): Promise<{ end: string, output: string }> {
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !NOT_THE_CONSUMERS.test(name)))
  const { end, stdout, stderr } = await runGroup(node, ['--test-reporter=tap', ...args], { cwd, env: { ...inherited, NO_COLOR: '1', ...more }, timeoutMs: CELL_MS })
  return { end, output: `${stdout}${stderr}` }
}
