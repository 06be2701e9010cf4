/** Stands between a caller and a dispatcher and checks every request's events against undici's contract for handlers. */
import type { Dispatcher } from 'undici'

type Phase = 'new' | 'started' | 'body' | 'ended'

/** The two styles' names for one thing. */
const EVENTS: Readonly<Record<string, 'start' | 'headers' | 'data' | 'end' | 'error'>> = {
  onRequestStart: 'start', onResponseStart: 'headers', onResponseData: 'data', onResponseEnd: 'end', onResponseError: 'error',
  onConnect: 'start', onHeaders: 'headers', onData: 'data', onComplete: 'end', onError: 'error',
}

export class Watch {
  dispatched = 0
  ended = 0
  /** What must not happen, the first few. */
  readonly violations: string[] = []
  /** Requests under way, and the order of their events so far. */
  readonly #open = new Map<object, string[]>()

  /** Sees everything that goes through the dispatcher from now on. */
  attach(dispatcher: Dispatcher): void {
    const dispatch = dispatcher.dispatch.bind(dispatcher)
    dispatcher.dispatch = (opts, handler) => dispatch(opts, this.#wrap(handler))
  }

  get unended(): string[] {
    return [...this.#open.values()].slice(0, 5).map((events) => `never ended: ${events.join(' ') || 'no event at all'}`)
  }

  complain(text: string): void {
    if (this.violations.length < 20) this.violations.push(text)
  }

  #wrap(handler: Dispatcher.DispatchHandler): Dispatcher.DispatchHandler {
    this.dispatched++
    const target = handler as unknown as Record<string | symbol, unknown>
    const events: string[] = []
    let phase: Phase = 'new'
    this.#open.set(events, events)
    const note = (name: string, args: readonly unknown[]): void => {
      const event = EVENTS[name]
      if (event === undefined) return
      events.push(event)
      const isFinal = event === 'headers' && Number(name === 'onHeaders' ? args[0] : args[1]) >= 200
      const isRight = event === 'start' ? phase === 'new'
        : event === 'headers' ? phase === 'started'
          : event === 'error' ? phase !== 'ended'
            : phase === 'body'
      if (!isRight) this.complain(`${event} out of turn: ${events.join(' ')}`)
      if (event === 'end' || event === 'error') {
        if (phase !== 'ended') this.ended++
        this.#open.delete(events)
        phase = 'ended'
      } else if (event === 'start') phase = 'started'
      else if (isFinal) phase = 'body'
    }
    return new Proxy(target, {
      get: (object, name) => {
        const value = object[name]
        if (typeof value !== 'function' || typeof name !== 'string') return value
        return (...args: unknown[]): unknown => {
          note(name, args)
          return Reflect.apply(value, object, args)
        }
      },
    }) as unknown as Dispatcher.DispatchHandler
  }
}
