// What this package is: its version and the schema versions of the databases it writes.
import { readFileSync } from 'node:fs';

const manifest = JSON.parse(readFileSync(new URL('package.json', import.meta.url)));

export const VERSION = manifest.version;
export const { state: STATE_SCHEMA, agent: AGENT_SCHEMA } = manifest.openclaw.schemaVersions;
