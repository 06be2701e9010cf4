/**
 * How well requests are routed, in virtual time: the pool beside what others do, and a clairvoyant oracle. Markdown on stdout.
 *
 *   tsx test/bench/routing.ts [cold|matrix|faults|sensitivity ...] [seeds=5] [jobs=2] [only=balancer] [n=1,4,16]
 */
import { fork } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { plotWaste } from '../simulation/plot.js'
import { pickOverview, summarize, toColdMarkdown, toMarkdown, toOverview } from '../simulation/report.js'
import { listJobs, runJob, SUITES, type Job, type Run, type SuiteName } from '../simulation/suites.js'

const words = process.argv.slice(2)

function optionOf(name: string, fallback: string): string {
  return words.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1) ?? fallback
}

/** Hands jobs to child processes, one at a time each. */
async function runAll(jobs: Job[], workers: number): Promise<Run[]> {
  const runs: Run[] = []
  const queue = jobs.entries()
  await Promise.all(Array.from({ length: workers }, () => new Promise<void>((resolve, reject) => {
    const worker = fork(fileURLToPath(import.meta.url), ['--worker'])
    let at = 0
    const next = (): void => {
      const { value, done } = queue.next()
      if (done === true) return void worker.disconnect()
      at = value[0]
      worker.send(value[1])
    }
    worker.on('message', (run: Run) => {
      runs[at] = run
      next()
    })
    worker.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`a worker ended with code ${code}`))))
    next()
  })))
  return runs
}

if (words.includes('--worker')) {
  process.on('message', (job: Job) => process.send?.(runJob(job)))
} else {
  const wanted = SUITES.filter((suite) => words.includes(suite))
  const seeds = Number(optionOf('seeds', '5'))
  const workers = Number(optionOf('jobs', String(Math.min(2, availableParallelism()))))
  for (const suite of wanted.length > 0 ? wanted : SUITES) {
    const runs = await runAll(listJobs(suite satisfies SuiteName, seeds, optionOf('only', ''), optionOf('n', '1').split(',').map(Number)), workers)
    const rows = summarize(runs)
    console.log(suite === 'cold' ? toColdMarkdown(rows) : toMarkdown(suite, rows))
    if (suite === 'matrix') {
      const overview = pickOverview(rows, [0.8, 1, 1.2], 4)
      console.log('### Overview: STD, poisson, 4 processes, no shared state\n\nIn each cell: 429s per success · app failures · capacity used/oracle\n')
      console.log(toOverview(overview))
      console.log(`\n429s per success:\n\n\`\`\`\n${plotWaste(overview)}\n\`\`\`\n`)
    }
  }
}
