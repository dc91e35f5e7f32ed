// Agent runs: eight at a time, 15 s to get a place, and the same key and payload is the same run.
import { createHash, randomUUID } from 'node:crypto';

const PLACES = 8;
const ADMISSION_MS = 15_000;
const REPLAY_MS = 300_000;
const REPLAY_ENTRIES = 1000;
const TOO_LATE = 'hook agent run did not start before admission timeout';

export class Runs {
  #state;
  #think;
  #log;
  #waiting = [];
  #replay = new Map();
  running = 0;

  constructor(state, think, log) {
    this.#state = state;
    this.#think = think;
    this.#log = log;
  }

  get dispatches() {
    return this.running + this.#waiting.length;
  }

  // -> { id, admitted: reason it was refused or undefined, completed: how it ended }
  dispatch(fields, { key, token, source }) {
    const identity = key && digest([token, source, key, fields]);
    const known = this.#replay.get(identity);
    const run = known ?? this.#start({ id: randomUUID(), kind: 'agent', key, source, text: fields.message }, identity);
    this.#state.delivered(run, Boolean(known));
    return run;
  }

  #start(run, identity) {
    const admission = Promise.withResolvers();
    const completion = Promise.withResolvers();
    run.admitted = admission.promise;
    run.completed = completion.promise;
    if (identity) this.#replay.set(identity, run);
    const place = async () => {
      clearTimeout(timer);
      this.running += 1;
      admission.resolve(undefined);
      const outcome = await this.execute(run);
      this.running -= 1;
      this.#waiting.shift()?.();
      completion.resolve(outcome);
      this.#log('hooks', `hook agent run completed runId=${run.id} status=${outcome.status}`);
      if (identity) this.#expire(identity);
    };
    const timer = setTimeout(() => {
      this.#waiting.splice(this.#waiting.indexOf(place), 1);
      if (identity) this.#replay.delete(identity);
      admission.resolve(TOO_LATE);
    }, ADMISSION_MS);
    if (this.running < PLACES) place();
    else this.#waiting.push(place);
    return run;
  }

  async execute(run) {
    this.#state.executed(run);
    return this.#think(run.text);
  }

  #expire(identity) {
    setTimeout(() => this.#replay.delete(identity), REPLAY_MS).unref();
    if (this.#replay.size > REPLAY_ENTRIES) this.#replay.delete(this.#replay.keys().next().value);
  }
}

function digest(parts) {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}
