/** What runs where. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { isWanted, planCells, readWanted } from './matrix/plan.js'

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')

test('the jobs of the workflow together run every pair of the compatibility matrix, each once', () => {
  const workflow = read('.github/workflows/ci.yml')
  const [, list = ''] = /^ +node: \[(.*)\]$/m.exec(workflow) ?? []
  const [, args = ''] = /^ +- run: bash \.ci\/run (.*)$/m.exec(workflow) ?? []
  const nodes = [...list.matchAll(/'([\d.]+)'/g)].map(([, node = '']) => node)
  const cells = nodes.flatMap((node) => {
    const wanted = readWanted(args.replace(/\$\{\{ matrix\.node \}\}/, node).split(' '))
    return planCells().filter((cell) => isWanted(cell, wanted))
  })
  assert.deepEqual(cells, planCells())
})

test('without arguments all of it is run', () => {
  assert.match(read('.ci/run'), /^step matrix 15 npm run --silent test:matrix -- "\$@"$/m)
  const wanted = readWanted([])
  assert.ok(planCells().every((cell) => isWanted(cell, wanted)))
})
