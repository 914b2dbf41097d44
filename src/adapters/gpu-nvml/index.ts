/**
 * The plugin `rollout.gpu-nvml`: GPUs for the inventory of a compute hint. Nothing native is loaded into this process, by
 * importing it or later: NVML is called in a child process that ends with its answer.
 */
import { definePlugin } from '../../contracts/plugin.js';
import { NvmlEnumerator } from './enumerator.js';

export { NvmlEnumerator, type NvmlEnumeratorOptions } from './enumerator.js';

export default definePlugin({
  adapters: {
    nvml: ({ config, signal }) => new NvmlEnumerator({ ...config, signal }),
  },
});
