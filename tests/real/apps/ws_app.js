// The same as `websockets_app.py`, with the ws package: `node ws_app.js PORT`
'use strict';

const { WebSocketServer } = require('ws');

const LARGEST = 2 << 20;
const PIECE = 1000;

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(process.argv[2]),
  maxPayload: LARGEST,
  perMessageDeflate: true,
});

server.on('connection', (socket, request) => {
  const inPieces = request.url === '/pieces';
  socket.on('message', (message, binary) => {
    if (!inPieces || message.length === 0) return socket.send(message, { binary });
    for (let at = 0; at < message.length; at += PIECE) {
      const fin = at + PIECE >= message.length;
      socket.send(message.subarray(at, at + PIECE), { binary, fin });
    }
  });
  socket.on('error', () => {});
  socket.on('close', (code, reason) => {
    console.log(JSON.stringify({ event: 'closed', code, reason: reason.toString() }));
  });
});

// As a good server does: it ends when the last connection has.
process.on('SIGTERM', () => {
  server.close();
  setInterval(() => server.clients.size === 0 && process.exit(0), 10);
});
