import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { AzureSimulator, ManualClock, type SimulatedBackendConfig } from '../../examples/demo/simulator/azure-simulator.js'
import { formatGoDuration } from '../../examples/demo/simulator/deployment.js'

/** Asks one backend under a clock that stands still; the prompt has so many tokens and the answer is bounded to so many. */
async function withBackend(
  config: Omit<SimulatedBackendConfig, 'name'>, use: (ask: Ask, clock: ManualClock) => Promise<void>,
): Promise<void> {
  const clock = new ManualClock()
  const simulator = await AzureSimulator.start({ backends: [{ name: 'only', ...config }], clock })
  try {
    await use(async (maxTokens = 0, deployment = 'd', promptTokens = 100) => {
      const url = `${simulator.backend('only').origin}/openai/deployments/${deployment}/chat/completions`
      const body = JSON.stringify({ messages: [], max_tokens: maxTokens }).padEnd(promptTokens * 4)
      const response = await fetch(url, { method: 'POST', body })
      const answer = await response.json() as { error?: { code: string, message: string } }
      return { status: response.status, headers: response.headers, error: answer.error }
    }, clock)
  } finally {
    await simulator.close()
  }
}
type Ask = (maxTokens?: number, deployment?: string, promptTokens?: number) => Promise<{
  status: number, headers: Headers, error: { code: string, message: string } | undefined
}>

async function collectStatuses(ask: Ask, times: number): Promise<number[]> {
  const seen = []
  for (let n = 0; n < times; n += 1) seen.push((await ask()).status)
  return seen
}

