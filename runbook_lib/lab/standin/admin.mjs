// The operator's RPC: the plugin admin-http-rpc, open to the gateway token only.
import { randomUUID } from 'node:crypto';
import { json, readBody } from './replies.mjs';
import { status } from './status.mjs';
import { RpcError } from './suspend.mjs';

export const ADMIN_PATH = '/api/v1/admin/rpc';
const PLUGIN = 'admin-http-rpc';
const LIMIT_BYTES = 262_144;
const HTTP_STATUS = { INVALID_REQUEST: 400, UNAVAILABLE: 503 };

const SUSPENSION = {
  'gateway.suspend.prepare': { call: 'prepare', needs: 'requestId' },
  'gateway.suspend.status': { call: 'status', needs: 'suspensionId' },
  'gateway.suspend.resume': { call: 'resume', needs: 'suspensionId' },
};

export function admin(gateway) {
  const { plugins = {} } = gateway.config;
  const on = plugins.enabled !== false && plugins.entries?.[PLUGIN]?.enabled;
  if (!on || (plugins.allow && !plugins.allow.includes(PLUGIN))) return undefined;

  return async function answer(request, response) {
    if (!gateway.isOperator(request)) {
      return json(response, 401, { error: { message: 'Unauthorized', type: 'unauthorized' } });
    }
    const send = (code, body, headers) => json(response, code, body, { 'Cache-Control': 'no-store', ...headers });
    const refuse = (code, type, message, headers) => send(code, { ok: false, error: { type, message } }, headers);
    if (request.method !== 'POST') return refuse(405, 'method_not_allowed', 'Method Not Allowed', { Allow: 'POST' });
    let call;
    try {
      call = JSON.parse(await readBody(request, LIMIT_BYTES));
    } catch {
      return refuse(400, 'invalid_request', 'request body must be valid JSON');
    }
    if (typeof call?.method !== 'string' || !call.method) {
      return refuse(400, 'invalid_request', 'method must be a non-empty string');
    }
    const id = call.id ?? randomUUID();
    try {
      return send(200, { id, ok: true, payload: perform(gateway, call) });
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      return send(HTTP_STATUS[error.body.code], { id, ok: false, error: error.body });
    }
  };
}

function perform(gateway, { method, params = {} }) {
  const known = SUSPENSION[method];
  if (known) {
    if (typeof params[known.needs] !== 'string' || !params[known.needs].trim()) {
      throw new RpcError('INVALID_REQUEST', `invalid ${method} params`);
    }
    return gateway.suspension[known.call](params);
  }
  if (method !== 'status') throw new RpcError('INVALID_REQUEST', `admin HTTP RPC method is not supported: ${method}`);
  if (gateway.phase === 'draining') throw fenced(gateway, method);
  return status(gateway);
}

function fenced({ stopping, suspension }, method) {
  const why = stopping ? 'restart' : 'suspension';
  const details = { method, reason: 'gateway-suspending', phase: stopping ? 'draining' : suspension.phase };
  return new RpcError('UNAVAILABLE', `${method} unavailable during gateway ${why}`, {
    retryable: true, retryAfterMs: 1000, details,
  });
}
