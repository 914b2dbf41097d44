/** Stand-ins for a driver: libraries compiled from fake-nvml.c, scripts named nvidia-smi, and trees of /sys. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('./fake-nvml.c', import.meta.url));

/** `null`: there is a compiler; else why there are no stand-ins for the library. */
export const NO_COMPILER: string | null =
  process.platform !== 'linux'
    ? 'not Linux'
    : spawnSync('cc', ['--version']).status === 0
      ? null
      : 'needs a C compiler named cc';

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'rollout-nvml-')));
const built = new Map<string, string>();

/** The folder of a libnvidia-ml.so.1, compiled with these definitions, once each. */
export function fakeLibrary(...defines: readonly string[]): string {
  const key = defines.join(' ');
  const known = built.get(key);
  if (known !== undefined) return known;
  const path = join(folder, `lib-${built.size}`);
  mkdirSync(path);
  const flags = ['-shared', '-fPIC', '-o', join(path, 'libnvidia-ml.so.1'), ...defines.map((name) => `-D${name}`)];
  const { status, stderr } = spawnSync('cc', [...flags, SOURCE], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  built.set(key, path);
  return path;
}

/** A new folder, with an executable script in it where one is given. */
export function folderWith(files: Readonly<Record<string, string | Uint8Array>> = {}): string {
  const path = mkdtempSync(join(folder, 'folder-'));
  for (const [name, content] of Object.entries(files)) {
    const file = join(path, name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
    if (typeof content === 'string' && content.startsWith('#!')) chmodSync(file, 0o755);
  }
  return path;
}

/** A root with the graphics cards `card<n>` in /sys, each a link to a PCI device's folder, as the kernel has them. */
export function sysWith(cards: readonly Readonly<Record<string, string>>[]): string {
  const root = folderWith();
  mkdirSync(join(root, 'sys/class/drm'), { recursive: true });
  cards.forEach((files, n) => {
    const device = join(root, `sys/devices/pci0000:00/0000:0${n}:00.0`);
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(join(device, dirname(name)), { recursive: true });
      writeFileSync(join(device, name), content);
    }
    const card = join(device, `drm/card${n}`);
    mkdirSync(card, { recursive: true });
    symlinkSync('../..', join(card, 'device'));
    symlinkSync(card, join(root, `sys/class/drm/card${n}`));
    mkdirSync(join(root, `sys/class/drm/card${n}-DP-1`));
  });
  return root;
}

export function removeFakes(): void {
  rmSync(folder, { recursive: true, force: true });
}
