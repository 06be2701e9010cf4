/** Event streams of the services, as backends of tests send them and as a client of the `openai` package reads them. */
import type OpenAI from 'openai'
import type { Answer } from './east-and-west.js'
import { AZURE_FIRST_CHUNK, chatChunk, event, ROLE_CHUNK } from './event-stream.js'
import type { HeaderInput } from './scripted-backend.js'

export const SSE = { 'content-type': 'text/event-stream; charset=utf-8' }

const DONE = 'data: [DONE]\n\n'

/** A chat completion with this text, as Azure streams it. */
export const chatStream = (text: string): string => AZURE_FIRST_CHUNK + ROLE_CHUNK + chatChunk({ content: text }) + chatChunk({}, { finish_reason: 'stop' }) + DONE

const lifecycle = (type: string, number: number, response: object = {}): string =>
  event(type, { type, sequence_number: number, response: { id: 'resp_1', object: 'response', status: 'in_progress', error: null, output: [], ...response } })

export const CREATED = lifecycle('response.created', 0)
export const QUEUED = lifecycle('response.queued', 1)
export const IN_PROGRESS = lifecycle('response.in_progress', 1)

/** With this error, or none. */
export const responseFailed = (error: object | null, number = 2): string =>
  lifecycle('response.failed', number, { status: 'failed', error, incomplete_details: null, usage: null })

/** A response with this text, as OpenAI streams it. */
export const responseStream = (text: string): string => CREATED + IN_PROGRESS
  + event('response.output_text.delta', { type: 'response.output_text.delta', sequence_number: 2, item_id: 'msg_1', output_index: 0, content_index: 0, delta: text })
  + lifecycle('response.completed', 3, { status: 'completed' })

/** A chat chunk that is an error. */
export const chatError = (error: unknown, rest: object = {}): string => event(undefined, { error, ...rest })

/** A 200 with this stream, whole. */
export const streams = (text: string, headers: HeaderInput = {}): Answer => (call) => {
  call.head(200, { ...SSE, ...headers as object })
  call.end(text)
}

/** A 200 with this beginning of a stream, of which nothing more comes. */
export const begins = (text: string, headers: HeaderInput = {}): Answer => async (call) => {
  call.head(200, { ...SSE, ...headers as object })
  if (text !== '') await call.write(text)
}

/** The text of a chat completion that is streamed. */
export async function streamChat (client: OpenAI, options: OpenAI.RequestOptions = {}): Promise<string> {
  const stream = await client.chat.completions.create({ model: 'gpt-4o', messages: [{ role: 'user', content: 'Hello' }], stream: true }, options)
  let text = ''
  for await (const { choices } of stream) text += choices[0]?.delta.content ?? ''
  return text
}

/** The text of a response that is streamed, behind the names of its events. */
export async function streamResponse (client: OpenAI, options: OpenAI.RequestOptions = {}, more: object = {}): Promise<{ text: string, types: string[] }> {
  const stream = await client.responses.create({ model: 'gpt-4o', input: 'Hello', stream: true, ...more }, options)
  let text = ''
  const types: string[] = []
  for await (const one of stream) {
    types.push(one.type)
    if (one.type === 'response.output_text.delta') text += one.delta
  }
  return { text, types }
}
