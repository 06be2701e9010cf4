/** Programs together with all that they start, ended as a whole: when they take too long, and when this process is told to end. */
import { type ChildProcess, spawn } from 'node:child_process'

export interface GroupOptions {
  readonly cwd: string
  readonly env: NodeJS.ProcessEnv
  /** What takes longer hangs, and is ended. */
  readonly timeoutMs: number
}

export interface GroupResult {
  /** `null` when a signal ended it. */
  readonly code: number | null
  /** `exit code 0`, `SIGSEGV`, `SIGKILL after 120000 ms` */
  readonly end: string
  readonly stdout: string
  readonly stderr: string
}

/** Characters of output. More is a program that has gone mad. */
const MOST_OUTPUT = 16 << 20

const isWindows = process.platform === 'win32'
const running = new Set<ChildProcess>()
const acts: (() => void)[] = []

/** Rejects only when the program cannot be started. */
export function runGroup (command: string, args: readonly string[], { cwd, env, timeoutMs }: GroupOptions): Promise<GroupResult> {
  listen()
  // A group of its own, or what it has started could outlive it, and keep its outputs open. npm is a script on Windows.
  const child = spawn(command, [...args], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], detached: !isWindows, shell: isWindows && command === 'npm' })
  running.add(child)
  const said = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      said[name] += text
      if (said[name].length > MOST_OUTPUT) kill(child)
    })
  }
  let isLate = false
  const timer = setTimeout(() => {
    isLate = true
    kill(child)
  }, timeoutMs)
  return new Promise<GroupResult>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => { resolve({ code, end: isLate ? `SIGKILL after ${timeoutMs} ms` : signal ?? `exit code ${code}`, ...said }) })
  }).finally(() => {
    clearTimeout(timer)
    running.delete(child)
  })
}

/** Ends whatever is running. */
export function killGroups (): void {
  for (const child of running) kill(child)
}

/** Done when a signal ends this process, after everything that was running. It has to be synchronous. */
export function whenEnded (act: () => void): void {
  listen()
  acts.push(act)
}

function kill (child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    if (isWindows) child.kill('SIGKILL')
    else process.kill(-child.pid, 'SIGKILL')
  } catch (error) {
    // All of it has ended by itself.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

let isListening = false

function listen (): void {
  if (isListening) return
  isListening = true
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    // Not once: a signal to all of a group comes again by way of npm and tsx, and would end the process in the middle of this.
    process.on(signal, () => {
      killGroups()
      for (const act of acts) act()
      process.exit(1)
    })
  }
}
