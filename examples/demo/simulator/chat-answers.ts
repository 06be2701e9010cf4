import { composeChunks, composeText } from './answer-text.js'
import type { AnswerPart } from './answers.js'
import type { Call } from './call.js'

const HARMLESS = {
  hate: { filtered: false, severity: 'safe' },
  self_harm: { filtered: false, severity: 'safe' },
  sexual: { filtered: false, severity: 'safe' },
  violence: { filtered: false, severity: 'safe' },
}

const PROMPT_FILTER_RESULTS = [{ prompt_index: 0, content_filter_results: HARMLESS }]

export function chatCompletion(call: Call, id: string, created: number): unknown {
  return {
    id: `chatcmpl-${id}`,
    object: 'chat.completion',
    created,
    model: call.deployment,
    system_fingerprint: 'fp_simulated',
    choices: [{
      index: 0,
      message: { role: 'assistant', content: composeText(call.real.outputTokens), refusal: null, annotations: [] },
      logprobs: null,
      finish_reason: finishReason(call),
      content_filter_results: HARMLESS,
    }],
    prompt_filter_results: PROMPT_FILTER_RESULTS,
    usage: chatUsage(call),
  }
}

/** Azure opens with a chunk that has no choices: what it found in the prompt. The first chunk is not yet output. */
export function chatStream(call: Call, id: string, created: number): AnswerPart[] {
  const head = { id: `chatcmpl-${id}`, object: 'chat.completion.chunk', created, model: call.deployment }
  const chunk = (choices: unknown[], more: object = {}): unknown => ({ ...head, system_fingerprint: 'fp_simulated', choices, ...more })
  const delta = (delta: object, finish: string | null = null): unknown[] => [{ index: 0, delta, logprobs: null, finish_reason: finish }]
  const parts: AnswerPart[] = [
    part({ id: '', object: '', created: 0, model: '', choices: [], prompt_filter_results: PROMPT_FILTER_RESULTS }),
    part(chunk(delta({ role: 'assistant', content: '', refusal: null }))),
  ]
  for (const { text, tokens } of composeChunks(call.real.outputTokens)) parts.push(part(chunk(delta({ content: text })), tokens))
  parts.push(part(chunk(delta({}, finishReason(call)))))
  if (call.includeUsage) parts.push(part(chunk([], { usage: chatUsage(call) })))
  parts.push({ text: 'data: [DONE]\n\n', tokens: 0 })
  return parts
}

function part(data: unknown, tokens = 0): AnswerPart {
  return { text: `data: ${JSON.stringify(data)}\n\n`, tokens }
}

function finishReason(call: Call): string {
  return call.real.outputTokens < call.estimate.outputTokens ? 'stop' : 'length'
}

function chatUsage(call: Call): unknown {
  const { promptTokens, outputTokens } = call.real
  return { prompt_tokens: promptTokens, completion_tokens: outputTokens, total_tokens: promptTokens + outputTokens }
}
