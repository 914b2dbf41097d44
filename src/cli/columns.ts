/** Aligned columns, for a terminal and for a file alike. */
import Table from 'cli-table3';

/** Rows in aligned columns, two spaces apart, without rules. Colours do not count as width. */
export function columns(rows: readonly (readonly string[])[]): string {
  const none = Object.fromEntries(BORDERS.map((name) => [name, '']));
  const table = new Table({
    chars: { ...none, middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  table.push(...rows.map((row) => [...row]));
  return table.toString().replace(/ +$/gm, '');
}

const BORDERS = [
  'top',
  'top-mid',
  'top-left',
  'top-right',
  'bottom',
  'bottom-mid',
  'bottom-left',
  'bottom-right',
  'left',
  'left-mid',
  'mid',
  'mid-mid',
  'right',
  'right-mid',
];
