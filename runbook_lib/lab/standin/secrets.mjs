// Tokens: where a request carries one, and comparing without telling how much of it was right.
import { createHash, timingSafeEqual } from 'node:crypto';

export function bearer(request) {
  return /^Bearer\s+(.+)$/i.exec(request.headers.authorization ?? '')?.[1];
}

export function sameSecret(given, expected) {
  if (!given || !expected) return false;
  const [a, b] = [given, expected].map((text) => createHash('sha256').update(text).digest());
  return timingSafeEqual(a, b);
}
