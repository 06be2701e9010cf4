/** What a server of the soak does next: calm, throttling and storm take turns, as they do in production. */
import { createRandom } from '../../../examples/demo/simulator/azure-simulator.js'

export type Behaviour =
  /** Whole at once, with a content-length. */
  | { readonly kind: 'json' }
  /** In pieces, with turns of the event loop between them. */
  | { readonly kind: 'stream', readonly pieces: number }
  | { readonly kind: 'slow', readonly delayMs: number }
  /** The answer comes before the upload has been read. */
  | { readonly kind: 'early', readonly status: 200 | 429 }
  | { readonly kind: 'status', readonly status: number, readonly headers: Readonly<Record<string, string>>, readonly bytes: number }
  | { readonly kind: 'reset' | 'fin' | 'half-a-status-line' | 'garbage' | 'mid-body-reset' | 'short-body' }
  /** Only for requests that can bear to wait: the client's timeouts end them. */
  | { readonly kind: 'stalled-headers' | 'stalled-body' | 'stalled-429' }

type Weather = 'calm' | 'throttling' | 'storm'

/** A server stays with one weather for so many requests. */
const SPELL = 80

const SPELLS: readonly Weather[] = ['calm', 'throttling', 'calm', 'storm', 'calm', 'calm']

/** Every way to say when to come back, and some that say nothing. */
const RETRY_HEADERS: readonly Readonly<Record<string, string>>[] = [
  { 'retry-after-ms': '7' }, { 'x-ms-retry-after-ms': '12' }, { 'retry-after': '1' }, { 'retry-after': '0.01' },
  { 'retry-after': 'Wed, 21 Oct 2015 07:28:00 GMT' }, { 'retry-after': new Date(Date.now() + 3_600_000).toUTCString() }, { 'retry-after': 'soon' },
  { 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '15ms' },
  { 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '1m2.5s' },
  { 'retry-after-ms': '-5', 'retry-after': '0' }, {},
]

export class WeatherReport {
  /** Nothing but refusals, here and everywhere: that is when requests are held. */
  isDrought = false
  readonly #random: () => number
  readonly #offset: number
  readonly #isRough: boolean
  #count = 0

  /** @param isRough false for a server that throttles and dawdles, but never breaks. */
  constructor(seed: number, isRough: boolean) {
    this.#random = createRandom(seed)
    this.#offset = seed
    this.#isRough = isRough
  }

  /** @param mayStall whether the request can bear to be left alone for a second. */
  next(mayStall: boolean): Behaviour {
    const weather = SPELLS[(Math.floor(this.#count++ / SPELL) + this.#offset) % SPELLS.length] ?? 'calm'
    const luck = this.#random()
    if (mayStall && this.#isRough && luck < 0.003) return { kind: this.#one('stalled-headers', 'stalled-body', 'stalled-429') }
    if (this.isDrought || (weather === 'throttling' && luck < 0.4)) return this.#throttle()
    if (weather === 'storm' && this.#isRough && luck < 0.3) return this.#fault()
    if (luck < 0.42) return { kind: 'stream', pieces: 1 + Math.floor(this.#random() * 6) }
    if (luck < 0.45) return { kind: 'slow', delayMs: 5 + this.#random() * 40 }
    if (luck < 0.47) return { kind: 'early', status: this.#one(200, 429) }
    if (luck < 0.48) return { kind: 'status', status: this.#one(400, 404, 409, 422), headers: {}, bytes: 200 }
    return { kind: 'json' }
  }

  #throttle(): Behaviour {
    const headers = this.#one(...RETRY_HEADERS)
    // A 5xx with a retry header is throttling too. Some bodies are above what is worth reading to the end.
    return { kind: 'status', status: this.#random() < 0.1 ? 503 : 429, headers, bytes: this.#one(0, 300, 300, 300, 5_000, 100_000) }
  }

  #fault(): Behaviour {
    if (this.#random() < 0.4) return { kind: 'status', status: this.#one(408, 500, 502, 503, 504), headers: {}, bytes: this.#one(0, 300, 100_000) }
    return { kind: this.#one('reset', 'reset', 'fin', 'half-a-status-line', 'garbage', 'mid-body-reset', 'mid-body-reset', 'short-body') }
  }

  #one<const T>(...all: readonly T[]): T {
    return all[Math.floor(this.#random() * all.length)] as T
  }
}
