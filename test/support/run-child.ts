/** Programs in a process of their own: for what can be tried only once in a process, and for what a process leaves behind. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

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
  /** Flags for node, before the program. TypeScript is understood without any. */
  readonly nodeArgs?: readonly string[]
}

/** Longest that a program may take; it is killed then, and `code` is `null`. Starting TypeScript on a busy machine takes some seconds. */
const LONGEST_MS = 60_000

const root = fileURLToPath(new URL('../..', import.meta.url))

/** The flags that this process was started with, as far as they say how modules are loaded. */
function loaderFlags (): string[] {
  const flags: string[] = []
  process.execArgv.forEach((flag, i, all) => {
    if (flag === '--import') flags.push(flag, all[i + 1] ?? '')
    else if (flag.startsWith('--import=')) flags.push(flag)
  })
  return flags
}

/** Runs `node ...args` and collects what it writes. */
export function runNode (args: readonly string[], { env = {}, cwd = root, nodeArgs = [] }: ChildOptions = {}): Promise<ChildResult> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(https?_proxy|no_proxy|all_proxy|openai_.*|azure_openai_.*|node_test_context)$/i.test(name))
  const child = spawn(process.execPath, [...loaderFlags(), ...nodeArgs, ...args], {
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

/** URL of a file of the project, for an `import` in a script. */
export function urlOf (path: string): string {
  return new URL(`../../${path}`, import.meta.url).href
}
