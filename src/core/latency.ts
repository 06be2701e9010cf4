/**
 * Among equals the faster one should get more of the work, and one that has become slow little: no error, no 429, only
 * several times the time to response headers (a brownout, a distant region, a crowded machine). It keeps a little all the
 * same, or nobody would notice that it has recovered.
 *
 * Only successes count: a 429 comes at once, and would make a backend that refuses everything look fast. Long prompts take
 * longer, so requests are compared with those of their size.
 */

/** Upper bounds of the size classes, in bytes of the body; about 1,000, 4,000 and 16,000 tokens of text. */
const SIZES = [4_096, 16_384, 65_536] as const

/** Share of the newest answer in the mean: the last eight or so count, of which no single one makes a backend slow. */
const NEWEST_SHARE = 1 / 8

/** A backend that is rarely asked is known by its last answers: what is ten seconds old counts a third. */
const MEMORY_MS = 10_000

/** Before so many answers nothing is known. */
const LEAST_ANSWERS = 10

/**
 * Nobody notices a few milliseconds that became fifty because a machine is busy: who answers within a tenth of a second
 * is quick.
 */
const QUICK_MS = 100

/** Chance alone makes equals differ by so much. */
const TOLERANCE = 1.25

/** Enough for news of a recovery, in one of 33 requests. */
const LEAST_SPEED = 0.03

/** How often the fastest of all is looked for again, in milliseconds. With a thousand backends that costs 10 microseconds. */
export const FASTEST_KEEPS_MS = 100

/** The class that a body of this size belongs to. */
export function sizeClassOf(bodyBytes: number): number {
  let size = 0
  while (size < SIZES.length && bodyBytes >= SIZES[size]!) size++ // below the length
  return size
}

export const SIZE_CLASSES = SIZES.length + 1

/** The usual time to headers of one scope on one backend. */
export class Latency {
  // By size class: means of logarithms, since times to headers are lognormal, and one answer of a minute is one answer.
  readonly #means: number[] = []
  readonly #answers: number[] = []
  readonly #answeredAt: number[] = []
  readonly #usualMs: number[] = []

  /** A success. @param latencyMs from sending to response headers. */
  observe(sizeClass: number, latencyMs: number, now: number): void {
    const time = Math.log(Math.max(QUICK_MS, latencyMs))
    const answers = (this.#answers[sizeClass] ?? 0) + 1
    const mean = this.#means[sizeClass] ?? time
    const passed = Math.max(0, now - (this.#answeredAt[sizeClass] ?? now))
    const share = Math.max(NEWEST_SHARE, 1 / answers, 1 - Math.exp(-passed / MEMORY_MS))
    this.#means[sizeClass] = mean + (time - mean) * share
    this.#answers[sizeClass] = answers
    this.#answeredAt[sizeClass] = now
    this.#usualMs[sizeClass] = answers < LEAST_ANSWERS ? NaN : Math.exp(this.#means[sizeClass])
  }

  /** In milliseconds; NaN while too little is known. */
  usualMs(sizeClass: number): number {
    return this.#usualMs[sizeClass] ?? NaN
  }
}

/** What is left of a backend's weight, by how its usual time compares with that of the fastest of its equals. */
export function speedOf(usualMs: number, fastestMs: number): number {
  return usualMs > TOLERANCE * fastestMs ? Math.max(LEAST_SPEED, (fastestMs / usualMs) ** 2) : 1
}
