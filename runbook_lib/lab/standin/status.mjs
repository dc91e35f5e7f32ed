// What the operator reads: backlog, work in flight, memory.
import { eventLoop } from './probes.mjs';
import { VERSION } from './release.mjs';

const NO_TASKS = {
  total: 0, active: 0, terminal: 0, failures: 0,
  byStatus: { queued: 0, running: 0, succeeded: 0, failed: 0, timed_out: 0, cancelled: 0, lost: 0 },
  byRuntime: { subagent: 0, acp: 0, cli: 0, cron: 0 },
};

export function status(gateway) {
  const memory = process.memoryUsage();
  return {
    runtimeVersion: VERSION,
    channelSummary: [],
    queuedSystemEvents: gateway.events.texts,
    degradedSecretOwners: [],
    degradedPlugins: [],
    tasks: NO_TASKS, // hook runs are not tasks: they are counted in activeWork.rootRequests
    eventLoop: eventLoop(),
    processMemory: {
      rssBytes: memory.rss,
      heapUsedBytes: memory.heapUsed,
      heapTotalBytes: memory.heapTotal,
      externalBytes: memory.external,
      arrayBuffersBytes: memory.arrayBuffers,
    },
    pid: process.pid,
    shutdownBudget: {
      timeoutMs: 325_000,
      reserveMs: 10_000,
      nativeStopBudget: false,
      activeWork: {
        rootRequests: gateway.work().requests,
        cronRuns: 0,
        sessionMutations: 0,
        terminalPersistence: 0,
        lifecycleWrites: 0,
      },
      writeCustody: [],
    },
  };
}
