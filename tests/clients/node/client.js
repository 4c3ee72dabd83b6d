// One step of the client matrix with npm's ssh2: node client.js '{"action": ..., ...}'. See matrix_node.py.
'use strict';

const fs = require('fs');
const net = require('net');
const os = require('os');
const { Client } = require('ssh2');

const step = JSON.parse(process.argv[2]);
const client = new Client();

function check(error) {
  if (error) throw error;
}

// Addresses are [host, port], or a string: the path of a unix socket.
function dial(address) {
  const where = typeof address === 'string' ? { path: address } : { host: address[0], port: address[1] };
  return net.connect({ ...where, allowHalfOpen: true });
}

function join(socket, channel) {
  socket.pipe(channel).pipe(socket);
}

// A channel to an address on the server's side.
function open(address, use) {
  if (typeof address === 'string') client.openssh_forwardOutStreamLocal(address, use);
  else client.forwardOut('127.0.0.1', 0, ...address, use);
}

function end(code, signal) {
  process.exitCode = signal ? 128 + os.constants.signals[`SIG${signal}`.replace('SIGSIG', 'SIG')] : code;
}

const actions = {
  exec() {
    client.exec(step.command, { agentForward: 'agent' in step }, (error, stream) => {
      check(error);
      stream.pipe(process.stdout);
      stream.stderr.pipe(process.stderr);
      process.stdin.pipe(stream);
      stream.on('exit', end).on('close', () => client.end());
    });
  },

  window() {
    client.exec(step.command, { pty: { rows: step.rows, cols: step.cols, term: 'xterm' } }, (error, stream) => {
      check(error);
      let seen = '';
      stream.on('data', (data) => {
        process.stdout.write(data);
        const was = seen.includes('READY');
        seen += data;
        if (!was && seen.includes('READY')) stream.write(step.typed);
      });
      stream.on('exit', end).on('close', () => client.end());
    });
  },

  fastPut() {
    copy('fastPut');
  },

  fastGet() {
    copy('fastGet');
  },

  L() {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => {
      open(step.target, (error, channel) => {
        check(error);
        join(socket, channel);
      });
    });
    server.listen(step.listen[1], step.listen[0]);
  },

  R() {
    const accepted = (_, accept) => join(dial(step.target), accept());
    client.on('unix connection', accepted).on('tcp connection', accepted);
    if (typeof step.listen === 'string') client.openssh_forwardInStreamLocal(step.listen, check);
    else client.forwardIn(...step.listen, check);
  },

  stdio() {
    open(step.target, (error, channel) => {
      check(error);
      process.stdin.pipe(channel);
      channel.pipe(process.stdout);
      channel.on('close', () => client.end());
    });
  },
};

function copy(method) {
  client.sftp((error, sftp) => {
    check(error);
    sftp[method](step.source, step.destination, (problem) => {
      check(problem);
      client.end();
    });
  });
}

client.on('ready', actions[step.action]);
client.on('error', check);
client.connect({
  host: '127.0.0.1',
  port: step.port,
  username: step.user,
  agent: step.agent,
  privateKey: fs.readFileSync(step.key),
  hostVerifier: (key) => key.toString('base64') === step.hostKey,
});
