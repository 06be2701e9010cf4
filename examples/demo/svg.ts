declare const SAFE: unique symbol

/** A piece of SVG that is safe to put into more SVG. Plain strings are not taken for one: they have to be escaped first. */
export type Svg = string & { readonly [SAFE]: true }

/** An element; attribute values are escaped, children are SVG already. */
export function element(name: string, attributes: Readonly<Record<string, string | number>>, ...children: readonly Svg[]): Svg {
  const written = Object.entries(attributes)
    .map(([key, value]) => ` ${key}="${typeof value === 'number' ? round(value) : escapeXml(value)}"`)
    .join('')
  return (children.length === 0 ? `<${name}${written}/>` : `<${name}${written}>${children.join('')}</${name}>`) as Svg
}

export function text(x: number, y: number, className: string, content: string, more: Readonly<Record<string, string | number>> = {}): Svg {
  return element('text', { x, y, class: className, ...more }, escapeXml(content))
}

/** Characters that XML 1.0 does not know at all are left out. */
export function escapeXml(value: string): Svg {
  return value
    .replace(/[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, '')
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`) as Svg
}

/** A tenth of a pixel is more than anyone sees. */
function round(value: number): string {
  return String(Math.round(value * 10) / 10)
}
