// Make a restored copy the canary's own: no path, no key and no file of primary's. Needs gateway_paths.js.
// A JSON says: from and to (both state directories), live (where primary's is), patch {"a.b": value}, own [names of the
// canary's secrets], shared ["a.b" of both]; then the restored copy. Prints moved, own, without and left, with where.
const asked = JSON.parse(process.argv[2]);
const copy = process.argv[3];
const home = process.env.HOME;
const { from, to, patch, shared } = asked;
const own = new Set(asked.own);
const say = (...words) => console.log(words.join('\t').replaceAll('\n', ' '));
const configFile = path.join(copy, 'openclaw.json');
const placed = (file) => (isInside(file, from) ? copy + file.slice(from.length) : file);
const places = placesOf({ state: from, config: configFile, home, to, placed });
const { holds, moved, needles } = mover(places, home);
const payload = copy.slice(0, -from.length);
for (const [outside, place] of places.filter(([one]) => !isInside(one, from))) {
  if (isInside(from, outside) && outside !== from) say('left', outside, "holds primary's state: give the agent a workspace of its own");
  else if (place !== to && copy.endsWith(from) && fs.existsSync(payload + outside)) {
    const inside = path.join(copy, path.relative(to, place));
    fs.mkdirSync(path.dirname(inside), { recursive: true });
    fs.renameSync(payload + outside, inside);
  }
}
// A backup leaves out what plugins have installed; the canary's come from the same versions.
for (const plugin of fs.existsSync(path.join(from, 'extensions')) ? fs.readdirSync(path.join(from, 'extensions')) : []) {
  const [theirs, ours] = [from, copy].map((state) => path.join(state, 'extensions', plugin, 'node_modules'));
  if (!fs.existsSync(theirs) || fs.existsSync(ours) || !fs.existsSync(path.dirname(ours))) continue;
  fs.cpSync(theirs, ours, { recursive: true, verbatimSymlinks: true });
  say('installed', `plugin ${plugin}`);
}
const NONE = 'the-canary-has-none';

const before = secretsOf({ state: copy, config: configFile, env: '/dev/null', placed });
const sharedValues = new Set(before.filter(({ where }) => shared.includes(where)).map(({ value }) => value));

const BACKUPS = /^openclaw\.json\.|\.bak(\.\d+)?$|\.pre-startup-migration-|\.legacy-flat\./;
for (const name of ['service-env', 'logs', 'tmp', 'credentials', 'secrets.json', 'plugin-skills']) {
  if (fs.existsSync(path.join(copy, name)) && ['credentials', 'secrets.json'].includes(name)) say('without', name);
  fs.rmSync(path.join(copy, name), { recursive: true, force: true });
}
for (const file of filesBelow(copy, (one) => one.startsWith(path.join(copy, 'workspace')))) {
  const name = path.basename(file);
  if (BACKUPS.test(name) || (isKeyFile(name) && file.startsWith(path.join(copy, 'agents')))) fs.rmSync(file);
}

const upper = (text) => text.replace(/[^A-Za-z0-9]+/g, '_').toUpperCase();
const NAMES = { 'gateway.auth.token': 'OPENCLAW_GATEWAY_TOKEN', 'hooks.token': 'OPENCLAW_HOOKS_TOKEN' };
const ownName = (keys) => {
  const provider = keys[0] === 'models' && keys[1] === 'providers' ? [`${upper(keys[2])}_API_KEY`] : [];
  return [NAMES[keys.join('.')], ...provider, upper(keys.join('_'))].find((name) => own.has(name));
};

function inConfiguration({ file, source, root }, isMain) {
  const changes = new Map();
  for (const { keys, value, at } of strings(root)) {
    const where = keys.join('.');
    if (isLiteral(value) && isSecretName(keys.at(-1))) {
      const name = ownName(keys);
      if (name) say('own', where, name);
      else if (sharedValues.has(value)) continue;
      else say('without', where);
      changes.set(at[0], [...at, JSON.stringify(name ? `\${${name}}` : NONE)]);
    } else if (holds(value)) {
      say('moved', where);
      changes.set(at[0], [...at, JSON.stringify(moved(value))]);
    }
  }
  let text = edit(source, changes.values());
  const allowed = isMain && read(text).members.plugins?.members?.allow;
  const named = Object.keys(patch).map((where) => /^plugins\.entries\.(.*)\.enabled$/.exec(where)?.[1]).filter(Boolean);
  if (allowed?.items) text = edit(text, [[...allowed.at, JSON.stringify([...new Set([...allowed.value, ...named])])]]);
  for (const [where, value] of isMain ? Object.entries(patch) : []) text = edit(text, [setting(read(text), where.split('.'), value)]);
  fs.writeFileSync(file, text, { mode: 0o600 });
}

