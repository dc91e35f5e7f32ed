// The queue of wakes: the last 20, older ones fall out silently, and one heartbeat takes them all.
import { randomUUID } from 'node:crypto';

const KEPT = 20;
const HEARTBEAT_MS = 1000;

export class Events {
  #state;
  #runs;
  #waiting = [];
  #timer;
  stuck = []; // put here by practice faults: no heartbeat takes these

  constructor(state, runs) {
    this.#state = state;
    this.#runs = runs;
  }

  get texts() {
    return [...this.stuck, ...this.#waiting.map(({ text }) => text)];
  }

  add({ text, key, source }, mode) {
    const event = { id: randomUUID(), kind: 'wake', key, source, text };
    const coalesced = this.#waiting.at(-1)?.text === text;
    this.#state.delivered(event, coalesced);
    if (!coalesced) this.#waiting = [...this.#waiting, event].slice(-KEPT);
    if (mode === 'now') this.#timer ??= setTimeout(() => this.#heartbeat(), HEARTBEAT_MS).unref();
    return coalesced ? 'coalesced' : 'queued';
  }

  async #heartbeat() {
    this.#timer = undefined;
    for (const event of this.#waiting.splice(0)) await this.#runs.execute(event);
  }
}
