/** Just enough of Markdown to check a README: headings, tables, code blocks and links. */

export interface CodeBlock {
  /** What stands after the three backticks: `ts`, `json`, `sh`. */
  readonly language: string
  readonly text: string
  /** Of the first line of code, from 1. */
  readonly line: number
  /** From a comment right before the block (`<!-- with: ... -->`): code that the block takes for granted. */
  readonly given: string
}

export interface Section {
  readonly title: string
  readonly level: number
  /** The part of a link after `#`, as GitHub makes it. */
  readonly anchor: string
  /** All lines up to the next heading of any level. */
  readonly text: string
}

const FENCE = /^```/

export function readCodeBlocks(markdown: string): CodeBlock[] {
  const lines = markdown.split('\n')
  const blocks: CodeBlock[] = []
  for (let at = 0; at < lines.length; at++) {
    const [, language] = /^```(\w+)\s*$/.exec(lines[at] ?? '') ?? []
    if (language === undefined) continue
    const end = lines.findIndex((line, index) => index > at && FENCE.test(line))
    if (end === -1) throw new Error(`the code block in line ${at + 1} does not end`)
    const [, given = ''] = /^<!-- with: (.*) -->$/.exec(lines[at - 1] ?? '') ?? []
    blocks.push({ language, text: lines.slice(at + 1, end).join('\n'), line: at + 2, given })
    at = end
  }
  return blocks
}

/** The text without code blocks: what looks like a heading or a link in there is none. */
export function withoutCodeBlocks(markdown: string): string {
  let isCode = false
  return markdown.split('\n').map((line) => {
    if (FENCE.test(line)) isCode = !isCode
    return isCode || FENCE.test(line) ? '' : line
  }).join('\n')
}

export function readSections(markdown: string): Section[] {
  const sections: { title: string; level: number; anchor: string; lines: string[] }[] = []
  const seen = new Map<string, number>()
  for (const line of withoutCodeBlocks(markdown).split('\n')) {
    const [, marks, title] = /^(#{1,6}) (.+)$/.exec(line) ?? []
    if (marks === undefined || title === undefined) sections.at(-1)?.lines.push(line)
    else {
      const plain = title.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, '').trim().replaceAll(' ', '-')
      const count = seen.get(plain) ?? 0
      seen.set(plain, count + 1)
      sections.push({ title, level: marks.length, anchor: count === 0 ? plain : `${plain}-${count}`, lines: [] })
    }
  }
  return sections.map(({ lines, ...section }) => ({ ...section, text: lines.join('\n') }))
}

/** The section's own text. @throws when there is none of that title. */
export function findSection(markdown: string, title: string): string {
  const section = readSections(markdown).find((candidate) => candidate.title === title)
  if (section === undefined) throw new Error(`there is no section "${title}"`)
  return section.text
}

/** The rows of the first table whose header begins with these words, without the header. Cells are trimmed. */
export function readTable(text: string, ...header: readonly string[]): string[][] {
  const tables: string[][][] = [[]]
  for (const line of text.split('\n')) {
    if (line.startsWith('|')) tables.at(-1)?.push(toCells(line))
    else if (tables.at(-1)?.length !== 0) tables.push([])
  }
  const table = tables.find(([head]) => head !== undefined && header.every((word, index) => head[index] === word))
  if (table === undefined) throw new Error(`there is no table with the header ${header.join(' | ')}`)
  return table.slice(2)
}

/** A `|` in a code span stays one. */
function toCells(line: string): string[] {
  return (line.match(/(?:`[^`]*`|[^|`])+/g) ?? []).map((cell) => cell.trim())
}

/** The texts of the code spans of a line or cell. */
export function codeSpans(text: string): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map(([, span]) => span ?? '')
}

/** Targets of `[text](target)`. */
export function readLinks(markdown: string): string[] {
  return [...withoutCodeBlocks(markdown).matchAll(/\[[^\]]*\]\(([^)\s]+)\)/g)].map(([, target]) => target ?? '')
}
