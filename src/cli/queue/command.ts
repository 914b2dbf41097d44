/** `queue`: sends, receives and works off items. */
import type { Command } from 'commander';
import { examples } from '../arguments.js';
import type { Cli } from '../io.js';
import { defineReceive } from './receive.js';
import { defineSend } from './send.js';
import { defineStats } from './stats.js';
import { defineWork } from './work.js';

export function define(command: Command, cli: Cli): void {
  for (const subcommand of [defineSend, defineReceive, defineStats, defineWork]) subcommand(command, cli);
  examples(
    command.helpCommand(false),
    'rollout-cloud queue send --text hello',
    'rollout-cloud queue work --until-empty -- wc -c',
    'rollout-cloud queue stats',
  );
}
