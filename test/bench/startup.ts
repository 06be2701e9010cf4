/**
 * What the package costs when a program starts: whole processes, from spawn to exit, that import nothing, undici alone, and the
 * package as npm would publish it. Rounds are interleaved, so that a busy moment of the machine meets all of them. Markdown on stdout.
 *
 *     npm run bench:startup
 */
import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createConsumer, packProject } from '../package/packed-project.js'

const ROUNDS = 31

const OPTIONS = { backends: [{ url: 'https://east.example/openai/v1', priority: 1 }], logger: false }

interface Program {
  readonly name: string
  readonly args: readonly string[]
}

const evaluate = (code: string): string[] => ['--input-type=module', '--eval', code]

const PROGRAMS: readonly Program[] = [
  { name: 'nothing', args: evaluate('') },
  { name: "import 'undici'", args: evaluate("import 'undici'") },
  { name: "import 'openai-priority-loadbalancer'", args: evaluate("import 'openai-priority-loadbalancer'") },
  { name: '... and install()', args: evaluate(`import { install } from 'openai-priority-loadbalancer'; install(${JSON.stringify(OPTIONS)})`) },
  { name: '--import .../register', args: ['--import', 'openai-priority-loadbalancer/register', ...evaluate('')] },
]

function median (values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN
}

/** Milliseconds from spawn to exit. */
function measure (args: readonly string[], cwd: string, env: NodeJS.ProcessEnv): number {
  const start = performance.now()
  const { status, stderr } = spawnSync(process.execPath, args, { cwd, env, encoding: 'utf8' })
  const ms = performance.now() - start
  if (status !== 0) throw new Error(`node ${args.join(' ')} ended with ${status}:\n${stderr}`)
  return ms
}

async function measureAll (folder: string): Promise<number[][]> {
  const config = join(folder, 'backends.json')
  await writeFile(config, JSON.stringify(OPTIONS))
  // tsx, coverage and a compile cache would be measured with it.
  const inherited = Object.entries(process.env).filter(([name]) => !/^(NODE_.*|npm_.*)$/.test(name))
  const env = { ...Object.fromEntries(inherited), OPENAI_LOADBALANCER_CONFIG: config }
  // The first of each reads from the disk what all others find in memory.
  for (const { args } of PROGRAMS) measure(args, folder, env)
  const times = PROGRAMS.map((): number[] => [])
  for (let round = 0; round < ROUNDS; round++) PROGRAMS.forEach(({ args }, i) => times[i]?.push(measure(args, folder, env)))
  return times
}

const temp = await mkdtemp(join(tmpdir(), 'startup-'))
try {
  const packed = await packProject(temp)
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const undicis = major > 22 || (major === 22 && minor >= 19) ? ['undici', 'undici8'] as const : ['undici'] as const
  console.log(`Node ${process.versions.node}, ${cpus().length} x ${cpus()[0]?.model ?? 'unknown CPU'}; ${ROUNDS} rounds, whole processes; ${packed.size} bytes packed, ${packed.unpackedSize} unpacked.`)
  for (const undici of undicis) {
    const times = await measureAll(await createConsumer(packed, undici, []))
    const [, alone = []] = times
    console.log(`\n| with ${undici === 'undici' ? 'undici 7' : 'undici 8'} | median ms | least ms | over undici alone |\n|---|---:|---:|---:|`)
    PROGRAMS.forEach(({ name }, i) => {
      const own = times[i] ?? []
      // Round by round, so that what slows both down drops out.
      const over = median(own.map((ms, round) => ms - (alone[round] ?? NaN)))
      console.log(`| ${name} | ${median(own).toFixed(1)} | ${Math.min(...own).toFixed(1)} | ${i < 2 ? '' : `${over.toFixed(1)} ms`} |`)
    })
  }
} finally {
  await rm(temp, { recursive: true, force: true })
}
