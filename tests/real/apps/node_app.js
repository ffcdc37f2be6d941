// The app of the story on Node's own http server. Same paths as in `flask_app.py`. `node node_app.js PORT`
'use strict';

const http = require('node:http');

let ready = true;

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://app');
  const number = url.searchParams.get('n') ?? '';
  const answer = (status, text) => {
    response.writeHead(status, { 'Content-Type': 'text/plain' });
    response.end(text);
  };
  switch (url.pathname) {
    case '/':
      return answer(200, `good day ${number}`);
    case '/ready/':
      return ready ? answer(200, 'ready') : answer(503, 'not ready');
    case '/unready/':
      ready = !ready;
      return answer(200, ready ? 'ready from now on' : 'not ready from now on');
    case '/poll': {
      const seconds = Math.min(Number(url.searchParams.get('s') ?? 1), 60);
      const timer = setTimeout(() => answer(200, `polled ${number}`), seconds * 1000);
      // The client may leave before the answer is due.
      return response.on('close', () => clearTimeout(timer));
    }
    default:
      return answer(404, 'no such page');
  }
});

server.listen(Number(process.argv[2]), '127.0.0.1');
