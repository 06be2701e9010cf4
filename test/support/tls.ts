import { generate } from 'selfsigned'

/** What a test server and its client need to trust each other. PEM throughout. */
export interface TestCertificate {
  /** For the client: `new Agent({ connect: { ca } })`. */
  readonly ca: string
  /** For the server. */
  readonly cert: string
  readonly key: string
}

/** Host names that only tests know; a proxy or a `connect` function leads to them. */
const NAMES = ['localhost', 'east.example', 'west.example', 'north.example', 'api.example', '*.openai.example']

let shared: Promise<TestCertificate> | undefined

/**
 * A certificate for 127.0.0.1 and the names above under a CA of its own; made at run time, once per process, and never
 * written to disk. Valid from yesterday, for clocks that differ, for a week.
 */
export function testCertificate (): Promise<TestCertificate> {
  shared ??= issue()
  return shared
}

/** A certificate under another CA than `testCertificate()`'s: a client that trusts only that one refuses it. */
export function strangerCertificate (): Promise<TestCertificate> {
  return issue()
}

async function issue (): Promise<TestCertificate> {
  const dayMs = 86_400_000
  const common = {
    keyType: 'ec',
    curve: 'P-256',
    algorithm: 'sha256',
    notBeforeDate: new Date(Date.now() - dayMs),
    notAfterDate: new Date(Date.now() + 7 * dayMs),
  } as const
  const ca = await generate([{ name: 'commonName', value: 'Test CA' }], {
    ...common,
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
    ],
  })
  const leaf = await generate([{ name: 'commonName', value: 'localhost' }], {
    ...common,
    ca: { key: ca.private, cert: ca.cert },
    extensions: [
      { name: 'basicConstraints', cA: false },
      { name: 'keyUsage', digitalSignature: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: [...NAMES.map((value) => ({ type: 2, value }) as const), { type: 7, ip: '127.0.0.1' }],
      },
    ],
  })
  return { ca: ca.cert, cert: leaf.cert, key: leaf.private }
}
