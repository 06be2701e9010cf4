/** What server, client and request body wait for from each other, where sleeps would stand otherwise. */
import { gate, type Gate } from '../../support/gate.js'

/** `request`: the server has read a head. `headers`, `data`: the client's handler was told of them. `over`: the client has its result. */
export type Signal = 'request' | 'headers' | 'data' | 'over'

export class Signals {
  readonly #gates: Readonly<Record<Signal, Gate>> = { request: gate(), headers: gate(), data: gate(), over: gate() }

  /** Only the first time counts. */
  tell (signal: Signal): void {
    this.#gates[signal].open()
  }

  /** Also fulfils at the end of it all: nobody waits for what will not come. */
  told (signal: Signal): Promise<void> {
    return Promise.race([this.#gates[signal].promise, this.#gates.over.promise])
  }
}
