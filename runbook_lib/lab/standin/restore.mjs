// `backup verify` and `backup restore`: an archive is unpacked beside its target, checked, and only then given a name.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inspect } from './checks.mjs';
import { print } from './output.mjs';
import { databasesUnder } from './state.mjs';

const WARNINGS = ['Restoring an archive is time travel: every restored state surface rolls back to the archive timestamp.'];

export function verify({ json }, file) {
  const found = inspectArchive(path.resolve(file));
  if (json) print(found);
  return 0;
}

export function restore({ target, json }, file) {
  if (!target) throw new Error('backup restore needs --target');
  const targetPath = path.resolve(target);
  if (fs.existsSync(targetPath) && fs.readdirSync(targetPath).length) {
    throw new Error(`Backup restore target directory must be empty: ${targetPath}`);
  }
  fs.mkdirSync(path.dirname(targetPath), { recursive: true });
  const found = inspectArchive(path.resolve(file), targetPath);
  if (json) print({ ...found, targetPath, warnings: WARNINGS });
  return 0;
}

export function inspectArchive(archive, keepAs) {
  const beside = keepAs ? path.dirname(keepAs) : tmpdir();
  const folder = fs.mkdtempSync(path.join(beside, '.openclaw-restore-'));
  try {
    const found = { ok: true, archivePath: archive, ...unpack(archive, folder) };
    if (keepAs) fs.cpSync(folder, keepAs, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
    return found;
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

function unpack(archive, folder) {
  const refuse = (why) => {
    throw new Error(
      `Backup archive verification failed: ${archive}. Archive is not a valid OpenClaw backup. ${why}`,
    );
  };
  let names;
  try {
    names = execFileSync('tar', ['-tzf', archive], { encoding: 'utf8', stdio: 'pipe' }).trim().split('\n');
  } catch (error) {
    return refuse(error.stderr.trim());
  }
  const unsafe = names.find((name) => path.isAbsolute(name) || name.split('/').includes('..'));
  if (unsafe) refuse(`unsafe path ${unsafe}`);
  execFileSync('tar', ['-xpzf', archive, '-C', folder]);
  const root = names[0].split('/')[0];
  const manifestFile = path.join(folder, root, 'manifest.json');
  if (!fs.existsSync(manifestFile)) refuse('no manifest.json');
  const manifest = JSON.parse(fs.readFileSync(manifestFile));
  for (const { archivePath } of manifest.assets) {
    if (!fs.existsSync(path.join(folder, archivePath))) refuse(`missing payload ${archivePath}`);
  }
  const broken = databasesUnder(folder).map(inspect).find(({ problem }) => problem);
  if (broken) refuse(broken.problem);
  const { archiveRoot, createdAt, runtimeVersion, assets } = manifest;
  return { archiveRoot, createdAt, runtimeVersion, assetCount: assets.length, entryCount: names.length, symlinkCount: 0 };
}
