/** Which pairs there are, and which of them are wanted. */

/** The oldest Node that is supported, and the latest of every line. */
const NODES = ['20.18.1', '20', '22', '24', '26'] as const
/** The oldest that is supported, and the latest of every line. */
const UNDICIS = ['7.27.2', '7', '8'] as const
const OPENAIS = ['6', '7'] as const

const NEEDS_A_NEWER_UNDICI = String.raw`needs undici 7\.27\.2 or newer, or 8; found 7\.\d+\.\d+, .* Run: npm install undici@7`
const NEEDS_A_NEWER_NODE = String.raw`undici 8\.\d+\.\d+ needs Node\.js 22\.19 or newer; this is 20\.\d+\.\d+\. Run: npm install undici@7`

/** A version as npm understands it, `24` being the latest of that line. */
export interface Cell {
  readonly node: string
  readonly undici: string
  /** None where only the refusal is looked at. */
  readonly openai: string | undefined
  /** Set for a pair that cannot work: what whoever imports the package must be told. */
  readonly refusal?: string
  /** Set where tests of this project are run, from its sources and in its own folder, in place of a consumer's checks. */
  readonly tests?: string
  /** Also run by `--quick`. */
  readonly quick: boolean
}

/** The two ends of what is supported, and in between the pair whose defects are the most. */
const QUICK = new Set(['20.18.1/7.27.2/6', '22/8/7', '26/8/7'])

export function planCells (): Cell[] {
  const cells: Cell[] = []
  for (const node of NODES) {
    for (const undici of UNDICIS) {
      if (undici === '8' && node.startsWith('20')) {
        cells.push({ node, undici, openai: undefined, refusal: NEEDS_A_NEWER_NODE, quick: node === '20' })
        continue
      }
      for (const openai of OPENAIS) cells.push({ node, undici, openai, quick: QUICK.has(`${node}/${undici}/${openai}`) })
    }
    // 7.27.1 is the last that is too old; 7.20.0 is one that misses every native fetch of Node 26 without a word.
    for (const undici of ['7.27.1', '7.20.0']) cells.push({ node, undici, openai: undefined, refusal: NEEDS_A_NEWER_UNDICI, quick: node === '26' })
    // The project's own `openai` is 6, which Node 20 can load: elsewhere the tests of clients are run with that one.
    if (node === '24') cells.push({ node, undici: '7', openai: '7', tests: 'test/clients', quick: false })
  }
  return cells
}

export interface Wanted {
  readonly only: Readonly<Record<string, string>>
  readonly quick: boolean
  /** Leave the consumer projects where they are, for looking into. */
  readonly keep: boolean
}

/** `--only node=24,undici=8 --quick --keep` */
export function readWanted (args: readonly string[]): Wanted {
  const only: Record<string, string> = {}
  let quick = false
  let keep = false
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? ''
    if (arg === '--quick') quick = true
    else if (arg === '--keep') keep = true
    else if (arg === '--only' || arg.startsWith('--only=')) {
      const value = arg === '--only' ? args[++i] ?? '' : arg.slice('--only='.length)
      for (const part of value.split(',')) {
        const [key = '', version = ''] = part.split('=')
        if (!['node', 'undici', 'openai'].includes(key) || version === '') throw new Error(`--only takes node=..., undici=... and openai=..., not ${JSON.stringify(part)}`)
        only[key] = version
      }
    } else throw new Error(`unknown argument ${arg}: there are --only node=24,undici=8,openai=7, --quick and --keep`)
  }
  return { only, quick, keep }
}

export function isWanted (cell: Cell, { only, quick }: Wanted): boolean {
  const matches = (['node', 'undici', 'openai'] as const).every((key) => only[key] === undefined || only[key] === cell[key])
  return matches && (!quick || cell.quick)
}
