// Can a caller tell one error from another?

import test from 'ava';
import * as errors from '../../src/index.js';

test('every error has a class, a name, a code and the cause', (t) => {
  const cause = new Error('root');
  const all: [errors.MeshError, string, string][] = [
    [new errors.ConfigError([]), 'ConfigError', 'MESH_CONFIG_INVALID'],
    [new errors.ListenError('EADDRINUSE', 'web', ':80', { cause }), 'ListenError', 'EADDRINUSE'],
    [new errors.CertificateError([]), 'CertificateError', 'MESH_CERTIFICATE_INVALID'],
    [new errors.OptionError('threads', 'a number', 'x'), 'OptionError', 'MESH_OPTION_INVALID'],
    [new errors.StateError('x'), 'StateError', 'MESH_STATE'],
    [new errors.RestartError(['x']), 'RestartError', 'MESH_RESTART_NEEDED'],
    [new errors.EtcdError('x', { cause }), 'EtcdError', 'MESH_ETCD'],
    [new errors.EndpointError('x'), 'EndpointError', 'MESH_ENDPOINT_INVALID'],
    [new errors.CoreUnavailableError('x', { cause }), 'CoreUnavailableError', 'MESH_CORE_UNAVAILABLE'],
    [new errors.InternalError('x', { cause }), 'InternalError', 'MESH_INTERNAL'],
  ];
  for (const [error, name, code] of all) {
    t.true(error instanceof errors.MeshError);
    t.is(error.name, name);
    t.is(error.code, code);
    t.true(error.stack?.startsWith(name), error.stack);
  }
  t.is(all[1]?.[0].cause, cause);
});

test('an address that cannot be had says which, why and what to do', (t) => {
  const { message, syscall, listener, address } = new errors.ListenError('EADDRINUSE', 'web', '127.0.0.1:80');
  t.is(
    message,
    'listener web: cannot listen on 127.0.0.1:80: the address is in use; stop the process that holds it or choose another port (EADDRINUSE)',
  );
  t.deepEqual([syscall, listener, address], ['listen', 'web', '127.0.0.1:80']);
  t.regex(new errors.ListenError('EMFILE', 'web', ':80').message, /EMFILE$/);
});