for (const [number, one] of configurations(configFile, placed).entries()) {
  if (one.file.startsWith(`${copy}/`)) inConfiguration(one, number === 0);
  else if (strings(one.root).some(({ value }) => holds(value)) || ofConfiguration(one.file).length) say('left', one.file, 'is included from outside, and names primary or holds a key');
}

// A profile keeps its name and gets the canary's own key by reference; a login is nobody else's to refresh.
function ownProfiles(store) {
  for (const [id, profile] of Object.entries(store.profiles ?? {})) {
    const provider = upper(profile.provider ?? id.split(':')[0]);
    const name = [`${provider}_API_KEY`, `${provider}_TOKEN`, upper(id)].find((one) => own.has(one));
    const field = { api_key: 'keyRef', token: 'tokenRef' }[profile.type];
    if (field && name) {
      store.profiles[id] = { type: profile.type, provider: profile.provider, [field]: { source: 'env', provider: 'default', id: name } };
      say('own', `auth profile ${id}`, name);
    } else {
      delete store.profiles[id];
      say('without', `auth profile ${id}${profile.type === 'oauth' ? ' (a login: log the canary in by itself)' : ''}`);
    }
  }
  return store;
}

function inDatabase(file) {
  const db = new DatabaseSync(file);
  try {
    const schema = db.prepare('PRAGMA user_version').get().user_version;
    db.exec('PRAGMA foreign_keys = OFF; PRAGMA secure_delete = ON; BEGIN');
    for (const { table, key, json, name, store } of profileStores(db)) {
      db.prepare(`UPDATE ${table} SET ${json} = ? WHERE ${key} = ?`).run(JSON.stringify(ownProfiles(store)), name);
    }
    for (const table of Object.keys(CLEARED)) {
      if (!db.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?").get(table)) continue;
      if (db.prepare(`DELETE FROM ${table}`).run().changes) say('without', table.replaceAll('_', ' '));
    }
    db.function('moved_path', (text) => moved(text));
    db.function('holds_path', (text) => Number(holds(text)));
    for (const [table, column] of columns(db)) {
      const [t, c] = [quoted(table), quoted(column)];
      const found = db.prepare(`UPDATE ${t} SET ${c} = moved_path(${c}) WHERE typeof(${c}) = 'text' AND holds_path(${c})`).run();
      if (found.changes) say('moved', `${path.relative(copy, file)} ${table}.${column}`, found.changes);
    }
    db.exec(`COMMIT; VACUUM; PRAGMA user_version = ${schema}`);
  } finally {
    db.close();
  }
}

for (const file of databases(copy)) inDatabase(file);

function links(folder) {
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) links(file);
    if (!entry.isSymbolicLink()) continue;
    const target = fs.readlinkSync(file);
    if (!holds(target)) continue;
    fs.unlinkSync(file);
    fs.symlinkSync(moved(target), file);
    say('moved', `link ${path.relative(copy, file)}`);
  }
}
links(copy);

const dotenv = path.join(copy, '.env');
if (fs.existsSync(dotenv)) {
  const gone = new Set(ofEnvFile(dotenv).map(({ where }) => where));
  const kept = fs.readFileSync(dotenv, 'utf8').split('\n').filter((line) => !gone.has(/^(?:export )?(\w+)=/.exec(line)?.[1]));
  fs.writeFileSync(dotenv, kept.join('\n'), { mode: 0o600 });
  for (const name of gone) say(own.has(name) ? 'own' : 'without', `.env ${name}`, name);
}

const secret = before.filter(({ value }) => !sharedValues.has(value));
for (const file of filesBelow(copy)) {
  const bytes = fs.readFileSync(file);
  const text = bytes.toString('latin1');
  const name = path.relative(copy, file);
  for (const { where, value } of secret) if (bytes.includes(value)) say('left', name, `holds primary's ${where}`);
  if (!needles.some((needle) => bytes.includes(needle)) || !holds(text)) continue;
  if (text.includes('\0')) say('left', name, 'is no text and names a path of primary');
  else {
    fs.writeFileSync(file, moved(bytes.toString('utf8')));
    say('moved', name);
  }
}
