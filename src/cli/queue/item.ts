/** How an item is shown: as a line, and as JSON. Text is a JSON string, other bytes are in base64. */
import { isUtf8 } from 'node:buffer';
import type { QueueItem } from '../../contracts/queue.js';
import { quoted } from '../output.js';

export function itemLine({ id, attempts, payload }: QueueItem): string {
  const text = isUtf8(payload) ? quoted(textOf(payload, 'utf8')) : `base64:${textOf(payload, 'base64')}`;
  return `${id}  ${attempts}  ${text}\n`;
}

export function itemDocument({ id, attempts, payload }: QueueItem): object {
  const encoding = isUtf8(payload) ? 'utf8' : 'base64';
  return { id, attempts, encoding, payload: textOf(payload, encoding) };
}

function textOf(payload: Uint8Array, encoding: 'utf8' | 'base64'): string {
  return Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString(encoding);
}
