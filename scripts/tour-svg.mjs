/**
 * Draws docs/tour.svg: what `npm start` prints, run in a folder of its own so that no path of this machine shows.
 * Run it by hand when the output has changed: `node scripts/tour-svg.mjs`.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const LINE_HEIGHT = 18;
const CHARACTER_WIDTH = 7.83; // of the 13 px monospace fonts below
const PADDING = 20;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'tour-')));
cpSync(join(root, 'src'), join(folder, 'src'), { recursive: true });
cpSync(join(root, 'plugins.json'), join(folder, 'plugins.json'));
const tour = () =>
  execFileSync(process.execPath, [join(root, 'dist/cli/main.js'), 'tour'], { cwd: folder, encoding: 'utf8' });
const text = tour();
rmSync(folder, { recursive: true });

const escaped = (line) => line.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
const lines = ['$ npm start', '', ...text.replaceAll(folder, '/app').trimEnd().split('\n')];
const width = Math.ceil(Math.max(...lines.map((line) => line.length)) * CHARACTER_WIDTH) + 2 * PADDING;
const height = lines.length * LINE_HEIGHT + 2 * PADDING;
const rows = lines.map((line, i) => {
  const y = PADDING + (i + 0.75) * LINE_HEIGHT;
  const [, label = '', rest = line] = /^([a-z]+)( {2,}.*)$/.exec(line) ?? [];
  return `<text x="${PADDING}" y="${y}" xml:space="preserve"><tspan class="label">${label}</tspan>${escaped(rest)}</text>`;
});
writeFileSync(
  join(root, 'docs/tour.svg'),
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="What npm start prints">
<style>text { font: 13px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d8dee9 } .label { fill: #88c0d0 }</style>
<rect width="100%" height="100%" rx="8" fill="#242933"/>
${rows.join('\n')}
</svg>
`,
);
