// openclaw.json: where it is, what it says with ${NAMES} filled in, and what is wrong with it.
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import * as json5 from './json5.mjs';

const KNOWN = {
  '<root>': [
    '$schema', 'acp', 'accessGroups', 'agents', 'approvals', 'attachments', 'auth', 'bindings', 'broadcast',
    'browser', 'channels', 'cloudWorkers', 'commands', 'cron', 'desktop', 'diagnostics', 'discovery', 'env',
    'gateway', 'hooks', 'logging', 'mcp', 'memory', 'messages', 'meta', 'models', 'nodeHost', 'plugins', 'proxy',
    'secrets', 'security', 'session', 'skills', 'surfaces', 'talk', 'telemetry', 'tools', 'transcripts', 'tts',
    'ui', 'update', 'wizard', 'worktreeAcceleration', 'worktreeRoot',
  ],
  gateway: [
    'allowRealIpFallback', 'auth', 'bind', 'cliAgents', 'controlUi', 'customBindHost', 'http', 'mode', 'nodes',
    'port', 'portals', 'publicOrigin', 'push', 'reload', 'remote', 'roles', 'tailscale', 'terminal', 'tls',
    'tools', 'trustedProxies',
  ],
  hooks: [
    'allowRequestSessionKey', 'allowedAgentIds', 'allowedSessionKeyPrefixes', 'defaultSessionKey', 'enabled',
    'gmail', 'internal', 'mappings', 'path', 'presets', 'token', 'transformsDir',
  ],
  logging: ['audit', 'consoleLevel', 'consoleStyle', 'file', 'level', 'maxFileBytes', 'redactPatterns'],
  plugins: ['allow', 'deny', 'enabled', 'entries', 'load', 'slots'],
  update: ['auto', 'channel', 'checkOnStart'],
};

const TYPES = {
  'gateway.port': 'number',
  'gateway.mode': 'string',
  'gateway.auth': 'object',
  'gateway.trustedProxies': 'array',
  'hooks.enabled': 'boolean',
  'hooks.token': 'string',
  'hooks.path': 'string',
  'hooks.mappings': 'array',
  'logging.file': 'string',
  'plugins.entries': 'object',
};

export function stateDir(env) {
  return path.resolve(env.OPENCLAW_STATE_DIR || path.join(homedir(), '.openclaw'));
}

export function configPath(env) {
  return path.resolve(env.OPENCLAW_CONFIG_PATH || path.join(stateDir(env), 'openclaw.json'));
}

export function port(options, env, config) {
  return Number(options.port || env.OPENCLAW_GATEWAY_PORT || config.gateway?.port || 18789);
}

const expanded = (folder) => path.resolve(folder.replace(/^~(?=\/|$)/, homedir()));

export function workspace(env, config) {
  const { entries, defaults } = config.agents ?? {};
  return expanded(entries?.main?.workspace || defaults?.workspace || path.join(stateDir(env), 'workspace'));
}

export function agentDir(env, config) {
  return expanded(config.agents?.entries?.main?.agentDir || path.join(stateDir(env), 'agents', 'main', 'agent'));
}

export function load(env) {
  const file = configPath(env);
  const result = { path: file, config: {}, issues: [], warnings: [], missing: false };
  let source;
  try {
    source = readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
    return { ...result, missing: true };
  }
  try {
    result.config = substitute(included(json5.parse(source), path.dirname(file)), env, result.warnings);
  } catch (error) {
    result.issues.push({ path: '<root>', message: `JSON5 parse failed: ${error.name}: ${error.message}` });
    return result;
  }
  result.issues.push(...wrongTypes(result.config), ...unknownKeys(result.config));
  return result;
}

// `$include` names files beside this one; what stands beside it in the same object wins.
function included(value, folder) {
  if (Array.isArray(value)) return value.map((one) => included(one, folder));
  if (!value || typeof value !== 'object') return value;
  const { $include: names = [], ...own } = value;
  const read = (name) => {
    const file = path.resolve(folder, name);
    return included(json5.parse(readFileSync(file, 'utf8')), path.dirname(file));
  };
  const mine = Object.fromEntries(Object.entries(own).map(([key, one]) => [key, included(one, folder)]));
  return [].concat(names).map(read).concat(mine).reduce(merged);
}

function merged(below, above) {
  if (![below, above].every((value) => value && typeof value === 'object' && !Array.isArray(value))) return above;
  const both = { ...below };
  for (const [key, value] of Object.entries(above)) both[key] = key in below ? merged(below[key], value) : value;
  return both;
}

// A missing name stays in the value as it was written and only warns: the real gateway starts like that too.
function substitute(value, env, warnings, at = '') {
  if (Array.isArray(value)) return value.map((v, i) => substitute(v, env, warnings, `${at}[${i}]`));
  if (value && typeof value === 'object') {
    return Object.fromEntries(
      Object.entries(value).map(([k, v]) => [k, substitute(v, env, warnings, at ? `${at}.${k}` : k)]),
    );
  }
  if (typeof value !== 'string') return value;
  return value.replace(/(\$?)\$\{([A-Z_][A-Z0-9_]*)\}/g, (written, escaped, name) => {
    if (escaped) return written.slice(1);
    if (env[name]) return env[name];
    const message = `Missing env var "${name}" - feature using this value will be unavailable`;
    warnings.push({ path: at, message });
    return written;
  });
}

function typeOf(value) {
  if (Array.isArray(value)) return 'array';
  return value === null ? 'null' : typeof value;
}

function wrongTypes(config) {
  return Object.entries(TYPES).flatMap(([at, expected]) => {
    const value = at.split('.').reduce((node, key) => node?.[key], config);
    if (value === undefined || typeOf(value) === expected) return [];
    return [{ path: at, message: `Invalid input: expected ${expected}, received ${typeOf(value)}` }];
  });
}

function unknownKeys(config) {
  return Object.entries(KNOWN).flatMap(([at, known]) => {
    const node = at === '<root>' ? config : config[at];
    return Object.keys(node ?? {})
      .filter((key) => !known.includes(key))
      .map((key) => ({ path: at, message: `Unrecognized key: "${key}"` }));
  });
}
