/**
 * Among equals the faster one should get more of the work, and one that has become slow little: no error, no 429, only
 * several times the time to response headers (a brownout, a distant region, a crowded machine). It keeps a little all the
 * same, or its recovery would go unnoticed.
 *
 * Only successes count: a 429 comes at once, and would make a backend that refuses everything look fast. Long prompts take
 * longer, so requests are compared with those of their size.
 */

/** Upper bounds of the size classes, in bytes of the body; about 1,000, 4,000 and 16,000 tokens of text. */
const SIZES = [4_096, 16_384, 65_536] as const

/** Share of the newest answer in the mean: the last eight or so count, of which no single one makes a backend slow. */
const NEWEST_SHARE = 1 / 8

/**
 * Two in a row that are out of the usual range on the same side are no accident: they count for half each. So a backend that
 * turns from 200 to 700 ms is known after four answers, where the mean alone takes fifteen; where streamed and unstreamed
 * answers differ tenfold, nothing is out of the usual range.
 */
const SURPRISE_SHARE = 1 / 2
const SURPRISES = 2
/** So many usual deviations are out of the range, and the least that a deviation is taken for: a tenth. */
const SURPRISING = 2
const LEAST_DEVIATION = 0.1

/** In milliseconds. A slow backend is rarely asked, and known to have recovered by its last answers: beside a faster one what is ten seconds old counts for half. */
const MEMORY_MS = 10_000

/** What an answer counts for at most, in usual times. */
const MOST_TIMES = 5

/** Before so many answers nothing is known. */
const LEAST_ANSWERS = 10

/**
 * In milliseconds. A few that became fifty because a machine is busy are not noticed: a backend that answers within a tenth of a
 * second is quick.
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

/** What is known of one size of requests. */
class Usual {
  answers = 0
  /** In milliseconds; NaN while too little is known. */
  ms = NaN
  /** As it was, be it ever so quick; NaN before there were enough. */
  get exactMs(): number {
    return this.answers < LEAST_ANSWERS ? NaN : this.#exactMean
  }

  #exactMean = 0
  #mean = 0
  /** As a part of the mean. */
  #deviation = 0
  /** In a row, above the range; below it where negative. */
  #surprises = 0
  #answeredAt = -Infinity

  observe(latencyMs: number, now: number): void {
    this.answers++
    const isNew = this.answers < LEAST_ANSWERS
    if (this.answers === 1) this.#mean = Math.max(QUICK_MS, latencyMs)
    // One answer of a minute is one answer: it counts as several times the usual at most.
    const time = Math.max(QUICK_MS, Math.min(latencyMs, MOST_TIMES * this.#mean))
    const part = (time - this.#mean) / this.#mean
    const range = SURPRISING * Math.max(LEAST_DEVIATION, this.#deviation)
    const share = isNew ? 1 / this.answers : this.#shareOf(part, range, now)
    this.#mean += part * share * this.#mean
    this.#deviation += ((isNew ? Math.abs(part) : Math.min(Math.abs(part), range)) - this.#deviation) * Math.max(NEWEST_SHARE, 1 / this.answers)
    this.#answeredAt = now
    const exact = this.answers === 1 ? latencyMs : Math.min(latencyMs, MOST_TIMES * Math.max(1, this.#exactMean))
    this.#exactMean += (exact - this.#exactMean) * Math.max(NEWEST_SHARE, 1 / this.answers)
    if (!isNew) this.ms = this.#mean
  }

  #shareOf(part: number, range: number, now: number): number {
    const side = part > range ? 1 : part < -range / (1 + range) ? -1 : 0
    this.#surprises = side === 0 ? 0 : this.#surprises * side > 0 ? this.#surprises + side : side
    if (Math.abs(this.#surprises) >= SURPRISES) return SURPRISE_SHARE
    const passed = now - this.#answeredAt
    return part > 0 ? NEWEST_SHARE : Math.max(NEWEST_SHARE, passed / (passed + MEMORY_MS))
  }
}

/** The usual time to headers of one scope on one backend. */
export class Latency {
  readonly #usual: Usual[] = []

  /** A success. @param latencyMs from sending to response headers. */
  observe(sizeClass: number, latencyMs: number, now: number): void {
    (this.#usual[sizeClass] ??= new Usual()).observe(latencyMs, now)
  }

  /** In milliseconds, a tenth of a second at least, to compare backends by; NaN while too little is known. */
  usualMs(sizeClass: number): number {
    return this.#usual[sizeClass]?.ms ?? NaN
  }

  /** In milliseconds, to hold a caller's patience against; NaN while too little is known. */
  exactMs(sizeClass: number): number {
    return this.#usual[sizeClass]?.exactMs ?? NaN
  }
}

/** What is left of a backend's weight, by how its usual time compares with that of the fastest of its equals. */
export function speedOf(usualMs: number, fastestMs: number): number {
  return usualMs > TOLERANCE * fastestMs ? Math.max(LEAST_SPEED, (fastestMs / usualMs) ** 2) : 1
}

/**
 * A caller that gives up says something only when it had waited: by 250 ms people who type ahead have typed the next letter.
 * And four times what the scope usually takes: no one waits patiently for what is nearly there.
 */
const LEAST_WAIT_MS = 250
const LEAST_WAIT_OF_USUAL = 4

/** @param usualMs undefined where that is not known */
export function isLongWait(waitedMs: number, usualMs = 0): boolean {
  return waitedMs >= LEAST_WAIT_MS && !(waitedMs < LEAST_WAIT_OF_USUAL * usualMs)
}
