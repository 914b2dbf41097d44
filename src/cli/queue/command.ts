/** `queue`: sends, receives and works off items, and what becomes of those that were given up. */
import type { Command } from 'commander';
import { examples } from '../arguments.js';
import type { Cli } from '../io.js';
import { defineDead, definePurge, defineRequeue } from './dead.js';
import { defineReceive } from './receive.js';
import { defineSend } from './send.js';
import { defineStats } from './stats.js';
import { defineWork } from './work.js';

export function define(command: Command, cli: Cli): void {
  const subcommands = [defineSend, defineReceive, defineStats, defineWork, defineDead, defineRequeue, definePurge];
  for (const subcommand of subcommands) subcommand(command, cli);
  examples(
    command.helpCommand(false),
    'rollout-cloud queue send --text hello',
    'rollout-cloud queue work --until-empty -- wc -c',
    'rollout-cloud queue stats',
  );
}
