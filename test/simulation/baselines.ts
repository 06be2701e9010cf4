/** What others do, from their published rules. They are given priorities, and exact limits where they ask for them. */
import type { AttemptResult, Policy, PolicyBackend } from './contract.js'
import { readDurationMs, readNumber, readRetryAfterMs } from './header-values.js'

const isBad = (r: AttemptResult): boolean => r.error !== undefined || r.status === 429 || r.status >= 500

/** Indices of the available backends of the best priority. */
function bestTier(backends: readonly PolicyBackend[], isAvailable: (index: number) => boolean): number[] {
  let best = Infinity
  let tier: number[] = []
  for (const { index, priority } of backends) {
    if (priority > best || !isAvailable(index)) continue
    if (priority < best) {
      best = priority
      tier = []
    }
    tier.push(index)
  }
  return tier
}

/** One of `list`, by a draw in [0, 1). The lists are never empty here. */
function choose(list: readonly number[], draw: number): number {
  return list[Math.floor(draw * list.length)] ?? 0
}

/** State per backend, by index. */
function perBackend<T>(backends: readonly PolicyBackend[], create: () => T): (index: number) => T {
  const states = backends.map(create)
  return (index) => {
    const state = states[index]
    if (state === undefined) throw new RangeError(`no backend ${index}`)
    return state
  }
}

/** No balancer: the SDK alone against the backend of the best priority. */
const single: Policy = {
  name: 'single+sdk',
  create: ({ backends }) => {
    const only = choose(bestTier(backends, () => true), 0)
    return { pick: (_now, request) => (request.attempt ? { surface: true } : only), onResult() {} }
  },
}

/**
 * The Python package: random among the un-throttled of the best priority; 429 and 5xx cool down by Retry-After in
 * whole seconds, else x-ratelimit-reset-requests as an integer, else 10 s. Connection errors reach the caller and
 * cool nothing down. A throttled mark is cleared only when a call begins.
 */
const python: Policy = {
  name: 'seed(py)',
  create: ({ backends, env }) => {
    const state = perBackend(backends, () => ({ throttled: false, until: 0 }))
    return {
      pick(now, request) {
        if (request.attempt === 0) {
          for (const { index } of backends) if (state(index).throttled && now >= state(index).until) state(index).throttled = false
        }
        if (request.last?.error !== undefined) return { surface: true }
        const tier = bestTier(backends, (i) => !state(i).throttled)
        if (tier.length > 0) return choose(tier, env.random())
        const soonest = Math.min(...backends.map(({ index }) => state(index).until))
        const seconds = Math.trunc((soonest - now) / 1000) + 1
        return { reject: seconds * 1000, seconds }
      },
      onResult(now, index, _request, r) {
        if (r.error !== undefined || !isBad(r)) return
        let seconds = parseInt(r.headers['retry-after'] ?? '-1', 10)
        if (seconds === -1) {
          const reset = readNumber(r.headers['x-ratelimit-reset-requests'])
          seconds = Number.isInteger(reset) ? reset : -1 // int('1s') raises in Python
        }
        if (seconds === -1) seconds = 10
        state(index).throttled = true
        state(index).until = now + seconds * 1000
      },
    }
  },
}

/** Cooldowns as both LiteLLM-like policies have them. */
function liteLlmCooldowns(backends: readonly PolicyBackend[]) {
  const state = perBackend(backends, () => ({ until: 0, minute: -1, ok: 0, bad: 0 }))
  return {
    isHealthy: (now: number, index: number): boolean => now >= state(index).until,
    record(now: number, index: number, r: AttemptResult): void {
      const s = state(index)
      const minute = Math.floor(now / 60000)
      if (s.minute !== minute) Object.assign(s, { minute, ok: 0, bad: 0 })
      if (!isBad(r)) {
        s.ok++
        return
      }
      s.bad++
      const asked = readRetryAfterMs(r.headers)
      const cooldown = asked > 0 && asked <= 60000 ? asked : 5000 // DEFAULT_COOLDOWN_TIME_SECONDS = 5
      if (r.status === 429 || (s.ok + s.bad > 1 && s.bad / (s.ok + s.bad) > 0.5)) s.until = now + cooldown
    },
  }
}

/** LiteLLM's simple-shuffle: weighted random by rpm among the healthy of the best order; two router retries. */
const liteLlmShuffle: Policy = {
  name: 'litellm-shuffle',
  create: ({ backends, env }) => {
    const cooldowns = liteLlmCooldowns(backends)
    const weightOf = (index: number): number => backends[index]?.limits?.rpm ?? 480 // a PTU is alone in its order: any weight will do
    return {
      pick(now, request) {
        if (request.attempt >= 3) return { surface: true }
        const tier = bestTier(backends, (i) => cooldowns.isHealthy(now, i))
        if (tier.length === 0) return request.last ? { surface: true } : { reject: 5000 } // "Try again in 5 seconds"
        let x = env.random() * tier.reduce((sum, i) => sum + weightOf(i), 0)
        for (const i of tier) {
          x -= weightOf(i)
          if (x <= 0) return i
        }
        return tier.at(-1) ?? 0
      },
      onResult: (now, index, _request, r) => cooldowns.record(now, index, r),
    }
  },
}

