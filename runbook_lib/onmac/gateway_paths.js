// Paths of one gateway in the files of another. Needs gateway_secrets.js.
// places: [[from, to]], the longest first. A path counts where no name goes on after it.
function mover(places, home) {
  const forms = places.flatMap(([from, to]) => {
    const inHome = from.startsWith(`${home}/`) ? from.slice(home.length) : undefined;
    const spelled = [from, ...(inHome === undefined ? [] : [`~${inHome}`, `$HOME${inHome}`, `\${HOME}${inHome}`])];
    return spelled.map((form) => [form, to]);
  });
  const target = new Map(forms);
  const pattern = new RegExp(`(?:${[...target.keys()].map(escaped).join('|')})(?![A-Za-z0-9_-]|\\.[A-Za-z0-9])`, 'g');
  return {
    holds: (text) => (pattern.lastIndex = 0, pattern.test(text)),
    moved: (text) => text.replace(pattern, (form) => target.get(form)),
    needles: [...target.keys()],
  };
}

// What is primary's on disk: its state, and the workspaces, agent folders and session stores that lie outside of it.
// Each with its place in the canary's state, the longest first: [[from, to]].
const OUTSIDE = /^(workspace|agentDir|store|sessionDir|memoryDir)$/;
function placesOf({ state, config, home, to, placed }) {
  const found = configurations(config, placed).flatMap(({ root }) => strings(root)).flatMap(({ keys, value }) => {
    const plain = value.replace(/^(~|\$HOME|\$\{HOME\})(?=\/)/, home).replace(/\/[^/]*[{*].*$/, '');
    const ours = OUTSIDE.test(keys.at(-1)) && path.isAbsolute(plain) && !isInside(plain, state);
    return ours ? [path.resolve(plain)] : [];
  });
  const real = fs.existsSync(state) ? fs.realpathSync(state) : state;
  const places = new Map([[state, to], [real, to]]);
  for (const folder of new Set(found)) places.set(folder, path.join(to, 'outside', path.basename(folder)));
  return [...places].sort((a, b) => b[0].length - a[0].length);
}

const isInside = (file, folder) => file === folder || file.startsWith(`${folder}/`);

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

// Columns of a database that may hold text; what a virtual table keeps for itself is left alone.
function columns(db) {
  const tables = db.prepare("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").all();
  const virtual = tables.filter(({ sql }) => /^CREATE VIRTUAL/i.test(sql)).map(({ name }) => name);
  return tables
    .filter(({ name }) => !virtual.some((one) => name === one || name.startsWith(`${one}_`)))
    .flatMap(({ name }) => db.prepare('SELECT name FROM pragma_table_info(?)').all(name).map((column) => [name, column.name]));
}

const quoted = (name) => `"${name.replaceAll('"', '""')}"`;
