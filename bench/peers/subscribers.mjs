// Many subscribers of one control plane: each a connection of its own with mutual TLS, and one stream of xDS.
//
//     node subscribers.mjs HOST:PORT COUNT CERTIFICATE KEY NAME
//
// All ask for the endpoints of NAME, and acknowledge what they get. One line says when all have had their first answer;
// from then on one line says whenever all have acknowledged one more: the time of the last, in milliseconds of the
// wall clock. They are a thousand streams and not a thousand sidecars, which would not leave the machine a core.

import { readFileSync } from 'node:fs';
import { connect } from 'node:http2';

const [address, count, certificate, key, name] = process.argv.slice(2);
const PATH = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
const ENDPOINTS = 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment';
/** Handshakes at a time: the control plane hears so many that have shown no certificate yet. */
const AT_ONCE = 16;

/** A field of protobuf with bytes in it; none of ours is longer than 127 bytes. */
const field = (number, content) => {
  const bytes = Buffer.from(content);
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
};

/** A message of gRPC. */
function framed(...fields) {
  const message = Buffer.concat(fields);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** The nonce of a `DeltaDiscoveryResponse`, which is its fifth field; all fields have a length. */
function nonceIn(message) {
  const varint = (at) => {
    let [value, shift, next] = [0, 0, at];
    for (; message[next] >= 128; next += 1, shift += 7) value |= (message[next] & 127) << shift;
    return [value | (message[next] << shift), next + 1];
  };
  for (let at = 0; at < message.length;) {
    const number = message[at] >> 3;
    const [length, start] = varint(at + 1);
    at = start + length;
    if (number === 5) return message.subarray(start, at);
  }
  throw new Error('an answer without a nonce');
}

const own = { cert: readFileSync(certificate), key: readFileSync(key) };
const acknowledged = new Uint32Array(Number(count));
/** How often all have acknowledged, and how many have once more. */
let [rounds, ahead] = [0, 0];

/** Told that subscriber `index` has acknowledged once more. */
function acknowledge(index) {
  acknowledged[index] += 1;
  if (acknowledged[index] !== rounds + 1) return;
  ahead += 1;
  if (ahead < acknowledged.length) return;
  rounds += 1;
  ahead = acknowledged.filter((times) => times > rounds).length;
  process.stdout.write(`${JSON.stringify({ at: Date.now() })}\n`);
}

/** Resolves when it is connected. */
function subscribe(index) {
  return new Promise((connected, fail) => {
    // Whether the control plane is the right one is not what is measured.
    const session = connect(`https://${address}`, {
      ...own,
      rejectUnauthorized: false,
      servername: 'control.mesh',
    });
    session.once('connect', connected).on('error', fail);
    const headers = { ':method': 'POST', ':path': PATH, 'content-type': 'application/grpc', te: 'trailers' };
    const stream = session.request(headers, { endStream: false });
    stream.on('error', fail);
    stream.on('response', ({ ':status': status, 'grpc-status': code }) => {
      if (status !== 200 || code !== undefined) fail(new Error(`${status}, grpc-status ${code}`));
    });
    stream.write(framed(field(1, field(1, `subscriber-${index}`)), field(2, ENDPOINTS), field(3, name)));
    let held = Buffer.alloc(0);
    stream.on('data', (chunk) => {
      held = held.length > 0 ? Buffer.concat([held, chunk]) : chunk;
      while (held.length >= 5 && held.length >= 5 + held.readUInt32BE(1)) {
        const end = 5 + held.readUInt32BE(1);
        const nonce = nonceIn(held.subarray(5, end));
        held = held.subarray(end);
        stream.write(framed(field(2, ENDPOINTS), field(6, nonce)), () => acknowledge(index));
      }
    });
  });
}

for (let index = 0; index < count; index += AT_ONCE) {
  const some = Array.from({ length: Math.min(AT_ONCE, count - index) }, (_, n) => subscribe(index + n));
  await Promise.all(some);
}
