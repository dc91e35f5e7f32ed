// What a run does: it asks the configured model when there is one, and otherwise takes a few milliseconds.
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const DONE = { status: 'ok', replyDisposition: 'visible', delivered: false, deliveryAttempted: false };
const FAILED = { status: 'error', replyDisposition: 'empty' };

export function thinker(config, env) {
  const route = routeOf(config);
  const runMs = Number(env.STANDIN_RUN_MS ?? 5);
  return async (text) => {
    if (route) return (await ask(route, text)) ? DONE : FAILED;
    await sleep(runMs);
    return DONE;
  };
}

function routeOf(config) {
  const configured = config.agents?.defaults?.model;
  const [name, ...rest] = (configured?.primary ?? configured ?? '').split('/');
  const provider = config.models?.providers?.[name];
  return provider && { url: `${provider.baseUrl}/chat/completions`, key: provider.apiKey, model: rest.join('/') };
}

function ask({ url, key, model }, text) {
  const body = JSON.stringify({ model, stream: true, messages: [{ role: 'user', content: text }] });
  return new Promise((resolve) => {
    const headers = {
      'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), Authorization: `Bearer ${key}`,
    };
    const request = http.request(url, { method: 'POST', headers }, (response) => {
      response.resume();
      response.on('close', () => resolve(response.complete && response.statusCode === 200));
    });
    request.on('error', () => resolve(false));
    request.end(body);
  });
}
