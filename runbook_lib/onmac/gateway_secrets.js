// What is secret in a gateway's files: [{ where, value }], read only. Needs json5_text.js.
const fs = require('node:fs');
const path = require('node:path');
const { DatabaseSync } = require('node:sqlite');

const SECRET_NAME = /(token|secret|password|passwd|api_?key|private_?key(_?pem)?|credentials?|authorization|cookie)$/i;
const IN_PROFILE = /^(key|token|access|refresh|idToken|access_token|refresh_token|id_token|client_secret|password)$/i;
const SHORTEST = 8;
const CLEARED = {
  secret_store_entries: 'value', device_auth_tokens: 'token', gateway_origin_device_tokens: 'token',
  device_identities: 'private_key_pem', mcp_oauth_stores: 'store_json', device_bootstrap_tokens: 'token',
};

const isLiteral = (value) => typeof value === 'string' && value.length >= SHORTEST && !value.startsWith('${');
const isSecretName = (name) => SECRET_NAME.test(name) && !/^(sort|page)_?token$/i.test(name);

// A configuration and what it includes: [{ file, source, root }]. `placed` says where a file lies that is named there:
// a restored copy names the place that it was copied from.
function configurations(file, placed = (one) => one, seen = new Set()) {
  if (seen.has(file) || !fs.existsSync(file)) return [];
  seen.add(file);
  const source = fs.readFileSync(file, 'utf8');
  const root = read(source);
  const names = strings(root).filter(({ keys }) => keys.includes('$include')).map(({ value }) => value);
  return [{ file, source, root }, ...names.flatMap((name) => configurations(placed(path.resolve(path.dirname(file), name)), placed, seen))];
}

function ofConfiguration(file, placed) {
  return configurations(file, placed).flatMap(({ root }) =>
    strings(root)
      .filter(({ keys, value }) => isLiteral(value) && isSecretName(keys.at(-1)))
      .map(({ keys, value }) => ({ where: keys.join('.'), value })));
}

function ofEnvFile(file, names = []) {
  if (!fs.existsSync(file)) return [];
  return fs.readFileSync(file, 'utf8').split('\n').flatMap((line) => {
    const match = /^(?:export )?([A-Za-z_][A-Za-z0-9_]*)=(.*?)\r?$/.exec(line);
    if (!match || !(isSecretName(match[1]) || names.includes(match[1]))) return [];
    const value = match[2].replace(/^(["'])(.*)\1$/, '$2').replaceAll("'\\''", "'");
    return isLiteral(value) ? [{ where: match[1], value }] : [];
  });
}

function inValue(value, where, isSecret) {
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([key, one]) =>
    isLiteral(one) && isSecret(key) ? [{ where: `${where} ${key}`, value: one }] : inValue(one, where, isSecret));
}

// Stores of auth profiles: the shared one of the state database, and those of each agent's.
function profileStores(db) {
  const has = (table) => db.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?").get(table);
  const found = [];
  for (const [table, key, json, like] of [
    ['config_machine_state', 'state_key', 'value_json', 'authProfiles.store'],
    ['auth_profile_store', 'store_key', 'store_json', '%'],
  ]) {
    if (!has(table)) continue;
    for (const row of db.prepare(`SELECT ${key} AS name, ${json} AS json FROM ${table} WHERE ${key} LIKE ?`).all(like)) {
      found.push({ table, key, json, name: row.name, store: JSON.parse(row.json) });
    }
  }
  return found;
}

function ofDatabase(file) {
  const db = new DatabaseSync(file, { readOnly: true });
  try {
    const profiles = profileStores(db).flatMap(({ store }) =>
      Object.entries(store.profiles ?? {}).flatMap(([id, profile]) => inValue(profile, `auth profile ${id}`, (key) => IN_PROFILE.test(key))));
    const tables = Object.entries(CLEARED).flatMap(([table, column]) => {
      if (!db.prepare('SELECT 1 FROM pragma_table_info(?) WHERE name = ?').get(table, column)) return [];
      return db.prepare(`SELECT ${column} AS value FROM ${table}`).all().flatMap(({ value }) => {
        const where = table.replaceAll('_', ' ');
        if (column.endsWith('_json')) return inValue(JSON.parse(value), where, (key) => IN_PROFILE.test(key) || isSecretName(key));
        return isLiteral(value) ? [{ where, value }] : [];
      });
    });
    return [...profiles, ...tables];
  } finally {
    db.close();
  }
}

function filesBelow(folder, skip = () => false) {
  if (!fs.existsSync(folder)) return [];
  return fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(folder, entry.name);
    if (skip(file)) return [];
    return entry.isDirectory() ? filesBelow(file, skip) : entry.isFile() ? [file] : [];
  });
}

const isDatabase = (file) => {
  const head = Buffer.alloc(16);
  const descriptor = fs.openSync(file, 'r');
  fs.readSync(descriptor, head);
  fs.closeSync(descriptor);
  return head.toString('latin1') === 'SQLite format 3\0';
};

const databases = (state) =>
  [path.join(state, 'state'), path.join(state, 'agents')]
    .flatMap((folder) => filesBelow(folder)).filter((file) => file.endsWith('.sqlite') && isDatabase(file));

const isKeyFile = (name) => /^(secrets|auth-profiles|auth|oauth)\.json$/.test(name);

function ofKeyFiles(state) {
  const files = [path.join(state, 'secrets.json'), ...filesBelow(path.join(state, 'credentials')),
    ...filesBelow(path.join(state, 'agents')).filter((file) => isKeyFile(path.basename(file)))];
  return files.filter((file) => fs.existsSync(file) && file.endsWith('.json')).flatMap((file) => {
    try {
      const any = () => true;
      const isSecret = path.basename(file) === 'secrets.json' ? any : (key) => IN_PROFILE.test(key) || isSecretName(key);
      return inValue(JSON.parse(fs.readFileSync(file, 'utf8')), path.relative(state, file), isSecret);
    } catch {
      return [];
    }
  });
}

// Everything of one gateway; what two places hold alike is told twice.
function secretsOf({ state, config, env, names, placed }) {
  return [
    ...ofEnvFile(env, names), ...ofEnvFile(path.join(state, '.env')), ...ofConfiguration(config, placed),
    ...databases(state).flatMap(ofDatabase), ...ofKeyFiles(state),
  ];
}
