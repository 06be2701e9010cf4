/** Most failures (a restart, a lost connection, one bad minute of DNS) are over soon, so the first probe comes within this. */
const FIRST_MS = 500

/** A dead backend costs its probe one failed attempt. At 15 s, a mean of 7.5 s, that is one request in hundreds at 40 a second. */
const CAP_MS = 15_000

/**
 * How long a backend that failed is left alone: uniform between 0 and a bound that doubles with each ejection in a row
 * ("full jitter": processes that saw the same failure must not probe in step).
 *
 * @param ejections how many ejections in a row, this one included; from 1.
 * @param random uniform in [0, 1).
 * @returns milliseconds.
 */
export function backoffMs(ejections: number, random: number): number {
  return random * Math.min(CAP_MS, FIRST_MS * 2 ** (ejections - 1))
}
