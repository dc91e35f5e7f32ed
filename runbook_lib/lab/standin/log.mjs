// One line for people on stdout, one JSON line in the gateway's own log file.
import { appendFileSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export function openLog(config) {
  const today = new Date().toISOString().slice(0, 10);
  // The shared default is OpenClaw's own trap: two gateways without logging.file write into one log.
  const file = config.logging?.file ?? path.join(tmpdir(), 'openclaw', `openclaw-${today}.log`);
  mkdirSync(path.dirname(file), { recursive: true });
  return (subsystem, message) => {
    const time = new Date().toISOString();
    console.log(`${time} [${subsystem}] ${message}`);
    appendFileSync(file, `${JSON.stringify({ 0: JSON.stringify({ subsystem }), 1: message, time, message })}\n`, {
      mode: 0o600,
    });
  };
}
