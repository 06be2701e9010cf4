// Node's own undici has made its global dispatcher by the time that the package is loaded.
const [busy, free] = process.env.PROGRAM_BACKENDS.split(' ')

async function readCookies (url) {
  const response = await fetch(url)
  await response.text()
  return response.headers.getSetCookie()
}

const before = await readCookies(free)
const { install } = await import('openai-priority-loadbalancer')
const balancer = install({ backends: [{ url: busy, priority: 1 }, { url: free, priority: 2 }], intercept: ['https://chat.balanced'], logger: false })
const balanced = await readCookies('https://chat.balanced/x')
const passed = await readCookies(free)
await balancer.uninstall()
const after = await readCookies(free)
console.log(JSON.stringify({ before, balanced, passed, after }))
