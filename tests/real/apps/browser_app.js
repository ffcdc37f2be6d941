// A page with an EventSource and a WebSocket, as any app might have it: `node browser_app.js PORT POD`
//
// Both carry events that have numbers: one each 100 ms since 1970, so that all pods have the same ones. A client that
// says which one it had last gets those after it; one that says nothing starts with the next.
'use strict';

const http = require('node:http');
const { WebSocketServer } = require('ws');

const PACE = 100;
// A client that stayed away for longer than this has lost something.
const MOST_MISSED = 600;

const [port, pod] = [Number(process.argv[2]), process.argv[3]];
const now = () => Math.floor(Date.now() / PACE);

function follow(last, send) {
  let next = Number.isSafeInteger(last) ? Math.max(last + 1, now() - MOST_MISSED) : now() + 1;
  const timer = setInterval(() => {
    for (; next <= now(); next += 1) send(next);
  }, PACE / 4);
  return () => clearInterval(timer);
}

function page() {
  const story = { events: [], eventPods: [], messages: [], messagePods: [], closes: [], opens: 0 };
  window.story = story;
  const note = (numbers, pods, { number, pod }) => {
    numbers.push(number);
    if (pods.at(-1) !== pod) pods.push(pod);
  };
  const events = new EventSource('/events');
  events.onopen = () => (story.opens += 1);
  events.onmessage = ({ data }) => note(story.events, story.eventPods, JSON.parse(data));
  const open = () => {
    const last = story.messages.at(-1) ?? '';
    const socket = new WebSocket(`ws://${location.host}/socket?last=${last}`);
    socket.onmessage = ({ data }) => note(story.messages, story.messagePods, JSON.parse(data));
    socket.onclose = ({ code, wasClean }) => {
      story.closes.push({ code, wasClean });
      setTimeout(open, 200);
    };
  };
  open();
}

const server = http.createServer((request, response) => {
  switch (new URL(request.url, 'http://app').pathname) {
    case '/':
      response.writeHead(200, { 'Content-Type': 'text/html' });
      return response.end(`<!doctype html><title>story</title><script>(${page})();</script>`);
    case '/ready/':
      return response.end('ready');
    case '/events': {
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
      const last = request.headers['last-event-id'];
      const send = (number) => response.write(`id: ${number}\ndata: ${JSON.stringify({ number, pod })}\n\n`);
      return response.on('close', follow(Number(last ?? NaN), send));
    }
    default:
      response.writeHead(404);
      return response.end('no such page');
  }
});

const sockets = new WebSocketServer({ server, path: '/socket' });
sockets.on('connection', (socket, request) => {
  const last = new URL(request.url, 'http://app').searchParams.get('last');
  const send = (number) => socket.send(JSON.stringify({ number, pod }));
  const stop = follow(last === '' ? NaN : Number(last), send);
  socket.on('close', stop);
  socket.on('error', stop);
});

server.listen(port, '127.0.0.1');
