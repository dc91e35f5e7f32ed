// What of primary's the canary has: prints path, secret and compared. Needs gateway_paths.js. Changes nothing.
// A JSON says primary and canary {state, config, env} and shared [where]; $HOME is the user's.
const { primary, canary, shared } = JSON.parse(process.argv[2]);
const say = (...words) => console.log(words.join('\t').replaceAll('\n', ' '));
const places = placesOf({ ...primary, home: process.env.HOME, to: canary.state });
const { holds, needles } = mover(places, process.env.HOME);

const theirs = secretsOf(primary);
const sharedValues = new Set(theirs.filter(({ where }) => shared.includes(where)).map(({ value }) => value));
const secret = theirs.filter(({ value }) => !sharedValues.has(value));
const files = [...filesBelow(canary.state), canary.env].filter((file) => fs.existsSync(file));
for (const file of files) {
  const bytes = fs.readFileSync(file);
  for (const { where, value } of secret) if (bytes.includes(value)) say('secret', file, where);
}
say('compared', String(secret.length), String(files.length));

// In what people wrote a path is a word; where a name says that it is a place, it is used as one.
const USED = /"[A-Za-z_]*(dir|workspace|cwd|path|file|store|root)"\s*:\s*"$/i;
function isUsed(text) {
  return needles.some((needle) => {
    for (let at = text.indexOf(needle); at >= 0; at = text.indexOf(needle, at + 1)) {
      if (holds(text.slice(at, at + needle.length + 2)) && (at === 0 || USED.test(text.slice(Math.max(0, at - 60), at)))) return true;
    }
    return false;
  });
}

function inDatabase(file) {
  const db = new DatabaseSync(file, { readOnly: true });
  try {
    db.function('is_used', (text) => Number(isUsed(text)));
    for (const [table, column] of columns(db)) {
      const [t, c] = [quoted(table), quoted(column)];
      const found = db.prepare(`SELECT count(*) AS count FROM ${t} WHERE typeof(${c}) = 'text' AND is_used(${c})`).get();
      if (found.count) say('path', file, `${table}.${column}`, String(found.count));
    }
  } finally {
    db.close();
  }
}

for (const file of databases(canary.state)) inDatabase(file);
for (const { file, root } of configurations(canary.config)) {
  for (const { keys, value } of strings(root)) if (holds(value)) say('path', file, keys.join('.'), '1');
}
for (const file of files.filter((one) => one.endsWith('.jsonl') || one === canary.env)) {
  if (isUsed(fs.readFileSync(file, 'utf8'))) say('path', file, 'a record', '1');
}
for (const [place] of places) say('place', place);
