// Secrets by salted hash: prints gateway, where, hash. The values stay here. Needs gateway_secrets.js.
// A JSON says salt, and for each gateway {state, config, env}.
const { createHash } = require('node:crypto');
const { salt, gateways } = JSON.parse(process.argv[2]);
for (const [name, files] of Object.entries(gateways)) {
  const seen = new Set();
  for (const { where, value } of secretsOf(files)) {
    const hash = createHash('sha256').update(salt + value).digest('hex');
    if (!seen.has(where + hash)) console.log(['secret', name, where, hash].join('\t'));
    seen.add(where + hash);
  }
}
