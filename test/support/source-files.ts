/** Facts about source files, read by the TypeScript compiler: what a file imports, and which names it uses. */
import { readFileSync, readdirSync } from 'node:fs'
import { join, posix, sep } from 'node:path'
import ts from 'typescript'

export interface Import {
  /** As written. */
  readonly specifier: string
  /** Path of the file that a relative specifier means (`.js` stands for `.ts`); `undefined` for a package. */
  readonly file: string | undefined
  /** Leaves nothing behind at run time. */
  readonly typeOnly: boolean
  readonly line: number
}

/** A mention of something outside the file: a global, with the members that are taken from it. */
export interface Mention {
  /** `Date.now`, `setTimeout`; `new Date()` and `new Date(...)`, without and with arguments; `async`, `await`; `export default`; `!` (a non-null assertion); `test.only`. */
  readonly name: string
  readonly line: number
}

export interface SourceFile {
  /** From the root of the project, with slashes: `src/core/pick.ts`. */
  readonly path: string
  readonly lines: number
  readonly imports: readonly Import[]
  readonly mentions: readonly Mention[]
  /** Names of the interfaces and type aliases that are declared. */
  readonly types: readonly string[]
  /** Text of each comment, and the line on which it begins. */
  readonly comments: readonly Mention[]
  /** Names of variables at the top level that can be assigned again. */
  readonly mutableTopLevel: readonly Mention[]
}

/** Every TypeScript file below `folder`, declarations excluded. */
export function readSourceFiles (root: string, folder: string): SourceFile[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'))
    .map((file) => posix.join(folder, file.replaceAll(sep, '/')))
    .sort()
    .map((path) => readSourceFile(path, readFileSync(join(root, path), 'utf8')))
}

export function readSourceFile (path: string, text: string): SourceFile {
  const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true)
  const imports: Import[] = []
  const mentions: Mention[] = []
  const types: string[] = []
  const mutableTopLevel: Mention[] = []
  const lineOf = (node: ts.Node): number => source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1
  const mention = (name: string, node: ts.Node): void => { mentions.push({ name, line: lineOf(node) }) }

  function addImport (specifier: ts.Node | undefined, typeOnly: boolean): void {
    if (specifier === undefined || !ts.isStringLiteralLike(specifier)) return
    const written = specifier.text
    const file = written.startsWith('.') ? posix.join(posix.dirname(path), written).replace(/\.js$/, '.ts') : undefined
    imports.push({ specifier: written, file, typeOnly, line: lineOf(specifier) })
  }

  function visit (node: ts.Node): void {
    if (ts.isImportDeclaration(node)) {
      addImport(node.moduleSpecifier, isTypeOnly(node.importClause))
      return
    }
    if (ts.isExportDeclaration(node)) {
      addImport(node.moduleSpecifier, node.isTypeOnly || allTypes(node.exportClause))
      return
    }
    if (ts.isExportAssignment(node) || hasModifier(node, ts.SyntaxKind.DefaultKeyword)) mention('export default', node)
    if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) addImport(node.argument.literal, true)
    if (ts.isExternalModuleReference(node)) addImport(node.expression, false)
    if (ts.isCallExpression(node) && (node.expression.kind === ts.SyntaxKind.ImportKeyword || (ts.isIdentifier(node.expression) && node.expression.text === 'require'))) {
      addImport(node.arguments[0], false)
    }
    if (ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)) types.push(node.name.text)
    if (ts.isNonNullExpression(node)) mentions.push({ name: '!', line: source.getLineAndCharacterOfPosition(node.getEnd()).line + 1 })
    if (ts.isAwaitExpression(node)) mention('await', node)
    if (hasModifier(node, ts.SyntaxKind.AsyncKeyword)) mention('async', node)
    if (ts.isNewExpression(node) && ts.isIdentifier(node.expression) && node.expression.text === 'Date') {
      mention((node.arguments?.length ?? 0) === 0 ? 'new Date()' : 'new Date(...)', node)
      node.arguments?.forEach(visit)
      return
    }
    if (ts.isVariableStatement(node) && node.parent === source && !(node.declarationList.flags & ts.NodeFlags.Const)) {
      for (const { name } of node.declarationList.declarations) mutableTopLevel.push({ name: name.getText(source), line: lineOf(name) })
    }
    if (ts.isIdentifier(node) && isReference(node)) mention(chain(node), node)
    ts.forEachChild(node, visit)
  }
  visit(source)
  return { path, lines: text.replace(/\n$/, '').split('\n').length, imports, mentions, types, comments: readComments(source, text), mutableTopLevel }
}

function isTypeOnly (clause: ts.ImportClause | undefined): boolean {
  if (clause === undefined) return false
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return true
  return clause.name === undefined && allTypes(clause.namedBindings)
}

function allTypes (bindings: ts.NamedImportBindings | ts.NamedExportBindings | undefined): boolean {
  return bindings !== undefined && (ts.isNamedImports(bindings) || ts.isNamedExports(bindings)) &&
    bindings.elements.length > 0 && bindings.elements.every((element) => element.isTypeOnly)
}

function hasModifier (node: ts.Node, kind: ts.SyntaxKind): boolean {
  return ts.canHaveModifiers(node) && (ts.getModifiers(node)?.some((modifier) => modifier.kind === kind) ?? false)
}

/** True where the identifier reads something, and is neither the name of a declaration or member nor part of a type. */
function isReference (node: ts.Identifier): boolean {
  const { parent } = node
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node
  if (ts.isPropertyAssignment(parent)) return parent.initializer === node
  if (ts.isBindingElement(parent)) return parent.initializer === node
  if (ts.isShorthandPropertyAssignment(parent)) return true
  if (ts.isQualifiedName(parent) || ts.isTypeNode(parent) || ts.isTypeElement(parent)) return false
  if ((parent as { name?: ts.Node }).name === node) return false
  return !ts.isLabeledStatement(parent) && !ts.isBreakOrContinueStatement(parent)
}

/** `Date` and what is taken from it: `Date.now`, `Date['now']` and `globalThis.Date.now` alike; `Date` alone when it is used as a value. */
function chain (start: ts.Identifier): string {
  let name = start.text
  let node: ts.Node = start
  for (;;) {
    const parent: ts.Node = node.parent
    let member: string | undefined
    if (ts.isPropertyAccessExpression(parent) && parent.expression === node) member = parent.name.text
    else if (ts.isElementAccessExpression(parent) && parent.expression === node && ts.isStringLiteralLike(parent.argumentExpression)) member = parent.argumentExpression.text
    if (member === undefined) return name
    name = name === 'globalThis' || name === 'global' ? member : `${name}.${member}`
    node = parent
  }
}

function readComments (source: ts.SourceFile, text: string): Mention[] {
  const seen = new Map<number, Mention>()
  const collect = (node: ts.Node): void => {
    for (const range of [...ts.getLeadingCommentRanges(text, node.getFullStart()) ?? [], ...ts.getTrailingCommentRanges(text, node.getEnd()) ?? []]) {
      seen.set(range.pos, { name: text.slice(range.pos, range.end), line: source.getLineAndCharacterOfPosition(range.pos).line + 1 })
    }
    node.getChildren(source).forEach(collect)
  }
  collect(source)
  return [...seen.values()]
}
