// What the gateway's own installer would write for launchd. Only OpenClaw's installer calls this; the runbook reads it.
const POLICY = {
  RunAtLoad: true, KeepAlive: true, ExitTimeOut: 20, ProcessType: 'Interactive', ThrottleInterval: 10, Umask: 63,
  StandardInPath: '/dev/null',
};

export function buildLaunchAgentPlist({ label, programArguments, workingDirectory, stdoutPath, stderrPath }) {
  const folder = workingDirectory && { WorkingDirectory: workingDirectory };
  const entries = { Label: label, ...POLICY, ProgramArguments: programArguments, ...folder };
  const paths = { StandardOutPath: stdoutPath, StandardErrorPath: stderrPath };
  const body = Object.entries({ ...entries, ...paths }).map(([key, value]) => `<key>${key}</key>\n${xml(value)}`);
  return `<?xml version="1.0" encoding="UTF-8"?>\n<plist version="1.0">\n<dict>\n${body.join('\n')}\n</dict>\n</plist>\n`;
}

function xml(value) {
  if (Array.isArray(value)) return `<array>${value.map(xml).join('')}</array>`;
  if (typeof value === 'boolean') return `<${value}/>`;
  return typeof value === 'number' ? `<integer>${value}</integer>` : `<string>${value}</string>`;
}
