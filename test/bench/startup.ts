/**
 * What the package costs when a program starts: whole processes, from spawn to exit, that import nothing, undici alone, and the
 * package as npm would publish it. Rounds are interleaved, so that a busy moment of the machine meets all of them; processor time is what
 * to compare on a machine that is not idle. Markdown on stdout.
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

/** The program says at its end what processor time it took. */
const evaluate = (code: string): string[] => [
  '--input-type=module', '--eval', `${code}\nprocess.on('exit', () => { const { user, system } = process.cpuUsage(); console.log((user + system) / 1000) })`,
]

interface Cost {
  /** Milliseconds from spawn to exit. */
  readonly wall: number
  /** Milliseconds of processor time, user and system, all threads. */
  readonly cpu: number
}

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

function measure (args: readonly string[], cwd: string, env: NodeJS.ProcessEnv): Cost {
  const start = performance.now()
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd, env, encoding: 'utf8' })
  const wall = performance.now() - start
  if (status !== 0) throw new Error(`node ${args.join(' ')} ended with ${status}:\n${stderr}`)
  return { wall, cpu: Number(stdout) }
}

async function measureAll (folder: string): Promise<Cost[][]> {
  const config = join(folder, 'backends.json')
  await writeFile(config, JSON.stringify(OPTIONS))
  // tsx, coverage and a compile cache would be measured with it.
  const inherited = Object.entries(process.env).filter(([name]) => !/^(NODE_.*|npm_.*)$/.test(name))
  const env = { ...Object.fromEntries(inherited), OPENAI_LOADBALANCER_CONFIG: config }
  // The first of each reads from the disk what all others find in memory.
  for (const { args } of PROGRAMS) measure(args, folder, env)
  const costs = PROGRAMS.map((): Cost[] => [])
  for (let round = 0; round < ROUNDS; round++) PROGRAMS.forEach(({ args }, i) => costs[i]?.push(measure(args, folder, env)))
  return costs
}

const temp = await mkdtemp(join(tmpdir(), 'startup-'))
try {
  const packed = await packProject(temp)
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const undicis = major > 22 || (major === 22 && minor >= 19) ? ['undici', 'undici8'] as const : ['undici'] as const
  console.log(`Node ${process.versions.node}, ${cpus().length} x ${cpus()[0]?.model ?? 'unknown CPU'}; medians of ${ROUNDS} rounds, whole processes; ${packed.size} bytes packed, ${packed.unpackedSize} unpacked.`)
  for (const undici of undicis) {
    const costs = await measureAll(await createConsumer(packed, undici, []))
    const [, alone = []] = costs
    console.log(`\n| with ${undici === 'undici' ? 'undici 7' : 'undici 8'} | wall ms | CPU ms | wall over undici alone | CPU over undici alone |\n|---|---:|---:|---:|---:|`)
    PROGRAMS.forEach(({ name }, i) => {
      const own = costs[i] ?? []
      const typical = (of: keyof Cost): string => median(own.map((cost) => cost[of])).toFixed(1)
      // Round by round, so that what slows both down drops out.
      const over = (of: keyof Cost): string => (i < 2 ? '' : median(own.map((cost, round) => cost[of] - (alone[round]?.[of] ?? NaN))).toFixed(1))
      console.log(`| ${name} | ${typical('wall')} | ${typical('cpu')} | ${over('wall')} | ${over('cpu')} |`)
    })
  }
} finally {
  await rm(temp, { recursive: true, force: true })
}
