const WORDS = 'The request found a free backend at once and the answer came back whole while the others cooled down'.split(' ')

/** Tokens that travel together: a streamed answer comes in chunks of a few. */
export const TOKENS_PER_CHUNK = 4

/** A text of so many tokens (a word each), cut into the chunks of a stream. */
export function composeChunks(tokens: number): readonly { readonly text: string, readonly tokens: number }[] {
  const chunks = []
  for (let from = 0; from < tokens; from += TOKENS_PER_CHUNK) {
    const count = Math.min(TOKENS_PER_CHUNK, tokens - from)
    const words = Array.from({ length: count }, (_, offset) => WORDS[(from + offset) % WORDS.length])
    chunks.push({ text: (from === 0 ? '' : ' ') + words.join(' '), tokens: count })
  }
  return chunks
}

export function composeText(tokens: number): string {
  return composeChunks(tokens).map((chunk) => chunk.text).join('')
}
