/** Which of the known words a misspelt one was meant to be. */

/** More edits than this share of the word and it is another word: `prio` is not `pacing`. */
const MAX_EDITS_PER_LETTER = 0.4

/** The known word that takes the fewest edits, letter case aside; `undefined` when none is near. */
export function findNearest<K extends string>(word: string, known: readonly K[]): K | undefined {
  let nearest: K | undefined
  let fewest = Infinity
  for (const candidate of known) {
    const edits = countEdits(word.toLowerCase(), candidate.toLowerCase())
    if (edits < fewest && edits <= candidate.length * MAX_EDITS_PER_LETTER) {
      nearest = candidate
      fewest = edits
    }
  }
  return nearest
}

/** Levenshtein distance, row by row. */
function countEdits(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let row = 1; row <= from.length; row++) {
    const current = [row]
    for (let column = 1; column <= to.length; column++) {
      const replaced = at(previous, column - 1) + (from[row - 1] === to[column - 1] ? 0 : 1)
      current.push(Math.min(replaced, at(previous, column) + 1, at(current, column - 1) + 1))
    }
    previous = current
  }
  return at(previous, to.length)
}

function at(row: readonly number[], column: number): number {
  return row[column] as number // every column up to the one asked for has been filled
}
