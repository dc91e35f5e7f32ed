// JSON5 as text: where each value stands, so that an edit leaves comments, order and everything else as they were.
// read(source) -> { value, at: [start, end], members: { key: node }, items: [node] }; edit(source, [[start, end, text]])
const TOKEN =
  /(?:\s|\/\/[^\n]*|\/\*[^]*?\*\/)+|([{}[\]:,])|("(?:[^"\\\n]|\\[^])*"|'(?:[^'\\\n]|\\[^])*')|([^\s{}[\]:,"'/]+)/y;

function read(source) {
  const tokens = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < source.length) {
    const start = TOKEN.lastIndex;
    const match = TOKEN.exec(source);
    if (!match) throw new SyntaxError(`not JSON5 near "${source.slice(start, start + 20)}"`);
    const [text, mark, quoted, word] = match;
    if (mark || quoted || word) tokens.push({ mark, quoted, word, text, at: [start, start + text.length] });
  }
  let next = 0;
  const take = (mark) => {
    const token = tokens[next++];
    if (!token || (mark && token.mark !== mark)) throw new SyntaxError(`not JSON5: ${mark ?? 'a value'} is missing`);
    return token;
  };
  const isAt = (mark) => tokens[next]?.mark === mark;
  const node = () => {
    const token = take();
    if (token.mark === '{') return object(token);
    if (token.mark === '[') return array(token);
    if (token.quoted) return { value: textOf(token.quoted), at: token.at };
    return { value: { true: true, false: false, null: null }[token.word] ?? Number(token.word), at: token.at };
  };
  const object = (open) => {
    const members = {};
    while (!isAt('}')) {
      const name = take();
      take(':');
      members[name.quoted ? textOf(name.quoted) : name.word] = node();
      if (!isAt('}')) take(',');
    }
    const value = Object.fromEntries(Object.entries(members).map(([key, member]) => [key, member.value]));
    return { value, members, at: [open.at[0], take('}').at[1]] };
  };
  const array = (open) => {
    const items = [];
    while (!isAt(']')) {
      items.push(node());
      if (!isAt(']')) take(',');
    }
    return { value: items.map((item) => item.value), items, at: [open.at[0], take(']').at[1]] };
  };
  const root = node();
  if (next < tokens.length) throw new SyntaxError('not JSON5: something stands after its end');
  return root;
}

const ESCAPES = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v', 0: '\0', '\n': '' };
function textOf(quoted) {
  return quoted.slice(1, -1).replace(/\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([^]))/g, (_, unicode, hex, one) =>
    one === undefined ? String.fromCharCode(parseInt(unicode ?? hex, 16)) : (ESCAPES[one] ?? one));
}

// Every string below a node, with the keys that lead to it.
function strings(node, keys = []) {
  if (node.members) return Object.entries(node.members).flatMap(([key, member]) => strings(member, [...keys, key]));
  if (node.items) return node.items.flatMap((item, index) => strings(item, [...keys, String(index)]));
  return typeof node.value === 'string' ? [{ keys, value: node.value, at: node.at }] : [];
}

function edit(source, changes) {
  return [...changes]
    .sort((a, b) => b[0] - a[0])
    .reduce((text, [start, end, put]) => text.slice(0, start) + put + text.slice(end), source);
}

// The change that sets a value: in the place of the old one, or as the first member of the deepest object there is.
function setting(root, keys, value) {
  let node = root;
  let depth = 0;
  while (depth < keys.length && node.members?.[keys[depth]]) node = node.members[keys[depth++]];
  if (depth === keys.length) return [...node.at, JSON.stringify(value)];
  const nested = keys.slice(depth + 1).reduceRight((inner, key) => ({ [key]: inner }), value);
  if (!node.members) return [...node.at, JSON.stringify({ [keys[depth]]: nested })];
  const comma = Object.keys(node.members).length ? ', ' : ' ';
  return [node.at[0] + 1, node.at[0] + 1, ` ${JSON.stringify(keys[depth])}: ${JSON.stringify(nested)}${comma}`];
}
