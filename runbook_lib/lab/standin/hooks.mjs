// Webhooks: token, size, throttle, and then a wake, a run, or whatever hooks.mappings says.
import { match, render } from './mappings.mjs';
import { json, notAllowed, notFound, plain, readBody } from './replies.mjs';
import { bearer, sameSecret } from './secrets.mjs';
import { signed } from './signatures.mjs';
import { Throttle } from './throttle.mjs';

const LIMIT_BYTES = 262_144;
const UNAVAILABLE = {
  error: {
    message: 'Gateway is temporarily unavailable while suspending or restarting',
    type: 'service_unavailable',
    code: 'gateway_unavailable',
  },
};
const QUERY_TOKEN =
  'Hook token must be provided via Authorization: Bearer <token> or X-OpenClaw-Token header ' +
  '(query parameters are not allowed).';

export function hooksPath(config) {
  if (!config.hooks?.enabled) return undefined;
  return `/${(config.hooks.path ?? '/hooks').replace(/^\/+|\/+$/g, '')}`;
}

export function hooks(gateway) {
  const { config, env, events, runs } = gateway;
  const throttle = new Throttle();

  return async function answer(request, response, { url, client, name }) {
    if (request.method !== 'POST') return notAllowed(response, 'POST');
    if (gateway.phase === 'draining') {
      return json(response, 503, UNAVAILABLE, { 'Cache-Control': 'no-store', 'Retry-After': '1' });
    }
    if (url.searchParams.has('token')) return plain(response, 400, QUERY_TOKEN);
    const token = bearer(request) ?? request.headers['x-openclaw-token'];
    if (!sameSecret(token, config.hooks.token)) return refuse(response, client.address);
    throttle.forget(client.address);

    const raw = await readBody(request, LIMIT_BYTES);
    if (!raw) {
      request.resume();
      return json(response, 413, { ok: false, error: 'payload too large' });
    }
    if (!signed(name, request.headers, raw, env)) return plain(response, 401, 'Unauthorized');
    let payload;
    try {
      payload = JSON.parse(raw.toString() || '{}');
    } catch (error) {
      return json(response, 400, { ok: false, error: error.message });
    }
    const action = actionOf(name, payload, request, url);
    if (!action) return notFound(response);
    const call = { source: url.pathname, token, key: idempotencyKey(request, payload) };
    return action.kind === 'wake' ? wake(response, action, call) : agent(response, action, call);
  };

  function refuse(response, address) {
    const waitS = throttle.failed(address);
    if (waitS) return plain(response, 429, 'Too Many Requests', { 'Retry-After': String(waitS) });
    return plain(response, 401, 'Unauthorized');
  }

  function actionOf(name, payload, request, url) {
    if (name === 'wake') return { kind: 'wake', text: payload.text, mode: payload.mode };
    if (name === 'agent') return { kind: 'agent', waits: payload.waitForCompletion === true, fields: fieldsOf(payload) };
    const mapping = match(config.hooks.mappings ?? [], name, payload);
    if (!mapping) return undefined;
    const context = { payload, headers: request.headers, query: Object.fromEntries(url.searchParams), path: name };
    if (mapping.action === 'wake') {
      return { kind: 'wake', text: render(mapping.textTemplate, context), mode: mapping.wakeMode };
    }
    const fields = { ...fieldsOf(mapping), message: render(mapping.messageTemplate, context), mapping: mapping.id };
    return { kind: 'agent', waits: false, fields };
  }

  function wake(response, action, call) {
    if (typeof action.text !== 'string' || !action.text.trim()) {
      return json(response, 400, { ok: false, error: 'text required' });
    }
    const mode = action.mode === 'next-heartbeat' ? 'next-heartbeat' : 'now';
    const eventOutcome = events.add({ text: action.text, ...call }, mode);
    return json(response, 200, { ok: true, mode, eventOutcome });
  }

  async function agent(response, action, call) {
    if (typeof action.fields.message !== 'string' || !action.fields.message.trim()) {
      return json(response, 400, { ok: false, error: 'message required' });
    }
    const answered = gateway.hold();
    try {
      const run = runs.dispatch(action.fields, call);
      const refused = await run.admitted;
      if (refused) return json(response, 503, { ok: false, error: refused, runId: run.id });
      const body = { ok: true, runId: run.id };
      return json(response, 200, action.waits ? { ...body, completion: await run.completed } : body);
    } finally {
      answered();
    }
  }
}

// What makes two requests the same dispatch: waitForCompletion and the key itself are not part of it.
function fieldsOf({ message, name, agentId, sessionKey, sessionMode, wakeMode, deliver, channel, to, model }) {
  return { message, name, agentId, sessionKey, sessionMode, wakeMode, deliver, channel, to, model };
}

function idempotencyKey(request, payload) {
  const offered = [
    request.headers['idempotency-key'], request.headers['x-openclaw-idempotency-key'], payload?.idempotencyKey,
  ];
  const key = offered.filter((value) => typeof value === 'string').map((value) => value.trim()).find(Boolean);
  return key && key.length <= 256 ? key : undefined;
}
