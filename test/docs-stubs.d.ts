/**
 * The parts of packages that the README's examples use and that are not installed here. Written down from their own
 * declarations: @azure/identity 4.13, @langchain/openai 1.5, ai 6.0, @ai-sdk/openai 3.0.
 */

declare module '@azure/identity' {
  export interface AccessToken {
    token: string
    expiresOnTimestamp: number
  }
  export interface TokenCredential {
    getToken(scopes: string | string[], options?: { abortSignal?: AbortSignal }): Promise<AccessToken | null>
  }
  export class DefaultAzureCredential implements TokenCredential {
    constructor(options?: { managedIdentityClientId?: string; tenantId?: string })
    getToken(scopes: string | string[], options?: { abortSignal?: AbortSignal }): Promise<AccessToken>
  }
  export function getBearerTokenProvider(credential: TokenCredential, scopes: string | string[], options?: { abortSignal?: AbortSignal }): () => Promise<string>
}

declare module '@langchain/openai' {
  import type { ClientOptions } from 'openai'
  export interface ChatOpenAIFields {
    model?: string
    apiKey?: string | (() => Promise<string>)
    configuration?: ClientOptions
    maxRetries?: number
    timeout?: number
  }
  export class ChatOpenAI {
    constructor(fields?: ChatOpenAIFields)
    invoke(input: string): Promise<{ content: string | object[] }>
  }
}

declare module '@ai-sdk/openai' {
  import type { LanguageModel } from 'ai'
  export interface OpenAIProvider {
    (modelId: string): LanguageModel
    chat(modelId: string): LanguageModel
    responses(modelId: string): LanguageModel
  }
  export function createOpenAI(options?: { baseURL?: string; apiKey?: string; headers?: Record<string, string>; fetch?: typeof globalThis.fetch }): OpenAIProvider
}

declare module 'ai' {
  export interface LanguageModel {
    readonly specificationVersion: string
    readonly provider: string
    readonly modelId: string
  }
  export function generateText(options: { model: LanguageModel; prompt: string; maxRetries?: number }): Promise<{ readonly text: string }>
}
