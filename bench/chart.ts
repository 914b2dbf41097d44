/** Horizontal bars as an SVG that reads on a light and on a dark page. No library: it is a page of rectangles. */

export interface Bar {
  readonly label: string;
  readonly value: number;
  /** Drawn in the accent colour. */
  readonly isOurs: boolean;
}

export interface BarGroup {
  readonly title: string;
  readonly bars: readonly Bar[];
}

export interface BarChart {
  readonly title: string;
  /** A line below the title: what was measured, how to repeat it. */
  readonly note: string;
  readonly groups: readonly BarGroup[];
}

const WIDTH = 760;
const LABEL_WIDTH = 190;
const VALUE_WIDTH = 70;
const BAR_HEIGHT = 16;
const BAR_STEP = 20;
const GROUP_GAP = 40;
const TOP = 60;

/** Each group on a scale of its own, from 0; longest first, so that the eye need not sort. */
export function drawBars({ title, note, groups }: BarChart): string {
  const parts: string[] = [];
  let y = TOP;
  for (const { title: groupTitle, bars } of groups) {
    y += GROUP_GAP - BAR_STEP;
    parts.push(`<text class="group" x="16" y="${y}">${escaped(groupTitle)}</text>`);
    y += 8;
    const sorted = [...bars].sort((a, b) => b.value - a.value);
    const max = sorted[0]?.value || 1;
    for (const { label, value, isOurs } of sorted) {
      const width = Math.max(1, ((WIDTH - LABEL_WIDTH - VALUE_WIDTH - 32) * value) / max);
      const middle = y + BAR_HEIGHT - 4;
      parts.push(
        `<text class="label" x="${LABEL_WIDTH}" y="${middle}">${escaped(label)}</text>`,
        `<rect class="${isOurs ? 'ours' : 'bar'}" x="${LABEL_WIDTH + 8}" y="${y}" width="${width.toFixed(1)}" height="${BAR_HEIGHT}" rx="2"/>`,
        `<text class="value" x="${(LABEL_WIDTH + 14 + width).toFixed(1)}" y="${middle}">${escaped(show(value))}</text>`,
      );
      y += BAR_STEP;
    }
  }
  const height = y + 16;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escaped(title)}">
<style>
text { font: 12px system-ui, sans-serif; fill: #57606a; }
.title { font-size: 16px; font-weight: 600; fill: #1f2328; }
.group { font-size: 13px; font-weight: 600; fill: #1f2328; }
.label { text-anchor: end; }
.bar { fill: #afb8c1; }
.ours { fill: #0969da; }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1; }
  .title, .group { fill: #f0f6fc; }
  .bar { fill: #57606a; }
  .ours { fill: #4493f8; }
}
</style>
<text class="title" x="16" y="28">${escaped(title)}</text>
<text x="16" y="48">${escaped(note)}</text>
${parts.join('\n')}
</svg>
`;
}

/** Three digits that matter, thousands set apart. */
function show(value: number): string {
  const rounded = value >= 100 ? Math.round(value) : Number(value.toPrecision(3));
  return rounded.toLocaleString('en-US');
}

function escaped(text: string): string {
  return text.replace(/[<>&"]/g, (c) => ({ '<': '&lt;', '>': '&gt;', '&': '&amp;', '"': '&quot;' })[c] ?? c);
}
