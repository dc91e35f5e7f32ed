// `gateway run`: checks, state, listeners, and the way out.
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import v8 from 'node:v8';
import * as configuration from './config.mjs';
import { Events } from './events.mjs';
import { Faults } from './faults.mjs';
import { openLog } from './log.mjs';
import { thinker } from './model.mjs';
import { STATE_SCHEMA, VERSION } from './release.mjs';
import { Runs } from './runs.mjs';
import { bearer, sameSecret } from './secrets.mjs';
import { createServers } from './server.mjs';
import { openState, StateError } from './state.mjs';
import { Suspension } from './suspend.mjs';
import { Sockets } from './websocket.mjs';

const EX_CONFIG = 78;
const SETTLE_MS = 20;
// Compiled code and a growing nursery put 30 % on a busy gateway's memory; two gateways at different
// weights have to stay comparable.
const STEADY_MEMORY = ['--no-opt', '--no-maglev', '--no-sparkplug', '--semi-space-growth-factor=1'];

export async function run(options) {
  process.umask(0o077);
  for (const flag of STEADY_MEMORY) v8.setFlagsFromString(flag);
  const { env } = process;
  const { config, ...loaded } = configuration.load(env);
  const wrong = refusal(config, loaded);
  if (wrong) return stop(wrong, EX_CONFIG);
  // Neither `config validate` nor `doctor --lint` sees this one coming, in OpenClaw too.
  if (config.hooks?.enabled && !config.hooks.token) return stop('hooks.enabled requires hooks.token', 1);

  const stateDir = configuration.stateDir(env);
  const faults = new Faults(stateDir);
  if (faults.exitCode !== undefined) return stop('practice fault', faults.exitCode);

  const port = configuration.port(options, env, config);
  const log = openLog(config);
  let state;
  try {
    state = openState(stateDir, port, configuration.agentDir(env, config));
  } catch (error) {
    if (error instanceof StateError) return stop(error.message, EX_CONFIG);
    throw error;
  }
  mkdirSync(configuration.workspace(env, config), { recursive: true });

  log('gateway', 'starting HTTP server...');
  const gateway = createGateway({ config, env, faults, log, state });
  const servers = createServers(gateway);
  try {
    await servers.listen(port);
  } catch (error) {
    stop(`another gateway instance is already listening on ws://127.0.0.1:${port} | ${error.message}`, 1);
    process.exit(1);
  }
  process.title = 'openclaw-gateway';
  for (const { path, message } of loaded.warnings) log('config', `warning: ${path}: ${message}`);
  log('gateway', `${VERSION} listening on 127.0.0.1 and ::1 port ${port}, state schema ${STATE_SCHEMA}`);
  setTimeout(() => {
    gateway.booted = true;
    log('gateway', 'ready');
  }, Number(env.STANDIN_BOOT_MS ?? 1000));
  faults.watch(gateway.events, (code) => process.exit(code));
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => drain(gateway, servers, signal));
  return undefined;
}

function refusal(config, { path, issues, missing }) {
  if (issues.length) return `Invalid config at ${path}:\n${issues.map((i) => `${i.path}: ${i.message}`).join('\n')}`;
  if (missing || !config.gateway?.mode) return 'Gateway start blocked: existing config is missing gateway.mode.';
  return undefined;
}

function stop(reason, code) {
  console.error(`Gateway failed to start: ${reason}`);
  return code;
}

function createGateway({ config, env, faults, log, state }) {
  const startedAt = Date.now();
  const runs = new Runs(state, thinker(config, env), log);
  // An unresolved ${NAME} is no token: the gateway then makes one up that nobody knows, as OpenClaw does.
  const written = config.gateway.auth?.token ?? env.OPENCLAW_GATEWAY_TOKEN;
  const token = /^\$\{\w+\}$/.test(written ?? '') || !written ? randomUUID() : written;
  let requests = 0;
  const work = () => ({ dispatches: runs.dispatches, running: runs.running, requests: runs.dispatches + requests });
  return {
    config, env, faults, log, runs, state, work,
    events: new Events(state, runs),
    sockets: new Sockets(),
    suspension: new Suspension(work),
    booted: false,
    stopping: false,
    get phase() {
      if (this.stopping || this.suspension.phase !== 'accepting') return 'draining';
      return this.booted ? 'running' : 'starting';
    },
    uptimeMs: () => Date.now() - startedAt,
    isOperator: (request) => sameSecret(bearer(request), token),
    hold() {
      requests += 1;
      return () => (requests -= 1);
    },
  };
}

async function drain(gateway, servers, signal) {
  if (gateway.stopping) return;
  gateway.stopping = true;
  gateway.log('gateway', `received ${signal}; shutting down`);
  while (gateway.work().requests > 0) await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  gateway.log('gateway', 'active-work drain settled; beginning server close');
  gateway.sockets.closeAll();
  await servers.close();
  gateway.state.close();
  gateway.log('shutdown', 'completed cleanly');
  process.exit(0);
}
