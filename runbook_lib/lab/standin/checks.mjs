// Questions that start nothing: is the config valid, is the state sound, does the schema fit.
import { existsSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import * as configuration from './config.mjs';
import { print } from './output.mjs';
import { STATE_SCHEMA } from './release.mjs';
import { statePath } from './state.mjs';

export function validate({ json }) {
  const { path: file, issues, warnings, missing } = configuration.load(process.env);
  if (missing) {
    print({ ok: false, error: { type: 'cli_error', message: 'file not found' }, valid: false, path: file });
    return 1;
  }
  if (issues.length) {
    const message = `OpenClaw config is invalid: ${file}`;
    print({ ok: false, error: { type: 'cli_error', message }, valid: false, path: file, issues });
    return 1;
  }
  console.log(json ? JSON.stringify({ valid: true, path: file, warnings }) : `Config valid: ${file}`);
  return 0;
}

export function doctor({ lint }) {
  if (!lint) throw new Error('the stand-in knows doctor only with --lint');
  const { issues } = configuration.load(process.env);
  if (issues.length) {
    const checkId = 'core/doctor/final-config-validation';
    const findings = issues.map(({ path: at, message }) => ({ checkId, severity: 'error', message, path: at }));
    return findingsOf({ checksRun: 1, findings });
  }
  const file = statePath(configuration.stateDir(process.env));
  const found = existsSync(file) ? inspect(file) : {};
  if (found.version > STATE_SCHEMA) return cannotOpen(file, found.version);
  const { problem: message } = found;
  const findings = message ? [{ checkId: 'core/doctor/state-integrity', severity: 'error', message, path: file }] : [];
  return findingsOf({ checksRun: 2, findings });
}

function findingsOf({ checksRun, findings }) {
  const ok = findings.length === 0;
  console.log(JSON.stringify({ schemaVersion: 1, ok, checksRun, checksSkipped: 0, findings }));
  return ok ? 0 : 1;
}

// OpenClaw answers this one as a failed command, over many lines and with exit code 2.
function cannotOpen(file, found) {
  const message =
    `This OpenClaw build cannot open your existing data.\nOpenClaw state database ${file} uses newer schema ` +
    `version ${found}; this build supports ${STATE_SCHEMA}.`;
  const finding = { checkId: 'core/doctor/lint-inspection', severity: 'error', message, source: 'doctor' };
  const error = { type: 'cli_error', message };
  print({ ok: false, error, schemaVersion: 1, checksRun: 0, checksSkipped: 0, findings: [finding] });
  return 2;
}

export function preflight(_, file) {
  const found = judge(path.resolve(file));
  print({
    schema: 'openclaw.state-schema-preflight.v1',
    databasePath: path.resolve(file),
    targetVersion: STATE_SCHEMA,
    foundVersion: found.version ?? null,
    ownership: null,
    issues: [],
    status: found.status,
    requiresWrite: found.status === 'migration-required',
    ...(found.reason && { reason: found.reason }),
  });
  return ['exact', 'migration-required'].includes(found.status) ? 0 : 1;
}

function judge(file) {
  const sidecars = ['-wal', '-shm', '-journal'].filter((suffix) => existsSync(file + suffix));
  if (sidecars.length) {
    const reason = `SQLite preflight requires a consolidated snapshot with no sidecars; found ${sidecars.join(', ')}.`;
    return { status: 'indeterminate', reason };
  }
  try {
    realpathSync(file);
  } catch (error) {
    return { status: 'indeterminate', reason: error.message };
  }
  const { version, problem } = inspect(file);
  if (problem) return { status: 'indeterminate', reason: problem };
  if (version === STATE_SCHEMA) return { status: 'exact', version };
  return { status: version < STATE_SCHEMA ? 'migration-required' : 'incompatible', version };
}

// Without a WAL beside it the file is all there is, and reading it must not leave new files there.
function snapshotUrl(file) {
  const url = pathToFileURL(file);
  if (!existsSync(`${file}-wal`)) url.search = 'immutable=1';
  return url;
}

export function inspect(file) {
  const failed = (detail) => ({ problem: `SQLite integrity_check failed for ${file}: ${detail}` });
  try {
    const db = new DatabaseSync(snapshotUrl(file), { readOnly: true });
    try {
      const { integrity_check: answer } = db.prepare('PRAGMA integrity_check').get();
      return answer === 'ok' ? { version: db.prepare('PRAGMA user_version').get().user_version } : failed(answer);
    } finally {
      db.close();
    }
  } catch (error) {
    return failed(error.message);
  }
}
