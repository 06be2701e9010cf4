/** Stands in for `@azure/identity`: the same names and shapes, and tokens that no tenant has given. */
import { setTimeout as sleep } from 'node:timers/promises'

export interface AccessToken {
  token: string
  /** Milliseconds since the Unix epoch. */
  expiresOnTimestamp: number
}

export class DefaultAzureCredential {
  /** Tokens given so far. */
  static issued = 0

  async getToken(_scopes: string | string[]): Promise<AccessToken> {
    await sleep(20)
    DefaultAzureCredential.issued += 1
    return { token: `entra-token-${DefaultAzureCredential.issued}`, expiresOnTimestamp: Date.now() + 3_600_000 }
  }
}

/** Asks the credential when there is no token yet, or when it is about to expire. Those who ask meanwhile wait together. */
export function getBearerTokenProvider(credential: DefaultAzureCredential, scopes: string | string[]): () => Promise<string> {
  let current: Promise<AccessToken> | undefined
  return async () => {
    current ??= credential.getToken(scopes)
    if ((await current).expiresOnTimestamp - Date.now() < 120_000) current = credential.getToken(scopes)
    return (await current).token
  }
}
