import { composeChunks, composeText } from './answer-text.js'
import type { AnswerPart } from './answers.js'
import type { Call } from './call.js'

export function responseObject(call: Call, id: string, created: number): unknown {
  return response(call, id, created, 'completed', [message(id, 'completed', composeText(call.real.outputTokens))])
}

/** The events in their documented order. There is no `[DONE]`: `response.completed` is the end. */
export function responseStream(call: Call, id: string, created: number): AnswerPart[] {
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
