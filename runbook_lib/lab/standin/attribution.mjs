// Who is asking: a request with forwarding headers counts only when a trusted proxy names a real client.
import { BlockList, isIP } from 'node:net';

const PLAIN = ['forwarded', 'x-real-ip'];

export const REFUSED = {
  error: {
    message:
      'Proxy client attribution is required. Configure gateway.trustedProxies narrowly and make the proxy ' +
      'overwrite or safely rebuild forwarded client headers.',
    type: 'proxy_attribution_required',
  },
};

export function attribution(config) {
  const trusted = blockList(config.gateway?.trustedProxies ?? []);
  const loopback = blockList(['127.0.0.0/8', '::1']);

  // -> { address, local } or undefined when the client cannot be told
  return function client(request) {
    const peer = request.socket.remoteAddress.replace(/^::ffff:/, '');
    if (!isForwarded(request.headers)) return { address: peer, local: has(loopback, peer) };
    if (!has(trusted, peer)) return undefined;
    const hops = (request.headers['x-forwarded-for'] ?? '').split(',').map((hop) => hop.trim()).reverse();
    const address = hops.find((hop) => !has(trusted, hop));
    if (!address || !isIP(address) || has(loopback, address)) return undefined;
    return { address, local: false };
  };
}

function isForwarded(headers) {
  return Object.entries(headers).some(
    ([name, value]) => value && (PLAIN.includes(name) || name.startsWith('x-forwarded-')),
  );
}

function blockList(entries) {
  const list = new BlockList();
  for (const entry of entries) {
    const [address, bits] = entry.split('/');
    const family = `ipv${isIP(address)}`;
    if (bits) list.addSubnet(address, Number(bits), family);
    else list.addAddress(address, family);
  }
  return list;
}

function has(list, address) {
  const family = isIP(address);
  return family > 0 && list.check(address, `ipv${family}`);
}
