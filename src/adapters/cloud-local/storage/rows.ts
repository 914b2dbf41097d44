/**
 * How entries become statements. Namespaces are numbers here.
 *
 * Where each call is a hop to a thread, rows travel packed: all keys and values as one blob, and a JSON array of one
 * number for each row that says where its parts lie. Binding every part by itself costs the event loop 1.3 µs each
 * (64 rows of 256 B: 340 µs against 253, of which 158 against 80 on the loop; deletes 217 against 153). Where a call runs
 * at once, parsing the JSON costs more than binding (319 µs against 261), and rows go in statements of many.
 *
 * A few rows that no single statement writes go as one text with BEGIN and COMMIT, one hop where there were four or more:
 * items that are handed over for the second time and acked, 1,640 a second against 1,010.
 */
import type { SqlConnection, SqlValue, Statements } from './engine.js';

/** What is stored under a key, `null` for a deletion. */
export interface EntryRow {
  readonly namespace: number;
  readonly key: Buffer;
  readonly value: Uint8Array | null;
}

export interface StatementCall {
  readonly sql: string;
  readonly values: SqlValue[];
}

/** A packed row's number: the offset of its key, counted from 1, in 22 bits, 8 bits of key length, 22 of value length. */
const OFFSET = 2 ** 30;
const KEY_LENGTH = 2 ** 22;
const PACKED_KEY_BYTES_MAX = 255;
/** A larger value is bound by itself: copying it would cost more than the hop. */
const PACKED_VALUE_BYTES_MAX = 64 * 1024;
/** One blob: what an offset can reach, less one row. */
const PACKED_BYTES_MAX = 2 ** 22 - PACKED_VALUE_BYTES_MAX - PACKED_KEY_BYTES_MAX - 1;
/** Rows of one packed statement: more would keep the loop busy for longer than a few ms at a time. */
const PACKED_ROWS_MAX = 4_096;

const KEY_AT = 'substr(?2, value >> 30, (value >> 22) & 255)';
const VALUE_AT = 'substr(?2, (value >> 30) + ((value >> 22) & 255), value & 4194303)';
const UPSERT = 'ON CONFLICT DO UPDATE SET value = excluded.value';
const PUT: Bucketed = {
  one: `INSERT INTO entry VALUES (?, ?, ?) ${UPSERT}`,
  many: (rows) => `INSERT INTO entry VALUES ${Array(rows).fill('(?,?,?)').join()} ${UPSERT}`,
};
const PUT_PACKED = `INSERT INTO entry SELECT ?3, ${KEY_AT}, ${VALUE_AT} FROM json_each(?1) WHERE true ${UPSERT}`;
const DELETE: Bucketed = {
  one: 'DELETE FROM entry WHERE namespace = ? AND key = ?',
  many: (rows) => `DELETE FROM entry WHERE (namespace, key) IN (VALUES ${Array(rows).fill('(?,?)').join()})`,
};
const DELETE_PACKED = `DELETE FROM entry WHERE namespace = ?3 AND key IN (SELECT ${KEY_AT} FROM json_each(?1))`;
const GET_ONE = 'SELECT value FROM entry WHERE namespace = ? AND key = ?';
/** `CROSS JOIN` keeps the order of the loops: each asked key is looked up, none is searched for among all entries. */
const GET_PACKED = `SELECT asked.key AS i, entry.value AS value FROM json_each(?1) AS asked CROSS JOIN entry
  WHERE entry.namespace = ?3 AND entry.key = ${KEY_AT.replaceAll('value', 'asked.value')}`;

/** Rows of one statement where rows are bound: each size is prepared once. */
const ROW_BUCKETS = [64, 16, 4] as const;

/** The statements that write `rows`, of which no two have the same key. */
export function writeCalls(rows: readonly EntryRow[], { threaded }: SqlConnection): StatementCall[] {
  const puts = rows.filter(({ value }) => value !== null);
  const deletes = puts.length === rows.length ? [] : rows.filter(({ value }) => value === null);
  if (!threaded) return [...inBuckets(puts, PUT), ...inBuckets(deletes, DELETE)];
  return [
    ...groups(puts).map(({ rows: [first], packed }) => call(packed, PUT_PACKED, PUT.one, first as EntryRow)),
    ...groups(deletes).map(({ rows: [first], packed }) => call(packed, DELETE_PACKED, DELETE.one, first as EntryRow)),
  ];
}

/** Rows, and bytes of keys and values, of a script: reading more as text would take longer than the hops that it saves. */
const SCRIPT_ROWS_MAX = 8;
const SCRIPT_BYTES_MAX = 4_096;

/**
 * A text that writes `rows` in one transaction, to be run in one hop together with `before`; `null` where statements take
 * no more hops, or the rows are too much for a text. It is left in the transaction when it fails.
 */
