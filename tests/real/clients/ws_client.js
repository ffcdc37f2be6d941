// The same as `websockets_client.py`, with the ws package: `node ws_client.js ADDRESS`
'use strict';

const { randomBytes } = require('node:crypto');
const { once } = require('node:events');
const WebSocket = require('ws');

const SIZES = [0, 1, 125, 126, 1000, 65535, 65536, 1 << 20];
const LARGEST = 2 << 20;
const OPEN = 16;
const LIMIT = 30_000;
const LONGEST_OPEN = 90_000;

const address = process.argv[2];
const wrong = [];
let messages = 0;

async function main() {
  const variants = ['/', '/pieces'].flatMap((path) => [false, true].map((way) => [path, way]));
  const hurry = setTimeout(() => fail(`not ready after ${LIMIT} ms`), LIMIT);
  await Promise.all(variants.map(([path, way]) => sayAll(path, way)));
  const kept = await Promise.all(
    Array.from({ length: OPEN }, (_, n) => keep(...variants[n % variants.length], n < OPEN / 2)),
  );
  clearTimeout(hurry);
  say({ event: 'ready', open: OPEN });
  setTimeout(() => fail(`open after ${LONGEST_OPEN} ms`), LONGEST_OPEN).unref();
  const ends = await Promise.all(kept.map(({ end }) => end));
  say({ event: 'done', messages, ends, wrong });
}

async function open(path, way) {
  const socket = new WebSocket(`ws://${address}${path}`, {
    perMessageDeflate: way,
    maxPayload: LARGEST,
  });
  // Bytes right behind the 101 are events already when this function goes on.
  socket.heard = [];
  socket.on('message', (data, binary) => {
    const message = binary ? data : data.toString();
    const waiting = socket.waiting?.shift();
    if (waiting) waiting(message);
    else socket.heard.push(message);
  });
  socket.waiting = [];
  await once(socket, 'open');
  const name = socket.extensions;
  if (name !== (way ? 'permessage-deflate' : '')) wrong.push(`extensions of ${path}: ${name}`);
  return socket;
}

function hear(socket) {
  if (socket.heard.length > 0) return socket.heard.shift();
  return new Promise((resolve) => socket.waiting.push(resolve));
}

async function sayAll(path, way) {
  const socket = await open(path, way);
  for (const size of SIZES) {
    await exchange(socket, randomBytes(size), size);
    await exchange(socket, 'ä'.repeat(size / 2), size);
  }
  const pieces = Array.from({ length: 300 }, () => randomBytes(700));
  pieces.forEach((piece, at) => socket.send(piece, { fin: at === pieces.length - 1 }));
  expect(await hear(socket), Buffer.concat(pieces), 'in pieces');
  socket.ping('still there?');
  await once(socket, 'pong');
  const burst = Array.from({ length: 500 }, (_, number) => `${number}`.repeat(50));
  burst.forEach((message) => socket.send(message));
  for (const message of burst) expect(await hear(socket), message, 'in a burst');
  socket.close(1000, 'enough');
  const [code, reason] = await once(socket, 'close');
  if (code !== 1000 || reason.toString() !== 'enough') {
    wrong.push(`our close came back as ${code} ${reason}`);
  }
}

async function exchange(socket, message, what) {
  socket.send(message);
  expect(await hear(socket), message, what);
}

function expect(got, message, what) {
  messages += 1;
  if (Buffer.compare(Buffer.from(got), Buffer.from(message)) !== 0) {
    wrong.push(`a message (${what}) came back as ${got.slice(0, 50)}…`);
  }
}

async function keep(path, way, talks) {
  const socket = await open(path, way);
  await exchange(socket, 'good day', 'good day');
  // `wasClean`: both sides have sent a close frame.
  const end = new Promise((resolve) => {
    socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, clean: wasClean });
  });
  socket.on('error', (error) => wrong.push(`${error}`));
  if (talks) talk(socket);
  // In an object: a promise of a promise would be waited for, too.
  return { end };
}

async function talk(socket) {
  while (socket.readyState === WebSocket.OPEN) {
    await exchange(socket, randomBytes(5000), 'talk');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function say(word) {
  process.stdout.write(`${JSON.stringify(word)}\n`);
}

function fail(problem) {
  console.error(problem);
  process.exit(1);
}

main().catch((error) => fail(error.stack));
