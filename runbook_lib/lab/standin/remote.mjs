// Commands that ask the running gateway, over the same RPC as everybody else.
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADMIN_PATH } from './admin.mjs';
import * as configuration from './config.mjs';
import { print } from './output.mjs';

const POLL_MS = 500;

export async function suspend(options) {
  const requestId = options['request-id'] ?? `cli-${process.pid}`;
  const until = Date.now() + Number(options.wait ?? 0) * 1000;
  let answer = await ask(options, 'gateway.suspend.prepare', { requestId });
  while (answer.payload?.status === 'busy' && Date.now() + POLL_MS < until) {
    await sleep(POLL_MS);
    answer = await ask(options, 'gateway.suspend.prepare', { requestId });
  }
  if (!answer.ok) return refused(answer);
  print({ ...answer.payload, requestId });
  return answer.payload.status === 'busy' ? 1 : 0;
}

export async function resume(options, suspensionId) {
  return report(await ask(options, 'gateway.suspend.resume', { suspensionId }));
}

export async function call(options, method) {
  return report(await ask(options, method, JSON.parse(options.params ?? '{}')));
}

function report(answer) {
  if (!answer.ok) return refused(answer);
  print(answer.payload);
  return 0;
}

function refused({ error }) {
  print({ ok: false, error: { type: 'gateway_request_error', retryable: false, ...error } });
  return 1;
}

function ask(options, method, params) {
  const { config } = configuration.load(process.env);
  const port = configuration.port(options, process.env, config);
  const headers = { Authorization: `Bearer ${config.gateway?.auth?.token ?? process.env.OPENCLAW_GATEWAY_TOKEN}` };
  return new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port, path: ADMIN_PATH, method: 'POST', headers }, (response) => {
      let body = '';
      response.on('data', (part) => (body += part));
      response.on('end', () => {
        if (response.statusCode === 404) reject(new Error('the stand-in needs the plugin admin-http-rpc for this'));
        else resolve(JSON.parse(body));
      });
    });
    request.on('error', reject);
    request.end(JSON.stringify({ method, params }));
  });
}
