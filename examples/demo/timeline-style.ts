/** Backends in the order of their priority; dark, middle and light, so that neighbours differ without colour as well. */
const BACKENDS = ['#2456c8', '#2bb3a0', '#b199ee', '#5b7083', '#d172a8', '#7fa32b', '#45a8d8', '#8c6d52']
const BACKENDS_DARK = ['#5b8dff', '#36c9b4', '#cdbcff', '#8fa5b8', '#ec93c4', '#a5cc4d', '#72c8f2', '#b8987a']

/** How many backends get a colour of their own; further ones begin anew. */
export const BACKEND_COLOURS = BACKENDS.length

/** Colours as plain values in classes: not every viewer of SVG knows custom properties. */
export const STYLE = `
text { font: 13px system-ui, -apple-system, Segoe UI, Roboto, Liberation Sans, sans-serif; }
.title { font-size: 20px; font-weight: 600; }
.name { font-size: 15px; font-weight: 600; }
.result { font-weight: 600; }
.small { font-size: 12px; }
.number { font-variant-numeric: tabular-nums; }
.started { fill: none; stroke-width: 1.5; stroke-dasharray: 4 3; }
${colours('#ffffff', '#1f2328', '#59636e', '#e4e7eb', '#8c959f', '#f0a30a', '#b4531f', '#d1242f', BACKENDS)}
@media (prefers-color-scheme: dark) {
${colours('#0d1117', '#e6edf3', '#9198a1', '#262c36', '#6e7781', '#f5b83d', '#d9793f', '#ff6a69', BACKENDS_DARK)}
}
`

function colours(
  paper: string, ink: string, muted: string, grid: string, axis: string,
  throttled: string, error: string, failed: string, backends: readonly string[],
): string {
  return [
    `.paper { fill: ${paper}; }`,
    `.title, .name, .result { fill: ${ink}; }`,
    `.small { fill: ${muted}; }`,
    `.grid { stroke: ${grid}; }`,
    `.axis { stroke: ${axis}; }`,
    `.started { stroke: ${ink}; }`,
    `.throttled { fill: ${throttled}; }`,
    `.error { fill: ${error}; }`,
    `.failed { fill: ${failed}; }`,
    ...backends.map((colour, index) => `.backend-${index} { fill: ${colour}; }`),
  ].join('\n')
}
