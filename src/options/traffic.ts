/** What is said of streams and of single requests: by options, by `withTraffic`, and in headers. */

/** See `BalancerOptions.streamGuard`. */
export type StreamGuard = 'output' | 'whole' | false

/** What requests may say of themselves, by `withTraffic` or in a header. A field that is not given, or `undefined`, says nothing. */
export interface Traffic {
  /** The option `maxWaitMs` for these requests: an integer from 0 to 86,400,000. Header `x-balancer-max-wait-ms`. */
  maxWaitMs?: number | undefined
  /** The option `deadlineMs` for these requests: an integer from 1 to 86,400,000. Header `x-balancer-deadline-ms`. */
  deadlineMs?: number | undefined
  /** `whole`: an answer that is streamed is held until it has ended well. Header `x-balancer-stream`. */
  stream?: 'whole' | undefined
}
