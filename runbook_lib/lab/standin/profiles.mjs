// Auth profiles: a provider's credentials in the state database, as `models auth` keeps them.
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { statePath } from './state.mjs';
import { STATE_SCHEMA } from './release.mjs';

export const MACHINE_STATE = `CREATE TABLE IF NOT EXISTS config_machine_state (
  state_key TEXT NOT NULL PRIMARY KEY, value_json TEXT NOT NULL, updated_at_ms INTEGER NOT NULL) STRICT`;
const KEY = 'authProfiles.store';

export function keepProfile(dir, name, profile) {
  const file = statePath(dir);
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  const db = new DatabaseSync(file);
  try {
    db.exec(`${MACHINE_STATE}; PRAGMA user_version = ${STATE_SCHEMA}`);
    const row = db.prepare('SELECT value_json FROM config_machine_state WHERE state_key = ?').get(KEY);
    const store = JSON.parse(row?.value_json ?? '{"version":1,"profiles":{}}');
    store.profiles[name] = profile;
    db.prepare('INSERT OR REPLACE INTO config_machine_state VALUES (?, ?, ?)').run(KEY, JSON.stringify(store), Date.now());
  } finally {
    db.close();
  }
}
