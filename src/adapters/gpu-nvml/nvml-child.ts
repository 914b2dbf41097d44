/**
 * The child process that asks the driver: `node nvml-child.js <question as JSON>`; the answer is JSON on descriptor 3.
 * It imports koffi when it is asked for NVML, and nothing of this package: starting it is most of what it costs.
 */
import { writeSync } from 'node:fs';
import { readAmdCards } from './drm.js';
import { askNvml } from './nvml.js';
import type { ChildAnswer, ChildQuestion } from './sources.js';

const question = JSON.parse(process.argv[2] ?? '') as ChildQuestion;
const answer: ChildAnswer =
  question.source === 'nvml' ? await askNvml(question.libraryPath, question.endsAfterMs) : readAmdCards(question.cards);
writeSync(3, JSON.stringify(answer));
// At once: what a driver's library does when it is unloaded is not worth waiting for.
process.exit(0);
