/**
 * Notices a backend that has become slow: no error, no 429, only ten times the time to response headers (a brownout).
 * All but one request at a time then go elsewhere, as long as there is an elsewhere; the one that stays tells when it
 * is over. Each backend is measured against itself, for a distant region or a larger model is not a slow one.
 *
 * Only successes count: a 429 comes at once, and would make a backend that refuses everything look fast.
 */

/** Between "streamed" (headers with the first token) and "not" (with the last) lies a factor of ten for one request, but on average of a mix far less. */
const SLOW_FACTOR = Math.log(4)
/** Well again at half of that, so that it does not flap. */
const WELL_FACTOR = Math.log(2)

/** Share of the newest answer in the recent mean: about the last eight count, of which no single one makes a backend slow. */
const RECENT_SHARE = 1 / 8

/** The usual time forgets in ten minutes: a brownout is shorter, and what lasts longer is the new usual. */
const USUAL_MS = 600_000

/**
 * Whoever answers within a tenth of a second is quick, whatever it was before: nobody notices a few milliseconds that
 * became fifty because a machine is busy, and to leave the first priority for them would cost money.
 */
const QUICK_MS = 100
const QUICK = Math.log(QUICK_MS)

/** Before so many answers nothing is usual. */
const LEAST_ANSWERS = 30

export class LatencyGuard {
  // Means of logarithms: times to headers are lognormal, and one answer of a minute is one answer.
  #recent = 0
  #usual = 0
  #answers = 0
  #answeredAt = 0
  #isSlow = false

  get isSlow(): boolean {
    return this.#isSlow
  }

  /** A success. @param latencyMs from sending to response headers. */
  observe(latencyMs: number, now: number): void {
    const time = latencyMs > QUICK_MS ? Math.log(latencyMs) : QUICK
    this.#answers++
    const passed = Math.max(0, now - this.#answeredAt)
    this.#answeredAt = now
    this.#recent += (time - this.#recent) * Math.max(RECENT_SHARE, 1 / this.#answers)
    this.#usual += (time - this.#usual) * Math.max(1 / this.#answers, passed / (passed + USUAL_MS))
    const factor = this.#recent - this.#usual
    this.#isSlow = this.#answers >= LEAST_ANSWERS && factor > (this.#isSlow ? WELL_FACTOR : SLOW_FACTOR)
  }

  /** @param inFlight requests that are on the backend already. @returns whether one more had better go elsewhere. */
  spills(inFlight: number): boolean {
    return this.#isSlow && inFlight > 0
  }
}
