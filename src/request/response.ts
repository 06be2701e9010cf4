/**
 * What comes back of one attempt, and whose it is: nobody's yet, the caller's, or no one's. Nothing that a dead attempt still says
 * can reach the caller.
 *
 *   waiting ──▶ undecided ──response is the caller's──▶ live ─────▶ over
 *      │ └──────────│ └───────response is not wanted──▶ draining ─▶ over
 *      └────────────┴──failed, given up, upgraded─────────────────▶ over
 *
 * Undecided is a response that is looked into: what comes of it is held, and from its commit point on the caller's.
 */
import type { Duplex } from 'node:stream'
import { HeaderReader, readNumber } from '../core/headers.js'
import type { Attempt } from '../core/request.js'
import type { System, Timer } from '../core/types.js'
import type { Progress, Steered } from './caller.js'
import { makeSilenceError, SilenceTimer } from './clock.js'
import { toError } from './failure.js'
import { holds } from './look/holds.js'
import type { Look, Verdict } from './look/verdict.js'
import type { KeptAnswer } from './own-answers.js'
import type { AnyHandler, AnyHeaders, ParsedHeaders } from './undici.js'

/**
 * A swallowed response is read up to here, so that its connection can be used again. Error bodies are a few hundred
 * bytes; what is longer than 64 KiB costs more to read than a new connection does.
 */
const DRAIN_BYTES = 65_536

/** And for so long: a body that stalls must not hold a connection until undici's own body timeout (300 s). */
const DRAIN_MS = 1_000

