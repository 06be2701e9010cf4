/**
 * The name of a deployment or model, as it is kept and told. Callers choose it, so it must neither grow a table nor forge a log line.
 */

/** Characters of a name that are kept: the longest that a deployment may have with Azure OpenAI. */
const NAME_LENGTH = 64

/** A name as it is kept, and told in logs, events and status: 64 printable characters at most. */
export function toScopeName(name: string): string {
  if (name.length <= NAME_LENGTH && isPlain(name)) return name
  // What is not printable in Unicode's sense: control and format characters, lone surrogates, separators but the space.
  return [...name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '?')].slice(0, NAME_LENGTH).join('')
}

/** Nothing but ASCII's printable characters, as in nearly all names. */
function isPlain(name: string): boolean {
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i)
    if (code < 0x20 || code > 0x7e) return false
  }
  return true
}
