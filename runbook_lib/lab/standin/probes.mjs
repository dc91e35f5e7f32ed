// /healthz is about the process, /startupz and /readyz are about the work it can take.
import { performance } from 'node:perf_hooks';
import { VERSION } from './release.mjs';
import { json, notAllowed } from './replies.mjs';

const PATHS = {
  '/health': live, '/healthz': live,
  '/ready': ready, '/readyz': ready,
  '/startup': started, '/startupz': started,
};
const FAILING = { starting: ['startup-sidecars'], draining: ['gateway-draining'], running: [] };

export const isProbe = (path) => path in PATHS;
export const isLiveness = (path) => PATHS[path] === live;

// Strangers behind the proxy learn yes or no; the local operator and token holders see the details.
export function probe(gateway, request, response, path, detailed) {
  if (!['GET', 'HEAD'].includes(request.method)) return notAllowed(response, 'GET, HEAD');
  const [ok, body, details] = PATHS[path](gateway);
  return json(response, ok ? 200 : 503, detailed ? { ...body, ...details } : body, { 'Cache-Control': 'no-store' });
}

function live() {
  return [true, { ok: true, status: 'live' }, {}];
}

function ready(gateway) {
  const failing = FAILING[gateway.phase];
  const ok = failing.length === 0;
  return [ok, { ready: ok }, { failing, uptimeMs: gateway.uptimeMs(), eventLoop: eventLoop() }];
}

function started(gateway) {
  const ok = gateway.phase === 'running';
  const details = { version: VERSION, uptimeMs: gateway.uptimeMs() };
  if (gateway.phase === 'starting') details.pendingReason = 'startup-sidecars';
  return [ok, { ok, status: ok ? 'started' : gateway.phase }, details];
}

export function eventLoop() {
  const { utilization } = performance.eventLoopUtilization();
  return { degraded: false, degradedSinceMs: null, reasons: [], utilization: Number(utilization.toFixed(3)) };
}