/** What attempts report to: the request that they belong to. */
export interface AttemptOwner {
  /** The caller's handler as it was given: its optional callbacks are mirrored only where it has them. */
  readonly callerHandler: AnyHandler
  readonly progress: Progress
  readonly system: System
  readonly attemptTimeoutMs: number | undefined
  /** The caller's wish, of the stable controller. */
  readonly paused: boolean
  onResponseStarted(): void
  onInformation(handler: AttemptResponse, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void
  onResponse(handler: AttemptResponse, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void
  /** What was looked for is found. */
  onVerdict(handler: AttemptResponse, verdict: Verdict): void
  /** The first byte of the caller's response, or its end where there is none. */
  onProof(handler: AttemptResponse): void
  onData(chunk: Buffer): void
  onEnd(handler: AttemptResponse, raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void
  onUpgrade(handler: AttemptResponse, status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, socket: Duplex): unknown
  onFailure(handler: AttemptResponse, error: Error, blame: Blame): void
  /** A response that was not delivered has come to its end, or is not read any further. @param kept what was read of it, where that was asked for */
  onDrained(handler: AttemptResponse, kept: KeptAnswer | undefined): void
}

/** Whose failure it is: `response` means that a response, which was the caller's already, broke off. */
export type Blame = 'backend' | 'response' | 'caller'
type AttemptPhase = 'waiting' | 'undecided' | 'live' | 'draining' | 'over'

type Trailers = readonly [raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined]

const lengthReader = new HeaderReader(['content-length'])

export abstract class AttemptResponse implements Steered {
  readonly attempt: Attempt
  phase: AttemptPhase = 'waiting'
  protected readonly owner: AttemptOwner
  protected cancelled: Error | undefined
  #drained = 0
  /** Of a response that is not live, what came of it, where that is wanted; of one that is, what the caller has not taken yet. */
  #kept: KeptAnswer | undefined
  #look: Look | undefined
  #lookTimer: Timer | undefined
  #trailers: Trailers | undefined
  #isFlushing = false
  /** The response is good for something: its first byte is here. */
  #isProven = false
  protected timer: Timer | undefined
  /** Its place among those that are held since this turn began; -1 when it is none. */
  slot = -1
  /** Its answer is an event stream that was asked for. */
  isStream = false
  /** In which it was held; -1: it was not. */
  #turn = -1
  /** Stays set when the caller's callback throws: undici makes a failure of that, which is no backend's. */
  protected inCallback = false

  constructor(owner: AttemptOwner, attempt: Attempt) {
    this.owner = owner
    this.attempt = attempt
  }

  /** undici has put the request on a connection. */
  abstract readonly wasConnected: boolean
  /** Whether the connection that broke was there already when the attempt was put on it. */
  abstract hadServed(error: Error): boolean
  /** The backend refused the credential that this attempt was sent with. */
  abstract refuseCredential(): void
  abstract pause(): void
  protected abstract resumeUpstream(): void
  protected abstract abortUpstream(reason: Error): void

  resume(): void {
    // Later on, undici would resume whatever else has come to be read on this connection.
    if (this.phase !== 'live') return
    if (this.#kept === undefined) this.resumeUpstream()
    else this.#outside(() => { this.release() })
  }

  /** What was held of the response; undefined where nothing was. */
  get held(): KeptAnswer | undefined {
    return this.#kept
  }

  /** The turn in which its headers came is not over, as far as is known. */
  get isFresh(): boolean {
    return this.#turn === holds.turn
  }

  /** An answer is coming in, and the caller sees nothing of it yet. */
  get isHeldUnderWay(): boolean {
    return this.phase === 'undecided' && this.#look?.isUnderWay === true
  }

  /** Nothing of the response reaches the caller until the look has found something. */
  hold(answer: KeptAnswer, look: Look): void {
    // A listener to the pool's events has ended the request meanwhile.
    if (this.phase !== 'waiting') return
    this.phase = 'undecided'
    this.#kept = answer
    this.#look = look
    this.isStream = look.isUnderWay !== undefined
    // It has a time of its own, and is an answer by then: `attemptTimeoutMs` is for those that are not yet.
    if (!this.isStream) this.timer?.cancel()
    this.#turn = holds.turn
    holds.add(this)
  }

  /** Its turn is over, and nothing is decided yet. */
  armLook(): void {
    if (this.#lookTimer === undefined) this.#arm(this.#look?.waitMs)
  }

  #arm(waitMs: number | undefined): void {
    this.#lookTimer?.cancel()
    this.#lookTimer = waitMs === undefined ? undefined : this.owner.system.setTimer(() => {
      const look = this.#look
      if (this.phase === 'undecided' && look !== undefined) this.#outside(() => { this.#conclude(look.expire()) })
    }, waitMs)
  }

  /** The response is the caller's from here on. @param isProven its outcome is known already. */
  commit(isProven = false): void {
    this.#endLook()
    this.phase = 'live'
    this.#isProven = isProven
  }

  /** What was held goes first, as fast as the caller takes it. */
  release(): void {
    const kept = this.#kept
    if (kept === undefined || this.#isFlushing || this.phase !== 'live') return
    this.#isFlushing = true
    try {
      while (kept.chunks.length > 0 && !this.owner.paused && this.#isLive) this.#deliver(kept.chunks.shift()!) // there is one
    } finally {
      this.#isFlushing = false
    }
    // A caller that has paused at the last one wants neither what comes next nor the end.
    if (kept.chunks.length > 0 || this.owner.paused || !this.#isLive) return
    this.#kept = undefined
    if (this.#trailers !== undefined) this.#finish(...this.#trailers)
    // It may have paused in between, and undici with it.
    else this.resumeUpstream()
  }

  /** A caller's callback may have ended it meanwhile. */
  get #isLive(): boolean {
    return this.phase === 'live'
  }

  #endLook(): void {
    this.timer?.cancel()
    if (this.#look === undefined) return
    holds.remove(this)
    this.#lookTimer?.cancel()
    this.#look.dispose?.()
    this.#look = undefined
  }

  /** Where undici is not below us on the stack, it makes no failure of what the caller's callback throws. */
  #outside(act: () => void): void {
    try {
      act()
    } catch (error) {
      this.inCallback = true
      this.cancel(toError(error))
    }
  }

  /** The response is not wanted: read what little there is, so that the connection can be used again, and let go. @param kept gets it. */
  swallow(headers: AnyHeaders, kept?: KeptAnswer): void {
    this.#endLook()
    this.#kept = kept
    this.phase = 'draining'
    if (this.#trailers !== undefined) this.#endDrain()
    else if (readNumber(lengthReader.read(headers)?.[0]) > DRAIN_BYTES) this.#letGo()
    else this.timer = this.owner.system.setTimer(() => { this.#letGo() }, DRAIN_MS)
  }

  /** Ends the attempt from our side. The owner hears of it as of any failure, before this returns. */
  cancel(reason: Error): void {
    if (this.phase === 'over') return
    this.cancelled = reason
    this.abortUpstream(reason)
    // Nothing to abort yet, or undici had nothing to say to it.
    this.takeFailure(reason)
  }

  /** The time of the request is over. An answer that is held for what it may say besides is the best that will come; all else ends. */
  expire(error: Error): void {
    const look = this.#look
    if (this.phase !== 'undecided' || look === undefined || this.isStream) return this.cancel(error)
    this.#outside(() => { this.#conclude(look.expire()) })
  }

  protected takeHeaders(status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, message: string | undefined): void {
    if (this.phase !== 'waiting') return
    this.inCallback = true
    if (status < 200) this.owner.onInformation(this, status, raw, parsed, message)
    else this.owner.onResponse(this, status, raw, parsed, message)
    this.inCallback = false
  }

  protected takeData(chunk: Buffer): void {
    if (this.phase === 'live') {
      if (this.#kept === undefined) this.#deliver(chunk)
      else this.#kept.add(chunk)
    } else if (this.phase === 'undecided') {
      this.#kept?.add(chunk)
      this.#lookAt(chunk)
    } else if (this.phase === 'draining') {
      this.#kept?.add(chunk)
      if ((this.#drained += chunk.byteLength) > DRAIN_BYTES) this.#letGo()
    }
  }

  protected takeEnd(raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void {
    if (this.phase === 'live') {
      if (this.#kept === undefined) this.#finish(raw, parsed)
      else this.#trailers = [raw, parsed]
    } else if (this.phase === 'undecided') {
      this.#trailers = [raw, parsed]
      this.#kept?.end()
      if (this.#look !== undefined) this.#conclude(this.#look.end())
    } else if (this.phase === 'draining') {
      this.#kept?.end()
      this.#endDrain()
    }
  }

  /** From here on so much silence, in milliseconds, is a cut: the caller hears of it as of any other. */
  watch(idleMs: number): void {
    if (this.#isLive) this.timer = new SilenceTimer(this.owner, idleMs, () => { this.cancel(makeSilenceError(idleMs)) })
  }

  #deliver(chunk: Buffer): void {
    if (this.timer instanceof SilenceTimer) this.timer.heard()
    this.#prove()
    this.inCallback = true
    this.owner.onData(chunk)
    this.inCallback = false
  }

  #finish(raw: AnyHeaders | null | undefined, parsed: ParsedHeaders | undefined): void {
    this.timer?.cancel()
    this.#prove()
    this.inCallback = true
    // Over only afterwards: undici's retry handler throws here on purpose, and expects the error that follows.
    this.owner.onEnd(this, raw, parsed)
    this.phase = 'over'
  }

  #prove(): void {
    if (this.#isProven) return
    this.#isProven = true
    this.owner.onProof(this)
  }

  #lookAt(chunk: Buffer): void {
    const look = this.#look
    if (look === undefined) return
    const { waitMs, stage } = look
    const verdict = look.write(chunk)
    if (verdict !== undefined) return this.#conclude(verdict)
    if (look.isUnderWay === true) this.timer?.cancel()
    if (look.restarts === true || look.waitMs !== waitMs || look.stage !== stage) this.#arm(look.waitMs)
  }

  #conclude(verdict: Verdict): void {
    this.inCallback = true
    this.owner.onVerdict(this, verdict)
    this.inCallback = false
  }

  protected takeUpgrade(status: number, raw: AnyHeaders, parsed: ParsedHeaders | undefined, socket: Duplex): unknown {
    if (this.phase !== 'waiting') {
      socket.destroy()
      return undefined
    }
    this.commit()
    this.inCallback = true
    const result = this.owner.onUpgrade(this, status, raw, parsed, socket)
    this.phase = 'over'
    return result
  }

  protected takeFailure(error: Error): void {
    if (this.phase === 'over') return
    if (this.phase === 'draining') return this.#endDrain()
    this.#endLook()
    const blame = this.inCallback ? 'caller' : this.phase === 'live' ? 'response' : 'backend'
    this.phase = 'over'
    this.owner.onFailure(this, error, blame)
  }

  protected tell(callback: () => void): void {
    if (this.phase === 'over') return
    this.inCallback = true
    callback()
    this.inCallback = false
  }

  /** What a legacy handler returns: `false` pauses. */
  protected get goesOn(): boolean {
    return this.phase !== 'live' || (!this.owner.paused && this.#kept === undefined)
  }

  #endDrain(): void {
    this.timer?.cancel()
    this.phase = 'over'
    this.owner.onDrained(this, this.#kept)
  }

  #letGo(): void {
    this.#endDrain()
    // Not from inside undici's own callback: an abort calls back at once, while undici is still busy with this very response.
    queueMicrotask(() => { this.abortUpstream(new Error('The rest of a response that no one waits for is not read.')) })
  }
}
