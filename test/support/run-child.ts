/** Programs in a process of their own: for what can be tried only once in a process, and for what a process leaves behind. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export { urlOf } from './compiled.js'

export interface ChildResult {
  /** `null` when a signal ended it. */
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface ChildOptions {
  /** On top of this process's own, which is cleared of proxies, keys and options of ours. `undefined` removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
  /** Flags for node, before the program. */
  readonly nodeArgs?: readonly string[]
}

/** Longest that a program may take; it is killed then, and `code` is `null`. Starting on a busy machine takes some seconds. */
const LONGEST_MS = 60_000

const root = fileURLToPath(new URL('../..', import.meta.url))

/** What this process imported before all else, but for the loader of TypeScript, which compiled programs do without. */
function preloadFlags (): string[] {
  const flags: string[] = []
  process.execArgv.forEach((flag, i, all) => {
    const module = flag === '--import' ? all[i + 1] : /^--import=(.+)/.exec(flag)?.[1]
    if (module !== undefined && module !== 'tsx') flags.push('--import', module)
  })
  return flags
}

/** Runs `node ...args` and collects what it writes. The program is JavaScript: `compiledPath` has it. */
export function runNode (args: readonly string[], { env = {}, cwd = root, nodeArgs = [] }: ChildOptions = {}): Promise<ChildResult> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(https?_proxy|no_proxy|all_proxy|openai_.*|azure_openai_.*|node_test_context)$/i.test(name))
  const child = spawn(process.execPath, [...preloadFlags(), ...nodeArgs, ...args], {
    cwd, env: { ...Object.fromEntries(inherited), ...env } as NodeJS.ProcessEnv, stdio: ['ignore', 'pipe', 'pipe'], timeout: LONGEST_MS, killSignal: 'SIGKILL',
  })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text })
  child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => { resolve({ code, stdout, stderr }) })
  })
}

/** Runs a module that is given as text. It imports files of the project by the URL that `urlOf` gives. */
export function runScript (code: string, options: ChildOptions = {}): Promise<ChildResult> {
  return runNode(['--input-type=module', '--eval', code], options)
}
