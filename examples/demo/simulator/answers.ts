/**
 * What a healthy service answers: chat completions, responses and embeddings, whole or as the stream that the openai package
 * expects, each of them in the parts in which it leaves and with what each part took to make.
 */
import type { Call } from './service.js'

/** A body in the parts in which it leaves, each with the number of output tokens that it took to make. */
export interface Answer {
  readonly contentType: string
  readonly parts: readonly AnswerPart[]
}

interface AnswerPart {
  readonly text: string
  readonly tokens: number
}

/** What a healthy server answers. `id` makes the ids in it unique, `created` is in seconds since 1970. */
export function composeAnswer(call: Call, id: string, created: number): Answer {
  switch (call.operation) {
    case 'chat':
      return call.stream ? streamed(chatStream(call, id, created)) : whole(chatCompletion(call, id, created), call.real.outputTokens)
    case 'responses':
      return call.stream ? streamed(responseStream(call, id, created)) : whole(responseObject(call, id, created), call.real.outputTokens)
    case 'embeddings':
      return whole(embeddingList(call), 0)
  }
}

/** In two parts, so that it can be cut off in the middle like a stream. */
function whole(body: unknown, tokens: number): Answer {
  const text = JSON.stringify(body)
  const half = text.length >> 1
  return { contentType: 'application/json', parts: [{ text: text.slice(0, half), tokens }, { text: text.slice(half), tokens: 0 }] }
}

function streamed(parts: readonly AnswerPart[]): Answer {
  return { contentType: 'text/event-stream; charset=utf-8', parts }
}

/** Four dimensions do for a stand-in. */
const EMBEDDING = [0.5, -0.25, 0.125, -0.0625]

function embeddingList(call: Call): unknown {
  const embedding = call.base64 ? Buffer.from(Float32Array.from(EMBEDDING).buffer).toString('base64') : EMBEDDING
  const tokens = call.real.promptTokens
  return {
    object: 'list',
    data: Array.from({ length: call.inputs }, (_, index) => ({ object: 'embedding', index, embedding })),
    model: call.deployment,
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  }
}

const HARMLESS = {
  hate: { filtered: false, severity: 'safe' },
  self_harm: { filtered: false, severity: 'safe' },
  sexual: { filtered: false, severity: 'safe' },
  violence: { filtered: false, severity: 'safe' },
}

const PROMPT_FILTER_RESULTS = [{ prompt_index: 0, content_filter_results: HARMLESS }]

function chatCompletion(call: Call, id: string, created: number): unknown {
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
function chatStream(call: Call, id: string, created: number): AnswerPart[] {
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

function responseObject(call: Call, id: string, created: number): unknown {
  return response(call, id, created, 'completed', [message(id, 'completed', composeText(call.real.outputTokens))])
}

/** The events in their documented order. There is no `[DONE]`: `response.completed` is the end. */
function responseStream(call: Call, id: string, created: number): AnswerPart[] {
  const parts: AnswerPart[] = []
  const send = (type: string, fields: object, tokens = 0): void => {
    const event = { type, sequence_number: parts.length, ...fields }
    parts.push({ text: `event: ${type}\ndata: ${JSON.stringify(event)}\n\n`, tokens })
  }
  const place = { item_id: `msg_${id}`, output_index: 0, content_index: 0 }
  const text = composeText(call.real.outputTokens)

  send('response.created', { response: response(call, id, created, 'in_progress', []) })
  send('response.in_progress', { response: response(call, id, created, 'in_progress', []) })
  send('response.output_item.added', { output_index: 0, item: message(id, 'in_progress', undefined) })
  send('response.content_part.added', { ...place, part: outputText('') })
  for (const chunk of composeChunks(call.real.outputTokens)) {
    send('response.output_text.delta', { ...place, delta: chunk.text, logprobs: [] }, chunk.tokens)
  }
  send('response.output_text.done', { ...place, text, logprobs: [] })
  send('response.content_part.done', { ...place, part: outputText(text) })
  send('response.output_item.done', { output_index: 0, item: message(id, 'completed', text) })
  send('response.completed', { response: responseObject(call, id, created) })
  return parts
}

type Progress = 'in_progress' | 'completed'

function response(call: Call, id: string, created: number, status: Progress, output: unknown[]): unknown {
  const { promptTokens, outputTokens } = call.real
  return {
    id: `resp_${id}`,
    object: 'response',
    created_at: created,
    status,
    error: null,
    incomplete_details: null,
    instructions: null,
    metadata: {},
    model: call.deployment,
    output,
    parallel_tool_calls: true,
    temperature: 1,
    tool_choice: 'auto',
    tools: [],
    top_p: 1,
    usage: status === 'in_progress' ? null : {
      input_tokens: promptTokens,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: outputTokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: promptTokens + outputTokens,
    },
  }
}

function message(id: string, status: Progress, text: string | undefined): unknown {
  return { id: `msg_${id}`, type: 'message', role: 'assistant', status, content: text === undefined ? [] : [outputText(text)] }
}

function outputText(text: string): unknown {
  return { type: 'output_text', text, annotations: [], logprobs: [] }
}

const WORDS = 'The request found a free backend at once and the answer came back whole while the others cooled down'.split(' ')

/** Tokens that travel together: a streamed answer comes in chunks of a few. */
const TOKENS_PER_CHUNK = 4

/** A text of so many tokens (a word each), cut into the chunks of a stream. */
function composeChunks(tokens: number): readonly { readonly text: string, readonly tokens: number }[] {
  const chunks = []
  for (let from = 0; from < tokens; from += TOKENS_PER_CHUNK) {
    const count = Math.min(TOKENS_PER_CHUNK, tokens - from)
    const words = Array.from({ length: count }, (_, offset) => WORDS[(from + offset) % WORDS.length])
    chunks.push({ text: (from === 0 ? '' : ' ') + words.join(' '), tokens: count })
  }
  return chunks
}

function composeText(tokens: number): string {
  return composeChunks(tokens).map((chunk) => chunk.text).join('')
}
