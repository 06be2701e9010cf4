/** A child process that does something when it is asked to. */
import { fork } from 'node:child_process'

/** What a child can be asked for: one argument, one answer; both have to survive a message. */
export type Calls = Readonly<Record<string, (argument: never) => unknown>>

export interface Child<C extends Calls> {
  readonly pid: number
  /** Rejects when the child fails or dies. One call at a time. */
  call<K extends keyof C & string>(name: K, argument: Parameters<C[K]>[0]): Promise<Awaited<ReturnType<C[K]>>>
  /** Fulfils when it is gone. */
  stop(): Promise<void>
}

interface Question {
  readonly name: string
  readonly argument: unknown
}

interface Answer {
  readonly result?: unknown
  readonly error?: string
}

/** Starts a program that calls `answerCalls`. */
export function startChild<C extends Calls>(program: string, nodeOptions: readonly string[] = []): Child<C> {
  const child = fork(program, { execArgv: [...nodeOptions], stdio: ['ignore', 'inherit', 'inherit', 'ipc'], serialization: 'advanced' })
  const gone = new Promise<void>((resolve) => { child.once('exit', () => { resolve() }) })
  return {
    pid: child.pid ?? -1,
    call: (name, argument) => new Promise((resolve, reject) => {
      const onExit = (code: number | null): void => { reject(new Error(`${program}: ended with code ${code} while it was asked for "${name}"`)) }
      child.once('exit', onExit)
      child.once('message', ({ result, error }: Answer) => {
        child.removeListener('exit', onExit)
        if (error === undefined) resolve(result as never)
        else reject(new Error(`${program}: "${name}" failed: ${error}`))
      })
      child.send({ name, argument } satisfies Question)
    }),
    stop: () => {
      child.kill()
      return gone
    },
  }
}

/** In the child: answers until the parent is gone. */
export function answerCalls(calls: Calls): void {
  process.on('message', ({ name, argument }: Question) => {
    Promise.resolve()
      .then(() => calls[name]?.(argument as never))
      .then((result) => ({ result }), (error: unknown) => ({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }))
      .then((answer: Answer) => process.send?.(answer), () => process.exit(1))
  })
  process.on('disconnect', () => process.exit())
}
