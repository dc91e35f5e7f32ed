// What a gateway keeps: one state database, one agent database, and the lock that makes it the only owner.
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { AGENT_SCHEMA, STATE_SCHEMA, VERSION } from './release.mjs';

const TABLES = `
  CREATE TABLE IF NOT EXISTS deliveries (id INTEGER PRIMARY KEY, kind TEXT, key TEXT, run_id TEXT, source TEXT,
    replayed INTEGER, at TEXT);
  CREATE TABLE IF NOT EXISTS executions (id INTEGER PRIMARY KEY, kind TEXT, key TEXT, run_id TEXT, source TEXT,
    text TEXT, at TEXT);
  CREATE TABLE IF NOT EXISTS migrations (id INTEGER PRIMARY KEY, found INTEGER, target INTEGER, version TEXT, at TEXT);
`;

export class StateError extends Error {}

export const statePath = (dir) => path.join(dir, 'state', 'openclaw.sqlite');

export function databasesUnder(dir) {
  return readdirSync(dir, { recursive: true })
    .filter((name) => name.endsWith('.sqlite') && name.split(path.sep)[0] !== 'tmp')
    .map((name) => path.join(dir, name));
}

export function openState(dir, port, agentDir) {
  const lock = takeLock(dir, port);
  const db = openDatabase(statePath(dir), STATE_SCHEMA, 'state database');
  const agent = openDatabase(path.join(agentDir, 'openclaw-agent.sqlite'), AGENT_SCHEMA, 'agent database');
  const deliver = db.prepare(
    'INSERT INTO deliveries (kind, key, run_id, source, replayed, at) VALUES (?, ?, ?, ?, ?, ?)',
  );
  const execute = db.prepare(
    'INSERT INTO executions (kind, key, run_id, source, text, at) VALUES (?, ?, ?, ?, ?, ?)',
  );
  const now = () => new Date().toISOString();
  return {
    delivered: (d, replayed) => deliver.run(d.kind, d.key ?? null, d.id, d.source, Number(replayed), now()),
    executed: (d) => execute.run(d.kind, d.key ?? null, d.id, d.source, d.text, now()),
    close: () => [db, agent, lock].forEach((handle) => handle.close()),
  };
}

// The kernel drops an exclusive SQLite lock with its process, so a kill -9 leaves nothing to clean up.
function takeLock(dir, port) {
  const folder = path.join(dir, 'tmp', `openclaw-${process.getuid()}`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const file = path.join(folder, 'gateway.state.lock');
  const lock = new DatabaseSync(`${file}.sqlite`, { timeout: 0 });
  try {
    lock.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    if (error.errcode !== 5) throw error;
    throw new StateError('another OpenClaw process owns gateway-lifecycle. gateway.maintenance_required');
  }
  const owner = { pid: process.pid, createdAt: new Date().toISOString(), stateDir: dir, port };
  writeFileSync(file, JSON.stringify(owner, null, 2), { mode: 0o600 });
  return lock;
}

function openDatabase(file, target, label) {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  const fresh = !existsSync(file);
  const db = new DatabaseSync(file);
  const found = fresh ? target : db.prepare('PRAGMA user_version').get().user_version;
  if (found > target) {
    db.close();
    throw new StateError(
      `Gateway refused startup because 1 OpenClaw database schema(s) are newer than this build. ` +
        `${label} ${file} uses schema ${found}; this build supports ${target}.`,
    );
  }
  if (found < target) db.prepare('VACUUM INTO ?').run(`${file}.pre-startup-migration-${randomUUID()}.bak`);
  db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; ${TABLES}; PRAGMA user_version = ${target}`);
  if (found < target) {
    db.prepare('INSERT INTO migrations (found, target, version, at) VALUES (?, ?, ?, ?)').run(
      found, target, VERSION, new Date().toISOString(),
    );
  }
  return db;
}
