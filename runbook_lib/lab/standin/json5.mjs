// JSON5 as people write it by hand: comments, trailing commas, names and strings without double quotes.
const TOKEN =
  /\s+|\/\/[^\n]*|\/\*[^]*?\*\/|([{}[\]:,])|("(?:[^"\\\n]|\\[^])*"|'(?:[^'\\\n]|\\[^])*')|([^\s{}[\]:,"'/]+)/y;
const CONSTANTS = { true: true, false: false, null: null, Infinity, NaN };

export function parse(source) {
  const tokens = tokenize(source);
  const value = valueOf(tokens);
  if (tokens.length) throw wrong(tokens[0]);
  return value;
}

function tokenize(source) {
  const found = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < source.length) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(source);
    if (!match) throw wrong({ text: source[at], at });
    const [, mark, quoted, word] = match;
    if (mark ?? quoted ?? word) found.push({ mark, quoted, word, text: match[0], at });
  }
  return found;
}

function valueOf(tokens) {
  const token = tokens.shift() ?? { text: 'end of input' };
  if (token.mark === '{') return membersOf(tokens, '}', {});
  if (token.mark === '[') return membersOf(tokens, ']', []);
  if (token.quoted) return textOf(token.quoted);
  if (token.word in CONSTANTS) return CONSTANTS[token.word];
  const number = Number(token.word);
  if (token.word && Number.isFinite(number)) return number;
  throw wrong(token);
}

function membersOf(tokens, end, out) {
  while (tokens.length && tokens[0].mark !== end) {
    if (Array.isArray(out)) out.push(valueOf(tokens));
    else {
      const name = tokens.shift();
      if (!name.quoted && !name.word) throw wrong(name);
      expect(tokens, ':');
      out[name.quoted ? textOf(name.quoted) : name.word] = valueOf(tokens);
    }
    if (tokens[0]?.mark !== end) expect(tokens, ',');
  }
  expect(tokens, end);
  return out;
}

function expect(tokens, mark) {
  const token = tokens.shift() ?? { text: 'end of input' };
  if (token.mark !== mark) throw wrong(token);
}

function textOf(quoted) {
  const inner = quoted.slice(1, -1).replace(/\\\n/g, '').replace(/\\'/g, "'");
  return JSON.parse(`"${quoted[0] === "'" ? inner.replace(/(^|[^\\])"/g, '$1\\"') : inner}"`);
}

function wrong({ text, at }) {
  return new SyntaxError(`JSON5: invalid ${text === 'end of input' ? text : `"${text}"`}${at ? ` at ${at}` : ''}`);
}
