// One handler on 127.0.0.1 and on [::1]: who asks, may they, and which part answers.
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { admin, ADMIN_PATH } from './admin.mjs';
import { attribution, REFUSED } from './attribution.mjs';
import { hooks, hooksPath } from './hooks.mjs';
import { isLiveness, isProbe, probe } from './probes.mjs';
import { json, notFound, secure } from './replies.mjs';

const KEEP_ALIVE_MS = 5000;
// Rules about latency need a latency: a gateway that answers within a millisecond measures the machine's noise.
const PACE_MS = Number(process.env.STANDIN_PACE_MS ?? 50);

export function createServers(gateway) {
  const clientOf = attribution(gateway.config);
  const answerHook = hooks(gateway);
  const answerAdmin = admin(gateway);
  const base = hooksPath(gateway.config);

  async function handle(request, response) {
    secure(response);
    const url = new URL(request.url, 'http://gateway');
    const client = clientOf(request);
    if (isLiveness(url.pathname)) return probe(gateway, request, response, url.pathname, true);
    if (!client) return json(response, 403, REFUSED);
    if (isProbe(url.pathname)) {
      const detailed = client.local || gateway.isOperator(request);
      return probe(gateway, request, response, url.pathname, detailed);
    }
    if (url.pathname === ADMIN_PATH && answerAdmin) return answerAdmin(request, response);
    await sleep(PACE_MS * (0.8 + 0.4 * Math.random()));
    if (await gateway.faults.intercept(response)) return undefined;
    if (base && (url.pathname === base || url.pathname.startsWith(`${base}/`))) {
      return answerHook(request, response, { url, client, name: url.pathname.slice(base.length + 1) });
    }
    return notFound(response);
  }

  const servers = ['127.0.0.1', '::1'].map((host) => ({ host, server: http.createServer() }));
  for (const { server } of servers) {
    server.keepAliveTimeout = KEEP_ALIVE_MS;
    server.on('request', (request, response) => {
      handle(request, response).catch((error) => {
        gateway.log('http', error.stack);
        if (response.headersSent) response.destroy();
        else json(response, 500, { error: { message: 'Internal error', type: 'internal' } });
      });
    });
    server.on('upgrade', (request, socket) => gateway.sockets.accept(request, socket, clientOf(request)));
  }
  return {
    listen: (port) => Promise.all(servers.map(({ server, host }) => listening(server, port, host))),
    close: () => Promise.all(servers.map(({ server }) => closed(server))),
  };
}

function listening(server, port, host) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
}

function closed(server) {
  return new Promise((resolve) => {
    server.close(resolve);
    server.closeIdleConnections();
  });
}
