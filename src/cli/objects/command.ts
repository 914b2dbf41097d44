/** `objects`: works the object store. */
import type { Command } from 'commander';
import { examples } from '../arguments.js';
import type { Cli } from '../io.js';
import { defineGc } from './gc.js';
import { defineGet } from './get.js';
import { defineLs } from './ls.js';
import { definePut } from './put.js';
import { defineRm } from './rm.js';
import { defineStat } from './stat.js';
import { defineVerify } from './verify.js';

export function define(command: Command, cli: Cli): void {
  for (const subcommand of [definePut, defineGet, defineStat, defineLs, defineRm, defineVerify, defineGc])
    subcommand(command, cli);
  examples(
    command.helpCommand(false),
    'rollout-cloud objects put model.bin',
    'rollout-cloud objects ls --prefix ab | head -3',
    'rollout-cloud objects verify',
  );
}
