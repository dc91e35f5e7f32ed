// Bad tokens per client: 20 in a minute are answered, the next ones have to wait.
const ALLOWED = 20;
const WINDOW_MS = 60_000;

export class Throttle {
  #windows = new Map();

  // -> seconds to wait, or 0 while the client may still try
  failed(address) {
    const now = Date.now();
    const known = this.#windows.get(address);
    const current = known && now < known.endsAt ? known : { count: 0, endsAt: now + WINDOW_MS };
    this.#windows.set(address, current);
    current.count += 1;
    return current.count > ALLOWED ? Math.ceil((current.endsAt - now) / 1000) : 0;
  }

  forget(address) {
    this.#windows.delete(address);
  }
}