/** LiteLLM's usage-based-routing-v2: the fewest tokens in this calendar minute, under configured rpm and tpm. */
const liteLlmUsage: Policy = {
  name: 'litellm-usage',
  create: ({ backends, env }) => {
    const cooldowns = liteLlmCooldowns(backends)
    const usage = perBackend(backends, () => ({ minute: -1, tpm: 0, rpm: 0 }))
    const usageAt = (now: number, index: number): { tpm: number; rpm: number } => {
      const u = usage(index)
      const minute = Math.floor(now / 60000)
      return u.minute === minute ? u : Object.assign(u, { minute, tpm: 0, rpm: 0 })
    }
    return {
      pick(now, request) {
        if (request.attempt >= 3) return { surface: true }
        const input = request.bodyBytes / 4 // it counts the prompt alone, not max_tokens
        const tier = bestTier(backends, (i) => {
          const limits = backends[i]?.limits
          const u = usageAt(now, i)
          return cooldowns.isHealthy(now, i) && (!limits || (u.tpm + input <= limits.tpm && u.rpm + 1 <= limits.rpm))
        })
        if (tier.length === 0) return request.last ? { surface: true } : { reject: 60000 } // its retry-after is 60
        const least = Math.min(...tier.map((i) => usage(i).tpm))
        const picked = choose(tier.filter((i) => usage(i).tpm === least), env.random())
        usage(picked).rpm++
        return picked
      },
      onResult(now, index, request, r) {
        cooldowns.record(now, index, r)
        if (!isBad(r)) usageAt(now, index).tpm += request.bodyBytes / 4 + 0.45 * request.maxTokens // usage.total_tokens
      },
    }
  },
}

/** The less loaded of two in the best tier; Retry-After(-ms) else 10 s; failures back off from 1 s, doubling. */
const powerOfTwo: Policy = {
  name: 'p2c+cooldown',
  create: ({ backends, env }) => {
    const state = perBackend(backends, () => ({ until: 0, inFlight: 0, failures: 0 }))
    return {
      pick(now) {
        const tier = bestTier(backends, (i) => now >= state(i).until)
        if (tier.length === 0) return { reject: Math.min(...backends.map(({ index }) => state(index).until)) - now }
        let picked = choose(tier, env.random())
        if (tier.length > 1) {
          let other = tier[Math.floor(env.random() * (tier.length - 1))] ?? picked
          if (other === picked) other = tier.at(-1) ?? picked
          if (state(other).inFlight < state(picked).inFlight) picked = other
        }
        state(picked).inFlight++
        return picked
      },
      onResult(now, index, _request, r) {
        const s = state(index)
        s.inFlight--
        if (!isBad(r)) {
          s.failures = 0
          return
        }
        const asked = readRetryAfterMs(r.headers)
        if (r.status === 429) {
          const wait = asked >= 0 ? asked : readDurationMs(r.headers['x-ratelimit-reset-requests'] ?? r.headers['x-ratelimit-reset-tokens'])
          s.until = now + (wait >= 0 ? wait : 10000)
        } else {
          s.until = now + (asked >= 0 ? asked : Math.min(60000, 1000 * 2 ** s.failures++))
        }
      },
    }
  },
}

/** undici's BalancedPool: round robin by weights that fall by 15 of 100 with each connection that fails. It knows nothing of statuses. */
const balancedPool: Policy = {
  name: 'balanced-pool',
  create: ({ backends }) => {
    const state = perBackend(backends, () => ({ weight: 100 }))
    let at = -1
    let least = 0
    return {
      pick(_now, request) {
        if (request.attempt > 0) return { surface: true }
        const heaviest = Math.max(...backends.map(({ index }) => state(index).weight))
        for (;;) {
          at = (at + 1) % backends.length
          if (at === 0) least = least <= 1 ? heaviest : least - 1
          if (state(at).weight >= least) return at
        }
      },
      onResult(_now, index, _request, r) {
        const s = state(index)
        s.weight = r.error === undefined ? Math.min(100, s.weight + 15) : Math.max(1, s.weight - 15)
      },
    }
  },
}

/**
 * A congestion control on each client, as adaptive token buckets are (arXiv 2510.04516 describes ATB; only the idea is taken): the
 * rate of a bucket falls by a third with a refusal and rises by a twentieth of a request per second with each success.
 */
const adaptiveBuckets: Policy = {
  name: 'atb',
  create: ({ backends, env }) => {
    const state = perBackend(backends, () => ({ until: 0, rate: 10, tokens: 10, at: 0 }))
    const waitOf = (now: number, index: number): number => {
      const s = state(index)
      s.tokens = Math.min(10, s.tokens + ((now - s.at) * s.rate) / 1000)
      s.at = now
      return Math.max(s.until - now, s.tokens >= 1 ? 0 : ((1 - s.tokens) / s.rate) * 1000)
    }
    return {
      pick(now, request) {
        if (request.attempt >= Math.max(4, backends.length)) return { surface: true }
        const tier = bestTier(backends, (i) => waitOf(now, i) <= 0)
        if (tier.length > 0) {
          const picked = choose(tier, env.random())
          state(picked).tokens--
          return picked
        }
        const wait = Math.min(...backends.map(({ index }) => waitOf(now, index)))
        return now - request.callAt + wait <= 10_000 ? { wait: wait + 1 } : request.last ? { surface: true } : { reject: wait }
      },
      onResult(now, index, _request, r) {
        const s = state(index)
        if (!isBad(r)) s.rate += 0.05
        else if (r.status === 429) s.rate = Math.max(0.1, s.rate * (2 / 3))
        else s.until = now + 1_000
      },
    }
  },
}

export const BASELINES: readonly Policy[] = [single, python, liteLlmShuffle, liteLlmUsage, powerOfTwo]
/** For cold starts. */
export const COLD_BASELINES: readonly Policy[] = [python, powerOfTwo, balancedPool, adaptiveBuckets]
