// hooks.mappings: which one a path and payload meet, and its {{templates}} filled in.
export function match(mappings, name, payload) {
  return mappings
    .map((mapping, index) => ({ id: `mapping-${index}`, ...mapping }))
    .find(({ match: rule = {} }) => {
      if (rule.path !== undefined && trim(rule.path) !== trim(name)) return false;
      return rule.source === undefined || rule.source === payload?.source;
    });
}

export function render(template = '', context) {
  return template.replace(/\{\{\s*([^}]+?)\s*\}\}/g, (_, expression) => {
    const value = lookUp(expression, context);
    if (value === undefined || value === null) return '';
    return typeof value === 'object' ? JSON.stringify(value) : String(value);
  });
}

function lookUp(expression, context) {
  if (expression === 'now') return new Date().toISOString();
  const keys = expression.replace(/\[(\d+)\]/g, '.$1').split('.');
  const root = keys[0] in context ? context : context.payload;
  return keys.reduce((node, key) => (node && Object.hasOwn(node, key) ? node[key] : undefined), root);
}

const trim = (path) => path.replace(/^\/+|\/+$/g, '');
