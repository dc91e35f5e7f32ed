// Enough of a WebSocket for a probe: the handshake, the challenge, ping, close.
import { createHash, randomUUID } from 'node:crypto';
import { REFUSED } from './attribution.mjs';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const TEXT = 0x1;
const CLOSE = 0x8;
const PING = 0x9;
const PONG = 0xa;
const SERVICE_RESTART = Buffer.from([0x03, 0xf4]);

export class Sockets {
  #open = new Set();

  accept(request, socket, client) {
    socket.on('error', () => socket.destroy());
    if (!client) return refuse(socket);
    const key = request.headers['sec-websocket-key'];
    const accept = createHash('sha1').update(`${key}${GUID}`).digest('base64');
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        `Sec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    const payload = { nonce: randomUUID(), ts: Date.now() };
    write(socket, TEXT, Buffer.from(JSON.stringify({ type: 'event', event: 'connect.challenge', payload })));
    this.#open.add(socket);
    socket.on('close', () => this.#open.delete(socket));
    listen(socket);
  }

  closeAll() {
    for (const socket of this.#open) {
      write(socket, CLOSE, SERVICE_RESTART);
      socket.end();
    }
  }
}

function refuse(socket) {
  const body = JSON.stringify(REFUSED);
  socket.end(
    `HTTP/1.1 403 Forbidden\r\nContent-Type: application/json; charset=utf-8\r\n` +
      `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
  );
}

function listen(socket) {
  let pending = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    for (let frame = read(pending); frame; frame = read(pending)) {
      pending = pending.subarray(frame.size);
      if (frame.opcode === PING) write(socket, PONG, frame.payload);
      if (frame.opcode === CLOSE) {
        write(socket, CLOSE, frame.payload);
        socket.end();
      }
    }
  });
}

function write(socket, opcode, payload) {
  const length = payload.length;
  const head = length < 126 ? [length] : [126, length >> 8, length & 0xff];
  socket.write(Buffer.concat([Buffer.from([0x80 | opcode, ...head]), payload]));
}

// One frame of up to 64 KiB, unmasked; undefined while it is not complete.
function read(buffer) {
  if (buffer.length < 2) return undefined;
  const short = buffer[1] & 0x7f;
  const extended = short === 126 ? 2 : 0;
  const masked = buffer[1] & 0x80 ? 4 : 0;
  const start = 2 + extended + masked;
  if (buffer.length < start) return undefined;
  const length = extended ? buffer.readUInt16BE(2) : short;
  if (buffer.length < start + length) return undefined;
  const mask = buffer.subarray(start - masked, start);
  const payload = Buffer.from(buffer.subarray(start, start + length));
  if (masked) payload.forEach((byte, i) => (payload[i] = byte ^ mask[i % 4]));
  return { opcode: buffer[0] & 0xf, payload, size: start + length };
}
