// Practice faults, from <state_dir>/practice-faults.json. Nothing here is OpenClaw's: it is what the lab
// breaks on purpose, and taking the file away mends it.
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { json } from './replies.mjs';

const LOOK_MS = 200;
const MIB = 1024 * 1024;
const BROKEN = { error: { message: 'practice fault', type: 'practice_fault' } };

export class Faults {
  #file;
  #stamp;
  #set = {};
  #hoard = [];
  #owed = 0;

  constructor(stateDir) {
    this.#file = path.join(stateDir, 'practice-faults.json');
    this.#look();
  }

  get exitCode() {
    return this.#set.exit_code;
  }

  watch(events, exit) {
    const apply = () => {
      events.stuck = Array.from({ length: this.#set.backlog ?? 0 }, (_, i) => `practice event ${i + 1}`);
      if (this.exitCode !== undefined) exit(this.exitCode);
    };
    let grownAt = Date.now();
    apply();
    setInterval(() => {
      if (this.#look()) apply();
      this.#grow((Date.now() - grownAt) / 1000);
      grownAt = Date.now();
    }, LOOK_MS).unref();
  }

  // -> true when the request has been answered here
  async intercept(response) {
    if (this.#set.delay_ms) await sleep(this.#set.delay_ms);
    // Counted, not drawn: 5 % is every twentieth answer, so a short practice run sees its share.
    this.#owed += (this.#set.error_pct ?? 0) / 100;
    if (this.#owed < 0.999999) return false;
    this.#owed -= 1;
    json(response, 500, BROKEN);
    return true;
  }

  // -> true when the file says something new
  #look() {
    const stamp = statSync(this.#file, { throwIfNoEntry: false })?.mtimeMs;
    if (stamp === this.#stamp) return false;
    try {
      this.#set = stamp === undefined ? {} : JSON.parse(readFileSync(this.#file, 'utf8'));
      this.#stamp = stamp;
      return true;
    } catch {
      return false; // half written: the next look reads it again
    }
  }

  #grow(seconds) {
    const { rss_mb_per_s: rate = 0, rss_mb_max: most = 400 } = this.#set;
    if (!rate) {
      this.#hoard = [];
      return;
    }
    const held = this.#hoard.reduce((sum, block) => sum + block.length, 0);
    const wanted = Math.min(Math.round(rate * seconds * MIB), most * MIB - held);
    if (wanted > 0) this.#hoard.push(Buffer.alloc(wanted, 1));
  }
}
