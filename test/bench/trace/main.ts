/**
 * `npm run bench:trace`: how many files and functions one request walks through, as a reader would who steps through it.
 * A thermometer of the structure: a number that grows says that an idea was cut in pieces. `--all` lists every function.
 */
import { startChild } from '../support/child.js'
import { compilePackage } from '../support/compile.js'
import { toMarkdown } from '../support/table.js'
import type { TraceCalls, Walk } from './worker.js'

const WALKS = { good: 'one good request', failover: '429, then 200 elsewhere', retryAgent: 'one good request through `RetryAgent`' } as const

const compiled = compilePackage()
try {
  const child = startChild<TraceCalls>(compiled.program('undici', 'test/bench/trace/worker.ts'))
  const rows: { walk: string; files: number; functions: number; calls: number }[] = []
  for (const name of Object.keys(WALKS) as (keyof typeof WALKS)[]) {
    const walk: Walk = await child.call(name, undefined as never)
    const sum = (of: (file: Walk['files'][number]) => number): number => walk.files.reduce((total, file) => total + of(file), 0)
    rows.push({ walk: WALKS[name], files: walk.files.length, functions: sum(({ functions }) => functions.length), calls: sum(({ calls }) => calls) })
    if (process.argv.includes('--all')) for (const { file, functions } of walk.files) console.log(`${name}: ${file}: ${functions.join(', ')}`)
  }
  await child.stop()
  console.log(toMarkdown({
    title: 'What a request walks through', note: 'Files, functions and calls of functions between `dispatch` and the end of the response, by V8\'s precise coverage, after a warm-up.',
    columns: [{ key: 'walk', label: '' }, { key: 'files', label: 'files' }, { key: 'functions', label: 'functions' }, { key: 'calls', label: 'calls' }], rows,
  }))
} finally {
  compiled.remove()
}
