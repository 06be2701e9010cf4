import { Engine } from '../../src/engine.js'
import { resolveOptions, type BalancerOptions } from '../../src/options/index.js'
import type { BackendStatus } from '../../src/core/types.js'
import type { DispatchOptions } from '../../src/request/undici.js'
import { FakeInner } from './fake-inner.js'
import { recordingHandler, type Recorder, type RecorderOptions, type Style } from './recording-handler.js'
import { VirtualSystem } from './virtual-system.js'

/** Both ways in and both ways out: the caller's style, and that of the dispatcher inside. */
export const PAIRS: readonly (readonly [caller: Style, inner: Style])[] = [['old', 'old'], ['new', 'old'], ['old', 'new'], ['new', 'new']]

export const EAST = 'https://east.example/openai'
export const WEST = 'https://west.example/openai'

/** A balancer without sockets, and on the test's own clock: east before west, and an inner dispatcher that is played by hand. */
export class Scene {
  readonly system = new VirtualSystem()
  readonly inner: FakeInner
  readonly engine: Engine
  readonly #caller: Style

  constructor(caller: Style, inner: Style, options: Partial<BalancerOptions> = {}) {
    this.#caller = caller
    this.inner = new FakeInner(inner)
    const backends = [{ name: 'east', url: EAST, priority: 1 }, { name: 'west', url: WEST, priority: 2 }]
    this.engine = new Engine(resolveOptions({ backends, logger: false, ...options }), this.system)
  }

  /** Dispatches a request for east; the result of `dispatch` is of no interest. */
  send(opts: Partial<DispatchOptions> = {}, recorderOptions: RecorderOptions = {}): Recorder {
    const recorder = recordingHandler(this.#caller, recorderOptions)
    this.engine.dispatch(this.inner, { origin: 'https://east.example', path: '/openai/x', method: 'POST', ...opts }, recorder.handler)
    return recorder
  }

  /** Where the attempts went, in order. */
  get origins(): string[] {
    return this.inner.calls.map(({ opts }) => String(opts.origin).replace(/^https:\/\/(\w+)\.example$/, '$1'))
  }

  backend(name: string): BackendStatus {
    const found = this.engine.status().backends.find((backend) => backend.name === name)
    if (found === undefined) throw new Error(`no backend ${name}`)
    return found
  }

  /** Over all backends. */
  get inFlight(): number {
    return this.engine.status().backends.reduce((sum, backend) => sum + backend.inFlight, 0)
  }

  /** Requests that have not ended. */
  get underWay(): number {
    return this.engine.requests.size
  }
}
