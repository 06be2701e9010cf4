// Knows nothing of any balancer.
import { fetch, request } from 'undici'

const url = process.env.PROGRAM_URL
const init = { method: 'POST', body: 'hello' }
console.log(JSON.stringify({ by: 'fetch', ...await (await globalThis.fetch(url, init)).json() }))
console.log(JSON.stringify({ by: 'undici.fetch', ...await (await fetch(url, init)).json() }))
console.log(JSON.stringify({ by: 'undici.request', ...await (await request(url, init)).body.json() }))
