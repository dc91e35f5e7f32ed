// Provider signatures. OpenClaw itself has none: this is practice for whoever verifies in front of it,
// and it is on only where STANDIN_GITHUB_SECRET or STANDIN_STRIPE_SECRET is set.
import { createHmac } from 'node:crypto';
import { sameSecret } from './secrets.mjs';

const TOLERANCE_S = 300;

export function signed(name, headers, raw, env) {
  if (name === 'github' && env.STANDIN_GITHUB_SECRET) return github(headers, raw, env.STANDIN_GITHUB_SECRET);
  if (name === 'stripe' && env.STANDIN_STRIPE_SECRET) return stripe(headers, raw, env.STANDIN_STRIPE_SECRET);
  return true;
}

function github(headers, raw, secret) {
  return sameSecret(headers['x-hub-signature-256'], `sha256=${hmac(secret, raw)}`);
}

function stripe(headers, raw, secret) {
  const parts = (headers['stripe-signature'] ?? '').split(',').map((part) => part.trim().split('='));
  const timestamp = parts.find(([key]) => key === 't')?.[1];
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= TOLERANCE_S)) return false;
  const expected = hmac(secret, `${timestamp}.`, raw);
  return parts.some(([key, value]) => key === 'v1' && sameSecret(value, expected));
}

function hmac(secret, ...parts) {
  const mac = createHmac('sha256', secret);
  parts.forEach((part) => mac.update(part));
  return mac.digest('hex');
}