export function writeScript(
  rows: readonly EntryRow[],
  before: string | null,
  { threaded }: SqlConnection,
): string | null {
  if (!threaded || rows.length > SCRIPT_ROWS_MAX) return null;
  const [first] = rows;
  const oneStatement = rows.every(
    ({ namespace, value }) => namespace === first?.namespace && (value === null) === (first.value === null),
  );
  if (oneStatement && before === null) return null;
  let bytes = 0;
  for (const { key, value } of rows) bytes += key.length + (value?.length ?? 0);
  if (bytes > SCRIPT_BYTES_MAX) return null;
  const statements = rows.map(({ namespace, key, value }) =>
    value === null
      ? `DELETE FROM entry WHERE namespace = ${namespace} AND key = ${literal(key)}`
      : `INSERT INTO entry VALUES (${namespace}, ${literal(key)}, ${literal(value)}) ${UPSERT}`,
  );
  return [...(before === null ? [] : [before]), 'BEGIN IMMEDIATE', ...statements, 'COMMIT'].join(';');
}

function literal({ buffer, byteOffset, length }: Uint8Array): string {
  return `X'${Buffer.from(buffer, byteOffset, length).toString('hex')}'`;
}

/** The statements that look up some keys of one namespace; `places` says where in the list of keys each row belongs. */
export function lookUpCalls(
  { threaded }: SqlConnection,
  namespace: number,
  keys: readonly Buffer[],
): (StatementCall & { readonly places: readonly number[] })[] {
  const asked = keys.map((key, place) => ({ namespace, key, value: null, place }));
  const found = threaded ? groups(asked) : asked.map((row) => ({ rows: [row], packed: null }));
  return found.map(({ rows, packed }) => ({
    ...call(packed, GET_PACKED, GET_ONE, rows[0] as EntryRow),
    places: rows.map(({ place }) => place),
  }));
}

/** Runs such statements, and tells each value that is there with its place. */
export async function lookUp(
  calls: ReturnType<typeof lookUpCalls>,
  statements: Statements,
  into: (place: number, value: Uint8Array) => void,
): Promise<void> {
  for (const { sql, values, places } of calls) {
    for (const row of await (await statements.of(sql)).all(...values)) {
      into(places[Number(row.i ?? 0)] as number, row.value as Uint8Array);
    }
  }
}

type Packed = [json: string, parts: Buffer, namespace: number];

/** The statement for a group: packed, or of its one row. */
function call(packed: Packed | null, many: string, one: string, { namespace, key, value }: EntryRow): StatementCall {
  if (packed !== null) return { sql: many, values: packed };
  return { sql: one, values: value === null ? [namespace, key] : [namespace, key, value] };
}

/** Rows that travel together: of one namespace, and within the bounds of a packed statement; or one alone. */
function groups<T extends EntryRow>(rows: readonly T[]): { rows: T[]; packed: Packed | null }[] {
  const done: T[][] = [];
  const open = new Map<number, { rows: T[]; bytes: number }>();
  for (const row of rows) {
    const valueBytes = row.value?.length ?? 0;
    if (row.key.length > PACKED_KEY_BYTES_MAX || valueBytes > PACKED_VALUE_BYTES_MAX) {
      done.push([row]);
      continue;
    }
    let group = open.get(row.namespace);
    if (group === undefined || group.bytes > PACKED_BYTES_MAX || group.rows.length === PACKED_ROWS_MAX) {
      group = { rows: [], bytes: 0 };
      open.set(row.namespace, group);
      done.push(group.rows);
    }
    group.rows.push(row);
    group.bytes += row.key.length + valueBytes;
  }
  return done.map((group) => ({ rows: group, packed: group.length === 1 ? null : pack(group) }));
}

function pack(rows: readonly EntryRow[]): Packed {
  let bytes = 0;
  for (const { key, value } of rows) bytes += key.length + (value?.length ?? 0);
  // Never empty: a part of an empty blob is NULL, and no empty key.
  const parts = Buffer.allocUnsafe(Math.max(1, bytes));
  let json = '';
  let at = 0;
  for (const { key, value } of rows) {
    json += `${json === '' ? '[' : ','}${(at + 1) * OFFSET + key.length * KEY_LENGTH + (value?.length ?? 0)}`;
    parts.set(key, at);
    at += key.length;
    if (value === null) continue;
    parts.set(value, at);
    at += value.length;
  }
  return [`${json}]`, parts, (rows[0] as EntryRow).namespace];
}

interface Bucketed {
  readonly one: string;
  many(rows: number): string;
}

function inBuckets(rows: readonly EntryRow[], { one, many }: Bucketed): StatementCall[] {
  const calls: StatementCall[] = [];
  let at = 0;
  for (const size of [...ROW_BUCKETS, 1]) {
    if (rows.length - at < size) continue;
    const sql = size === 1 ? one : many(size);
    for (; rows.length - at >= size; at += size) {
      const values: SqlValue[] = [];
      for (const { namespace, key, value } of rows.slice(at, at + size)) {
        values.push(namespace, key);
        if (value !== null) values.push(value);
      }
      calls.push({ sql, values });
    }
  }
  return calls;
}
