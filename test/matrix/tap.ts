/** What node:test says in TAP, as far as a summary needs it. */

export interface TapResult {
  /** Checks that held. */
  readonly passed: number
  readonly failures: readonly { readonly name: string, readonly details: string }[]
}

/** Reads the outermost points; what is told about a failed one is the indented block that follows it. */
export function readTap (output: string): TapResult {
  const failures: { name: string, details: string }[] = []
  let passed = 0
  let details: string[] | undefined
  for (const line of output.split('\n')) {
    const [, not, name = ''] = /^(not )?ok \d+ - (.*)$/.exec(line) ?? []
    if (/^(not )?ok /.test(line)) {
      if (not === undefined) passed++
      else failures.push({ name: name.replaceAll(String.raw`\#`, '#'), details: '' })
      details = not === undefined ? undefined : []
    } else if (details !== undefined && line.startsWith('  ')) {
      details.push(line)
      const last = failures.at(-1)
      if (last !== undefined) failures[failures.length - 1] = { ...last, details: details.join('\n') }
    }
  }
  return { passed, failures }
}
