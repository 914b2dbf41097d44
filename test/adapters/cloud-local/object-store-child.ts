/**
 * A process that puts blobs into a root shared with others: `<root> <seed> <count>`, the count possibly `Infinity`.
 * Every second blob is the same for all processes. Prints an id once its put has resolved, so whatever is printed was
 * promised.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { FsObjectStore } from '../../../src/adapters/cloud-local/object-store.js';

const [root, seed, count] = process.argv.slice(2);
const store = await FsObjectStore.open(root);
for (let n = 0; n < Number(count); n++) {
  const block = createHash('sha512')
    .update(n % 2 === 0 ? `shared ${n}` : `${seed} ${n}`)
    .digest();
  // From 64 bytes to 2 MiB, by way of every path that a put can take.
  const bytes = Buffer.alloc(64 << (n % 16), block);
  const id = await (n % 3 === 0 ? store.putStream(new Blob([bytes]).stream()) : store.putBytes(bytes));
  fs.writeSync(1, `${id}\n`);
}
