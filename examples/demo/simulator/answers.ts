import type { Call } from './call.js'
import { chatCompletion, chatStream } from './chat-answers.js'
import { responseObject, responseStream } from './responses-answers.js'

/** A body in the parts in which it leaves, each with the number of output tokens that it took to make. */
export interface Answer {
  readonly contentType: string
  readonly parts: readonly AnswerPart[]
}

export interface AnswerPart {
  readonly text: string
  readonly tokens: number
}

/** What a well server answers. `id` makes the ids in it unique, `created` is in seconds since 1970. */
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
