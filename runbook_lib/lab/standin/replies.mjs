// Answers, with the headers that OpenClaw puts on each of them.
export function secure(response) {
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.setHeader('Referrer-Policy', 'no-referrer');
  response.setHeader('Permissions-Policy', 'camera=(), microphone=(self), geolocation=()');
}

export function json(response, status, body, headers = {}) {
  send(response, status, 'application/json', JSON.stringify(body), headers);
}

export function plain(response, status, body, headers = {}) {
  send(response, status, 'text/plain', body, headers);
}

export const notFound = (response) => plain(response, 404, 'Not Found');

export function notAllowed(response, allow) {
  plain(response, 405, 'Method Not Allowed', { Allow: allow });
}

// -> the raw body, or undefined when it is longer than the limit
export async function readBody(request, limit) {
  const parts = [];
  let size = 0;
  for await (const part of request.iterator({ destroyOnReturn: false })) {
    size += part.length;
    if (size > limit) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

function send(response, status, type, body, headers) {
  response.writeHead(status, {
    'Content-Type': `${type}; charset=utf-8`,
    'Content-Length': Buffer.byteLength(body),
    ...headers,
  });
  response.end(body);
}
