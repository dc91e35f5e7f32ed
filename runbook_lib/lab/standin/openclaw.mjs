#!/usr/bin/env node
// The command line: words to functions. Every function returns the exit code, or nothing to keep running.
import { parseArgs } from 'node:util';
import { fail } from './output.mjs';
import { VERSION } from './release.mjs';

const COMMANDS = {
  gateway: async (o) => (await import('./gateway.mjs')).run(o),
  'gateway run': async (o) => (await import('./gateway.mjs')).run(o),
  'gateway suspend': async (o) => (await import('./remote.mjs')).suspend(o),
  'gateway resume': async (o, [id]) => (await import('./remote.mjs')).resume(o, id),
  'gateway install': async (o) => (await import('./installer.mjs')).install(o),
  'gateway call': async (o, [method]) => (await import('./remote.mjs')).call(o, method),
  'config validate': async (o) => (await import('./checks.mjs')).validate(o),
  'database preflight': async (o, [file]) => (await import('./checks.mjs')).preflight(o, file),
  'backup create': async (o) => (await import('./backup.mjs')).create(o),
  'backup verify': async (o, [file]) => (await import('./restore.mjs')).verify(o, file),
  'backup restore': async (o, [file]) => (await import('./restore.mjs')).restore(o, file),
  onboard: async (o) => (await import('./installer.mjs')).onboard(o),
  'models auth': async (o) => (await import('./installer.mjs')).pasteKey(o),
  doctor: async (o) => (await import('./checks.mjs')).doctor(o),
};

const text = { type: 'string' };
const flag = { type: 'boolean' };
const OPTIONS = {
  'auth-choice': text, bind: text, 'custom-api-key': text, 'custom-base-url': text, 'custom-compatibility': text,
  'custom-model-id': text, 'custom-provider-id': text, 'gateway-bind': text, 'gateway-port': text, mode: text,
  'profile-id': text, provider: text, output: text, params: text, port: text, target: text, wait: text,
  'request-id': text, 'severity-min': text,
  'accept-risk': flag, 'non-interactive': flag, 'skip-bootstrap': flag, 'skip-channels': flag, 'skip-daemon': flag,
  'skip-health': flag, 'skip-search': flag, 'skip-skills': flag, 'skip-ui': flag,
  json: flag, lint: flag, verify: flag, version: flag,
};

async function main(argv) {
  const { values, positionals } = parseArgs({ args: argv, options: OPTIONS, allowPositionals: true });
  if (values.version) {
    console.log(`OpenClaw ${VERSION} (standin)`);
    return 0;
  }
  const words = COMMANDS[positionals.slice(0, 2).join(' ')] ? 2 : 1;
  const command = COMMANDS[positionals.slice(0, words).join(' ')];
  if (!command) throw new Error(`OpenClaw does not know the command "${positionals.join(' ')}".`);
  return command(values, positionals.slice(words));
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.exitCode = fail(error, process.argv.includes('--json'));
}