describe('the simulator limits like the real services', () => {
  test('600 requests per minute in slices of a second are ten in any one second', async () => {
    await withBackend({ limits: { kind: 'standard', requestsPerMinute: 600, requestWindowMs: 1000 } }, async (ask, clock) => {
      clock.advance(700)
      assert.deepEqual(await collectStatuses(ask, 11), [...Array<number>(10).fill(200), 429])
      const refused = await ask()
      assert.equal(refused.headers.get('retry-after'), '1')
      assert.equal(refused.headers.get('retry-after-ms'), null)
      assert.equal(refused.headers.get('x-ratelimit-reset-requests'), '1')
      assert.equal(refused.headers.get('x-ratelimit-remaining-requests'), '0')
      assert.equal(refused.error?.code, '429')
      assert.match(refused.error?.message ?? '', /call rate limit.*Please retry after 1 seconds/)
      clock.advance(299)
      assert.equal((await ask()).status, 429)
      clock.advance(1)
      assert.equal((await ask()).status, 200)
    })
  })

  test('requests are counted in slices of ten seconds when nothing else is said', async () => {
    await withBackend({ limits: { kind: 'standard', requestsPerMinute: 18 } }, async (ask, clock) => {
      assert.deepEqual(await collectStatuses(ask, 4), [200, 200, 200, 429])
      assert.equal((await ask()).headers.get('retry-after'), '10')
      clock.advance(10_000)
      assert.equal((await ask()).status, 200)
    })
  })

  test('tokens are estimated from the characters and max_tokens, and counted by the minute', async () => {
    await withBackend({ limits: { kind: 'standard', tokensPerMinute: 1000 } }, async (ask, clock) => {
      const first = await ask(500)
      assert.equal(first.headers.get('x-ratelimit-remaining-tokens'), '400')
      assert.equal(first.headers.get('x-ratelimit-reset-tokens'), null)
      assert.equal((await ask(500)).status, 200, 'below the limit, so let in although it overshoots')
      clock.advance(20_500)
      const refused = await ask()
      assert.equal(refused.status, 429)
      assert.equal(refused.headers.get('retry-after'), '40')
      assert.equal(refused.headers.get('x-ratelimit-reset-tokens'), '40')
      assert.match(refused.error?.message ?? '', /token rate limit/)
      clock.advance(39_500)
      assert.equal((await ask()).status, 200)
    })
  })

  test('each deployment has limits of its own', async () => {
    await withBackend({ limits: { kind: 'standard', requestsPerMinute: 6 } }, async (ask) => {
      assert.equal((await ask(0, 'one')).status, 200)
      assert.equal((await ask(0, 'one')).status, 429)
      assert.equal((await ask(0, 'two')).status, 200)
    })
  })

  test('a provisioned deployment is a leaky bucket that names its utilization and the exact wait', async () => {
    // Answers as long as they may be, so that nothing is given back.
    await withBackend({ limits: { kind: 'provisioned', tokensPerSecond: 1000, depthMs: 1000 }, answerTokens: 1000 }, async (ask, clock) => {
      // 100 tokens of prompt and three times 20 tokens of answer, in a bucket of 1,000.
      const first = await ask(20)
      assert.equal(first.headers.get('azure-openai-deployment-utilization'), '16.0%')
      assert.equal(first.headers.get('x-ms-deployment-name'), 'd')
      assert.equal(first.headers.get('x-ratelimit-remaining-requests'), null)
      assert.equal((await ask(310)).headers.get('azure-openai-deployment-utilization'), '119.0%')
      const refused = await ask()
      assert.equal(refused.status, 429)
      assert.equal(refused.headers.get('retry-after-ms'), '191', 'after 190 ms it is at 100 %, which is full')
      assert.equal(refused.headers.get('retry-after'), '1')
      assert.match(refused.error?.message ?? '', /provisioned throughput/)
      clock.advance(190)
      assert.equal((await ask()).status, 429)
      clock.advance(1)
      assert.equal((await ask()).status, 200)
    })
  })

  test('a provisioned deployment gives back what was estimated too high when the answer is out', async () => {
    await withBackend({ limits: { kind: 'provisioned', tokensPerSecond: 1000, depthMs: 1000 }, answerTokens: 10 }, async (ask) => {
      assert.equal((await ask(300)).headers.get('azure-openai-deployment-utilization'), '100.0%')
      // What stayed: 100 and three times 10.
      assert.equal((await ask(300)).headers.get('azure-openai-deployment-utilization'), '113.0%')
    })
  })

  test('the OpenAI dialect has buckets, Go durations, and counts what it refused', async () => {
    const limits = { kind: 'standard', requestsPerMinute: 2, tokensPerMinute: 60_000, requestLimiter: 'bucket', tokenLimiter: 'bucket', countsRefused: true } as const
    await withBackend({ dialect: 'openai', limits }, async (ask, clock) => {
      const first = await ask(400)
      assert.equal(first.headers.get('x-ratelimit-limit-requests'), '2')
      assert.equal(first.headers.get('x-ratelimit-remaining-requests'), '1')
      assert.equal(first.headers.get('x-ratelimit-reset-requests'), '30s')
      assert.equal(first.headers.get('x-ratelimit-remaining-tokens'), '59500')
      assert.equal(first.headers.get('x-ratelimit-reset-tokens'), '500ms')
      await ask()
      const refused = await ask()
      assert.equal(refused.status, 429)
      assert.equal(refused.headers.get('retry-after-ms'), '30000')
      assert.equal(refused.error?.code, 'rate_limit_exceeded')
      clock.advance(30_000)
      assert.equal((await ask()).status, 429, 'the refused request took the place')
      clock.advance(60_000)
      assert.equal((await ask()).status, 200)
    })
  })

  test('the headers of a refusal can be chosen', async () => {
    const limits = { kind: 'standard', requestsPerMinute: 6 } as const
    await withBackend({ limits, retryHeaders: ['x-ms-retry-after-ms'] }, async (ask) => {
      await ask()
      const refused = await ask()
      assert.equal(refused.headers.get('x-ms-retry-after-ms'), '10000')
      assert.equal(refused.headers.get('retry-after'), null)
    })
  })

  test('durations are written as Go writes them', () => {
    assert.deepEqual([0, 2, 999.5, 1500, 360_000, 61_001].map(formatGoDuration), ['0s', '2ms', '1s', '1.5s', '6m0s', '1m1.001s'])
  })
})
