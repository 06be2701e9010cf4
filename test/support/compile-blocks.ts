/** Compiles pieces of code that are not files, as if they stood at the root of the project. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'
import type { CodeBlock } from './markdown.js'

/** @returns one sentence for each error, with the line in the document that the block is from. */
export function compileBlocks(root: string, blocks: readonly CodeBlock[], declarations: readonly string[]): string[] {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => readFileSync(path, 'utf8')) as { config: unknown }
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
  // A reader's example may well set up what it does not go on to use.
  const relaxed: ts.CompilerOptions = { ...options, noUnusedLocals: false, noUnusedParameters: false }
  const texts = new Map(blocks.map((block) => [join(root, `block-at-line-${block.line}.ts`), `${block.given}; ${block.text}\nexport {}\n`]))
  const lines = new Map(blocks.map((block) => [join(root, `block-at-line-${block.line}.ts`), block.line]))

  const host = ts.createCompilerHost(relaxed)
  const { fileExists, readFile, getSourceFile } = host
  host.fileExists = (path) => texts.has(path) || fileExists(path)
  host.readFile = (path) => texts.get(path) ?? readFile(path)
  host.getSourceFile = (path, target, ...rest) => {
    const text = texts.get(path)
    return text === undefined ? getSourceFile(path, target, ...rest) : ts.createSourceFile(path, text, target)
  }
  const program = ts.createProgram([...texts.keys(), ...declarations], relaxed, host)
  return [...texts.keys()].flatMap((path) => {
    const source = program.getSourceFile(path)
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(({ messageText, start }) => {
      const offset = source === undefined || start === undefined ? 0 : source.getLineAndCharacterOfPosition(start).line
      return `line ${(lines.get(path) ?? 0) + offset}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`
    })
  })
}
