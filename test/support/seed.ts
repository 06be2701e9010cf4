/**
 * Where properties begin to draw from. The same place every time finds the same nothing every time: so each run begins
 * somewhere else, and says where, so that what it has found can be had again:
 *
 *     SEED=1234 npm test -- core/pool-properties
 *
 * CI's run has a fixed one: a pull request must not go red for what it has not touched.
 */

/** Of CI's run, and wherever a test is of its own examples: that there are enough of every kind. Any number will do. */
export const FIXED_SEED = 20_260_101

/** What fast-check takes: 31 bits are more than all runs together will use. */
const SEEDS = 2 ** 31

export const SEED: number = readSeed() ?? (process.env['CI'] === 'true' ? FIXED_SEED : drawSeed())

/** How to have the same again. */
export const REPEAT = `seed ${SEED}; repeat with SEED=${SEED}`

function readSeed(): number | undefined {
  const text = process.env['SEED']
  if (text === undefined || text === '') return undefined
  if (!/^-?\d{1,10}$/.test(text)) throw new RangeError(`SEED: must be a whole number of up to ten digits, got "${text}"`)
  return Number(text)
}

function drawSeed(): number {
  const seed = Math.floor(Math.random() * SEEDS)
  // Once a process, which is once a run: test/run.ts hands it on to those that it starts.
  console.log(`seed ${seed}; repeat with SEED=${seed}`)
  return seed
}
