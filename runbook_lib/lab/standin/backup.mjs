// `backup create`: a tar.gz of the state, with every database copied by SQLite's own backup while it is in use.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { backup as copyDatabase, DatabaseSync } from 'node:sqlite';
import * as configuration from './config.mjs';
import { print } from './output.mjs';
import { VERSION } from './release.mjs';
import { inspectArchive } from './restore.mjs';

const SIDECAR = /\.sqlite-(wal|shm|journal)$/;

export async function create({ output = '.', verify, json }) {
  const { env } = process;
  const { config, path: configFile } = configuration.load(env);
  const stateDir = configuration.stateDir(env);
  const folder = path.resolve(output);
  if (isInside(folder, stateDir)) {
    throw new Error(`Backup output must not be written inside a source path: ${folder} is inside ${stateDir}`);
  }
  fs.mkdirSync(folder, { recursive: true });
  const now = new Date();
  const root = `${localStamp(now)}-openclaw-backup`;
  const archive = path.join(folder, `${root}.tar.gz`);
  const { assets, skipped } = sources({ stateDir, configFile, workspace: configuration.workspace(env, config) });
  for (const asset of assets) asset.archivePath = path.posix.join(root, 'payload/posix', asset.sourcePath);
  const agentRoots = [{ agentId: 'main', sourcePath: path.join(stateDir, 'agents/main/agent') }];
  const createdAt = now.toISOString();
  const staging = fs.mkdtempSync(path.join(folder, '.openclaw-backup-'));
  try {
    for (const asset of assets) await copyTree(asset.sourcePath, path.join(staging, asset.archivePath), stateDir);
    const manifest = {
      schemaVersion: 1, createdAt, archiveRoot: root, runtimeVersion: VERSION, platform: process.platform,
      nodeVersion: process.version, options: { includeWorkspace: true, onlyConfig: false },
      paths: {
        stateDir, configPath: configFile, oauthDir: path.join(stateDir, 'credentials'),
        workspaceDirs: [configuration.workspace(env, config)], agentRoots,
      },
      assets, skipped, externalSymbolicLinks: [],
    };
    fs.writeFileSync(path.join(staging, root, 'manifest.json'), JSON.stringify(manifest, null, 2), { mode: 0o600 });
    pack(staging, root, archive);
  } finally {
    fs.rmSync(staging, { recursive: true });
  }
  if (verify) inspectArchive(archive);
  const displayed = (entry) => ({ ...entry, displayPath: entry.sourcePath });
  const result = {
    createdAt, archiveRoot: root, archivePath: archive, dryRun: false, includeWorkspace: true, onlyConfig: false,
    verified: Boolean(verify), assets: assets.map(displayed), agentRoots, skipped: skipped.map(displayed),
    skippedVolatileCount: 0,
  };
  if (json) print(result);
  else console.log(archive);
  return 0;
}

function sources({ stateDir, configFile, workspace }) {
  const skipped = [];
  const assets = [{ kind: 'state', sourcePath: stateDir }];
  for (const [kind, sourcePath] of [['config', configFile], ['workspace', workspace]]) {
    if (!isInside(sourcePath, stateDir)) assets.push({ kind, sourcePath });
    else if (kind !== 'config') skipped.push({ kind, sourcePath, reason: 'covered', coveredBy: stateDir });
  }
  const agent = path.join(stateDir, 'agents/main/agent');
  skipped.push({ kind: 'agent', sourcePath: agent, reason: 'covered', coveredBy: stateDir });
  skipped.push({ kind: 'managed state', sourcePath: path.join(stateDir, 'tmp'), reason: 'regenerable' });
  return { assets: assets.filter(({ sourcePath }) => fs.existsSync(sourcePath)), skipped };
}

// A link is kept as it is written, also one that leads out of the state.
async function copyTree(from, to, stateDir) {
  if (fs.lstatSync(from).isSymbolicLink()) return fs.symlinkSync(fs.readlinkSync(from), to);
  const { mode, mtime } = fs.statSync(from);
  if (fs.statSync(from).isDirectory()) {
    fs.mkdirSync(to, { recursive: true });
    for (const name of fs.readdirSync(from)) {
      const source = path.join(from, name);
      const wanted = source !== path.join(stateDir, 'tmp') && !SIDECAR.test(name) && isPlain(source);
      if (wanted) await copyTree(source, path.join(to, name), stateDir);
    }
  } else {
    fs.mkdirSync(path.dirname(to), { recursive: true });
    if (from.endsWith('.sqlite')) await copyLiveDatabase(from, to);
    else fs.copyFileSync(from, to);
  }
  fs.chmodSync(to, mode);
  fs.utimesSync(to, mtime, mtime);
}

async function copyLiveDatabase(from, to) {
  const live = new DatabaseSync(from, { readOnly: true });
  try {
    await copyDatabase(live, to);
  } finally {
    live.close();
  }
}

function isPlain(file) {
  const entry = fs.lstatSync(file, { throwIfNoEntry: false });
  return entry?.isFile() || entry?.isDirectory() || entry?.isSymbolicLink();
}

function pack(folder, root, archive) {
  const partial = `${folder}.tar.gz`;
  // bsdtar on a Mac would add ._* files without this.
  const env = { ...process.env, COPYFILE_DISABLE: '1' };
  execFileSync('tar', ['-czf', partial, '-C', folder, root], { env });
  fs.chmodSync(partial, 0o600);
  fs.renameSync(partial, archive);
}

function isInside(file, folder) {
  return file === folder || file.startsWith(folder + path.sep);
}

// 2026-11-22T08-35-55.744+00-00, in local time
function localStamp(date) {
  const offset = -date.getTimezoneOffset();
  const local = new Date(date.getTime() + offset * 60_000).toISOString().slice(0, -1);
  const two = (n) => String(Math.trunc(Math.abs(n))).padStart(2, '0');
  return `${local.replaceAll(':', '-')}${offset < 0 ? '-' : '+'}${two(offset / 60)}-${two(offset % 60)}`;
}
