/** What the public types of the package are made of, asked of the compiler: inherited members included. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'

export interface Member {
  readonly name: string
  readonly optional: boolean
}

/** @returns the members of an exported interface, by its name. */
export function readExportedTypes(root: string, file: string): (name: string) => Member[] {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => readFileSync(path, 'utf8')) as { config: unknown }
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
  const path = join(root, file)
  const program = ts.createProgram([path], options)
  const checker = program.getTypeChecker()
  const source = program.getSourceFile(path)
  const module = source === undefined ? undefined : checker.getSymbolAtLocation(source)
  if (module === undefined) throw new Error(`${file} exports nothing`)
  const exported = new Map(checker.getExportsOfModule(module).map((symbol) => [symbol.name, symbol]))
  return (name) => {
    const symbol = exported.get(name)
    if (symbol === undefined) throw new Error(`${file} exports no ${name}`)
    const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
    return checker.getDeclaredTypeOfSymbol(target).getProperties().map((member) => ({
      name: member.name,
      optional: (member.flags & ts.SymbolFlags.Optional) !== 0,
    }))
  }
}
