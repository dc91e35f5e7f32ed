// Cooperative suspension: a lease of two minutes that closes admission, and reopens it by running out.
import { randomUUID } from 'node:crypto';

const LEASE_MS = 120_000;
const RETRY_MS = 20_000;

export class RpcError extends Error {
  constructor(code, message, more = {}) {
    super(message);
    this.body = { code, message, ...more };
  }
}

export class Suspension {
  #lease;
  #work;

  constructor(work) {
    this.#work = work;
  }

  // 'accepting', 'draining' or 'prepared'
  get phase() {
    const lease = this.#current();
    if (!lease) return 'accepting';
    if (!this.#blockers().length) lease.drained = true;
    return lease.drained ? 'prepared' : 'draining';
  }

  prepare({ requestId, drain }) {
    const held = this.#current();
    if (held && held.requestId !== requestId) throw conflict(held, 'another gateway suspension is already prepared');
    const blockers = this.#blockers();
    if (!held && blockers.length && !drain) {
      return { status: 'busy', reason: 'active-work', retryAfterMs: RETRY_MS, ...counted(blockers) };
    }
    this.#lease = held ?? { id: randomUUID(), requestId, drained: false };
    this.#lease.expiresAtMs = Date.now() + LEASE_MS;
    const { id: suspensionId, expiresAtMs } = this.#lease;
    return this.phase === 'prepared'
      ? { status: 'ready', suspensionId, expiresAtMs, ...counted([]) }
      : { status: 'draining', suspensionId, expiresAtMs, ...counted(blockers), retryAfterMs: RETRY_MS };
  }

  status({ suspensionId }) {
    const held = this.#current();
    if (!held) return { status: 'running' };
    if (held.id !== suspensionId) throw conflict(held, 'a different gateway suspension is prepared');
    const { expiresAtMs } = held;
    if (this.phase === 'prepared') return { status: 'ready', expiresAtMs, writeCustody: [] };
    return { status: 'draining', expiresAtMs, ...counted(this.#blockers()), retryAfterMs: RETRY_MS };
  }

  resume({ suspensionId }) {
    const held = this.#current();
    if (held && held.id !== suspensionId) {
      throw new RpcError('INVALID_REQUEST', 'gateway suspension id does not match');
    }
    if (held) held.expiresAtMs = 0;
    return { ok: true, status: 'running', resumed: Boolean(held) };
  }

  #current() {
    return this.#lease && Date.now() < this.#lease.expiresAtMs ? this.#lease : undefined;
  }

  #blockers() {
    const { dispatches, running, requests } = this.#work();
    return [
      { kind: 'queue', count: 2 * dispatches, message: `${2 * dispatches} queued or active operation(s)` },
      { kind: 'embedded-run', count: running, message: `${running} active embedded run(s)` },
      { kind: 'root-request', count: requests, message: `${requests} active gateway request(s)` },
      { kind: 'session-admission', count: dispatches, message: `${dispatches} admitted session turn(s)` },
    ].filter(({ count }) => count > 0);
  }
}

function counted(blockers) {
  const activeCount = blockers.reduce((sum, { count }) => sum + count, 0);
  return { activeCount, blockers, writeCustody: [] };
}

function conflict({ expiresAtMs }, message) {
  const details = { reason: 'gateway-suspension-conflict', expiresAtMs };
  return new RpcError('UNAVAILABLE', message, { retryable: true, retryAfterMs: expiresAtMs - Date.now(), details });
}
