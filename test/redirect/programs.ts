// What do unmodified programs do that know nothing of a mesh? Servers, their callers, and who comes from outside; each is
// run by `node -e` on a machine of its own, so it takes nothing from the tests.

/** Messages that are bytes, for `grpc-js`. */
const ECHO_METHOD = `{
  path: '/test.Echo/Unary', requestStream: false, responseStream: false,
  requestSerialize: (bytes) => bytes, requestDeserialize: (bytes) => bytes,
  responseSerialize: (bytes) => bytes, responseDeserialize: (bytes) => bytes,
}`;

/** HTTP/1 on 3000, HTTP/2 on 3001, gRPC on 3002, a server that speaks first on 5432, one that speaks last on 7000. */
export const SERVER = `
const http = require('node:http');
const http2 = require('node:http2');
const net = require('node:net');
const grpc = require('@grpc/grpc-js');
const tells = (request, response) => response.end(
  'plain ' + request.httpVersion + ' ' + request.url + ' ' + request.headers['x-mesh-peer'],
);
http.createServer(tells).listen(3000, '::');
http2.createServer(tells).listen(3001, '::');
net.createServer((socket) => {
  socket.on('error', () => {});
  socket.write('plain greeting\\n');
  socket.pipe(socket);
}).listen(5432, '::');
net.createServer((socket) => socket.on('error', () => {}).pipe(socket)).listen(7000, '::');
const server = new grpc.Server();
server.addService({ unary: ${ECHO_METHOD} }, {
  unary: ({ request, metadata }, done) =>
    done(null, Buffer.from(request + ' answered to ' + metadata.get('x-mesh-peer'))),
});
server.bindAsync('[::]:3002', grpc.ServerCredentials.createInsecure(), (error) => console.error(error ?? 'up'));
`;

/** Outside the mesh: the server speaks first, on an opaque port and on one that is skipped. */
export const OUTSIDE = `
const net = require('node:net');
for (const port of [25, 8005]) net.createServer((socket) => {
  socket.on('error', () => {});
  socket.write('hello ');
  socket.pipe(socket);
}).listen(port, '::');
console.error('up');
`;

/** Says half a request. */
export const HALF = `
const socket = require('node:net').connect(Number(process.argv[2]), process.argv[1], () => socket.write('GET'));
let text = '';
socket.on('data', (chunk) => {
  text += chunk;
  if (text === 'hello GET') { console.log(text); socket.destroy(); }
});
socket.on('error', ({ code }) => console.log(code));
`;

/** Begins TLS that is none of the mesh's, and tells the first line that comes instead of an answer. */
export const STRANGER = `
const { Duplex } = require('node:stream');
const socket = require('node:net').connect(5432, process.argv[1]);
const under = new Duplex({ read() {}, write: (chunk, _, done) => socket.write(chunk, done) });
require('node:tls').connect({ socket: under, servername: 'x.test' }).on('error', () => {});
let text = '';
const end = () => { console.log(text.split('\\n')[0]); process.exit(); };
socket.on('data', (chunk) => { text += chunk.toString('latin1'); if (text.includes('\\n')) end(); });
socket.on('error', end).on('close', end);
`;

/** Waits for a greeting before it asks. */
export const LISTENER = `
const socket = require('node:net').connect(5432, process.argv[1]);
let text = '';
socket.on('data', (chunk) => {
  text += chunk;
  if (text === 'plain greeting\\n') socket.write('plain question');
  if (text.endsWith('question')) { console.log(text); socket.destroy(); }
});
`;

/** Asks at once; its first byte is none that a request begins with. */
export const SPEAKER = `
const socket = require('node:net').connect(7000, process.argv[1], () => socket.write('{plain: question}'));
let text = '';
socket.on('data', (chunk) => {
  text += chunk;
  if (text.endsWith('}')) { console.log(text); socket.destroy(); }
});
`;

/** Makes a call of gRPC to an address and port. */
export const GRPC_CALLER = `
const grpc = require('@grpc/grpc-js');
const asIs = (bytes) => bytes;
const client = new grpc.Client(process.argv[1], grpc.credentials.createInsecure());
const deadline = Date.now() + 15_000;
client.makeUnaryRequest(
  '/test.Echo/Unary', asIs, asIs, Buffer.from('plain call'), new grpc.Metadata(), { deadline },
  (error, answer) => { console.log(String(error ?? answer)); client.close(); },
);
`;
